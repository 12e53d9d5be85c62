"""Sample rate conversion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil

import av
import numpy as np
import torch
import torchaudio

_WIDTH = 6
"""Zero crossings on each side of torchaudio's windowed sinc, its default."""

_KERNEL_LIMIT = 4_000_000
"""Taps torchaudio may tabulate (32 MB in float64). It keeps one filter per output phase, so a pair of rates with
hardly a common divisor, 44101 and 16000 say, would need 700 million."""


def resampled_length(samples: int, from_hz: int, to_hz: int) -> int:
    """Samples after conversion, ``ceil(samples * to_hz / from_hz)``, as torchaudio counts them."""
    return -(-samples * to_hz // from_hz)


def _kernel_taps(from_hz: int, to_hz: int) -> int:
    ratio = Fraction(from_hz, to_hz)
    down, up = ratio.numerator, ratio.denominator
    return up * (down + 2 * ceil(_WIDTH * down / min(up, down)))


def resample_blocks(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    """Convert a sound of one channel that comes piece by piece, float32 ``[N]``.

    libswresample does it, which keeps what it needs from one block to the next. Equal rates give back the same blocks.
    """
    if from_hz == to_hz:
        yield from blocks
        return
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    start = 0
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block)[None], format="flt", layout="mono")
        frame.sample_rate = from_hz
        frame.time_base = Fraction(1, from_hz)
        frame.pts = start
        start += len(block)
        for converted in resampler.resample(frame):
            yield converted.to_ndarray()[0]
    for converted in resampler.resample(None):
        yield converted.to_ndarray()[0]


def _stream(samples: torch.Tensor, from_hz: int, to_hz: int) -> torch.Tensor:
    """Convert one channel ``[N]`` with libswresample, which interpolates its filter between phases."""
    length = resampled_length(samples.shape[0], from_hz, to_hz)
    out = torch.zeros(length)
    filled = 0
    blocks = (block.numpy() for block in samples.split(from_hz))
    for converted in resample_blocks(blocks, from_hz, to_hz):
        piece = torch.from_numpy(converted[: length - filled])
        out[filled : filled + piece.shape[0]] = piece
        filled += piece.shape[0]
    return out


def resample(waveform: torch.Tensor, from_hz: int, to_hz: int) -> torch.Tensor:
    """Convert float32 ``[C, N]`` on the CPU to ``[C, ceil(N * to_hz / from_hz)]``.

    torchaudio's windowed sinc does it, as in ComfyUI; libswresample takes over where torchaudio's table of
    filters would not fit into memory. Equal rates give back the same tensor.
    """
    if from_hz == to_hz:
        return waveform
    if _kernel_taps(from_hz, to_hz) <= _KERNEL_LIMIT:
        return torchaudio.functional.resample(waveform, from_hz, to_hz)
    return torch.stack([_stream(channel, from_hz, to_hz) for channel in waveform])
