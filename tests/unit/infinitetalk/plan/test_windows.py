"""The window plan: its arithmetic against exhaustive search, its tables against the field's, its words."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.base.words import clock
from longtalk.infinitetalk.plan.plan_text import plan_report
from longtalk.infinitetalk.plan.windows import Plan, PlanMode, frames_for_duration, frames_for_samples, plan_windows


def lengths(plan: Plan) -> list[int]:
    return [window.length for window in plan.windows]


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int]:
    """(T, L, m): windows of 5 to 201 frames, any valid overlap, up to about 60 windows."""
    steps = draw(st.integers(1, 50))
    motion = 4 * draw(st.integers(0, steps - 1)) + 1
    full = 4 * steps + 1
    return draw(st.integers(1, full + 60 * (full - motion))), full, motion


# ---------------------------------------------------------------- what holds in every mode


@settings(max_examples=examples(1000), deadline=None)
@given(requests(), st.sampled_from(PlanMode))
def test_windows_fit_together(request: tuple[int, int, int], mode: PlanMode) -> None:
    frames, full, motion = request
    plan = plan_windows(frames, full, motion, mode)
    assert (plan.requested_frames, plan.window_frames, plan.motion_frames, plan.mode) == (frames, full, motion, mode)

    position = 0  # the output intervals tile [0, frames)
    for number, window in enumerate(plan.windows, start=1):
        assert window.number == number
        assert plan.window(number) is window
        assert window.length % 4 == 1
        assert window.length <= full
        assert window.output[0] == position
        assert window.output[1] > position
        position = window.output[1]
        assert window.audio == (window.start, window.start + window.length)
        assert 4 * (window.latents - 1) + 1 == window.length
        assert window.latents > window.pinned_latents or len(plan.windows) == 1
    assert position == plan.frames

    first, last = plan.windows[0], plan.windows[-1]
    assert (first.start, first.pinned, first.pinned_latents) == (0, 0, 1)
    for before, window in zip(plan.windows, plan.windows[1:], strict=False):
        # pinned are exactly the last m frames of the interval sampled before, none of which was cut
        assert (window.start, window.start + window.pinned) == (before.audio[1] - motion, before.audio[1])
        assert window.pinned == motion
        assert 4 * (window.pinned_latents - 1) + 1 == motion
        assert before.cut == 0

    assert plan.sampled_frames == sum(lengths(plan))
    assert plan.surplus_frames == last.cut
    assert plan.audio_frames == max(window.audio[1] for window in plan.windows) == plan.frames + last.cut
    if mode is not PlanMode.ALIGNED_UP:
        assert plan.audio_frames <= frames + 3
        assert last.cut <= 3
        assert max(lengths(plan)) - min(lengths(plan)) <= 4
        assert lengths(plan) == sorted(lengths(plan), reverse=True)
    if mode is PlanMode.ALIGNED_DOWN:
        assert plan.frames <= frames
        assert last.cut == 0
        assert frames - plan.frames < (full - motion if frames >= full else 4)
        assert len(plan.windows) == 1 or set(lengths(plan)) == {full}
    else:
        assert plan.frames == frames
    if mode is PlanMode.ALIGNED_UP:
        assert set(lengths(plan)) == {full}
        assert len(plan.windows) == 1 + max(0, math.ceil(Fraction(frames - full, full - motion)))


@settings(max_examples=examples(300), deadline=None)
@given(requests(), st.sampled_from(PlanMode), st.data())
def test_window_at_finds_the_window_that_outputs_a_frame(
    request: tuple[int, int, int], mode: PlanMode, data: st.DataObject
) -> None:
    plan = plan_windows(*request, mode)
    frame = data.draw(st.integers(0, plan.frames - 1))
    assert [plan.window_at(frame)] == [w for w in plan.windows if w.output[0] <= frame < w.output[1]]
    for outside in (-1, plan.frames):
        with pytest.raises(LongTalkError, match=f"expected 0 to {plan.frames - 1}, got {outside}"):
            plan.window_at(outside)


# ---------------------------------------------------------------- exact is the cheapest plan there is


def cheapest(full: int, motion: int, reach: int) -> list[tuple[int, int]]:
    """For each T up to `reach`: (frames sampled, sum of squared lengths) of the best of ALL window sequences.

    Dynamic programme over the frames covered so far: start with any length 4n+1 up to L, add any that brings
    something new. Knows nothing of the formula under test.
    """
    sizes = range(1, full + 1, 4)
    worst = (math.inf, math.inf)
    best = [worst] * (reach + full + 1)
    for size in sizes:
        best[size] = (size, size * size)
    for covered in range(1, reach + 1):
        sampled, squares = best[covered]
        for size in sizes:
            if size > motion:
                end = covered + size - motion
                best[end] = min(best[end], (sampled + size, squares + size * size))
    return [min(best[frames:]) for frames in range(1, reach + 1)]


@pytest.mark.parametrize("full", range(5, 46, 4))
def test_exact_is_never_beaten_by_any_sequence_of_windows(full: int) -> None:
    reach = 240
    for motion in range(1, full, 4):
        for frames, (sampled, squares) in enumerate(cheapest(full, motion, reach), 1):
            plan = plan_windows(frames, full, motion)
            assert plan.sampled_frames == sampled, (frames, full, motion)
            # the even split is also the cheapest for attention, which is quadratic in the length
            assert sum(n * n for n in lengths(plan)) == squares, (frames, full, motion)


@settings(max_examples=examples(1000), deadline=None)
@given(requests())
def test_exact_against_the_other_modes(request: tuple[int, int, int]) -> None:
    exact = plan_windows(*request)
    up = plan_windows(*request, "aligned_up")
    down = plan_windows(*request, "aligned_down")
    assert exact.sampled_frames <= up.sampled_frames
    assert len(exact.windows) == len(up.windows)
    # for the frames that aligned_down keeps, exact makes the very same windows
    assert plan_windows(down.frames, *request[1:]).windows == down.windows


# ---------------------------------------------------------------- the tables of the field


@pytest.mark.parametrize(("windows", "total"), list(enumerate((81, 153, 225, 297, 369, 441, 513, 585, 657, 729), 1)))
def test_aligned_totals(windows: int, total: int) -> None:
    for mode in PlanMode:
        plan = plan_windows(total, mode=mode)
        assert lengths(plan) == [81] * windows
        assert plan.surplus_frames == 0
        assert plan.frames == total
    longer = plan_windows(total + 1, mode="aligned_down")
    assert longer.frames == total
    assert plan_windows(total + 1, mode="aligned_up").audio_frames == total + 72
    assert [window.start for window in plan_windows(total).windows] == [72 * index for index in range(windows)]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (427, [81] * 3 + [77] * 3),
        (500, [81] * 4 + [77] * 3),
        (83, [49, 45]),
        (267, [77, 73, 73, 73]),
        (175, [65, 65, 65]),
        (425, [81, 81, 77, 77, 77, 77]),
        (81, [81]),
        (78, [81]),
        (77, [77]),
        (75, [77]),
        (2, [5]),
        (1, [1]),
    ],
)
def test_exact_lengths(frames: int, expected: list[int]) -> None:
    plan = plan_windows(frames)
    assert lengths(plan) == expected
    assert plan.windows[-1].output[1] == frames


@pytest.mark.parametrize(
    ("frames", "up_to", "down_to"), [(175, 225, 153), (425, 441, 369), (427, 441, 369), (83, 153, 81), (500, 513, 441)]
)
def test_known_cases_of_padding_and_cutting(frames: int, up_to: int, down_to: int) -> None:
    up = plan_windows(frames, mode="aligned_up")
    assert (up.frames, up.audio_frames, up.surplus_frames) == (frames, up_to, up_to - frames)
    down = plan_windows(frames, mode="aligned_down")
    assert (down.frames, down.audio_frames, down.requested_frames) == (down_to, down_to, frames)


def test_short_audio_in_each_mode() -> None:
    """Below one window: the field pads it to a full one; aligned_down takes the largest 4n+1."""
    assert lengths(plan_windows(40, mode="aligned_up")) == [81]
    assert plan_windows(40, mode="aligned_up").surplus_frames == 41
    assert lengths(plan_windows(40, mode="aligned_down")) == [37]
    assert plan_windows(40, mode="aligned_down").frames == 37
    assert lengths(plan_windows(40)) == [41]
    assert [plan_windows(n, mode="aligned_down").frames for n in (1, 4, 5, 80)] == [1, 1, 5, 77]


def test_an_hour() -> None:
    plan = plan_windows(90_000)
    assert len(plan.windows) == 1250
    assert plan.windows[-1].output == (89_933, 90_000)
    assert (plan.sampled_frames, plan.surplus_frames) == (101_242, 1)
    assert plan.window_at(89_932).number == 1249


def test_motion_of_25_frames_as_also_used() -> None:
    plan = plan_windows(200, 81, 25)
    assert lengths(plan) == [69, 69, 69, 69]
    assert {window.pinned_latents for window in plan.windows[1:]} == {7}


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "frames: expected 1 or more, got 0. Connect audio of at least 0.04 s"),
        ((-5,), "got -5"),
        ((10.5,), "got 10.5"),
        ((True,), "got True"),
        ((None,), "got None"),
        (("10",), "got '10'"),
        ((10, 80), "window frames: expected 4n+1 (5, 9, ... 77, 81, ...), got 80. Use 77 or 81."),
        ((10, 3), "got 3. Use 5."),
        ((10, 1), "got 1. Use 5."),
        ((10, -7), "got -7. Use 5."),
        ((10, 245), "window frames: expected 241 at most, got 245. Use 81, as the model was trained, or up to 241."),
        ((10, 10**9), "expected 241 at most"),
        ((10, 10**5000), "window frames: expected a whole number"),
        ((10, 81.5), "window frames: expected a whole number 4n+1"),
        ((10, 81, 10), "motion frames: expected 4n+1 (1, 5, 9, ...) below the 81 window frames, got 10. Use 9 or 13."),
        ((10, 81, 80), "got 80. Use 77."),
        ((10, 81, 81), "got 81. Use 77."),
        ((10, 81, 200), "got 200. Use 77."),
        ((10, 81, 0), "got 0. Use 1."),
        ((10, 9, 7), "got 7. Use 5."),
        ((10, 5, 5), "got 5. Use 1."),
        ((10, 81, None), "motion frames: expected"),
        ((10, 81, 9, "fast"), "plan mode: expected exact or aligned_down or aligned_up, got 'fast'"),
        ((10, 81, 9, None), "got None"),
    ],
)
def test_bad_input_names_what_to_use(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(LongTalkError) as caught:
        plan_windows(*arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


@settings(max_examples=examples(500), deadline=None)
@given(st.integers(-300, 300), st.integers(-300, 300))
def test_the_advice_of_an_error_works(full: int, motion: int) -> None:
    """Following the last number an error names ends, after at most two errors, in a plan."""
    for _ in range(3):
        try:
            plan = plan_windows(100, full, motion)
        except LongTalkError as error:
            advice = int(error.action.split()[-1])
            full, motion = (advice, motion) if error.what == "window frames" else (full, advice)
        else:
            assert (plan.window_frames, plan.motion_frames) == (full, motion)
            return
    pytest.fail("the advice led nowhere")


def test_numpy_integers_and_mode_names_are_taken() -> None:
    plan = plan_windows(np.int32(427), np.int64(81), np.uint8(9), "exact")
    assert plan == plan_windows(427)
    assert type(plan.windows[3].start) is int


# ---------------------------------------------------------------- how many frames a sound needs


@settings(max_examples=examples(2000), deadline=None)
@given(st.integers(0, 48_000 * 3600 * 3), st.sampled_from((8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)))
def test_frames_for_samples_and_duration_are_the_exact_ceiling(samples: int, rate_hz: int) -> None:
    exact = math.ceil(Fraction(samples * 25, rate_hz))
    assert frames_for_samples(samples, rate_hz) == exact
    assert frames_for_duration(samples / rate_hz) == exact
    assert frames_for_duration(Fraction(samples, rate_hz)) == exact  # type: ignore[arg-type]


def test_every_whole_number_of_frames_survives_floats() -> None:
    for k in range(1, 100_001):
        assert frames_for_duration(k / 25) == k
        assert frames_for_duration(k * 0.04) == k
    total = 0.0
    for k in range(1, 20_001):
        total += 0.04  # drifts by rounding
        assert frames_for_duration(total) == k


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [(10.68, 267), (0.1 + 0.2, 8), ((0.1 + 0.2) * 4, 30), (0.0, 0), (1e-12, 1), (0.04, 1), (0.0401, 2), (3600, 90_000)],
)
def test_durations_as_people_give_them(seconds: float, frames: int) -> None:
    assert frames_for_duration(seconds) == frames


def test_one_sample_more_is_one_frame_more() -> None:
    for k in (1, 75, 267, 90_000, 900_000):
        samples = k * 192_000 // 25
        assert frames_for_samples(samples, 192_000) == k
        assert frames_for_samples(samples + 1, 192_000) == k + 1
        assert frames_for_duration((samples + 1) / 192_000) == k + 1
    # numpy's narrow integers would overflow in 25 * samples
    assert frames_for_samples(np.int32(2_000_000_000), np.int32(16_000)) == 3_125_000


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, -math.inf, 1e308, "3", None, True, 10**400])
def test_bad_durations(seconds: object) -> None:
    with pytest.raises(LongTalkError, match="duration: expected seconds, 0 or more"):
        frames_for_duration(seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize(("samples", "rate_hz"), [(-1, 16_000), (10, 0), (10, -8000), (1.5, 16_000), (10, None)])
def test_bad_sample_counts(samples: object, rate_hz: object) -> None:
    with pytest.raises(LongTalkError, match="audio sample"):
        frames_for_samples(samples, rate_hz)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the report


def test_report_of_six_windows() -> None:
    assert plan_report(plan_windows(427)).splitlines() == [
        "427 frames, 17.08 s at 25 fps, in 6 windows",
        "Mode exact: window 81 frames, motion 9 frames",
        "Lengths: 3 of 81 and 3 of 77 frames",
        "Sampled: 474 frames (11.0 % more than come out: 45 pinned again, 2 cut)",
        "Surplus: the last window runs 2 frames (0.08 s) past the end; they are cut",
        "",
        "Frames are counted from 0; [0, 81) is 0 up to and without 81.",
        "window  frames              time                 length  pinned  cut",
        "     1  [0, 81)             0:00.00 - 0:03.24        81       0    0",
        "     2  [81, 153)           0:03.24 - 0:06.12        81       9    0",
        "     3  [153, 225)          0:06.12 - 0:09.00        81       9    0",
        "     4  [225, 293)          0:09.00 - 0:11.72        77       9    0",
        "     5  [293, 361)          0:11.72 - 0:14.44        77       9    0",
        "     6  [361, 427)          0:14.44 - 0:17.08        77       9    2",
    ]


def test_report_says_what_is_left_out() -> None:
    report = plan_report(plan_windows(425, mode="aligned_down"))
    assert "Left out: the last 56 frames (2.24 s) of the 425 the audio needs" in report
    assert "Surplus" not in report
    assert "Left out: nothing" in plan_report(plan_windows(441, mode="aligned_down"))
    assert "Left out" not in plan_report(plan_windows(425))


def test_report_of_an_hour_is_shortened_in_the_middle() -> None:
    lines = plan_report(plan_windows(90_000)).splitlines()
    assert lines[0] == "90,000 frames, 3600.00 s (60:00.00) at 25 fps, in 1,250 windows"
    assert "  ... windows 21 to 1,230: 1,210 of 81 frames ..." in lines
    table = lines[lines.index("") + 3 :]
    assert len(table) == 41
    assert [line.split()[0] for line in table] == [
        *map(str, range(1, 21)),
        "...",
        *(f"{number:,}" for number in range(1231, 1251)),
    ]
    assert len({len(line) for line in table if "..." not in line}) == 1  # columns stay aligned


@pytest.mark.parametrize(("windows", "shortened"), [(40, False), (41, True)])
def test_report_lists_up_to_forty_windows(windows: int, shortened: bool) -> None:
    plan = plan_windows(81 + (windows - 1) * 72)
    assert len(plan.windows) == windows
    assert ("..." in plan_report(plan).split("cut\n")[-1]) is shortened


def test_report_of_one_frame() -> None:
    lines = plan_report(plan_windows(1)).splitlines()
    assert lines[0] == "1 frame, 0.04 s at 25 fps, in 1 window"
    assert lines[3] == "Sampled: 1 frame, all of which come out"


@given(st.integers(0, 10**7))
def test_clock_is_exact(frames: int) -> None:
    minutes, seconds = clock(frames).split(":")
    assert 60 * int(minutes) + Fraction(seconds) == Fraction(frames, 25)
    assert Fraction(seconds) < 60


def test_the_table_in_the_documentation() -> None:
    """Every row of docs/windows.md, computed again."""
    text = (Path(__file__).parents[4] / "docs" / "windows.md").read_text(encoding="utf-8")
    rows = [
        row.strip("| ").split("|")
        for row in text.split("## What the modes make of some lengths")[1].splitlines()
        if row.startswith("| ")
    ][2:]
    assert len(rows) == 9
    for needs, field, keeps, ours, sampled in rows:
        frames = int(needs.split()[0].replace(",", ""))
        up, down, exact = (plan_windows(frames, mode=mode) for mode in ("aligned_up", "aligned_down", "exact"))
        assert field.strip() == f"{len(up.windows):,}, to {up.audio_frames:,}, {up.sampled_frames:,}"
        assert keeps.strip() == f"{down.frames:,}"
        counted = ((lengths(exact).count(n), n) for n in dict.fromkeys(lengths(exact)))
        assert ours.strip() == " + ".join(f"{k:,} x {n}" if k > 1 else str(n) for k, n in counted)
        assert sampled.strip() == f"{exact.sampled_frames:,}"
