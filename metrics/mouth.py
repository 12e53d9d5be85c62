"""How far a mouth is open, from its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch

QUIET = 0.02
"""Up to this opening, the sound asks for a mouth that rests."""
_STEEPNESS = 25.0


@dataclass(frozen=True)
class Box:
    """Pixels ``[top, bottom)`` and ``[left, right)``: columns through the middle of a mouth."""

    top: int
    bottom: int
    left: int
    right: int

    def moved(self, columns: int) -> Box:
        """The box of a face that stands so many pixels further to the right."""
        return Box(self.top, self.bottom, self.left + columns, self.right + columns)


def mouth_height(frames: torch.Tensor, box: Box, dark: float = 0.42) -> torch.Tensor:
    """The height of the mouth's dark inside in pixels, ``[F]``: the mean over the columns of the box.

    A pixel that is half lip counts in part, so the height does not change in whole pixels.

    Args:
        frames: ``[F, H, W, 3]``.
        box: where to look.
        dark: pixels whose red is below this are the inside of a mouth; lips and skin are redder. A value in the middle
            between the two is best.
    """
    red = frames[:, box.top : box.bottom, box.left : box.right, 0]
    return torch.sigmoid((dark - red) * _STEEPNESS).sum(dim=1).mean(dim=1)


@dataclass(frozen=True)
class Rest:
    """A mouth while nothing is to be said.

    Attributes:
        frames: how many frames were looked at.
        height: the mean height of the mouth, in pixels.
        spread: the standard deviation of its height, in pixels.
    """

    frames: int
    height: float
    spread: float


def resting(height: torch.Tensor, opening: torch.Tensor, after: int = 5, at_least: int = 10) -> Rest:
    """Measure a mouth in the silences of a sound.

    Args:
        height: of the mouth in each frame, ``[F]``.
        opening: what the sound asks for, ``[F]``.
        after: how many frames a mouth has to close in; these frames at the beginning of each silence do not count.
        at_least: how many frames a silence has to last.

    Raises:
        ValueError: there is no such silence.
    """
    count = min(len(height), len(opening))
    found: list[int] = []
    for quiet, run in groupby(range(count), lambda frame: bool(opening[frame] <= QUIET)):
        frames = list(run)
        if quiet and len(frames) >= at_least:
            found += frames[after:]
    if not found:
        raise ValueError(f"no silence of {at_least} frames in {count}")
    seen = height[found].double()
    return Rest(len(found), float(seen.mean()), float(seen.std(correction=0)))
