"""The audio cross-attention with its outer matrices folded into the audio's few tokens.

A latent frame hears 32 audio tokens, but a model of width C = 5120 makes a query of 5120 numbers from every picture
token to ask them. The score of picture token x and audio token m in head h is

    (W_q x + b_q)_h . k_m,h  =  x . (W_q,h^T k_m,h)  +  b_q,h . k_m,h

and the output ``W_o concat_h(sum_m p_m,h v_m,h) + b_o`` is ``sum_h,m p_m,h (W_o,h v_m,h) + b_o``. So with the vectors
in brackets made for each audio token and head, once per frame, two matrix products with H * M = 1280 columns do the
work of two with 5120, and nothing of the query's size is ever written. The sums are the same, in another order.

With several speakers each picture token's query is turned by a position of its own (see :mod:`.speaker_map`), so only
the output can be folded.

These scores lie in memory in the model's own type, so in half precision they are rounded before the softmax, by as much
as they are large. The keys have no norm, and a part that all keys of a frame have in common adds the same to all scores
of a picture token: nothing to the softmax, but much to the rounding. So the common part is taken out before anything is
rounded: the mean of the frame's audio tokens, and the layer's bias. With several speakers the same vector turned to two
sides is not common any more, so the keys get it back in float32, are turned, lose their mean, and are rounded then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import functional

from .speaker_map import audio_positions, placements, rotate, speakers_in, token_positions

#: Turns ``x [B, N, H, D]`` by ``positions [B, N]``, see :func:`.speaker_map.rotate`.
Turn = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: Called with a layer and a tensor, gives a context that holds the layer's weight and bias (or None) as that tensor is:
#: on its device and in its dtype.
LayerWeights = Callable[[Any, torch.Tensor], AbstractContextManager["tuple[torch.Tensor, torch.Tensor | None]"]]


def is_worth_folding(layers: Any, width: int, tokens: int) -> bool:
    """Whether folded products are smaller: heads times ``tokens`` of audio in a frame against the model's ``width``."""
    return int(layers.num_heads) * tokens < width


def add_audio(
    layers: Any,
    x: torch.Tensor,
    normed: torch.Tensor,
    context: torch.Tensor,
    tokens_per_frame: int,
    scale: float,
    weights: LayerWeights,
    mapped: torch.Tensor | None = None,
    turn: Turn | None = None,
) -> torch.Tensor:
    """Add to the picture tokens what they hear of the audio.

    Args:
        layers: ``q_linear``, ``kv_linear``, ``proj`` and ``num_heads``, see
            :class:`~.audio_attention.AudioCrossAttention`.
        x: picture tokens ``[B, N, C]``. The first ``F * S`` of them are ``F`` latent frames of ``S``; tokens behind get
            nothing.
        normed: the same tokens, normalised.
        context: audio tokens ``[B or 1, F, M, audio_width]``.
        tokens_per_frame: ``S``.
        scale: the strength of the audio.
        weights: gives the layers' weights.
        mapped: the speaker map ``[B, classes, F * S]`` when there is more than one speaker.
        turn: the rotary embedding, when there is a quicker one than :func:`.speaker_map.rotate`.

    Returns:
        ``[B, N, C]``
    """
    batch, tokens, _ = x.shape
    frames = context.shape[1]
    used = tokens_per_frame * frames
    voices = [_Voice(layers, each, weights) for each in context]
    query = None
    if mapped is not None:
        query = layers.q_linear(normed[:, :used]).unflatten(-1, (layers.num_heads, -1))
        query = (turn or _turn)(query, token_positions(mapped)).unflatten(1, (frames, -1))  # [B, F, S, H, D]
    out = torch.empty_like(x)
    for index in range(batch):
        voice = voices[index % len(voices)]
        if query is None or mapped is None:
            scores = voice.scores(normed[index, :used].unflatten(0, (frames, -1)))
        else:
            scores = voice.scores_by_speaker(query[index], mapped[index])
        shares = scores.softmax(-1).flatten(2)
        torch.baddbmm(
            x[index, :used].unflatten(0, (frames, -1)),
            shares,
            voice.values,
            alpha=scale,
            out=out[index, :used].unflatten(0, (frames, -1)),
        )
    if used < tokens:
        out[:, used:] = x[:, used:]
    return out


def _turn(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return rotate(x.transpose(1, 2), positions[:, None]).transpose(1, 2)


class _Voice:
    """The audio of one item of the batch, with the layers' weights folded in.

    Args:
        layers, weights: see :func:`add_audio`.
        context: ``[F, M, audio_width]``.

    Attributes:
        values: what each token of each head adds, ``[F, H * M, C]``.
        _key: what each token's key, divided by sqrt(D), has beside ``_common``, ``[F, M, H, D]``.
        _common: the mean of a frame's keys, divided by sqrt(D), float32 ``[F, 1, H, D]``.
    """

    def __init__(self, layers: Any, context: torch.Tensor, weights: LayerWeights) -> None:
        self._layers = layers
        self._weights = weights
        self._heads = int(layers.num_heads)
        self._frames, self._count, _ = context.shape
        mean = context.mean(1, keepdim=True, dtype=torch.float32)
        with weights(layers.kv_linear, context) as (weight, bias):
            for_key, for_value = weight.chunk(2)
            key_bias, value_bias = (None, None) if bias is None else bias.chunk(2)
            shrink = (for_key.shape[0] // self._heads) ** -0.5
            key = functional.linear(((context - mean) * shrink).to(context), for_key)
            common = shrink * functional.linear(mean, for_key.float(), None if key_bias is None else key_bias.float())
            value = functional.linear(context, for_value, value_bias)
        self._key, self._common, value = (each.unflatten(-1, (self._heads, -1)) for each in (key, common, value))
        with weights(layers.proj, context) as (weight, bias):
            folded = torch.bmm(_by_head(value), weight.unflatten(1, (self._heads, -1)).permute(1, 2, 0))
            self.values = _frames_first(folded, self._frames)
            if bias is not None:
                self.values[:, : self._count] += bias  # the first head's shares sum to one: it comes exactly once

    def scores(self, normed: torch.Tensor) -> torch.Tensor:
        """The scores ``[F, S, H, M]`` of picture tokens ``[F, S, C]``."""
        key = _by_head(self._key)
        with self._weights(self._layers.q_linear, normed) as (weight, bias):
            folded = torch.bmm(key, weight.unflatten(0, (self._heads, -1)))
            offsets = key.new_zeros(key.shape[:2])
            if bias is not None:
                offsets = torch.bmm(key, bias.view(self._heads, -1, 1))[..., 0]
        by_frame = offsets.unflatten(1, (self._frames, -1)).transpose(0, 1).flatten(1)[:, None]
        keys = _frames_first(folded, self._frames).transpose(1, 2)
        return torch.baddbmm(by_frame, normed, keys).unflatten(-1, (self._heads, -1))

    def scores_by_speaker(self, query: torch.Tensor, mapped: torch.Tensor) -> torch.Tensor:
        """The scores ``[F, S, H, M]`` of queries ``[F, S, H, D]`` that are turned already.

        Args:
            query: the queries.
            mapped: the speaker map of these tokens, ``[classes, F * S]``.
        """
        speakers = speakers_in(mapped[None])
        first, *others = (
            self._scores_at(query, positions) for positions in audio_positions(self._count, speakers, query.device)
        )
        if not others:
            return first
        which = torch.tensor(placements(speakers)[1], device=mapped.device)[mapped.argmax(dim=0)]
        which = which.view(*first.shape[:2], 1, 1)
        for number, scores in enumerate(others, start=1):
            first = torch.where(which == number, scores, first)
        return first

    def _scores_at(self, query: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The scores with the audio tokens at ``positions`` ``[M]``."""
        key = rotate((self._key + self._common).transpose(1, 2), positions)  # float32 [F, H, M, D]
        key = (key - key.mean(2, keepdim=True)).to(query)
        frames, tokens, heads, _ = query.shape
        scores = query.new_empty(frames, tokens, heads, self._count)
        for number in range(frames):  # heads of one frame are a batch of products that nothing has to be copied for
            torch.bmm(query[number].transpose(0, 1), key[number].transpose(1, 2), out=scores[number].transpose(0, 1))
        return scores


def _by_head(x: torch.Tensor) -> torch.Tensor:
    """``[F, M, H, D]`` as ``[H, F * M, D]``, so that one product per head makes the vectors of all frames."""
    return x.permute(2, 0, 1, 3).flatten(1, 2)


def _frames_first(x: torch.Tensor, frames: int) -> torch.Tensor:
    """``[H, F * M, C]`` as ``[F, H * M, C]``, contiguous."""
    wide = x
    if x.device.type in ("cuda", "cpu") and (x.shape[-1] * x.element_size()) % 16 == 0:
        wide = x.view(torch.complex128)  # PyTorch copies number by number; 16 bytes are as quick to copy as 2
    return wide.unflatten(1, (frames, -1)).transpose(0, 1).flatten(1, 2).contiguous().view(x.dtype)
