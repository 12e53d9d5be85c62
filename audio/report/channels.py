"""How loud the channels of a sound are, one by one and together, measured while it is heard."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .columns import Columns, extremes

ENVELOPE_S = 0.002
ENVELOPE_COLUMNS = 4096


@dataclass(frozen=True)
class ChannelLevel:
    """How loud one channel is; 1.0 is full scale.

    Attributes:
        peak: the largest magnitude of a sample.
        power: the mean square, the offset included.
        offset: the mean of the samples (DC).
    """

    peak: float
    power: float
    offset: float

    @property
    def sound_power(self) -> float:
        """The mean square without the offset, which nobody hears."""
        return max(self.power - self.offset**2, 0.0)


@dataclass(frozen=True, eq=False)
class ChannelLevels:
    """How loud all channels of a sound are.

    Attributes:
        channels: how loud each of them is.
        together: power of the sum of the channels as part of the sum of their powers, for every second: 1 for
            channels that have nothing in common, 2 for two that are equal, 0 where they cancel out; NaN in silence.
        together_whole: the same for the whole sound.
        envelope: lowest sample, highest sample and mean square of all channels, ``[columns, 3]``.
        envelope_s: seconds per column.
    """

    channels: tuple[ChannelLevel, ...]
    together: np.ndarray
    together_whole: float
    envelope: np.ndarray
    envelope_s: float

    @property
    def peak(self) -> float:
        return max(channel.peak for channel in self.channels)

    @property
    def power(self) -> float:
        """The mean of the channels' powers."""
        return sum(channel.power for channel in self.channels) / len(self.channels)


class LevelMeter:
    """Hears a sound block by block; keeps two numbers per second besides the envelope."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._rate_hz = rate_hz
        self._hop = max(1, round(rate_hz * ENVELOPE_S))
        self._columns = Columns(3, self._hop / rate_hz, extremes, ENVELOPE_COLUMNS)
        self._rest = np.zeros((channels, 0), np.float32)
        self._samples = 0
        self._sums = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._peaks = np.zeros(channels)
        self._seconds: list[np.ndarray] = []
        self._second = np.zeros((channels, 0), np.float32)

    def push(self, block: np.ndarray) -> None:
        """Measure the next block ``[C, N]``."""
        self._samples += block.shape[1]
        self._sums += block.sum(axis=1, dtype=np.float64)
        self._squares += np.square(block).sum(axis=1, dtype=np.float64)
        self._peaks = np.maximum(self._peaks, np.maximum(block.max(axis=1), -block.min(axis=1)))
        self._rest = self._cut(np.concatenate([self._rest, block], axis=1))
        self._second = np.concatenate([self._second, block], axis=1)
        while self._second.shape[1] >= self._rate_hz:
            self._measure_second(self._second[:, : self._rate_hz])
            self._second = self._second[:, self._rate_hz :]

    def _cut(self, sound: np.ndarray) -> np.ndarray:
        """Put a sound into the columns of the envelope; gives back the samples at its end that do not fill a column."""
        whole = sound.shape[1] // self._hop
        pieces = sound[:, : whole * self._hop].reshape(sound.shape[0], whole, self._hop)
        rows = [pieces.min(axis=(0, 2)), pieces.max(axis=(0, 2)), np.square(pieces).mean(axis=(0, 2))]
        self._columns.push(np.stack(rows, axis=1))
        return sound[:, whole * self._hop :]

    def _measure_second(self, sound: np.ndarray) -> None:
        """Keep the power of the sum of the channels, and the sum of their powers."""
        centred = sound - sound.mean(axis=1, keepdims=True)
        self._seconds.append(np.array([np.square(centred.sum(axis=0)).mean(), np.square(centred).mean(axis=1).sum()]))

    def finish(self) -> ChannelLevels:
        if self._second.shape[1]:
            self._measure_second(self._second)
        if self._rest.shape[1]:
            self._columns.push(self._last_column())
        of_sum, of_channels = np.array(self._seconds).T
        with np.errstate(invalid="ignore", divide="ignore"):
            together = of_sum / np.where(of_channels > 0, of_channels, np.nan)
        offsets, powers = self._sums / self._samples, self._squares / self._samples
        return ChannelLevels(
            tuple(
                ChannelLevel(float(peak), float(power), float(offset))
                for peak, power, offset in zip(self._peaks, powers, offsets, strict=True)
            ),
            together,
            float(of_sum.sum() / of_channels.sum()) if of_channels.sum() > 0 else math.nan,
            self._columns.finish(),
            self._columns.each_s,
        )

    def _last_column(self) -> np.ndarray:
        rest = self._rest
        return np.array([[rest.min(), rest.max(), np.square(rest).mean()]], np.float32)
