"""Sounds that are read from other sounds: a stretch of one, and one that tells how far it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...base.errors import SettingError
from ..reading.source import Source
from ..reading.track import check_length


@dataclass(frozen=True, eq=False)
class _Over:
    """A sound that is read from another sound.

    Attributes:
        source: the other sound.
    """

    source: Source

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def rate_hz(self) -> int:
        return self.source.rate_hz

    @property
    def channels(self) -> int:
        return self.source.channels


@dataclass(frozen=True, eq=False)
class Stretch(_Over):
    """A part of another sound, ``[start, end)``, exact to the sample.

    Attributes:
        start_s: where the part begins, from 0.
        end_s: where it ends; None, or a time past the end, is the end of the sound.
    """

    start_s: float = 0.0
    end_s: float | None = None

    @property
    def samples(self) -> tuple[int, int | None]:
        """The part in samples, ``[start, end)``."""
        return round(self.start_s * self.rate_hz), None if self.end_s is None else round(self.end_s * self.rate_hz)

    @property
    def duration_s(self) -> float | None:
        whole_s = self.source.duration_s
        ends_s = [end_s for end_s in (whole_s, self.end_s) if end_s is not None]
        return max(min(ends_s) - self.start_s, 0.0) if ends_s else None

    def blocks(self) -> Iterator[np.ndarray]:
        """As :meth:`Source.blocks`; refuses a part that is shorter than a video frame, or past the end of the sound."""
        start, end = self.samples
        position = kept = 0
        for block in self.source.blocks():
            stop = block.shape[1] if end is None else min(end - position, block.shape[1])
            part = block[:, max(start - position, 0) : stop]
            position += block.shape[1]
            if part.shape[1]:
                kept += part.shape[1]
                yield part
            if end is not None and position >= end:
                break
        if kept == 0:
            raise SettingError(
                "start",
                expected=f"a time before the end of {self.name} ({position / self.rate_hz:.2f} s)",
                actual=f"{self.start_s:g} s",
                action="Set it earlier, or to 0",
            )
        check_length(self.name, kept, self.rate_hz, f"from {self.start_s:g} s on")


@dataclass(frozen=True, eq=False)
class Watched(_Over):
    """A sound that tells how far it is read.

    Attributes:
        tell: is given the seconds that have been read, after each block.
    """

    tell: Callable[[float], None]

    @property
    def duration_s(self) -> float | None:
        return self.source.duration_s

    def blocks(self) -> Iterator[np.ndarray]:
        samples = 0
        for block in self.source.blocks():
            yield block
            samples += block.shape[1]
            self.tell(samples / self.rate_hz)
