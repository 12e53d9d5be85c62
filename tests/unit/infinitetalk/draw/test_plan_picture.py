"""The picture of a plan: colours where the intervals say, text that never overlaps, any sound."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from amounts import examples
from drawn import RATE, check_texts, columns_of, hum, timeline
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.base.canvas import BODY, INK, PAPER, _font
from longtalk.base.errors import LongTalkError
from longtalk.base.segment import Segment
from longtalk.infinitetalk.draw.layout import STAIRCASE_WINDOWS, lay_out
from longtalk.infinitetalk.draw.plan_picture import CUT, HELD, NEW, NEW_PALE, PINNED, draw_plan
from longtalk.infinitetalk.draw.waves import LEFT_OUT, QUIET, SPEAKERS
from longtalk.infinitetalk.plan.shots import join_shots
from longtalk.infinitetalk.plan.windows import Plan, PlanMode, plan_windows

pytestmark = pytest.mark.filterwarnings("error")


# ---------------------------------------------------------------- silence, shots, a held end


@pytest.mark.parametrize("frames", [500, 4500])
def test_silence_shots_and_a_held_end(frames: int) -> None:
    """A short plan and a long one: two shots, the second cut at a quarter; the last tenth stands still."""
    made, cut = frames * 9 // 10, frames // 4
    plan = join_shots([plan_windows(cut), plan_windows(made - cut)], frames)
    pauses = [Segment(0.0, 1.0), Segment(made / 25, math.inf)]
    pixels = draw_plan(plan, [hum(frames), 0 * hum(frames)], RATE, quiet=[pauses, []])
    layout = lay_out(plan, 2, legend_lines=2)
    assert pixels.shape[0] == layout.height
    first, second = layout.waves
    seen = columns_of(pixels, first, QUIET)
    strip = layout.strip
    inside = set(range(strip.left, strip.x(25))) | set(range(strip.x(made), strip.x(frames)))
    assert set(seen) <= inside
    assert len(seen) > 0.9 * len(inside)
    assert columns_of(pixels, second, QUIET) == []
    for rows in (first, second):
        dark = (pixels[slice(*rows)] == INK).all(axis=2).all(axis=0)
        assert np.flatnonzero(dark).tolist() == list(range(strip.x(cut) - 1, strip.x(cut) + 3))
    bar = layout.bars[-1]
    held = columns_of(pixels, (bar.top + 4, bar.bottom - 4), HELD)
    assert held[0] == bar.strip.x(made)
    assert held[-1] + 1 == min(bar.strip.x(frames), bar.strip.right) == strip.right
    if layout.overview is not None:
        assert columns_of(pixels, layout.overview, HELD) == list(range(strip.x(made), strip.x(frames)))


# ---------------------------------------------------------------- what comes back


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("speakers", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("frames", [1, 75, 267, 4500])
def test_size_and_type(frames: int, speakers: int) -> None:
    waveforms = [hum(frames, seed=seed) for seed in range(speakers)]
    pixels = draw_plan(plan_windows(frames), waveforms, RATE)
    assert pixels.dtype == np.uint8
    assert pixels.shape[1:] == (1600, 3)
    assert pixels.flags.c_contiguous
    assert 300 < pixels.shape[0] < 1200


def test_the_same_input_gives_the_same_picture_and_is_left_alone() -> None:
    waveform = hum(267)
    kept = waveform.copy()
    first, second = (draw_plan(plan_windows(267), [waveform, waveform[::-1]], RATE) for _ in range(2))
    assert (first == second).all()
    assert (waveform == kept).all()


@pytest.mark.parametrize("width", [400, 641, 800, 3200, 8000])
def test_everything_scales_with_the_width(width: int) -> None:
    plan = plan_windows(427)
    pixels = draw_plan(plan, [hum(427)], RATE, width=width)
    base = draw_plan(plan, [hum(427)], RATE)
    assert pixels.shape[1] == width
    assert pixels.shape[0] == pytest.approx(base.shape[0] * width / 1600, abs=8)


# ---------------------------------------------------------------- colours lie where the intervals say


@pytest.mark.parametrize(
    ("frames", "full", "motion", "mode"),
    [
        (1, 81, 9, "exact"),
        (1, 81, 9, "aligned_up"),
        (75, 81, 9, "exact"),
        (267, 81, 9, "exact"),
        (175, 81, 9, "aligned_up"),
        (425, 81, 9, "aligned_down"),
        (1500, 81, 9, "exact"),
        (500, 81, 49, "exact"),
        (200, 81, 73, "exact"),
    ],
)
def test_a_short_plan_shows_every_window(frames: int, full: int, motion: int, mode: str) -> None:
    plan = plan_windows(frames, full, motion, mode)
    pixels = draw_plan(plan, [hum(frames)], RATE)
    layout = lay_out(plan, 1)
    left, columns = timeline(pixels, layout)
    extent = max(plan.audio_frames, frames)

    def span(start: int, end: int) -> list[int]:
        return list(range(left + round(start * columns / extent), left + round(end * columns / extent)))

    assert [bar.window for bar in layout.bars] == list(plan.windows)
    rows = {(bar.top, bar.bottom) for bar in layout.bars}
    for row in rows:
        windows = [bar.window for bar in layout.bars if (bar.top, bar.bottom) == row]
        new = [x for window in windows for x in span(*window.output)]
        pinned = [x for window in windows for x in span(window.start, window.output[0])]
        cut = [x for window in windows for x in span(window.output[1], window.audio[1])]
        assert columns_of(pixels, row, NEW) == new
        assert columns_of(pixels, row, PINNED) == pinned
        assert columns_of(pixels, row, CUT) == cut
        # nothing is drawn beside the bars, and so two bars of a row never overlap either
        beside = np.setdiff1d(np.arange(left, left + columns), new + pinned + cut)
        assert (pixels[row[0] : row[1], beside] == PAPER).all()
    tops, bottoms = zip(*sorted(rows), strict=True)
    assert all(bottom < top for bottom, top in zip(bottoms, tops[1:], strict=False))
    assert columns_of(pixels, layout.waves[0], LEFT_OUT) == span(plan.frames, frames)


def test_windows_alternate_between_two_rows() -> None:
    tops = [bar.top for bar in lay_out(plan_windows(1500), 1).bars]
    assert len(set(tops)) == 2
    assert tops[::2] == tops[:1] * 11
    assert tops[1::2] == tops[1:2] * 10


def test_a_plan_of_some_dozen_windows_shows_each_of_them_small() -> None:
    plan = plan_windows(4500)
    pixels = draw_plan(plan, [hum(4500)], RATE)
    layout = lay_out(plan, 1)
    assert layout.overview is not None
    left, columns = timeline(pixels, layout)
    top, bottom = layout.overview
    for row, parity in (((top, top + 8), 0), ((bottom - 8, bottom), 1)):
        expected = [
            x
            for window in plan.windows[parity::2]
            for x in range(*(left + round(frame * columns / plan.audio_frames) for frame in window.output))
        ]
        assert columns_of(pixels, row, NEW) == expected
        assert 0 < len(columns_of(pixels, row, PINNED)) < len(expected)


def test_an_hour_shows_groups_and_enlarges_both_ends() -> None:
    plan = plan_windows(90_000, mode="aligned_up")
    waveform = np.zeros(57_600_000, np.float32)
    waveform[28_800_000:] = 0.5
    tracemalloc.start()
    try:
        pixels = draw_plan(plan, [waveform], RATE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # bytes; a copy of the samples would take 230e6

    layout = lay_out(plan, 1)
    left, columns = timeline(pixels, layout)
    assert layout.overview is not None
    full, pale = (columns_of(pixels, layout.overview, colour) for colour in (NEW, NEW_PALE))
    joints = [plan.window(number).output[0] for number in range(100, 1250, 100)]
    edges = [left + round(frame * columns / plan.audio_frames) for frame in (0, *joints, plan.frames)]
    groups = [list(range(start, end)) for start, end in pairwise(edges)]
    assert full == [x for group in groups[::2] for x in group]
    assert pale == [x for group in groups[1::2] for x in group]

    assert [bar.window.number for bar in layout.bars] == [1, 2, 3, 1249, 1250]
    first, last = layout.bars[0], layout.bars[-1]
    assert len(columns_of(pixels[:, : layout.bars[3].strip.left], (last.top, last.bottom), CUT)) == 0
    scale = (first.strip.right - first.strip.left) / (first.strip.end - first.strip.start)
    assert len(columns_of(pixels, (last.top, last.bottom), CUT)) == pytest.approx(9 * scale, abs=1)
    assert len(columns_of(pixels, (last.top, last.bottom), PINNED)) == pytest.approx(2 * 9 * scale, abs=2)

    speech = columns_of(pixels, layout.waves[0], SPEAKERS[0])
    middle = (layout.waves[0][0] + layout.waves[0][1]) // 2
    loud = columns_of(pixels, (layout.waves[0][0], middle - 8), SPEAKERS[0])
    end = left + round(90_000 * columns / plan.audio_frames)
    assert speech == list(range(left, end))  # silence is a line
    assert loud[0] == pytest.approx(left + 45_000 * columns / plan.audio_frames, abs=1)
    assert loud[-1] == end - 1


def test_the_strip_of_a_long_plan_ends_with_the_video() -> None:
    plan = plan_windows(81 + 1120 * 72 + 50, mode="aligned_down")
    pixels = draw_plan(plan, [np.zeros(10)], RATE)
    layout = lay_out(plan, 1)
    left, columns = timeline(pixels, layout)
    assert layout.overview is not None
    end = left + round(plan.frames * columns / plan.requested_frames)
    assert end < left + columns
    assert columns_of(pixels, layout.overview, NEW_PALE)[-1] == end - 1
    assert columns_of(pixels, layout.waves[0], LEFT_OUT) == list(range(end, left + columns))


# ---------------------------------------------------------------- waveforms


def test_a_burst_shows_at_its_time_and_on_its_speakers_row() -> None:
    plan = plan_windows(225)
    quiet, loud = np.zeros((2, 9 * RATE), np.float32)
    quiet[2 * RATE : 3 * RATE : 2] = -0.25  # swings between 0 and -0.25
    loud[5 * RATE : 7 * RATE : 2] = 0.5
    pixels = draw_plan(plan, [quiet, loud], RATE)
    layout = lay_out(plan, 2)
    left, columns = timeline(pixels, layout)
    heights = []
    for (top, bottom), colour, (start_s, end_s) in zip(layout.waves, SPEAKERS[:2], ((2, 3), (5, 7)), strict=True):
        middle = (top + bottom) // 2
        ink = (pixels[top:bottom] == colour).all(axis=2)
        away = np.flatnonzero(ink.sum(axis=0) > 4)  # more than the line of silence
        assert away[0] == pytest.approx(left + columns * start_s / 9, abs=1)
        assert away[-1] == pytest.approx(left + columns * end_s / 9, abs=2)
        up = ink[: middle - top - 2].any(axis=1).sum()
        down = ink[middle - top + 2 :].any(axis=1).sum()
        assert (down == 0) == (start_s == 5)  # the burst above zero goes up, the one below down
        assert (up == 0) == (start_s == 2)
        heights.append(up + down)
    assert heights[0] / heights[1] == pytest.approx(0.5, abs=0.05)  # one scale for both
    # in full colour up to the RMS, which for half the samples at the peak is peak / sqrt(2)
    assert heights[1] == pytest.approx((layout.waves[1][1] - layout.waves[1][0]) / 2 / 2**0.5, abs=3)


SOUNDS = {
    "nothing": np.zeros(0, np.float32),
    "one sample": np.ones(1, np.float32),
    "silence": np.zeros(170_880, np.float32),
    "16 bit": (hum(267) * 20_000).astype(np.int16),
    "8 bit": (128 + hum(267) * 100).astype(np.uint8),
    "half": hum(267).astype(np.float16),
    "double": hum(267).astype(np.float64),
    "every other sample": np.repeat(hum(267), 2)[::2],
    "too long": hum(600),
    "beyond full scale": hum(267) * 40,
    "nearly silent": hum(267) * np.float32(1e-30),
    "all nan": np.full(170_880, np.nan, np.float32),
    "infinite": np.full(170_880, np.inf, np.float32),
    "nan and inf inside": np.where(np.arange(170_880) % 5000 == 7, np.nan, hum(267)),
}


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("frames", [1, 267])
def test_any_sound_can_be_drawn(name: str, frames: int) -> None:
    sound = SOUNDS[name]
    plan = plan_windows(frames)
    pixels = draw_plan(plan, [sound], RATE)
    layout = lay_out(plan, 1)
    drawn = columns_of(pixels, layout.waves[0], SPEAKERS[0])
    left, columns = timeline(pixels, layout)
    heard = min(len(sound) * 25 / RATE, plan.audio_frames)
    assert len(drawn) == pytest.approx(columns * heard / plan.audio_frames, abs=1)
    assert drawn == list(range(left, left + len(drawn)))


# ---------------------------------------------------------------- text


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    steps = draw(st.integers(1, 50))
    motion = 4 * draw(st.integers(0, steps - 1)) + 1
    full = 4 * steps + 1
    # few windows, some dozens, or thousands
    windows = draw(st.one_of(st.integers(1, 30), st.integers(31, 400), st.integers(401, 5000)))
    frames = max(1, full + (windows - 1) * (full - motion) - draw(st.integers(0, full - motion - 1)))
    return plan_windows(frames, full, motion, draw(st.sampled_from(PlanMode)))


def test_no_text_overlaps_another_or_leaves_the_picture(text_boxes: list[tuple[str, tuple[float, ...]]]) -> None:
    @settings(max_examples=examples(150), deadline=None, database=None)
    @given(plans(), st.integers(0, 4), st.sampled_from((640, 1600, 2400)))
    def check(plan: Plan, speakers: int, width: int) -> None:
        pixels = draw_plan(plan, [np.zeros(0)] * speakers, RATE, width=width)
        check_texts(text_boxes, pixels)

    check()


def test_the_first_and_the_longest_plans_in_words(text_boxes: list[tuple[str, tuple[float, ...]]]) -> None:
    draw_plan(plan_windows(267), [hum(267)] * 2, RATE, labels=["Ann", "Bartholomew the Great"])
    texts = [text for text, _ in text_boxes]
    assert texts[0].split("   |   ") == ["267 frames", "10.68 s", "4 windows"]
    assert texts[1].split("   |   ") == ["mode exact", "window 81 frames", "motion 9 frames", "296 frames sampled"]
    for expected in ("Ann", "Bartholo...", "0:00", "0:10", "window 1", "77 frames", "window 4", "73 frames"):
        assert expected in texts
    assert "cut: 2 frames past the end" in texts
    assert "pinned: the last 9 of the window before" in texts

    draw_plan(plan_windows(90_000), [np.zeros(10)], RATE)
    texts = [text for text, _ in text_boxes]
    assert texts[0].split("   |   ") == ["90,000 frames", "60 min 0.00 s", "1,250 windows"]
    for expected in ("speech", "60:00", "1", "100", "1,200", "windows 1,249 and 1,250", "window 1,250", "59:57.32"):
        assert expected in texts

    draw_plan(plan_windows(425, mode="aligned_down"), [np.zeros(10)], RATE)
    texts = [text for text, _ in text_boxes]
    assert "left out: 56 frames of the audio" in texts
    assert not [text for text in texts if text.startswith("cut")]


def test_text_is_large_and_dark_enough_to_read() -> None:
    left, top, right, bottom = _font(BODY).getbbox("0")
    assert bottom - top >= 16
    assert right > left

    def luminance(colour: tuple[int, int, int]) -> float:
        """Relative luminance of WCAG 2."""
        parts = (c / 255 for c in colour)
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ground in (PAPER, NEW, NEW_PALE):
        assert (luminance(ground) + 0.05) / (luminance(INK) + 0.05) >= 4.5  # WCAG AA


def test_the_staircase_ends_where_the_strip_begins() -> None:
    most = 81 + (STAIRCASE_WINDOWS - 1) * 72
    assert lay_out(plan_windows(most), 1).overview is None
    assert lay_out(plan_windows(most + 1), 1).overview is not None


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"waveforms": [np.zeros((2, 100))]}, r"mono samples \[N\] of real numbers, got shape \[2, 100\] of float64"),
        ({"waveforms": [np.zeros(9), np.zeros(9, complex)]}, "waveform 2 of the plan picture"),
        ({"waveforms": [np.array(["a"])]}, "mono samples"),
        ({"rate_hz": 0}, "expected 1 Hz or more, got 0 Hz"),
        ({"labels": ["Ann", "Bob"]}, "expected one per waveform, 1, got 2"),
        ({"width": 100}, "expected 400 to 8000 pixels, got 100"),
        ({"width": 9000}, "got 9000"),
        ({"width": 1600.0}, r"got 1600\.0"),
    ],
)
def test_bad_input(arguments: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"waveforms": [np.zeros(100)], "rate_hz": RATE}
    with pytest.raises(LongTalkError, match=words):
        draw_plan(plan_windows(75), **{**good, **arguments})  # type: ignore[arg-type]
