"""wav2vec2's convolutions over sound of any length, in chunks, with the result of one pass.

Seven convolutions without padding: frame i sees samples ``[320 i, 320 i + 400)`` and no others. So frames can be made
chunk by chunk, exactly, but for one thing: the base model normalises each channel of the first convolution's output
over ALL time (GroupNorm, a group per channel). A first pass measures that mean and variance, a second uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ...base.errors import ModelError


class Reach(NamedTuple):
    """Frame i of a stack of convolutions sees samples ``[i * hop, i * hop + span)``."""

    hop: int
    span: int

    def frames(self, samples: int) -> int:
        """How many frames a sound of so many samples gives."""
        return max(0, (samples - self.span) // self.hop + 1)


def reach_of(layers: Any) -> Reach:
    """The reach of a stack of layers that each hold an unpadded ``conv``: (320, 400) for all seven of wav2vec2."""
    hop = span = 1
    for layer in layers:
        span += (layer.conv.kernel_size[0] - 1) * hop
        hop *= layer.conv.stride[0]
    return Reach(hop, span)


@dataclass(frozen=True)
class _Source:
    """The sound as the model wants it, piece by piece."""

    samples: torch.Tensor  # [N], on the CPU
    mean: torch.Tensor | None  # both None unless the model was trained on sound of zero mean and unit variance
    deviation: torch.Tensor | None
    device: torch.device
    dtype: torch.dtype
    check: Callable[[], None]

    def chunks(self, reach: Reach, chunk_frames: int) -> Iterator[tuple[int, int, torch.Tensor]]:
        """The sound chunk by chunk, as ``(start, end, [1, 1, n])``: the samples that frames [start, end) see.

        The chunks have all frames in order, and none twice.
        """
        frames = reach.frames(self.samples.shape[0])
        for start in range(0, frames, chunk_frames):
            self.check()
            end = min(start + chunk_frames, frames)
            sound = self.samples[start * reach.hop : (end - 1) * reach.hop + reach.span]
            if self.mean is not None and self.deviation is not None:
                sound = (sound - self.mean) / self.deviation
            yield start, end, sound.to(self.device, self.dtype)[None, None]


class _Statistics(NamedTuple):
    """Mean and variance per channel over all time, float64 ``[C]`` on the CPU."""

    mean: torch.Tensor
    variance: torch.Tensor


def _measure(conv: nn.Module, source: _Source, reach: Reach, chunk_frames: int) -> _Statistics:
    """Mean and (biased) variance of a convolution's output, merged chunk by chunk.

    Source of the merge: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979).
    """
    mean = squares = torch.zeros((), dtype=torch.float64)
    for start, end, sound in source.chunks(reach, chunk_frames):
        y = conv(sound)[0]  # [C, n]
        if y.device.type != "mps":  # which has no float64
            y = y.double()
        variance, centre = (each.cpu().double() for each in torch.var_mean(y, dim=-1, correction=0))
        size, step = end - start, centre - mean
        mean = mean + step * (size / end)
        squares = squares + variance * size + step**2 * (start * size / end)
    return _Statistics(mean, squares / reach.frames(source.samples.shape[0]))


def _normalise(norm: nn.GroupNorm, statistics: _Statistics, y: torch.Tensor) -> torch.Tensor:
    """Group normalisation of ``[1, C, n]`` with statistics that were measured before."""
    weight, bias = (each.detach().cpu().double() for each in (norm.weight, norm.bias))
    scale = weight / torch.sqrt(statistics.variance + norm.eps)
    shift = bias - statistics.mean * scale
    return torch.addcmul(shift.to(y.dtype).to(y.device)[:, None], y, scale.to(y.dtype).to(y.device)[:, None])


def conv_features(
    model: Any,
    samples: torch.Tensor,
    *,
    device: torch.device,
    dtype: torch.dtype,
    chunk_frames: int,
    check: Callable[[], None],
) -> torch.Tensor:
    """The output of the convolutions, before the projection.

    Args:
        model: wav2vec2 with ``feature_extractor.conv_layers`` and ``do_normalize``, as ComfyUI builds it.
        samples: mono at the model's rate, ``[N]`` on the CPU.
        device, dtype: what to compute on and in.
        chunk_frames: how many frames are made at a time.
        check: called before each chunk.

    Returns:
        ``[1, F, C]`` on ``device``, 50 frames per second; F is 0 for fewer than 400 samples.

    Raises:
        LongTalkError: the model normalises over time in another way than the base model.
    """
    layers = model.feature_extractor.conv_layers
    norms: list[Any] = [getattr(layer, "layer_norm", None) for layer in layers]
    over_time = isinstance(norms[0], nn.GroupNorm)
    if any(isinstance(norm, nn.GroupNorm) for norm in norms[1:]) or (
        over_time and norms[0].num_groups != norms[0].num_channels
    ):
        raise ModelError(
            "audio encoder",
            expected="wav2vec2 with one normalisation over time, after its first convolution",
            actual="another arrangement of GroupNorm layers",
            action="Load wav2vec2-chinese-base_fp16.safetensors in Load Audio Encoder",
        )
    mean = deviation = None
    if model.do_normalize:
        mean, deviation = samples.mean(), torch.sqrt(samples.var() + 1e-7)
    source = _Source(samples, mean, deviation, device, dtype, check)

    whole, first = reach_of(layers), reach_of(layers[:1])
    frames = whole.frames(samples.shape[0])
    if frames == 0:
        return torch.empty(1, 0, layers[-1].conv.out_channels, device=device, dtype=dtype)
    statistics = None
    if over_time:
        statistics = _measure(layers[0].conv, source, first, chunk_frames * (whole.hop // first.hop))
    out = None
    for start, end, sound in source.chunks(whole, chunk_frames):
        if statistics is None:
            y = layers[0](sound)
        else:
            y = functional.gelu(_normalise(norms[0], statistics, layers[0].conv(sound)))
        for layer in layers[1:]:
            y = layer(y)
        if out is None:
            out = torch.empty(1, frames, y.shape[1], device=y.device, dtype=y.dtype)
        out[:, start:end] = y.transpose(1, 2)
    assert out is not None  # there is at least one chunk
    return out
