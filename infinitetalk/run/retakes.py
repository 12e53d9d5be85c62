"""Stretches of a finished video made again between windows that stay.

A retaken stretch goes on from the window before it, as it was first made, and its end is pinned to what the window
after it continued from. So nothing outside changes. What can change in windows a to b is what lies between the end of
a's pinned frames and the latents that the window after b goes on from; the windows are chosen so that a stretch lies
there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from ...base.errors import LongTalkError, SettingError, TextError
from ...base.times import parse_time
from ...base.values import shown
from ..plan.windows import Plan, Window
from .seeds import SEED_LIMIT, window_seed

_ENTRY = re.compile(r"([0-9:.]+)\s*-\s*([0-9:.]+)\s*:\s+([0-9]{1,20})")


@dataclass(frozen=True)
class Retake:
    """Windows ``first`` to ``last``, counted from 1, made again with seeds from ``seed`` as their base."""

    first: int
    last: int
    seed: int


def parse_retakes(text: str, plan: Plan) -> tuple[Retake, ...]:
    """Read "0:40-0:45: 7, 1:10-1:12: 9": what is seen in each stretch is made again with that seed.

    Args:
        text: a start and an end (M:SS, H:MM:SS or seconds), a colon and a space, a seed; several separated by commas or
            lines; empty for none.
        plan: the windows.

    Raises:
        LongTalkError: it is anything else, a stretch is not in the video, or two stretches are in the same window.
    """
    if not isinstance(text, str):
        raise _wrong(shown(text))
    found = []
    for entry in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
        match = _ENTRY.fullmatch(entry)
        if match is None or int(match[3]) >= SEED_LIMIT:
            raise _wrong(repr(entry[:40]))
        begin, end = parse_time(match[1]), parse_time(match[2])
        found.append(Retake(*_windows_of(plan, begin, end, entry), int(match[3])))
    found.sort(key=lambda retake: retake.first)
    for before, after in pairwise(found):
        if after.first <= before.last:
            raise _wrong(f"two stretches in window {after.first}")
    return tuple(found)


def _windows_of(plan: Plan, begin: Fraction, end: Fraction, entry: str) -> tuple[int, int]:
    length_s = Fraction(plan.frames, plan.fps)
    if not begin < end <= length_s:
        raise _wrong(f"{entry!r}, where the video is {float(length_s):.2f} s")
    windows = plan.windows
    goes_on = [(before, window) for window in windows if (before := plan.before(window)) is not None]
    if any(2 * window.pinned_latents >= before.latents for before, window in goes_on):
        raise SettingError(
            "retake",
            expected="an overlap of less than half the window",
            actual=f"{plan.motion_frames} of {plan.window_frames} frames",
            action="Use rerender_from, which makes the rest of the video again, or a shorter overlap for a new video",
        )
    first = max(window.number for window in windows if Fraction(window.start + window.pinned, plan.fps) <= begin)
    behind = windows[first:]
    last = next((window.number - 1 for window in behind if _stays_from(plan, window) >= end), len(windows))
    return first, last


def _stays_from(plan: Plan, window: Window) -> Fraction:
    """The second from which on nothing changes when the windows before this one are made again."""
    # The first latent that is handed on is one frame to this window and a whole step to the one before. Nothing is
    # handed on to another shot.
    shared = 0 if plan.is_fresh(window) else window.step - 1
    return Fraction(window.start - shared, plan.fps)


def retake_seeds(seeds: Sequence[int], retakes: Sequence[Retake]) -> tuple[int, ...]:
    """The seed of each window: that of its retake, or that of ``seeds`` for a window in no retake."""
    out = list(seeds)
    for retake in retakes:
        for number in range(retake.first, retake.last + 1):
            out[number - 1] = window_seed(retake.seed, number)
    return tuple(out)


def _wrong(actual: str) -> LongTalkError:
    return TextError(
        "retake",
        expected="'start-end: seed' with times in the video, as in '0:40-0:45: 7', or several of them, separated by "
        "commas and in different windows",
        actual=actual,
        action="Give what you want to see again a new seed; leave it empty to make the video as first made",
    )
