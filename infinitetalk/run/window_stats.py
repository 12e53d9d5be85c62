"""What was measured on a window, as its record keeps it. No torch: the command line reads it too.

Where a comment says "talk", it means 15 s of a real person talking without a cut (458x458), at 25 fps; "levels" are
steps of 1/255.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The frame before is rounded to 8 bits, which alone can make half a level of change. A still picture's interior is
# counted as at least that, or its seam ratio would be rounding over nothing.
_LEAST_INTERIOR = 0.5 / 255
# Of 302 places in talk taken as a boundary the highest ratio is 3.0, 99 % are below 2.2; noise of untrained models has
# 1.0 to 1.1. A tenth more gain after the boundary has 4 to 11, a 5 pixel blur 6 to 16, a second of talk left out 3 to
# 11 (two in three fire).
_JUMP_RATIO = 4.0
# 6.4 levels. Neighbouring frames of talk differ by at most 0.017, at an H.264 key frame (which blinks) by 0.013 at crf
# 18 and 0.020 at crf 35, there with a ratio of 7. All levels 6 up make 0.024, 8 up 0.032, a tenth more gain 0.043, a
# shift by 2 pixels 0.041, a 5 pixel blur 0.033, half of the places with a second of talk left out 0.028.
_VISIBLE_CHANGE = 0.025


@dataclass(frozen=True)
class WindowStats:
    """What was measured on the new frames of one window; every number may be NaN when the frames have NaN.

    Attributes:
        brightness: see :class:`~.window_checks.Look`.
        contrast: see :class:`~.window_checks.Look`.
        drift: colour difference between the window's mean colour and the reference's, CIE76 delta E
            (the Euclidean distance in L*a*b*; 2.3 is just noticeable).
        boundary_change: mean ``|first new frame - last frame before|``, 0..1; None in the first window of a shot.
        interior_change: typical mean change between neighbouring new frames, 0..1: the median over the window or over
            its first three changes, whichever is larger. None when there is one new frame.
    """

    brightness: float
    contrast: float
    drift: float
    boundary_change: float | None
    interior_change: float | None

    @property
    def seam_ratio(self) -> float | None:
        """The boundary's change over the interior's, 1 when the boundary is like any other; None without either.

        An interior below half a level (still pictures) counts as half a level, so the ratio is always finite.
        """
        if self.boundary_change is None or self.interior_change is None:
            return None
        return self.boundary_change / max(self.interior_change, _LEAST_INTERIOR)

    def to_json(self) -> dict[str, float | None]:
        """The numbers by name; they are finite where :func:`~.window_checks.what_is_broken` finds nothing."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> WindowStats:
        """Read what :meth:`to_json` gave.

        Raises:
            ValueError: the names are others, or a value is no finite number; only the two changes may be None.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(content, Mapping) or set(content) != set(names):
            raise ValueError(f"window statistics: expected an object with {', '.join(names)}, got {content!r:.200}")
        values = {name: _finite_number(name, content[name]) for name in names}
        for name in ("brightness", "contrast", "drift"):
            if values[name] is None:
                raise ValueError(f"window statistics: {name} must be a number, got None")
        return cls(**values)  # type: ignore[arg-type]  # None was refused where it may not be


def begins_shot(window: int, stats: WindowStats) -> bool:
    """Whether a window (from 1) was not compared with the frame before it, because a shot begins with it."""
    return window > 1 and stats.boundary_change is None


def jumps(stats: WindowStats) -> bool:
    """Whether the picture jumps at the window's start: far more change than inside, and enough to be seen."""
    ratio = stats.seam_ratio
    if ratio is None or stats.boundary_change is None:
        return False
    return ratio > _JUMP_RATIO and stats.boundary_change > _VISIBLE_CHANGE


def _finite_number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"window statistics: {name} must be a number, got {value!r:.200}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"window statistics: {name} must be finite, got {number}")
    return number
