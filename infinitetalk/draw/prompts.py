"""The prompts in the plan's picture: a strip over the timeline, in which each stretch has its line and its words.

A stretch is the windows that run on the same prompts. Where a window mixes several, each prompt has its share of the
height.
"""

from __future__ import annotations

import itertools

from ...base.canvas import INK, Canvas, Colour
from ...base.errors import LinkError
from ..plan.schedule import Resolved, Weights
from ..plan.schedule_text import words_without_subject
from ..plan.windows import Plan
from .plan_canvas import PlanCanvas

PROMPTS: tuple[Colour, ...] = ((245, 239, 160), (236, 208, 224), (170, 220, 203), (214, 214, 214))
"""Okabe and Ito's yellow, purple and green, and grey, pale enough for dark text."""

_MAIN_WEIGHT = 0.9
"""A prompt with this share or more is written into its stretch; a smaller one is a line of another colour."""

_MOST_LETTERS = 500
"""More letters than any stretch has room for; Pillow refuses to measure a text of a million."""

_NARROWEST_TEXT = 4
"""The fewest letters of a prompt that are worth drawing; with less room only the line's number is drawn."""


def draw_prompts(canvas: PlanCanvas, plan: Plan, prompts: Resolved) -> None:
    """Draw the strip into the rows that the layout keeps for it.

    Raises:
        LongTalkError: the prompts are those of another number of windows.
    """
    if len(prompts.windows) != len(plan.windows):
        raise LinkError(
            "prompts of the plan picture",
            expected=f"those of {len(plan.windows)} windows",
            actual=str(len(prompts.windows)),
            action="Lay the schedule over the windows of this plan",
        )
    layout, strip, px = canvas.layout, canvas.layout.strip, canvas.px
    if layout.prompts is None:
        return
    top, bottom = layout.prompts
    words = words_without_subject(prompts.schedule.entries)
    told = zip(plan.windows, prompts.windows, strict=True)
    for weights, group in itertools.groupby(told, key=lambda each: each[1]):
        windows = [window for window, _ in group]
        left, right = strip.x(windows[0].output[0]), strip.x(windows[-1].output[1])
        _draw_shares(canvas, weights, left, right, top, bottom)
        if windows[0].number > 1:
            canvas.box(left - px(1), top, left + px(2), bottom, INK)
        entry, weight = max(weights, key=lambda each: each[1])
        if weight >= _MAIN_WEIGHT:
            line = prompts.schedule.entries[entry].line
            text = _that_fits(canvas, f"{line}", words[entry], right - left - px(16))
            if text:
                canvas.text((left + right) / 2, (top + bottom) / 2, text, anchor="mm")
    canvas.row_label((top + bottom) / 2, "prompts")


def _draw_shares(canvas: Canvas, weights: Weights, left: int, right: int, top: int, bottom: int) -> None:
    begin, passed = top, 0.0
    for place, (entry, weight) in enumerate(weights, 1):
        passed += weight
        end = bottom if place == len(weights) else top + round((bottom - top) * passed)
        canvas.box(left, begin, right, end, PROMPTS[entry % len(PROMPTS)])
        begin = end


def _that_fits(canvas: Canvas, line: str, words: str, room: float) -> str:
    """What there is room for: the line's number with as many letters as fit, the number alone, or nothing."""
    whole = f"{line}: {words}"
    words = words[:_MOST_LETTERS]
    if len(whole) < _MOST_LETTERS and canvas.text_width(whole) <= room:
        return whole
    letters = _longest(canvas, line, words, room)
    if letters >= _NARROWEST_TEXT:
        return f"{line}: {words[:letters].rstrip()}..."
    return line if canvas.text_width(line) <= room else ""


def _longest(canvas: Canvas, line: str, words: str, room: float) -> int:
    """How many letters fit before the dots; found by halving, as prompts have hundreds of letters."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if canvas.text_width(f"{line}: {words[:middle]}...") <= room:
            low = middle
        else:
            high = middle - 1
    return low
