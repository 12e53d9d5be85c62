"""What can be measured of a sound before it is used: one pass over it, in memory that hardly grows with its length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...base.segment import Segment
from ..prepare.filters import Loudness, Meter
from ..prepare.stretch import Watched
from ..reading.source import Source
from ..voice import leveling, speech_segments
from .channels import ChannelLevels, LevelMeter
from .clipping import Clipping, ClippingMeter
from .spectrum import FRAME_S, Spectra, SpectrumMeter, bandwidth_hz, decibels

_DIGITAL_DB = -95.0
"""Quieter frames hold no noise of a microphone but zeros, or the dither of 16 bits (-98 dBFS): a gate or an editor made
them, or a synthesiser."""
_FAINT = 8.0
"""Where speech has to be made louder by more than this factor (its peak is below -24 dBFS), it may have been overheard,
so the sound is read once more."""
RANGE_S = 3.0
_LEAST_FRAMES = round(0.2 / FRAME_S)
"""How many frames it takes at least to say how loud the noise is."""


@dataclass(frozen=True)
class Noise:
    """How loud speech and noise are, in frames of 40 ms between 60 Hz and 8 kHz.

    Attributes:
        speech_dbfs: the 90th percentile of the frames in which somebody speaks; of all frames where nobody does.
        noise_dbfs: the 5th percentile of all frames but those of digital silence and those that reach into it; None
            where there are too few.
        digital_part: the part of the sound that is digital silence, 0 to 1.
    """

    speech_dbfs: float
    noise_dbfs: float | None
    digital_part: float

    @property
    def ratio_db(self) -> float | None:
        """The speech-to-noise ratio; None where the noise could not be measured."""
        return None if self.noise_dbfs is None else self.speech_dbfs - self.noise_dbfs


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was measured of a sound.

    Attributes:
        name: what the sound is called.
        bands_dbfs: the level in each of spectrum.BANDS_HZ while somebody speaks, or of everything where nobody does;
            the floor of -120 for a band that the sample rate leaves nothing of.
        bandwidth_hz: the frequency up to which there is sound.
        speech: where somebody speaks in the mean of the channels.
    """

    name: str
    rate_hz: int
    samples: int
    levels: ChannelLevels
    loudness: Loudness
    noise: Noise
    bands_dbfs: tuple[float, ...]
    clipping: Clipping
    bandwidth_hz: float
    speech: tuple[Segment, ...]
    spectra: Spectra

    @property
    def duration_s(self) -> float:
        return self.samples / self.rate_hz

    @property
    def channels(self) -> int:
        return len(self.levels.channels)

    @property
    def rms_dbfs(self) -> float:
        """The RMS of all channels; a sine wave of full scale has -3.01."""
        return float(decibels(self.levels.power))

    @property
    def peak_dbfs(self) -> float:
        return float(decibels(self.levels.peak**2))

    @property
    def true_peak_dbtp(self) -> float:
        """The peak between the samples, which is never below that of the samples."""
        return float(decibels(max(self.loudness.true_peak, self.levels.peak) ** 2))

    @property
    def loudness_range_lu(self) -> float | None:
        """The loudness range; None for a sound without a loudness, or below the 3 s that EBU Tech 3342 compares."""
        measurable = self.loudness.integrated_lufs is not None and self.duration_s >= RANGE_S
        return self.loudness.range_lu if measurable else None

    @property
    def speech_s(self) -> float:
        """How many seconds somebody speaks."""
        return sum(segment.duration_s for segment in self.speech)

    @property
    def silences(self) -> tuple[Segment, ...]:
        """Where nobody speaks: before, between and after the speech."""
        borders = [0.0, *(time for each in self.speech for time in (each.start_s, each.end_s)), self.duration_s]
        return tuple(Segment(start, end) for start, end in list(pairwise(borders))[::2] if end > start)


class _Heard:
    """A sound that all meters hear in one pass, together with whoever asks for its blocks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.samples = 0
        self.rate_hz = source.rate_hz
        self.levels = LevelMeter(source.rate_hz, source.channels)
        self.clipping = ClippingMeter(source.rate_hz, source.channels)
        self.spectrum = SpectrumMeter(source.rate_hz)
        self._meter = Meter()

    @property
    def loudness(self) -> Loudness:
        return self._meter.loudness

    def blocks(self) -> Iterator[np.ndarray]:
        yield from self._meter.through(self._measured(), (), self.rate_hz, self._source.channels)

    def _measured(self) -> Iterator[np.ndarray]:
        for block in self._source.blocks():
            self.levels.push(block)
            self.clipping.push(block)
            self.spectrum.push(block.mean(axis=0))
            self.samples += block.shape[1]
            yield block


def analyse(source: Source, *, progress: Callable[[float], None] = lambda heard_s: None) -> Analysis:
    """Measure a sound.

    Args:
        source: is read once; a very quiet one is read a second time, louder, for its speech.
        progress: called about once per second of sound with the seconds heard so far; may raise to stop.

    Raises:
        LongTalkError: the sound cannot be read to its end, or is not usable.
    """
    heard = _Heard(source)
    speech = speech_segments(heard, check=lambda: progress(heard.samples / heard.rate_hz))
    spectra = heard.spectrum.finish()
    levels = heard.levels.finish()
    gain = leveling(levels.peak)
    if gain > _FAINT:
        again = Watched(source, progress)
        speech = speech_segments(again, gain=gain)
    spoken = _spoken(speech, len(spectra.bands))
    return Analysis(
        source.name,
        source.rate_hz,
        heard.samples,
        levels,
        heard.loudness,
        _noise(spectra, spoken),
        tuple(decibels(spectra.bands[spoken].mean(axis=0)).tolist()),
        heard.clipping.finish(),
        bandwidth_hz(spectra.long_term),
        speech,
        spectra,
    )


def _spoken(speech: tuple[Segment, ...], frames: int) -> np.ndarray:
    """Which frames are speech, bool ``[frames]``; all of them where nobody speaks."""
    spoken = np.zeros(frames, bool)
    for segment in speech:
        spoken[math.floor(segment.start_s / FRAME_S) : math.ceil(segment.end_s / FRAME_S)] = True
    return spoken if spoken.any() else ~spoken


def _noise(spectra: Spectra, spoken: np.ndarray) -> Noise:
    levels = decibels(spectra.bands.sum(axis=1))
    digital = levels <= _DIGITAL_DB
    # A frame is two steps long: the two on each side may hold some of the silence.
    beside = np.convolve(digital, np.ones(5), "same")[: len(levels)] > 0.5
    sounding = levels[~beside]
    return Noise(
        float(np.percentile(levels[spoken], 90)),
        float(np.percentile(sounding, 5)) if len(sounding) >= _LEAST_FRAMES else None,
        float(digital.mean()),
    )
