"""The plan in words, for a text node or a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ...base.words import clock, count
from .windows import Plan, PlanMode, Window

_LINES_AT_EACH_END = 20
"""Windows listed at each end; a plan of more than twice as many is shortened in the middle."""
_SHOTS_LISTED = 12


def plan_report(plan: Plan, beside: Sequence[str] = (), *, whole: bool = False) -> str:
    """The plan as plain text: first the totals, then a line per window. Times are m:ss.ff, with hundredths of a second.

    Frame intervals are half-open and the table says so. At 25 fps one frame is 0.04 s, so every time is exact; at
    other rates times are rounded down to hundredths.

    Args:
        plan: the windows.
        beside: a further column: its heading, then a text for each window.
        whole: list every window, however many there are; otherwise the middle of a long table is left out.
    """
    return "\n".join([*_totals(plan), "", *_table(plan, beside, whole)])


def _totals(plan: Plan) -> Iterator[str]:
    pinned = sum(window.pinned for window in plan.windows)
    windows = count(len(plan.windows), "window")
    yield f"{count(plan.frames, 'frame')}, {_seconds(plan.frames, plan.fps)} at {plan.fps} fps, in {windows}"
    yield f"Mode {plan.mode.value}: window {plan.window_frames} frames, {plan.shared} {plan.motion_frames} frames"
    yield f"Lengths: {_lengths(plan.windows)}"
    come_out = plan.frames - plan.held_frames
    overhead = 100 * (plan.sampled_frames - come_out) / come_out
    extra = f"{overhead:.1f} % more than come out: {pinned:,} pinned again, {plan.surplus_frames:,} cut"
    yield f"Sampled: {count(plan.sampled_frames, 'frame')}" + (f" ({extra})" if overhead else ", all of which come out")
    missing = plan.requested_frames - plan.frames
    if missing:
        yield (
            f"Left out: the last {count(missing, 'frame')} ({_seconds(missing, plan.fps)}) of the "
            f"{plan.requested_frames:,} the audio needs"
        )
    elif plan.mode is PlanMode.ALIGNED_DOWN:
        yield "Left out: nothing, the audio fills its windows"
    yield from _shots(plan)
    if plan.surplus_frames and len(plan.shot_starts) == 1:
        yield (
            f"Surplus: the last window runs {count(plan.surplus_frames, 'frame')} "
            f"({_seconds(plan.surplus_frames, plan.fps)}) past the end; they are cut"
        )
    if plan.held_frames:
        yield (
            f"Held: the last frame stands still for {count(plan.held_frames, 'frame')} "
            f"({_seconds(plan.held_frames, plan.fps)}) to the end"
        )


def _shots(plan: Plan) -> Iterator[str]:
    """Where the shots begin, and how much is sampled past their ends; nothing for a video of one shot."""
    starts = [plan.window(number) for number in plan.shot_starts]
    if len(starts) == 1:
        return
    begins = [f"{clock(window.start, plan.fps)} (window {window.number:,})" for window in starts]
    if len(begins) > _SHOTS_LISTED:
        begins[_SHOTS_LISTED - 1 : -1] = ["..."]
    yield f"Shots: {len(starts):,}, each from the reference image on, at {', '.join(begins)}"
    if plan.surplus_frames:
        yield f"Surplus: {count(plan.surplus_frames, 'frame')} past the ends of shots; they are cut"


def _table(plan: Plan, beside: Sequence[str], whole: bool) -> Iterator[str]:
    end = plan.windows[0].output[1]
    heading, *texts = beside or [""] * (len(plan.windows) + 1)
    yield f"Frames are counted from 0; [0, {end}) is 0 up to and without {end}."
    yield f"{'window':>6}  {'frames':<18}  {'time':<19}  {'length':>6}  {'pinned':>6}  {'cut':>3}  {heading}".rstrip()
    lines = [_line(window, text, plan.fps) for window, text in zip(plan.windows, texts, strict=True)]
    if whole or len(lines) <= 2 * _LINES_AT_EACH_END:
        yield from lines
        return
    middle = plan.windows[_LINES_AT_EACH_END:-_LINES_AT_EACH_END]
    yield from lines[:_LINES_AT_EACH_END]
    yield f"  ... windows {middle[0].number:,} to {middle[-1].number:,}: {_lengths(middle)} ..."
    yield from lines[-_LINES_AT_EACH_END:]


def _line(window: Window, text: str, fps: int) -> str:
    start, end = window.output
    frames = f"[{start:,}, {end:,})"
    time = f"{clock(start, fps)} - {clock(end, fps)}"
    columns = f"{window.length:>6}  {window.pinned:>6}  {window.cut:>3}"
    return f"{window.number:>6,}  {frames:<18}  {time:<19}  {columns}  {text}".rstrip()


def _lengths(windows: Sequence[Window]) -> str:
    """How many windows of which length, in the order in which they come: "3 of 81 and 3 of 77 frames"."""
    counts = Counter(window.length for window in windows)
    return " and ".join(f"{number:,} of {length}" for length, number in counts.items()) + " frames"


def _seconds(frames: int, fps: int) -> str:
    """A duration in seconds, exact at 25 fps; from a minute on also as m:ss.ff."""
    text = f"{frames / fps:.2f} s"
    return f"{text} ({clock(frames, fps)})" if frames >= 60 * fps else text
