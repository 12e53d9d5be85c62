"""One sound as it comes from ComfyUI, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NoReturn

import numpy as np
import torch

from ...base.errors import LinkError, SoundError
from ...base.rates import FPS, SPEECH_HZ
from ...base.tensors import described, is_plain
from ...base.values import as_whole, shown
from ...base.words import brief, count
from .resample import resample

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""The sample rates of real sound. A number outside is something else (kHz, a count of samples)."""

MAX_CHANNELS = 64
"""More channels than any sound has that reaches ComfyUI: FFmpeg's layouts end at 24, ambisonics of 7th order has 64."""

MAX_PEAK = 1000.0
"""The highest peak, 60 dB above full scale. Samples beyond it are on another scale: mostly 16-bit numbers as float."""

LONGEST_S = 24 * 3600
"""The longest sound that is taken as one tensor: at 48 kHz in stereo it takes 33 GB."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_INTEGER_SCALE = {torch.uint8: 2.0**7, torch.int8: 2.0**7, torch.int16: 2.0**15, torch.int32: 2.0**31}


@dataclass(frozen=True, eq=False)
class Track:
    """One sound.

    Attributes:
        waveform: float32 ``[C, N]`` on the CPU; samples may pass +-1.
        sample_rate: samples per second.
        name: what to call it in notes and errors.
    """

    waveform: torch.Tensor
    sample_rate: int
    name: str = "audio"

    @property
    def samples(self) -> int:
        return int(self.waveform.shape[-1])

    @property
    def channels(self) -> int:
        return int(self.waveform.shape[0])

    @property
    def duration_s(self) -> float:
        return self.samples / self.sample_rate

    @property
    def peak(self) -> float:
        """The largest magnitude of a sample; NaN if any sample is NaN."""
        if self.waveform.numel() == 0:
            return 0.0
        low, high = self.waveform.aminmax()  # no copy, unlike abs().max()
        return abs(float(torch.maximum(-low, high)))  # abs: the largest of zeros may be -0.0


def _refuse_type(name: str, audio: object) -> NoReturn:
    raise LinkError(
        name,
        expected="an AUDIO with a waveform and a sample rate",
        actual="nothing (a video without sound gives no audio)"
        if audio is None
        else f"a value of type {type(audio).__name__}",
        action="Connect Load Audio, or the audio of a video that has sound",
    )


def _entries(audio: object, name: str) -> tuple[Any, Any]:
    """Waveform and sample rate of a mapping. Reading a lazy one may start a decoder, which can fail in any way."""
    if audio is None or isinstance(audio, (str, bytes, Sequence, torch.Tensor, np.ndarray)):
        _refuse_type(name, audio)
    if not hasattr(audio, "__getitem__"):
        _refuse_type(name, audio)
    try:
        return audio["waveform"], audio["sample_rate"]
    except (KeyError, TypeError, IndexError):
        _refuse_type(name, audio)
    except Exception as error:
        raise SoundError(
            name,
            expected="a sound that can be read",
            actual=f"{type(error).__name__}: {brief(error)}",
            action="Check the file it comes from: it may be damaged or a video without sound",
        ) from error


def checked_rate(rate: object, name: str) -> int:
    """The value as the sample rate of a real sound.

    Raises:
        LongTalkError
    """
    rate_hz = as_whole(rate)
    if rate_hz is None or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise SoundError(
            f"sample rate of {name}",
            expected=f"a whole number of Hz from {MIN_RATE_HZ} to {MAX_RATE_HZ}",
            actual=shown(rate),
            action="Check the node the audio comes from; common rates are 16000, 44100 and 48000",
        )
    return rate_hz


def _as_tensor(waveform: object, name: str) -> torch.Tensor:
    """The samples in PyTorch's own memory layout; NumPy knows others (reversed, another byte order, longer floats)."""
    tensor = waveform
    if isinstance(waveform, np.ndarray) and waveform.dtype.kind in "iuf":
        known = waveform.dtype.kind != "f" or waveform.dtype.itemsize in (2, 4, 8)
        dtype = waveform.dtype.newbyteorder("=") if known else np.dtype(np.float64)
        with contextlib.suppress(TypeError):  # unsigned integers, in older torch
            tensor = torch.from_numpy(np.ascontiguousarray(waveform, dtype=dtype))
    if not is_plain(tensor):
        raise SoundError(
            name,
            expected="a waveform tensor",
            actual=described(waveform),
            action="Connect the output of an audio node",
        )
    return tensor


def _as_float(waveform: torch.Tensor, name: str) -> torch.Tensor:
    """The samples as float32 on the CPU. Integers are divided by their full scale.

    Unsigned 8-bit samples lie around 128, as in WAV files.
    """
    waveform = waveform.detach().to("cpu")
    if waveform.dtype in _FLOATS:
        return waveform.to(torch.float32)
    scale = _INTEGER_SCALE.get(waveform.dtype)
    if scale is None:
        raise SoundError(
            name,
            expected="float samples, or integers of 8, 16 or 32 bits",
            actual=str(waveform.dtype).removeprefix("torch."),
            action="Convert the waveform to float in -1..1",
        )
    offset = 128.0 if waveform.dtype == torch.uint8 else 0.0
    # 32 bits do not fit into float32: scaled in double first, so that the rounding happens once.
    wide = torch.float64 if waveform.dtype == torch.int32 else torch.float32
    return ((waveform.to(wide) - offset) / scale).to(torch.float32)


def refuse_empty(name: str, more: str) -> NoReturn:
    raise SoundError(
        name,
        expected="a sound",
        actual=f"an empty track ({more})",
        action="Check that the file has sound and that trimming left something of it",
    )


def _one_clip(waveform: torch.Tensor, name: str) -> torch.Tensor:
    """``[B, C, N]``, ``[C, N]`` or ``[N]`` as ``[C, N]``. A batch of several is refused: nobody said which is meant."""
    shape = list(waveform.shape)
    if not 1 <= waveform.ndim <= 3:
        raise SoundError(
            name,
            expected="a waveform [batch, channels, samples]",
            actual=f"the shape {shape}",
            action="Connect the output of an audio node",
        )
    if waveform.numel() == 0:
        refuse_empty(name, f"shape {shape}")
    if waveform.ndim > 1 and shape[-2] > max(MAX_CHANNELS, shape[-1]):
        raise SoundError(
            name,
            expected="a waveform [batch, channels, samples]",
            actual=f"the shape {shape}, {shape[-2]} channels of {count(shape[-1], 'sample')}: its axes seem swapped",
            action="Swap the last two axes in the node that it comes from",
        )
    if waveform.ndim == 3:
        if waveform.shape[0] > 1:
            raise SoundError(
                name,
                expected="one clip",
                actual=f"a batch of {waveform.shape[0]}",
                action="Pick one clip of the batch and connect that; speakers go into inputs of their own",
            )
        return waveform[0]
    return waveform if waveform.ndim == 2 else waveform[None]


def track_from_audio(audio: object, name: str = "audio") -> Track:
    """Take what a node hands over as AUDIO, or say what is wrong with it.

    Args:
        audio: a mapping, lazily loaded or not, of ``waveform`` (``[B, C, N]``, ``[C, N]`` or ``[N]``, float or
            integer) and ``sample_rate``.
        name: what to call it in messages.

    Returns:
        The track. A float32 waveform on the CPU is not copied.

    Raises:
        LongTalkError: not an audio, unreadable, empty, a batch, shorter than one video frame (40 ms) or longer than a
            day, NaN or infinite samples, a peak beyond any sound, no usable sample rate.
    """
    waveform, rate = _entries(audio, name)
    samples = _as_tensor(waveform, name)
    rate_hz = checked_rate(rate, name)
    clip = _one_clip(samples, name)
    if clip.shape[-1] > LONGEST_S * rate_hz:
        raise SoundError(
            name,
            expected=f"at most {LONGEST_S // 3600} hours of sound",
            actual=f"{clip.shape[-1] / rate_hz / 3600:,.0f} hours ({clip.shape[-1]} samples at {rate_hz} Hz)",
            action="Connect a shorter clip; cut long recordings into several",
        )
    track = Track(_as_float(clip, name), rate_hz, name)
    peak = checked_peak(track)
    check_length(name, track.samples, rate_hz, f"of {track.channels} channels at {rate_hz} Hz, peak {peak:.3g}")
    return track


def checked_peak(track: Track, start_s: float = 0.0) -> float:
    """The peak of a track, or of a stretch that begins at ``start_s`` of a longer one.

    Raises:
        LongTalkError: NaN or infinite samples, or a peak beyond any sound.
    """
    peak = track.peak
    if not isfinite(peak):
        bad = ~torch.isfinite(track.waveform)
        first_s = start_s + int(bad.any(dim=0).nonzero()[0]) / track.sample_rate
        raise SoundError(
            track.name,
            expected="finite samples",
            actual=f"{int(bad.sum())} NaN or infinite values, the first at {first_s:.3f} s",
            action="Check where it comes from; exporting the sound again as 16-bit WAV removes them",
        )
    if peak > MAX_PEAK:
        raise SoundError(
            track.name,
            expected=f"samples in -1..1 (a peak up to {MAX_PEAK:g} is taken)",
            actual=f"a peak of {peak:.6g}",
            action="Divide the samples by their full scale, 32768 for 16-bit sound",
        )
    return peak


def check_length(name: str, samples: int, rate_hz: int, more: str) -> None:
    """Refuse a sound that does not fill one video frame.

    Args:
        more: what else to say about the sound, after the number of its samples.

    Raises:
        LongTalkError
    """
    if samples == 0:
        refuse_empty(name, more)
    if samples * FPS < rate_hz:
        raise SoundError(
            name,
            expected=f"at least {1 / FPS:.2f} s of sound (one frame at {FPS} fps)",
            actual=f"{samples / rate_hz:.4f} s ({samples} samples {more})",
            action="Connect a longer clip",
        )


def mono(track: Track, rate_hz: int = SPEECH_HZ) -> torch.Tensor:
    """The mean of a track's channels at ``rate_hz``, float32 ``[N]``.

    ComfyUI resamples every channel and lets the model take the mean. Both are linear, so the order changes nothing
    but the memory.
    """
    return resample(track.waveform.mean(dim=0, keepdim=True), track.sample_rate, rate_hz)[0]
