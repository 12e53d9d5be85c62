"""The audio cross-attention with its outer matrices folded into the audio's few tokens.

A latent frame hears 32 audio tokens, but a model of width C = 5120 makes a query of 5120 numbers from every picture
token to ask them. The score of picture token x and audio token m in head h is

    (W_q x + b_q)_h . k_m,h  =  x . (W_q,h^T k_m,h)  +  b_q,h . k_m,h

and the output ``W_o concat_h(sum_m p_m,h v_m,h) + b_o`` is ``sum_h,m p_m,h (W_o,h v_m,h) + b_o``. So with the vectors
in brackets made for each audio token and head, once per frame, two matrix products with H * M = 1280 columns do the
work of two with 5120, and nothing of the query's size is ever written. The sums are the same, in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import functional

#: ``(layer, like)``: a context in which the layer's weight and bias (or None) are there in ``like``'s device and dtype.
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
) -> torch.Tensor:
    """The picture tokens with what one speaker's audio adds to them.

    Args:
        layers: ``q_linear``, ``kv_linear``, ``proj`` and ``num_heads``, see
            :class:`~.audio_attention.AudioCrossAttention`.
        x: picture tokens ``[B, N, C]``. The first ``F * S`` of them are ``F`` latent frames of ``S``; tokens behind get
            nothing.
        normed: the same, normalised.
        context: audio tokens ``[B or 1, F, M, audio_width]``.
        tokens_per_frame: ``S``.
        scale: strength of the audio.
        weights: gives the layers' weights.

    Returns:
        ``[B, N, C]``
    """
    batch, tokens, _ = x.shape
    used = tokens_per_frame * context.shape[1]
    folded = [_fold(layers, each, weights) for each in context]
    out = torch.empty_like(x)
    for index in range(batch):
        keys, offsets, values = folded[index % len(folded)]
        by_frame = (len(keys), tokens_per_frame, -1)
        scores = torch.baddbmm(offsets, normed[index, :used].view(by_frame), keys.transpose(1, 2))
        shares = scores.unflatten(-1, (layers.num_heads, -1)).softmax(-1).flatten(2)
        torch.baddbmm(x[index, :used].view(by_frame), shares, values, alpha=scale, out=out[index, :used].view(by_frame))
    if used < tokens:
        out[:, used:] = x[:, used:]
    return out


def _fold(layers: Any, context: torch.Tensor, weights: LayerWeights) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys, their offsets and values of one item's audio: ``[F, H * M, C]``, ``[F, 1, H * M]``, ``[F, H * M, C]``."""
    frames, count, _ = context.shape
    heads = layers.num_heads
    with weights(layers.kv_linear, context) as (weight, bias):
        both = functional.linear(context, weight, bias).unflatten(-1, (2, heads, -1))  # [F, M, 2, H, D]
    # [H, F * M, D]: a product per head makes all frames' vectors.
    key, value = (part.permute(2, 0, 1, 3).flatten(1, 2) for part in both.unbind(2))
    size = key.shape[-1]
    key = key * size**-0.5
    with weights(layers.q_linear, context) as (weight, bias):
        keys = torch.bmm(key, weight.unflatten(0, (heads, size)))
        offsets = key.new_zeros(heads, frames * count, 1)
        if bias is not None:
            offsets = torch.bmm(key, bias.view(heads, size, 1))
    with weights(layers.proj, context) as (weight, bias):
        values = torch.bmm(value, weight.unflatten(1, (heads, size)).permute(1, 2, 0))
        values = _frames_first(values, frames)
        if bias is not None:
            values[:, :count] += bias  # the first head's shares sum to one, so it comes exactly once
    return _frames_first(keys, frames), offsets.view(heads, frames, count).transpose(0, 1).flatten(1)[:, None], values


def _frames_first(x: torch.Tensor, frames: int) -> torch.Tensor:
    """``[H, F * M, C]`` -> ``[F, H * M, C]``, contiguous."""
    wide = x
    if x.device.type in ("cuda", "cpu") and (x.shape[-1] * x.element_size()) % 16 == 0:
        wide = x.view(torch.complex128)  # PyTorch copies number by number; 16 bytes are as quick to copy as 2
    return wide.unflatten(1, (frames, -1)).transpose(0, 1).flatten(1, 2).contiguous().view(x.dtype)
