"""The plan as a picture: waveforms, a time axis, the windows with what they pin and what is cut.

Up to 24 windows are drawn as a staircase of numbered bars. Longer plans get one narrow strip, with every k-th
window numbered, and below it the first three and the last two windows enlarged. The colours are those of Okabe and
Ito (2008), which colour-blind readers can tell apart; pinned and cut parts are hatched as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...base.canvas import FAINT, PAPER, TITLE, Colour
from ...base.errors import SettingError, SoundError
from ...base.segment import Segment
from ...base.strip import BASE_WIDTH, ticks
from ...base.words import clock, count
from ..plan.schedule import Resolved
from ..plan.windows import Plan, Window
from .layout import LEGEND_STEP, Bar, lay_out
from .plan_canvas import PlanCanvas
from .prompts import draw_prompts
from .waves import LEFT_OUT, QUIET, draw_waves

NEW: Colour = (86, 180, 233)  # sky blue
NEW_PALE: Colour = (176, 219, 245)  # every other group of windows in a long plan
PINNED: Colour = (230, 159, 0)  # orange
CUT: Colour = (213, 94, 0)  # vermillion
HELD: Colour = (214, 214, 214)  # grey

PICTURE_RATE_HZ = 8000
"""The sample rate of the waveforms: enough for a picture that is a few thousand pixels wide."""

MIN_WIDTH, MAX_WIDTH = 400, 8000

_NARROWEST_BAR = 6  # pixels per window from which a long plan's strip shows single windows


def draw_plan(
    plan: Plan,
    waveforms: Sequence[np.ndarray],
    rate_hz: int,
    *,
    width: int = BASE_WIDTH,
    labels: Sequence[str] | None = None,
    prompts: Resolved | None = None,
    quiet: Sequence[Sequence[Segment]] = (),
) -> np.ndarray:
    """Draw a plan over its speech.

    Args:
        plan: what to draw.
        waveforms: mono samples [N] per speaker, real numbers of any type, all from time 0. They are drawn to one scale,
            that of the loudest. NaN and infinite samples are drawn as silence.
        rate_hz: their sample rate.
        width: pixels, 400 to 8000; everything scales with it.
        labels: a name per speaker.
        prompts: a schedule laid over these windows; drawn as a strip between the time axis and the windows.
        quiet: per waveform where the model hears silence; none by default.

    Returns:
        uint8 [H, W, 3], RGB. The same input gives the same picture.

    Raises:
        LongTalkError: a waveform is not [N] of real numbers; the rate is below 1 Hz; labels and waveforms differ
            in number; the width is out of range; the prompts are those of another number of windows.
    """
    tracks = [np.asarray(waveform) for waveform in waveforms]
    names = list(labels) if labels is not None else _default_labels(len(tracks))
    _check(tracks, rate_hz, width, names)
    legend = _legend(plan, any(quiet))
    canvas = PlanCanvas(lay_out(plan, len(tracks), width, prompts=prompts is not None, legend_lines=len(legend)))
    _draw_title(canvas, plan)
    strip = canvas.layout.strip
    marks = ticks(strip, canvas.px(120), plan.fps)
    draw_waves(canvas, plan, tracks, rate_hz, names, [x for x, _ in marks], quiet)
    canvas.time_axis(strip.left, strip.right, canvas.layout.axis_top, marks)
    if prompts is not None:
        draw_prompts(canvas, plan, prompts)
    _draw_overview(canvas, plan)
    _draw_bars(canvas, plan)
    _draw_legend(canvas, legend)
    return canvas.finish()


def _draw_title(canvas: PlanCanvas, plan: Plan) -> None:
    px = canvas.px
    minutes, frames = divmod(plan.frames, 60 * plan.fps)
    length = f"{minutes} min {frames / plan.fps:.2f} s" if minutes else f"{frames / plan.fps:.2f} s"
    title = [count(plan.frames, "frame"), length, count(len(plan.windows), "window")]
    if len(plan.shot_starts) > 1:
        title.append(count(len(plan.shot_starts), "shot"))
    details = [
        f"mode {plan.mode.value}",
        f"window {plan.window_frames} frames",
        f"{plan.shared} {plan.motion_frames} frames",
        f"{count(plan.sampled_frames, 'frame')} sampled",
    ]
    canvas.text(px(24), px(16), "   |   ".join(title), size=TITLE)
    canvas.text(px(24), px(72), "   |   ".join(details), FAINT)


def _draw_overview(canvas: PlanCanvas, plan: Plan) -> None:
    """Draw a long plan as one strip: of its windows, or of groups of k in two shades where single ones are too thin."""
    layout, strip, px = canvas.layout, canvas.layout.strip, canvas.px
    if layout.overview is None:
        return
    top, bottom = layout.overview
    windows = plan.windows
    each = (strip.right - strip.left) / len(windows)
    sizes = (digit * 10**power for power in itertools.count() for digit in (1, 2, 5))
    group = next(size for size in sizes if size * each >= px(110))
    numbered = [1, *range(group, len(windows) + 1, group)]  # 1, k, 2k, ...
    if each >= px(_NARROWEST_BAR):
        half = (bottom - top - px(4)) // 2
        rows = (bottom - half, bottom), (top, top + half)  # of even numbers, and of odd ones
        # All pinned parts first: where over half a window is pinned, they reach into new frames of the same row.
        for part, colour in (("pinned", PINNED), ("new", NEW)):
            for window in windows:
                begin, end = (window.start, window.output[0]) if part == "pinned" else window.output
                upper, lower = rows[window.number % 2]
                canvas.box(strip.x(begin), upper, strip.x(end), lower, colour)
        upper, lower = rows[windows[-1].number % 2]
        canvas.box(strip.x(plan.frames), upper, strip.x(plan.audio_frames), lower, CUT)
        canvas.box(strip.x(plan.frames - plan.held_frames), upper, strip.x(plan.frames), lower, HELD)
    else:
        canvas.box(strip.left, top, strip.x(plan.frames), bottom, NEW)
        for begin, end in itertools.zip_longest(numbered[1::2], numbered[2::2]):
            right = strip.x(plan.window(end).output[0]) if end is not None else strip.x(plan.frames)
            canvas.box(strip.x(plan.window(begin).output[0]), top, right, bottom, NEW_PALE)
        canvas.box(strip.x(plan.frames), top, strip.x(plan.audio_frames), bottom, CUT)
        canvas.box(strip.x(plan.frames - plan.held_frames), top, strip.x(plan.frames), bottom, HELD)
    for number in numbered:
        x = strip.x(plan.window(number).output[0])
        canvas.box(x, bottom, x + px(2), bottom + px(10), FAINT)
        canvas.text(x, bottom + px(14), f"{number:,}", FAINT, anchor="ma")
    canvas.row_label((top + bottom) / 2, "windows")


def _draw_bars(canvas: PlanCanvas, plan: Plan) -> None:
    """Draw each window as a bar: pinned frames, new frames, cut frames; its number and length stand inside."""
    if canvas.layout.overview is not None:
        _caption_enlarged(canvas, plan)
    for bar in canvas.layout.bars:
        begin, start, stop, end = _columns(bar)
        canvas.box(start, bar.top, stop, bar.bottom, NEW)
        canvas.box(stop, bar.top, min(bar.strip.x(bar.window.output[1]), bar.strip.right), bar.bottom, HELD)
        canvas.hatch(begin, bar.top, start, bar.bottom, PINNED)
        canvas.hatch(stop, bar.top, end, bar.bottom, CUT, crossed=True)
    _write_in_bars(canvas)


def _caption_enlarged(canvas: PlanCanvas, plan: Plan) -> None:
    """Write which windows are enlarged, and the time at which the new frames of each begin."""
    layout, px, total = canvas.layout, canvas.px, len(plan.windows)
    top, bottom = layout.bars[0].top, max(bar.bottom for bar in layout.bars)
    for bars, words in ((layout.bars[:3], "windows 1 to 3"), (layout.bars[3:], f"windows {total - 1:,} and {total:,}")):
        canvas.text(bars[0].strip.left, top - px(12), words, FAINT, anchor="ld")
        free = 0.0
        for bar in bars:
            x = bar.strip.x(bar.window.output[0])
            if x < free:  # windows of few new frames: not every one has room for its time
                continue
            time = clock(bar.window.output[0], plan.fps)
            left = min(x, layout.width - px(8) - canvas.text_width(time))
            canvas.box(x, bar.bottom, x + px(2), bottom + px(14), FAINT)
            canvas.text(left, bottom + px(18), time, FAINT)
            free = left + canvas.text_width(time) + px(12)
    gap = (layout.bars[2].strip.right + layout.bars[3].strip.left) / 2
    canvas.text(gap, (top + bottom) / 2, "...", FAINT, size=TITLE, anchor="mm")


def _columns(bar: Bar) -> tuple[int, int, int, int]:
    """The pixel columns where the bar's pinned, new and cut frames begin, and where the sampled frames end."""
    (begin, end), (start, stop) = bar.window.audio, bar.window.output
    return bar.strip.x(begin), bar.strip.x(start), bar.strip.x(stop - bar.window.held), bar.strip.x(end)


def _write_in_bars(canvas: PlanCanvas) -> None:
    """Write number and length into every bar, in the longest wording that fits all bars, and the name of the row.

    Where none fits into the new frames, text lies over the pinned ones; where none fits the bars, there is none.
    """
    bars, px = canvas.layout.bars, canvas.px
    height = bars[0].bottom - bars[0].top
    wordings: tuple[Callable[[Window], list[str]], ...] = (
        lambda window: [f"window {window.number:,}", count(window.length, "frame")],
        lambda window: [f"{window.number:,}", count(window.length, "frame")],
        lambda window: [f"{window.number:,}", f"{window.length}"],
        lambda window: [f"{window.number:,}"],
        lambda window: [],
    )
    tries = [*itertools.product((False, True), wordings[:-1]), (False, wordings[-1])]
    for whole, wording in tries:
        texts = [wording(bar.window) for bar in bars]
        widths = [max(map(canvas.text_width, text)) + px(8) if text else 0.0 for text in texts]
        rooms = [_room(bar, whole) for bar in bars]
        if height >= px(34) * len(texts[0]) and all(room >= width for room, width in zip(rooms, widths, strict=True)):
            break
    for bar, text, width in zip(bars, texts, widths, strict=True):
        _write_in_bar(canvas, bar, text, width)
    if wording is wordings[2]:  # two bare numbers per bar: say beside the first what they are
        for words, y in zip(("window", "frames"), _line_places(canvas, bars[0], 2), strict=True):
            canvas.row_label(y, words)
    else:
        middle = (bars[0].top + max(bar.bottom for bar in bars)) / 2
        canvas.row_label(middle, "windows" if canvas.layout.overview is None else "enlarged")


def _room(bar: Bar, whole: bool) -> int:
    """The columns that a text may take: the new frames, or the whole bar, as always in a last window that is cut."""
    begin, start, stop, end = _columns(bar)
    return end - begin if whole or bar.window.cut else stop - start


def _write_in_bar(canvas: PlanCanvas, bar: Bar, text: Sequence[str], width: float) -> None:
    """Write lines into the middle of the new frames; where these are too narrow, of the bar, on a white plate."""
    begin, start, stop, end = _columns(bar)
    middle = (start + stop) / 2
    if text and stop - start < width:
        middle = (begin + end) / 2
        left, right = round(middle - width / 2), round(middle + width / 2)
        canvas.box(left, bar.top + canvas.px(3), right, bar.bottom - canvas.px(3), PAPER)
    for words, y in zip(text, _line_places(canvas, bar, len(text)), strict=True):
        canvas.text(middle, y, words, anchor="mm")


def _line_places(canvas: PlanCanvas, bar: Bar, lines: int) -> list[float]:
    """The middle of each line of text in a bar."""
    return [(bar.top + bar.bottom) / 2 + canvas.px(32) * (line - (lines - 1) / 2) for line in range(lines)]


@dataclass(frozen=True)
class _Entry:
    """One colour of the legend and what it means; a line of the legend has several."""

    words: str
    colour: Colour
    hatched: bool = True
    crossed: bool = False


def _legend(plan: Plan, quiet: bool) -> list[list[_Entry]]:
    """The lines of the legend: the colours of the windows, then those of silence and of a held end."""
    first = [_Entry("new frames", NEW, hatched=False)]
    if any(window.pinned for window in plan.windows):
        first.append(_Entry(f"pinned: the last {plan.motion_frames} of the window before", PINNED))
    if plan.surplus_frames:
        ends = "the end" if len(plan.shot_starts) == 1 else "the ends of shots"
        first.append(_Entry(f"cut: {count(plan.surplus_frames, 'frame')} past {ends}", CUT, crossed=True))
    left_out = plan.requested_frames - plan.frames
    if left_out:
        first.append(_Entry(f"left out: {count(left_out, 'frame')} of the audio", LEFT_OUT))
    second = [_Entry("the model hears silence", QUIET, hatched=False)] if quiet else []
    if plan.held_frames:
        held = f"held: the last frame stands still, {count(plan.held_frames, 'frame')}"
        second.append(_Entry(held, HELD, hatched=False))
    return [first, second] if second else [first]


def _draw_legend(canvas: PlanCanvas, lines: Sequence[Sequence[_Entry]]) -> None:
    px = canvas.px
    side = px(28)
    for number, entries in enumerate(lines):
        x, top = px(24), canvas.layout.legend_top + number * px(LEGEND_STEP)
        for entry in entries:
            if entry.hatched:
                canvas.hatch(x, top, x + side, top + side, entry.colour, crossed=entry.crossed)
            else:
                canvas.box(x, top, x + side, top + side, entry.colour)
            canvas.text(x + side + px(10), top + side / 2, entry.words, anchor="lm")
            x += side + px(10) + round(canvas.text_width(entry.words)) + px(40)


def _default_labels(speakers: int) -> list[str]:
    return ["speech"] if speakers == 1 else [f"speaker {number}" for number in range(1, speakers + 1)]


def _check(tracks: Sequence[np.ndarray], rate_hz: Any, width: Any, names: Sequence[str]) -> None:
    for number, track in enumerate(tracks, 1):
        if track.ndim != 1 or track.dtype.kind not in "fiu":
            raise SoundError(
                f"waveform {number} of the plan picture",
                expected="mono samples [N] of real numbers",
                actual=f"shape {list(track.shape)} of {track.dtype}",
                action="Mix its channels down to one first",
            )
    if not rate_hz >= 1:
        raise SoundError(
            "audio sample rate", expected="1 Hz or more", actual=f"{rate_hz} Hz", action="Load the audio again"
        )
    if len(names) != len(tracks):
        raise SettingError(
            "labels of the plan picture",
            expected=f"one per waveform, {len(tracks)}",
            actual=str(len(names)),
            action="Name every speaker, or none",
        )
    if not isinstance(width, int) or not MIN_WIDTH <= width <= MAX_WIDTH:
        raise SettingError(
            "width of the plan picture",
            expected=f"{MIN_WIDTH} to {MAX_WIDTH} pixels",
            actual=repr(width),
            action=f"Use {BASE_WIDTH}",
        )
