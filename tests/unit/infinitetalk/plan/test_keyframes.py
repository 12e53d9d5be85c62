"""Keyframe schedules: read with the line's number, and each in exactly one window."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.plan.keyframes import Keyframe, check_images, full_window, keyframes_in, parse_keyframes
from longtalk.infinitetalk.plan.ltx_loop import loop_plan
from longtalk.infinitetalk.plan.ltx_windows import geometry


def test_a_schedule() -> None:
    text = "# pictures\n\n0:20.5: 1\n0: 0\n  1:02:03 :  2 , 0.7 \n"
    assert parse_keyframes(text) == (
        Keyframe(Fraction(0), 0, None, 4),
        Keyframe(Fraction(41, 2), 1, None, 3),
        Keyframe(Fraction(3723), 2, 0.7, 5),
    )
    assert parse_keyframes(" \n# nothing\n") == ()


@pytest.mark.parametrize(
    "line",
    [
        *("0:20:1", "0:20", "20", "0:20: ", "0:20: a", "0:20: -1", "0:20: 1, ", "0:20: 1, -1", "0:20: 1 0.5", "x: 1"),
        *(": 1", "1:60: 1", "1:5: 1", "0:20: 1, 11", "0:20: 1.5", "0:20 1"),
    ],
)
def test_lines_that_cannot_be_read_are_named(line: str) -> None:
    with pytest.raises(LongTalkError, match="line 3 of the keyframes"):
        parse_keyframes(f"0: 0\n\n{line}\n")


def test_two_pictures_at_one_time() -> None:
    with pytest.raises(LongTalkError, match=r"line 2 .* the time of line 1 again"):
        parse_keyframes("1:05: 0\n65.0: 1")


def test_schedules_are_text() -> None:
    with pytest.raises(LongTalkError, match="lines of text"):
        parse_keyframes(None)  # type: ignore[arg-type]


def test_pictures_must_be_there() -> None:
    check_images(parse_keyframes("0: 0\n1: 2"), 3)
    with pytest.raises(LongTalkError, match=r"line 2 .* from 0 to 1, as the batch has 2, got 2"):
        check_images(parse_keyframes("0: 0\n1: 2"), 2)


def test_frames_in_a_window() -> None:
    """Window 1 of 19.88 s with an overlap of 49 frames begins at frame 448 and adds frames from 497 on."""
    schedule = parse_keyframes("0:19.84: 0\n0:19.88: 1\n0:30: 2\n0:37.76: 3\n0:37.80: 4")
    shape = geometry(19.88, 2, 25)
    plan = loop_plan(60 * 16000, 16000, shape)
    windows = [[(frame, key.image) for frame, key in keyframes_in(window, schedule, 25)] for window in plan.windows]
    assert windows == [[(496, 0)], [(49, 1), (302, 2), (496, 3)], [(49, 4)], []]


@given(
    st.lists(st.integers(0, 2_000_000), max_size=12, unique=True),
    st.sampled_from([24, 25, 30]),
    st.floats(1, 20),
    st.sampled_from([0.0, 0.04, 0.4]),
)
def test_each_keyframe_is_in_one_window(times_ms: list[int], fps: int, window_s: float, overlap_s: float) -> None:
    schedule = [Keyframe(Fraction(time, 10_000), 0, None, line) for line, time in enumerate(times_ms, 1)]
    shape = geometry(window_s, overlap_s, fps)
    plan = loop_plan(200 * 16000 + 16000, 16000, shape)
    found = [
        (window.start + frame, keyframe.line)
        for window in plan.windows
        for frame, keyframe in keyframes_in(window, schedule, fps)
        if 0 <= frame < window.length
    ]
    assert sorted(found) == sorted((keyframe.frame(fps), keyframe.line) for keyframe in schedule)


def test_windows_without_an_end_are_the_plans() -> None:
    shape = geometry(10, 1, 25)
    plan = loop_plan(100 * 16000, 16000, shape)
    for window in plan.windows[:-1]:
        full = full_window(window.number, shape)
        assert (full.start, full.length, full.output) == (window.start, window.length, window.output)
