"""Clipping: samples that a ceiling cut off, at full scale or, where a clipped sound was turned down, below it.

A clipped wave runs into the ceiling at a slope and stays on it. So a run of equal samples counts that begins or ends
with a step; the crest of a slow wave, which is flat too, has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_EQUAL = 1.5 / 2**15
"""How far neighbouring samples on the ceiling may differ: dither moves 16-bit samples by a step."""
_STEP = 0.02
"""The step beside the ceiling, as part of its level. Two samples beside it, a sine wave of full scale and 200 Hz at
48 kHz has fallen by 0.3 %; the parts of speech that clip rise by 3 % and more."""
_STEP_HZ = 48_000
"""At higher rates the step may take as long as a sample at this one, and runs have to last as long as three."""
_LOWEST = 0.02
"""Ceilings below -34 dBFS are not looked for: there, equal neighbours are what quiet sound is made of."""
_BINS_PER_DB = 10
_TOP_DB = 61.0
_LOWEST_DB = 20 * math.log10(_LOWEST)
_AT_CEILING_DB = 0.2
"""Runs up to this far below the highest run of the same sign and channel are at the ceiling as well."""
_TIMES_KEPT = 50
_TIMES_APART_S = 1.0
_LONGEST_S = 0.02
"""Half a wave of 25 Hz. A run that stays equal for longer is no clipped wave, and counts as if it were this long."""


@dataclass(frozen=True)
class Clipping:
    """What was cut off.

    Attributes:
        runs: how many times.
        samples: how many samples lie on the ceiling.
        ceiling: the highest ceiling, 1.0 being full scale; 0 without runs.
        times_s: when the first 50 runs begin, without those within a second of the one before.
    """

    runs: int
    samples: int
    ceiling: float
    times_s: tuple[float, ...]


class _Side:
    """The flat runs of one channel and one sign, sorted by level in steps of 0.1 dB."""

    def __init__(self) -> None:
        bins = math.ceil((_TOP_DB - _LOWEST_DB) * _BINS_PER_DB)
        self.runs = np.zeros(bins, np.int64)
        self.samples = np.zeros(bins, np.int64)
        self.times_s: dict[int, list[float]] = {}
        self.peak = 0.0

    def add(self, level: float, samples: int, start_s: float) -> None:
        place = self._place(level)
        self.runs[place] += 1
        self.samples[place] += samples
        times = self.times_s.setdefault(place, [])
        if len(times) < _TIMES_KEPT and (not times or start_s >= times[-1] + _TIMES_APART_S):
            times.append(start_s)

    def _place(self, level: float) -> int:
        place = math.floor((20 * math.log10(level) - _LOWEST_DB) * _BINS_PER_DB)
        return min(max(place, 0), len(self.runs) - 1)

    def clipping(self) -> Clipping:
        """The runs at the peak of the sound. Where samples pass the highest runs, nothing was cut off."""
        if self.peak < _LOWEST:
            return Clipping(0, 0, 0.0, ())
        first = max(self._place(self.peak) - round(_AT_CEILING_DB * _BINS_PER_DB), 0)
        runs, samples = int(self.runs[first:].sum()), int(self.samples[first:].sum())
        times = [time for place, times in self.times_s.items() if place >= first for time in times]
        return Clipping(runs, samples, self.peak if runs else 0.0, _apart(times))


def _apart(times_s: Iterable[float]) -> tuple[float, ...]:
    kept: list[float] = []
    for time_s in sorted(times_s):
        if not kept or time_s >= kept[-1] + _TIMES_APART_S:
            kept.append(time_s)
    return tuple(kept[:_TIMES_KEPT])


class ClippingMeter:
    """Hears a sound block by block; the blocks' borders change nothing."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._rate_hz = rate_hz
        self._beside = max(1, round(rate_hz / _STEP_HZ))
        self._shortest = 3 * self._beside
        self._sides = [(_Side(), _Side()) for _ in range(channels)]
        # A run is judged by so many samples before it, and by so many from its beginning on.
        self._before = self._beside + 1
        self._after = round(_LONGEST_S * rate_hz) + self._beside + 1
        self._rest = np.zeros((channels, self._before), np.float32)
        self._start = -self._before

    def push(self, block: np.ndarray) -> None:
        """Look through the next block ``[C, N]``."""
        sound = np.concatenate([self._rest, block], axis=1)
        samples = sound.shape[1]
        until = samples - self._after
        if until <= self._before:
            self._rest = sound
            return
        for channel, sides in zip(sound, self._sides, strict=True):
            self._find(channel, sides[0], until)
            self._find(-channel, sides[1], until)
        self._rest = sound[:, until - self._before :].copy()
        self._start += until - self._before

    def finish(self) -> Clipping:
        self.push(np.zeros((len(self._sides), self._after), np.float32))
        found = [side.clipping() for sides in self._sides for side in sides]
        return Clipping(
            sum(each.runs for each in found),
            sum(each.samples for each in found),
            max((each.ceiling for each in found), default=0.0),
            _apart([time for each in found for time in each.times_s]),
        )

    def _find(self, sound: np.ndarray, side: _Side, until: int) -> None:
        """Count the runs of high samples ``[N]`` that begin in [before, until)."""
        side.peak = max(side.peak, float(sound.max()))
        flat = (np.abs(np.diff(sound)) <= _EQUAL) & (sound[:-1] >= _LOWEST)
        edges = np.diff(np.concatenate([[False], flat, [False]]).astype(np.int8))
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)  # the run is [start, end]
        mine = (starts >= self._before) & (starts < until) & (ends - starts + 1 >= self._shortest)
        for start, end in zip(starts[mine].tolist(), ends[mine].tolist(), strict=True):
            end = min(end, start + self._after - self._beside - 2)
            level = float(sound[start])
            after = sound[min(end + self._beside, len(sound) - 1)]
            if level - min(sound[start - self._beside], after) >= _STEP * level:
                side.add(level, end - start + 1, (self._start + start) / self._rate_hz)
