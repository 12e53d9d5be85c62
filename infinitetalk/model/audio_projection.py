"""From speech features to the audio tokens of each latent frame (InfiniteTalk's ``audio_proj``).

Every pixel frame sees 5 feature frames, its own and two on either side. The first latent frame stands for one pixel
frame and takes those 5; each later latent frame stands for four pixel frames and takes 8 of their 20: the first frame's
left half (with its centre), the centres of the middle two, and the last frame's right half (with its centre).
Two projections map these to the same width, two more make 32 tokens of 768 per latent frame and speaker.
Source: MeiGen-AI/InfiniteTalk, ``wan/modules/multitalk_model.py`` (AudioProjModel) and ``wan/multitalk.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...base.grid import VAE_STEP
from ...base.wav2vec2 import LAYERS as AUDIO_LAYERS
from ...base.wav2vec2 import WIDTH as AUDIO_WIDTH
from .gate import Gate, gated

AUDIO_WINDOW = 5
#: How many feature frames a later latent frame takes: 3 on the left, 2 in the middle, 3 on the right.
LATER_WINDOW = AUDIO_WINDOW + VAE_STEP - 1


class AudioProjection(nn.Module):
    """The weights of ``audio_proj``, under the names of the published files."""

    def __init__(
        self,
        intermediate: int = 512,
        tokens: int = 32,
        out_width: int = 768,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        settings = {"device": device, "dtype": dtype}
        per_frame = AUDIO_LAYERS * AUDIO_WIDTH
        self.proj1 = operations.Linear(AUDIO_WINDOW * per_frame, intermediate, **settings)
        self.proj1_vf = operations.Linear(LATER_WINDOW * per_frame, intermediate, **settings)
        self.proj2 = operations.Linear(intermediate, intermediate, **settings)
        self.proj3 = operations.Linear(intermediate, tokens * out_width, **settings)
        self.norm = operations.LayerNorm(out_width, **settings)


def mirrored(indices: torch.Tensor, count: int) -> torch.Tensor:
    """Turn indices past the end of ``count`` frames back into them: backwards, then forwards again, and so on.

    The official code appends the last missing frames in reverse order, so the last frame comes twice. Turning the
    indices instead copies nothing: an hour of features is 3.3 GB.
    """
    turned = indices % (2 * count)
    return torch.where(turned < count, turned, 2 * count - 1 - turned)


def frame_windows(features: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """The 5 feature frames around each pixel frame.

    They are clamped at the start and at the end of the track. A window that reaches past the track sees it mirrored.

    Args:
        features: ``[T, ...]``, one per pixel frame.
        start, end: pixel frames ``[start, end)``.

    Returns:
        ``[end - start, 5, ...]``
    """
    if not 0 <= start < end:
        raise ValueError(f"[{start}, {end}) is no interval of frames")
    half = AUDIO_WINDOW // 2
    centres = torch.arange(start, end)[:, None] + torch.arange(-half, half + 1)[None, :]
    last = max(features.shape[0], end) - 1
    return features[mirrored(centres.clamp_(0, last), features.shape[0])]


def split_windows(windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Group the windows of pixel frames by latent frame.

    Args:
        windows: ``[F, 5, layers, width]`` with ``F = 4n + 1``.

    Returns:
        The first latent frame's ``[1, 5, layers, width]`` and the later ones' ``[n, 8, layers, width]``.
    """
    half = AUDIO_WINDOW // 2
    later = (
        windows[1:].unflatten(0, (-1, VAE_STEP))
        if windows.shape[0] > 1
        else windows.new_zeros((0, VAE_STEP, *windows.shape[1:]))
    )
    left = later[:, 0, : half + 1]
    middle = later[:, 1:-1, half]
    right = later[:, -1, half:]
    return windows[:1], torch.cat([left, middle, right], dim=1)


def project(layers: Any, first: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
    """The audio tokens of each latent frame.

    Args:
        layers: an :class:`AudioProjection`, or any module with the same five layers.
        first: ``[speakers, 1, 5, layers, width]``
        later: ``[speakers, n, 8, layers, width]``

    Returns:
        ``[speakers, 1 + n, tokens, out_width]``
    """
    hidden = torch.cat(
        [torch.relu(layers.proj1(first.flatten(2))), torch.relu(layers.proj1_vf(later.flatten(2)))], dim=1
    )
    hidden = torch.relu(layers.proj2(hidden))
    width = layers.norm.weight.shape[0]
    tokens = layers.proj3(hidden).unflatten(-1, (-1, width))
    out: torch.Tensor = layers.norm(tokens)
    return out


def audio_context(
    layers: Any,
    features: Sequence[torch.Tensor],
    start: int,
    end: int,
    *,
    gates: Sequence[Gate] = (),
    device: Any = None,
) -> torch.Tensor:
    """The audio tokens of the latent frames that stand for pixel frames ``[start, end)``.

    The speakers' tokens lie behind one another in each latent frame.

    Args:
        layers: the projection.
        features: one ``[T, layers, width]`` per speaker.
        gates: one per speaker, where pauses are to be silence. Only the features that are asked for are copied.
        device: where to compute.

    Returns:
        ``[latent frames, speakers * tokens, out_width]``
    """
    windows = [frame_windows(track, start, end) for track in features]
    if gates:
        windows = [
            gated(each, frame_windows(gate.heard, start, end), gate.silence)
            for each, gate in zip(windows, gates, strict=True)
        ]
    split = [split_windows(each.to(device)) for each in windows]
    tokens = project(layers, torch.stack([first for first, _ in split]), torch.stack([later for _, later in split]))
    return tokens.transpose(0, 1).flatten(1, 2)


def silent_context(layers: Any, latents: int, *, dtype: torch.dtype, device: Any = None) -> torch.Tensor:
    """The tokens of absent audio, for audio guidance: features of zeros through the projection.

    They are those of one person, however many speak, as in the official code (``torch.zeros_like(audio)[-1:]`` in
    MeiGen-AI/InfiniteTalk, ``wan/multitalk.py``); so no token of the picture is assigned to a speaker there.

    Returns:
        ``[latents, tokens, out_width]``
    """
    zeros = torch.zeros(1, AUDIO_LAYERS, AUDIO_WIDTH, dtype=dtype, device=device)
    first, later = split_windows(frame_windows(zeros.expand(1 + VAE_STEP, -1, -1), 0, 1 + VAE_STEP))
    two = project(layers, first[None], later[None])[0]
    return torch.cat([two[:1], two[1:].expand(latents - 1, -1, -1)])
