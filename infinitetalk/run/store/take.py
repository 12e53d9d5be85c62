"""A take, the windows of a run with certain seeds: their keys, their shots, and which of them are made in one go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ..retakes import Retake
from .record import video_key, window_keys


@dataclass(frozen=True)
class Take:
    """The windows of a run with certain seeds, made or not; a retake gives a run another take.

    Attributes:
        run: the name of the run.
        seeds: of all windows.
        shots: the windows that begin a shot, counted from 1.
        retakes: which windows are made again between windows that stay.
    """

    run: str
    seeds: Sequence[int]
    shots: Sequence[int] = (1,)
    retakes: Sequence[Retake] = ()

    @cached_property
    def retaken(self) -> dict[int, int]:
        """See :func:`~.record.window_keys`."""
        return {window: retake.last for retake in self.retakes for window in range(retake.first, retake.last + 1)}

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of all windows; what changes in one shot changes no key of another."""
        return window_keys(self.run, self.seeds, self.retaken, self.shots)

    def key_of(self, window: int) -> str:
        """The key of a window, counted from 1."""
        return self.keys[window - 1]

    @property
    def video_key(self) -> str:
        """What tells the video of this take from those of others."""
        return video_key(self.keys, self.shots)

    @property
    def shot_windows(self) -> list[tuple[int, int]]:
        """The first and the last window (from 1) of each shot."""
        return [(begin, after - 1) for begin, after in pairwise([*self.shots, len(self.seeds) + 1])]

    def retake_of(self, window: int) -> Retake | None:
        """The retake that makes a window (from 1) again; None for a window that no retake makes."""
        return next((retake for retake in self.retakes if retake.first <= window <= retake.last), None)

    def end_of_stretch(self, window: int, stop: int) -> int:
        """The last window that is rendered in one go with this one: the last of its retake, else before the next."""
        retake = self.retake_of(window)
        if retake is not None:
            return retake.last
        return min([stop, *(later.first - 1 for later in self.retakes if later.first > window)])


def kept_text(windows: Collection[int]) -> str:
    """Which windows (from 1, ascending) did not have to be made, in words."""
    there = set(windows)
    begins = [window for window in windows if window - 1 not in there]
    ends = [window for window in windows if window + 1 not in there]
    spans = [f"{begin} to {end}" if begin < end else str(begin) for begin, end in zip(begins, ends, strict=True)]
    which = f"windows {', '.join(spans)} were" if len(windows) > 1 else f"window {spans[0]} was"
    return f"{which} finished before and kept"
