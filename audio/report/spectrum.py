"""What a sound's spectrum says, made while it is heard: energy per band and moment, long-term spectrum, spectrogram.

Frames of 40 ms, one every 20 ms, through a Hann window. Powers are mean squares (Parseval), so a sine wave of full
scale has -3.01 dB, as its RMS has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from .columns import Columns, mean

BANDS_HZ = ((60, 300), (300, 800), (800, 1500), (1500, 4000), (4000, 8000))
"""The bands: fundamental and boom; vowels; the upper formants; consonants; sibilance."""

AVERAGE_DB = (-1.5, 0.0, -8.6, -12.0, -17.9)
"""The bands of speech of men and women in 12 languages, as dB below the loudest: the third octaves of Byrne et al., "An
international comparison of long-term average speech spectra", JASA 96 (1994), summed; at a border they are split."""

FRAME_S = 0.02
"""Seconds from one frame to the next."""

FLOOR_DB = -120.0
"""The level of silence: no sound of 16 or 24 bits comes lower, its noise included."""

PICTURE_HZ = (50, 8000)
"""The range of the spectrogram. What both models hear ends at 8 kHz: wav2vec2 takes sound at 16 kHz, the audio VAE of
LTX-2.3 a mel spectrogram of such sound."""
PICTURE_ROWS = 96
PICTURE_COLUMNS = 2048

_STEP_HZ = 100
_TOP_HZ = 24_000
_CLIFF_DB = 15.0
_CLIFF_HZ = 500
_EMPTY_DB = 45.0


def decibels(power: np.ndarray | float) -> np.ndarray:
    """Power as dB, never below the floor."""
    return 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))


def mel(hz: np.ndarray | float) -> np.ndarray:
    """A frequency on the mel scale, on which equal steps are equal steps of pitch (O'Shaughnessy, 1987)."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_edges(rows: int) -> np.ndarray:
    """Borders of the spectrogram's rows in Hz, one more than rows; equally far apart in mel."""
    low, high = (float(mel(hz)) for hz in PICTURE_HZ)
    return 700 * (10 ** (np.linspace(low, high, rows + 1) / 2595) - 1)


@dataclass(frozen=True, eq=False)
class Spectra:
    """Everything about the spectrum of one sound.

    Attributes:
        bands: power in each of BANDS_HZ in every frame, ``[frames, 5]``.
        long_term: mean power in every 100 Hz from 0 on, ``[n]``.
        spectrogram: mean power per row (low to high, on the mel scale) and column, ``[columns, PICTURE_ROWS]``.
        column_s: seconds per column.
    """

    bands: np.ndarray
    long_term: np.ndarray
    spectrogram: np.ndarray
    column_s: float


class SpectrumMeter:
    """Hears one channel block by block."""

    def __init__(self, rate_hz: int) -> None:
        self._hop = max(1, round(rate_hz * FRAME_S))
        self._size = 2 * self._hop
        self._window = torch.hann_window(self._size)
        bins_hz = rate_hz / self._size
        steps = np.arange(0, min(_TOP_HZ, rate_hz / 2) + 1, _STEP_HZ)
        rows = mel_edges(PICTURE_ROWS)
        borders = [*BANDS_HZ, *pairwise(rows), *pairwise(steps)]
        bins = self._size // 2 + 1
        scale = np.full(bins, 2.0) / (self._size * float(self._window.square().sum()))
        scale[0] /= 2
        scale[-1] /= 2
        self._pooled = torch.from_numpy((_overlaps(borders, bins, bins_hz) * scale[:, None]).astype(np.float32))
        self._columns = Columns(PICTURE_ROWS, self._hop / rate_hz, mean, PICTURE_COLUMNS)
        self._bands: list[np.ndarray] = []
        self._long_term = np.zeros(len(steps) - 1)
        self._frames = 0
        self._rest = torch.zeros(0)

    def push(self, samples: np.ndarray) -> None:
        """Measure the next block ``[N]``."""
        heard = torch.cat([self._rest, torch.from_numpy(samples)])
        frames = max(0, (heard.shape[0] - self._size) // self._hop + 1)
        self._rest = heard[frames * self._hop :]
        if frames:
            self._measure(heard.unfold(0, self._size, self._hop))

    def _measure(self, frames: torch.Tensor) -> None:
        spectra = torch.fft.rfft(frames * self._window)
        pooled = ((spectra.real.square() + spectra.imag.square()) @ self._pooled).numpy()
        bands, rows, steps = np.split(pooled, np.cumsum([len(BANDS_HZ), PICTURE_ROWS]), axis=1)
        self._bands.append(bands.copy())  # a view would keep all of it
        self._columns.push(rows)
        self._long_term += steps.sum(axis=0, dtype=np.float64)
        self._frames += len(pooled)

    def finish(self) -> Spectra:
        """The spectra of the whole sound; its last frame is filled up with silence."""
        if self._rest.shape[0] > self._hop or not self._frames:
            self._measure(torch.nn.functional.pad(self._rest, (0, self._size - self._rest.shape[0]))[None])
        return Spectra(
            np.concatenate(self._bands),
            self._long_term / self._frames,
            self._columns.finish(),
            self._columns.each_s,
        )


def _overlaps(borders: list[tuple[float, float]], bins: int, bin_hz: float) -> np.ndarray:
    """How large a part of each bin lies within each interval, ``[bins, intervals]``."""
    low, high = np.array(borders, dtype=float).T
    left = (np.arange(bins) - 0.5)[:, None] * bin_hz
    return np.clip(np.minimum(high, left + bin_hz) - np.maximum(low, left), 0, None) / bin_hz


def bandwidth_hz(long_term: np.ndarray) -> float:
    """The frequency up to which there is sound: half the sample rate, unless a steep edge ends the sound below.

    A sound brought to a higher rate, or one that a codec or a telephone cut, ends at an edge: 15 dB within 500 Hz and
    45 dB below its loudest part from there on. A dull microphone falls off slowly and has none.

    Args:
        long_term: mean power per 100 Hz.
    """
    level = decibels(long_term)
    wide = _CLIFF_HZ // _STEP_HZ
    edges = range(wide, len(level) - wide)
    drops = {
        edge: float(level[edge - wide : edge].mean() - level[edge + 1 : edge + 1 + wide].mean())
        for edge in edges
        if level[edge + 1 :].max() <= level.max() - _EMPTY_DB
    }
    edge = max(drops, key=lambda each: drops[each], default=0)
    if drops.get(edge, 0.0) < _CLIFF_DB:
        return float(_STEP_HZ * len(level))
    while drops.get(edge - 1, 0.0) >= _CLIFF_DB:  # where a slope begins that is so steep
        edge -= 1
    return float(_STEP_HZ * edge)
