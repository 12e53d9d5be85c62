"""A stretch of a timeline on a picture, and sizes that scale with the picture. Plain arithmetic."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from .words import clock

BASE_WIDTH = 1600
"""Sizes are given in pixels at this width and scale with the picture."""

_TICK_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


@dataclass(frozen=True)
class Strip:
    """A stretch of the timeline: frames [start, end) drawn on pixel columns [left, right)."""

    start: int
    end: int
    left: int
    right: int

    def x(self, frame: int) -> int:
        """The pixel column where a frame begins."""
        return self.left + round((frame - self.start) * self.columns_per_frame)

    @property
    def columns_per_frame(self) -> float:
        return (self.right - self.left) / (self.end - self.start)


def scaled(size: float, width: int) -> int:
    """A size given for a picture 1600 pixels wide, in one of another width; at least 1."""
    return max(1, round(size * width / BASE_WIDTH))


def ticks(strip: Strip, apart: int, fps: int) -> list[tuple[int, str]]:
    """The column and the words of each tick of the time axis.

    The step is the finest round one with which the ticks are at least ``apart`` columns from one another.
    """
    steps = itertools.chain(
        (1, 5), (fps * seconds for seconds in _TICK_SECONDS), (3600 * fps * 2**power for power in itertools.count(1))
    )
    step = next(frames for frames in steps if frames * strip.columns_per_frame >= apart)
    times = ((frame, clock(frame, fps)) for frame in range(0, strip.end + 1, step))
    return [(strip.x(frame), time if step < fps else time.split(".")[0]) for frame, time in times]
