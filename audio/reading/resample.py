"""Sample rate conversion.

torchaudio converts where it is there, as it does in ComfyUI, and SciPy where it is not: ComfyUI does not promise
torchaudio, and a torchaudio that was built for another torch cannot be imported. Both use torchaudio's filter, so that
the speech features agree within 2e-5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from fractions import Fraction
from functools import cache
from math import ceil
from typing import NamedTuple

import av
import numpy as np
import torch

log = logging.getLogger(__name__)

_WIDTH = 6
"""Zero crossings on each side of torchaudio's windowed sinc, the default of ``torchaudio.functional.resample``."""

_ROLLOFF = 0.99
"""Where torchaudio's filter cuts off, as a share of the lower rate's Nyquist frequency; its default, too."""

_KERNEL_LIMIT = 4_000_000
"""The most taps that torchaudio may tabulate (32 MB in float64). It keeps one filter per output phase, so two rates
with hardly a common divisor, 44101 and 16000 say, would need 700 million. SciPy keeps one filter, of half a million."""

_REASON_LENGTH = 120


class Resampler(str, Enum):
    """The library that converts a whole sound."""

    TORCHAUDIO = "torchaudio"
    SCIPY = "scipy"


class _Torchaudio(NamedTuple):
    """torchaudio's function that resamples, or why there is none."""

    resample: Callable[[torch.Tensor, int, int], torch.Tensor] | None
    missing: str


@cache
def _torchaudio() -> _Torchaudio:
    """Import torchaudio when it is first wanted; once, as an import that fails reads its libraries anew each time."""
    try:
        import torchaudio

        convert = torchaudio.functional.resample
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            return _Torchaudio(None, "torchaudio is not installed")
        return _broken(error)
    # A build for another torch fails in many ways: OSError for a missing symbol, RuntimeError for another CUDA.
    except Exception as error:
        return _broken(error)
    return _Torchaudio(convert, "")


def _broken(error: Exception) -> _Torchaudio:
    found = " ".join(f"{type(error).__name__}: {error}".split())
    if len(found) > _REASON_LENGTH:
        found = f"{found[: _REASON_LENGTH - 3]}..."
    log.warning(
        "expected a torchaudio built for torch %s, got %s. SciPy converts sample rates instead; to go back to "
        "torchaudio, install the build for this torch",
        torch.__version__,
        found,
    )
    return _Torchaudio(None, f"torchaudio cannot be imported: {found}")


def resampled_length(samples: int, from_hz: int, to_hz: int) -> int:
    """How many samples a sound has after conversion: ``ceil(samples * to_hz / from_hz)``, as torchaudio counts them."""
    return -(-samples * to_hz // from_hz)


def _ratio(from_hz: int, to_hz: int) -> tuple[int, int]:
    """How many samples come out for how many that go in, as the smallest whole numbers."""
    ratio = Fraction(to_hz, from_hz)
    return ratio.numerator, ratio.denominator


def _kernel_taps(from_hz: int, to_hz: int) -> int:
    up, down = _ratio(from_hz, to_hz)
    return up * (down + 2 * ceil(_WIDTH * down / min(up, down)))


def resampler(from_hz: int, to_hz: int) -> Resampler | None:
    """What :func:`resample` uses for these rates; None where they are equal."""
    if from_hz == to_hz:
        return None
    fits = _kernel_taps(from_hz, to_hz) <= _KERNEL_LIMIT
    return Resampler.TORCHAUDIO if fits and _torchaudio().resample is not None else Resampler.SCIPY


def naming(used: Iterable[Resampler | None]) -> list[Resampler | None]:
    """What the resamplers of a run's sounds add to the run's name: another resampler gives slightly other features.

    Nothing is added where torchaudio converted all that was converted: it made the features before there was a choice,
    and runs of that time go on.
    """
    found = list(used)
    return found if Resampler.SCIPY in found else []


def resampling_note(name: str, from_hz: int, to_hz: int) -> str | None:
    """What a report says of a sound that :func:`resample` converts: with which library, and why not with torchaudio.

    None where the rates are equal.
    """
    used = resampler(from_hz, to_hz)
    if used is None:
        return None
    said = f"{name}: resampled from {from_hz} to {to_hz} Hz with {used.value}"
    if used is Resampler.TORCHAUDIO:
        return said
    return f"{said} ({_torchaudio().missing or 'these two rates would take torchaudio too much memory'})"


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


def _windowed_sinc(up: int, down: int) -> np.ndarray:
    """torchaudio's filter at the common multiple of both rates, float32 ``[N]``, its middle at N // 2.

    ``torchaudio.functional.resample`` weighs the sample that lies t zero crossings away with sinc(t) cos(pi t / 12)^2,
    for t in -6..6 (``sinc_interp_hann``, after J. O. Smith, Digital Audio Resampling). There are ``min(up, down)``
    crossings to the common period of both rates, fewer by the roll-off, and ``up * down`` samples of the common rate.
    """
    cutoff = _ROLLOFF * min(up, down)
    reach = ceil(_WIDTH * max(up, down) / _ROLLOFF)
    crossings = np.arange(-reach, reach + 1) * (cutoff / (up * down))
    np.clip(crossings, -_WIDTH, _WIDTH, out=crossings)
    weights = np.sinc(crossings)
    weights *= np.cos(crossings * (np.pi / (2 * _WIDTH))) ** 2
    # SciPy multiplies by `up`, for the zeros that it thinks between the samples.
    weights *= cutoff / down / up
    return weights.astype(np.float32)


def resample(waveform: torch.Tensor, from_hz: int, to_hz: int) -> torch.Tensor:
    """Convert float32 ``[C, N]`` on the CPU to ``[C, ceil(N * to_hz / from_hz)]``.

    torchaudio's windowed sinc does it, as in ComfyUI. SciPy does the same where torchaudio is missing, and where its
    table of filters would not fit into memory: the results differ by less than 4e-5 of the peak, nearly all of it
    torchaudio's own, which places its filters in float32. Equal rates give back the same tensor.
    """
    used = resampler(from_hz, to_hz)
    if used is None:
        return waveform
    convert = _torchaudio().resample
    if used is Resampler.TORCHAUDIO and convert is not None:
        return convert(waveform, from_hz, to_hz)
    from scipy.signal import resample_poly  # here, since importing it takes up to seconds

    up, down = _ratio(from_hz, to_hz)
    return torch.from_numpy(resample_poly(waveform.numpy(), up, down, axis=-1, window=_windowed_sinc(up, down)))
