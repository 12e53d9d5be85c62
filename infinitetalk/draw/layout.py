"""Where the parts of the plan's picture lie. Plain arithmetic; :mod:`.plan_picture` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...base.strip import BASE_WIDTH, Strip, scaled
from ..plan.windows import Plan, Window

STAIRCASE_WINDOWS = 24
"""The most windows drawn as one staircase of bars."""

LEGEND_STEP = 44
_PROMPTS_HEIGHT = 56
_BAR_HEIGHT = 72
_BAR_GAP = 8
_STAIRCASE_HEIGHT = 480  # bars get lower where windows overlap so deeply that they need many rows


@dataclass(frozen=True)
class Bar:
    """A window on the picture: its strip and the pixel rows [top, bottom)."""

    window: Window
    strip: Strip
    top: int
    bottom: int


@dataclass(frozen=True)
class Layout:
    """Where everything on the picture lies, in pixels. Rows are [top, bottom)."""

    width: int
    height: int
    strip: Strip
    """The whole timeline."""
    waves: tuple[tuple[int, int], ...]
    """The rows of each waveform."""
    axis_top: int
    prompts: tuple[int, int] | None
    """The rows of the strip of prompts, where a schedule is drawn."""
    bars: tuple[Bar, ...]
    """Every window of a short plan; the enlarged windows of a long one."""
    overview: tuple[int, int] | None
    """The rows of the narrow strip of all windows, in a long plan."""
    legend_top: int

    def px(self, size: float) -> int:
        """Pixels of a size given for a picture 1600 pixels wide; at least 1."""
        return scaled(size, self.width)


def lay_out(
    plan: Plan, speakers: int, width: int = BASE_WIDTH, *, prompts: bool = False, legend_lines: int = 1
) -> Layout:
    """Place the parts of the picture for a plan and a number of waveforms."""
    unit = width / BASE_WIDTH
    # aligned_down leaves out audio past its last window, which the timeline shows.
    strip = Strip(0, max(plan.audio_frames, plan.requested_frames), round(170 * unit), width - round(50 * unit))
    y = scaled(124, width)
    wave_height = scaled({1: 180, 2: 130}.get(speakers, 96), width)
    wave_step = wave_height + scaled(12, width)
    waves = tuple((top, top + wave_height) for top in range(y, y + speakers * wave_step, wave_step))
    axis_top = y + speakers * wave_step
    y = axis_top + scaled(64, width)
    strip_of_prompts = (y, y + scaled(_PROMPTS_HEIGHT, width)) if prompts else None
    if strip_of_prompts is not None:
        y = strip_of_prompts[1] + scaled(16, width)
    if len(plan.windows) <= STAIRCASE_WINDOWS:
        overview = None
        bars = tuple(_staircase(plan.windows, strip, y, unit))
        legend_top = max(bar.bottom for bar in bars) + scaled(32, width)
    else:
        overview = (y, y + scaled(56, width))
        bars = tuple(_enlarged(plan, strip, y + scaled(168, width), unit))
        legend_top = max(bar.bottom for bar in bars) + scaled(82, width)
    height = legend_top + scaled(52 + LEGEND_STEP * (legend_lines - 1), width)
    return Layout(width, height, strip, waves, axis_top, strip_of_prompts, bars, overview, legend_top)


def _staircase(windows: Sequence[Window], strip: Strip, top: int, unit: float) -> Iterator[Bar]:
    """The bars on so many rows that no two bars of a row overlap: two rows, unless over half a window is pinned."""
    rows = min(2, len(windows))
    while any(later.start < earlier.audio[1] for earlier, later in zip(windows, windows[rows:], strict=False)):
        rows += 1
    step = min(_BAR_HEIGHT + _BAR_GAP, _STAIRCASE_HEIGHT / rows) * unit
    height = max(1, round(step * _BAR_HEIGHT / (_BAR_HEIGHT + _BAR_GAP)))
    for place, window in enumerate(windows):
        y = top + round(place % rows * step)
        yield Bar(window, strip, y, y + height)


def _enlarged(plan: Plan, strip: Strip, top: int, unit: float) -> Iterator[Bar]:
    """The bars of the first three and the last two windows, at one scale and with a gap between them."""
    first, last = plan.windows[:3], plan.windows[-2:]
    first_end, last_start = max(window.audio[1] for window in first), last[0].start
    last_end = max(window.audio[1] for window in last) + min(plan.held_frames, plan.window_frames)
    columns = strip.right - strip.left
    gap = columns // 12
    middle = strip.left + round((columns - gap) * first_end / (first_end + last_end - last_start))
    yield from _staircase(first, Strip(0, first_end, strip.left, middle), top, unit)
    yield from _staircase(last, Strip(last_start, last_end, middle + gap, strip.right), top, unit)
