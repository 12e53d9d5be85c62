"""A schedule of keyframes: which picture at which time, and what of it falls into one window.

    0:00: 0
    0:20.5: 1
    1:02:03: 2, 0.7

Each line is a time, a colon with a space after it, the index of a picture in its batch (from 0) and, where it is not
the usual one, a strength. Blank lines and lines that begin with # are skipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ...base.errors import LongTalkError, TextError
from ...base.grid import LTX_STEP
from ...base.times import parse_time
from ...base.values import shown
from .ltx_windows import Geometry
from .windows import Window

STRENGTH_MAX = 10.0
"""The largest strength, which is that of core's LTXVAddGuide."""

_LINE = re.compile(
    r"(?P<time>[0-9:.]+?)\s*:\s+(?P<image>[0-9]{1,6})(?:\s*,\s*(?P<strength>[0-9]{1,3}(?:\.[0-9]{1,6})?))?"
)


@dataclass(frozen=True)
class Keyframe:
    """One line of a schedule."""

    time: Fraction
    """Seconds from the start of the video."""
    image: int
    """The index of the picture in its batch, from 0."""
    strength: float | None
    """How closely the picture is followed; None where the line does not say."""
    line: int
    """The line of the text, counted from 1."""

    def frame(self, fps: int) -> int:
        """The frame of the video that is nearest to the keyframe's time."""
        return math.floor(self.time * fps + Fraction(1, 2))


def parse_keyframes(text: str) -> tuple[Keyframe, ...]:
    """Read a schedule.

    Returns:
        The keyframes in order of time.

    Raises:
        LongTalkError: a line cannot be read, or two lines have the same time; the message names the line.
    """
    if not isinstance(text, str):
        raise TextError(
            "keyframes", expected="lines of text", actual=shown(text), action="Connect a node that gives text"
        )
    found: list[Keyframe] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        keyframe = _keyframe(number, line.strip())
        before = next((other for other in found if other.time == keyframe.time), None)
        if before is not None:
            raise TextError(
                f"line {number} of the keyframes",
                expected="one picture for each time",
                actual=f"the time of line {before.line} again",
                action="Remove one of the two lines, or move it by a frame",
            )
        found.append(keyframe)
    return tuple(sorted(found, key=lambda keyframe: keyframe.time))


def _keyframe(number: int, line: str) -> Keyframe:
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise TextError(
            f"line {number} of the keyframes",
            expected="a time, a colon and a space, and the index of a picture, like '0:20: 1' or '0:20: 1, 0.7'",
            actual=shown(line),
            action="Correct the line, or put # before it",
        )
    try:
        time = parse_time(parts["time"])
    except LongTalkError as error:
        raise TextError(
            f"line {number} of the keyframes", expected=error.expected, actual=error.actual, action=error.action
        ) from None
    strength = None if parts["strength"] is None else float(parts["strength"])
    if strength is not None and strength > STRENGTH_MAX:
        raise TextError(
            f"line {number} of the keyframes",
            expected=f"a strength from 0 to {STRENGTH_MAX:g}",
            actual=f"{strength:g}",
            action="Use 1, or less for a picture that is only hinted at",
        )
    return Keyframe(time, int(parts["image"]), strength, number)


def check_images(keyframes: Sequence[Keyframe], images: int) -> None:
    """Refuse a keyframe that names none of ``images`` pictures.

    Raises:
        LongTalkError
    """
    for keyframe in keyframes:
        if keyframe.image >= images:
            raise TextError(
                f"line {keyframe.line} of the keyframes",
                expected=f"a picture from 0 to {images - 1}, as the batch has {images}",
                actual=str(keyframe.image),
                action="Correct the index, or add pictures to the batch",
            )


def keyframes_in(window: Window, keyframes: Sequence[Keyframe], fps: int) -> list[tuple[int, Keyframe]]:
    """The keyframes among the frames that this window adds, in order, each with its frame inside the window.

    Frames that the window takes over belong to the window before it, so a keyframe belongs to one window only.
    """
    begin, end = window.output
    inside = ((keyframe.frame(fps), keyframe) for keyframe in keyframes)
    return [(frame - window.start, keyframe) for frame, keyframe in inside if begin <= frame < end]


def full_window(number: int, shape: Geometry) -> Window:
    """A window, counted from 1, of a video whose end is not known, so it is a full window."""
    pinned = shape.overlap_frames if number > 1 else 0
    return Window(number, shape.start_frame(number), shape.window_frames, pinned, 0, step=LTX_STEP)
