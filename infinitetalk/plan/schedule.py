"""Which prompt each window runs on, the same for every model family. Times are fractions of a second.

A schedule has boundaries, where one entry's time ends and another's begins; windows have starts, where their new
frames begin. With snapping every boundary moves to the nearest window start, so that each window has one prompt.
Without it a window has the prompt of its middle. A blend of width b lets each boundary at time t_k pass as

    S_k(t) = 1/2 + 1/2 sin(pi (t - t_k) / b)    within b/2 of t_k, 0 before, 1 after

evaluated at the window's middle. The stretch between boundaries k and k+1 weighs S_k - S_k+1: as all boundaries have
the same width, S_k falls with k, so no weight is negative and they add up to 1 even where blends overlap.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ...base.errors import SettingError
from ...base.values import check_number
from ...base.words import time_text
from .schedule_text import Note, Schedule, Stretch
from .windows import Plan

BLEND_MAX_S = 600.0

Weights = tuple[tuple[int, float], ...]
"""The entries that a window runs on, as (index, weight) in the order of time. Weights are above 0 and add up to 1."""

_LINES_AT_EACH_END = 20
"""Lines listed at each end; a table of more than twice as many is shortened in the middle."""


@dataclass(frozen=True)
class Boundary:
    """Where the prompt changes, as it was written and as it became, in seconds."""

    wanted: Fraction
    at: Fraction
    before: int
    after: int
    """The indices of the entries before and after it."""


@dataclass(frozen=True)
class Resolved:
    """A schedule laid over the windows of one video."""

    schedule: Schedule
    starts: tuple[Fraction, ...]
    total: Fraction
    windows: tuple[Weights, ...]
    """The entries of each window and their weights."""
    boundaries: tuple[Boundary, ...]
    """All boundaries in the video, also those of entries that were dropped."""
    blend_s: Fraction
    """The width of a change that was used; 0 is a hard switch."""
    notes: tuple[Note, ...]
    """The schedule's own notes, and what came of laying it over these windows."""


def windows_of(plan: Plan) -> tuple[tuple[Fraction, ...], Fraction]:
    """Where each window's new frames begin and where the video ends, in seconds."""
    starts = tuple(Fraction(window.start + window.pinned, plan.fps) for window in plan.windows)
    return starts, Fraction(plan.frames, plan.fps)


def resolve_schedule(
    schedule: Schedule,
    starts: Sequence[Fraction | int],
    total: Fraction | int,
    *,
    snap: bool = True,
    blend_s: float = 0.0,
) -> Resolved:
    """Give each window its entries and their weights.

    Args:
        schedule: the schedule as it was written.
        starts: seconds at which the windows' new frames begin: 0 first, rising.
        total: seconds at which the video ends, after the last start.
        snap: move each boundary to the nearest window start, or to the video's end where that is nearer.
        blend_s: width of each change in seconds, 0 for a hard switch. One that is shorter than a window is raised to
            a window: anything narrower would mostly fall between two middles.

    Raises:
        LongTalkError: the starts do not rise from 0 to below the total; the blend is outside 0 to 600 s.
    """
    edges = [Fraction(start) for start in starts] + [Fraction(total)]
    if len(edges) < 2 or edges[0] != 0 or any(end <= start for start, end in itertools.pairwise(edges)):
        raise SettingError(
            "windows of the schedule",
            expected="starts that rise from 0 to below the video's end",
            actual=", ".join(f"{float(edge):g}" for edge in edges[:8]) + (" ..." if len(edges) > 8 else ""),
            action="Give the start of each window's new frames in seconds, then the video's length",
        )
    width = Fraction(check_number(blend_s, "blend_s", 0.0, BLEND_MAX_S)).limit_denominator(10**6)
    stride = _stride(edges)
    notes: list[Note] = []
    if 0 < width < stride:
        notes.append(Note(None, f"blend_s {_s(width)} is shorter than a window ({_s(stride)}) and was raised to that"))
        width = stride
    visible = [stretch for stretch in schedule.stretches if stretch.start < edges[-1]]
    boundaries = tuple(
        Boundary(later.start, _nearest(edges, later.start) if snap else later.start, earlier.entry, later.entry)
        for earlier, later in itertools.pairwise(visible)
    )
    middles = [(start + end) / 2 for start, end in itertools.pairwise(edges)]
    windows = tuple(_weights(visible, boundaries, middle, width) for middle in middles)
    if width and boundaries and all(len(weights) == 1 for weights in windows):
        advice = f"more than {_s(stride)}" if width <= stride else "more, or turn snap off"
        notes.append(Note(None, f"blend_s {_s(width)} blends no window at these boundaries; set {advice}"))
    notes += [*_moved(schedule, boundaries), *_dropped(schedule, visible, windows, edges[-1], snap)]
    notes += _after_the_last(schedule, visible, edges[-1])
    ordered = sorted([*schedule.notes, *notes], key=lambda note: note.line or 0)
    return Resolved(schedule, tuple(edges[:-1]), edges[-1], windows, boundaries, width, tuple(ordered))


def schedule_report(resolved: Resolved, *, whole: bool = False) -> str:
    """Which windows have which prompt, then the notes, as plain text.

    Args:
        resolved: the schedule laid over the windows.
        whole: list every line, however many there are; otherwise the middle of a long table is left out.
    """
    groups = itertools.groupby(enumerate(resolved.windows, start=1), key=lambda window: window[1])
    lines = [_group_line(resolved, [number for number, _ in group], weights) for weights, group in groups]
    if not whole and len(lines) > 2 * _LINES_AT_EACH_END:
        left_out = f"  ... {len(lines) - 2 * _LINES_AT_EACH_END:,} more ..."
        lines = [*lines[:_LINES_AT_EACH_END], left_out, *lines[-_LINES_AT_EACH_END:]]
    blend = f"blended over {_s(resolved.blend_s)}" if resolved.blend_s else "hard switches"
    head = f"Prompts: {len(resolved.schedule.entries)} in the schedule, {blend}"
    return "\n".join([head, *lines, *notes_text(resolved.notes)])


def entries_report(schedule: Schedule) -> str:
    """The schedule before any window is known, as plain text: each entry with its time, then the notes."""
    lines = [
        f"  {time_text(each.start)} - {'end' if each.end is None else time_text(each.end)}: {each.label(12)}"
        for each in schedule.entries
    ]
    head = f"{len(schedule.entries)} in the schedule, {len(schedule.texts)} different"
    return "\n".join([f"Prompts: {head}", *lines, *notes_text(schedule.notes)])


def notes_text(notes: Sequence[Note]) -> list[str]:
    """The notes as lines of a report."""
    return [f"note: schedule, {note}" for note in notes]


# ---------------------------------------------------------------- weights


def _stride(edges: Sequence[Fraction]) -> Fraction:
    """The longest step from one window to the next; the first window, which pins nothing, is longer than that."""
    spans = [end - start for start, end in itertools.pairwise(edges)]
    return max(spans[1:], default=spans[0])


def _nearest(edges: Sequence[Fraction], time: Fraction) -> Fraction:
    """The edge closest to a time; of two equally close ones the earlier."""
    place = bisect_left(edges, time)
    near = edges[max(0, place - 1) : place + 1]
    return min(near, key=lambda edge: (abs(edge - time), edge))


def _weights(visible: Sequence[Stretch], boundaries: Sequence[Boundary], time: Fraction, width: Fraction) -> Weights:
    passed = [1.0, *(_passed(time - boundary.at, width) for boundary in boundaries), 0.0]
    shares: dict[int, float] = {}
    for stretch, (here, after) in zip(visible, itertools.pairwise(passed), strict=True):
        if here > after:
            shares[stretch.entry] = shares.get(stretch.entry, 0.0) + here - after
    return tuple(shares.items()) if len(shares) > 1 else tuple((entry, 1.0) for entry in shares)


def _passed(since: Fraction, width: Fraction) -> float:
    """How far a change is over at a time after its centre: 0 before the change, 1 after it, a raised cosine between."""
    if 2 * abs(since) >= width:
        return float(since >= 0)
    return 0.5 + 0.5 * math.sin(math.pi * float(since / width))


# ---------------------------------------------------------------- notes and words


def _moved(schedule: Schedule, boundaries: Sequence[Boundary]) -> Iterator[Note]:
    for boundary in boundaries:
        by = boundary.at - boundary.wanted
        if by:
            how = f"{_s(abs(by))} {'later' if by > 0 else 'earlier'}"
            when = f"{time_text(boundary.at)} instead of {time_text(boundary.wanted)}"
            yield Note(schedule.entries[boundary.after].line, f"its prompt begins at {when}, {how}")


def _dropped(
    schedule: Schedule, visible: Sequence[Stretch], windows: Sequence[Weights], total: Fraction, snap: bool
) -> Iterator[Note]:
    """Notes on entries that no window has, but for those that other lines cover: the schedule itself notes these."""
    shown = {stretch.entry for stretch in visible}
    used = {entry for weights in windows for entry, _ in weights}
    for index in sorted({stretch.entry for stretch in schedule.stretches} - used):
        entry = schedule.entries[index]
        if index in shown:
            yield Note(
                entry.line,
                f"dropped: {'snapped to windows it is shorter than one' if snap else 'no window has its middle in it'}",
            )
        elif entry.start >= total:
            yield Note(
                entry.line, f"dropped: it begins at {time_text(entry.start)}, the video ends at {time_text(total)}"
            )
        else:
            yield Note(entry.line, f"dropped: other lines cover what lies before the video's end at {time_text(total)}")


def _after_the_last(schedule: Schedule, visible: Sequence[Stretch], total: Fraction) -> Iterator[Note]:
    """A note on a gap at the end, which only the length of the video shows."""
    ends = [entry.end for entry in schedule.entries]
    latest = max((end for end in ends if end is not None), default=total)
    if None not in ends and latest < total:
        entry = schedule.entries[visible[-1].entry]
        yield Note(entry.line, f"no line covers {time_text(latest)} to {time_text(total)}, the end; its prompt goes on")


def _group_line(resolved: Resolved, windows: Sequence[int], weights: Weights) -> str:
    first, last = windows[0], windows[-1]
    edges = [*resolved.starts, resolved.total]
    which = f"window {first:,}" if first == last else f"windows {first:,} to {last:,}"
    times = f"{time_text(edges[first - 1])} - {time_text(edges[last])}"
    entries = resolved.schedule.entries
    if len(weights) == 1:
        what = entries[weights[0][0]].label()
    else:
        what = " + ".join(f"{_percent(weight)} {entries[entry].label(3)}" for entry, weight in weights)
    return f"  {which} ({times}): {what}"


def _percent(weight: float) -> str:
    return "<1%" if weight < 0.01 else f"{weight:.0%}"


def _s(seconds: Fraction) -> str:
    return f"{float(seconds):.2f} s"
