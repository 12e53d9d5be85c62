"""An iteration of a hand-wired loop: its frames, its sound, its end; the plan at other frame rates."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.base.strip import ticks
from longtalk.base.words import clock
from longtalk.infinitetalk.draw.layout import lay_out
from longtalk.infinitetalk.draw.plan_picture import draw_plan
from longtalk.infinitetalk.draw.waves import SPEAKERS
from longtalk.infinitetalk.plan.ltx_loop import loop_plan, loop_report, loop_step
from longtalk.infinitetalk.plan.ltx_windows import Geometry, geometry
from longtalk.infinitetalk.plan.plan_text import plan_report
from longtalk.infinitetalk.plan.windows import plan_windows

RATE = 44100
SHAPE = geometry(19.88, 2, 25)


def steps(samples: int, rate_hz: int, shape: Geometry, cap: int = 0) -> list:
    plan = loop_plan(samples, rate_hz, shape, cap)
    return [loop_step(plan, index, samples, rate_hz) for index in range(len(plan.windows))]


def test_a_minute() -> None:
    found = steps(60 * RATE, RATE, SHAPE)
    assert [step.window.start / 25 for step in found] == pytest.approx([0, 17.92, 35.84, 53.76])
    assert [step.window.length for step in found] == [497, 497, 497, 161]
    assert [step.pinned_latents for step in found] == [0, 7, 7, 7]
    assert [step.should_stop for step in found] == [False, False, False, True]
    assert [step.total for step in found] == [4] * 4
    assert [step.silence for step in found] == [0] * 4
    assert found[-1].end_sample == 60 * RATE
    assert found[0].end_sample == 497 * RATE // 25


@pytest.mark.parametrize("iteration", [3, 4, 5, 1_000_000])
def test_from_the_last_iteration_on_it_stays_the_last(iteration: int) -> None:
    """A loop that stops after its body ran runs it once more: that run needs sound, too."""
    samples = 60 * RATE
    plan = loop_plan(samples, RATE, SHAPE)
    step = loop_step(plan, iteration, samples, RATE)
    assert step == loop_step(plan, 3, samples, RATE)
    assert step.should_stop
    assert step.end_sample - step.first_sample >= RATE / 2


shapes = st.builds(
    lambda fps, window, overlap: Geometry(fps, window, min(overlap, window - 1)),
    st.integers(1, 60),
    st.integers(2, 80),
    st.integers(0, 20),
)


@given(shapes, st.integers(1, 5_000_000), st.sampled_from([8000, 16000, 22050, 44100, 48000]), st.integers(0, 4))
def test_the_sound_tiles_and_follows_the_picture(shape: Geometry, samples: int, rate_hz: int, cap: int) -> None:
    found = steps(samples, rate_hz, shape, cap)
    assert found[0].first_sample == 0
    for before, step in pairwise(found):
        assert not before.should_stop
        assert step.window.start - before.window.start == shape.stride_frames
        # The next window's sound begins where the shared frames begin, so all but the overlap tiles.
        assert before.first_sample < step.first_sample <= before.end_sample
    for step in found:
        begin, end = step.window.audio
        assert abs(step.first_sample - Fraction(begin * rate_hz, shape.fps)) <= Fraction(1, 2)
        assert step.first_sample < step.end_sample <= samples
        if step.end_sample < samples:
            assert abs(step.end_sample - Fraction(end * rate_hz, shape.fps)) <= Fraction(1, 2)
        assert 2 * (step.end_sample - step.first_sample + step.silence) >= rate_hz
        assert step.silence == 0 or 2 * (step.end_sample - step.first_sample + step.silence) <= rate_hz + 1
    assert found[-1].should_stop
    if not cap:
        assert found[-1].end_sample == samples
        length = found[-1].window.length
        assert length == 9 or (length - 8) * rate_hz < (samples - found[-1].first_sample + 1) * shape.fps


@pytest.mark.parametrize(("cap", "total"), [(0, 4), (1, 1), (2, 2), (4, 4), (100, 4)])
def test_a_short_test_run(cap: int, total: int) -> None:
    plan = loop_plan(60 * RATE, RATE, SHAPE, cap)
    whole = loop_plan(60 * RATE, RATE, SHAPE)
    assert plan.windows == whole.windows[:total]
    assert plan.requested_frames == 1500
    step = loop_step(plan, 7, 60 * RATE, RATE)
    assert (step.total, step.should_stop, step.window.number) == (total, True, total)
    report = loop_report(plan, SHAPE)
    assert f"Iterations: {total}" in report
    assert ("of the 4 the audio needs (a test run)" in report) == (total < 4)
    assert "Overlap 1.96 s: 49 frames, 7 latents" in report
    if total < 4:
        assert step.end_sample == round(plan.windows[-1].audio[1] * RATE / 25)
        assert "Left out" in report


@pytest.mark.parametrize("iteration", [-1, 1.5, True, None, "1"])
def test_iterations_are_counts(iteration: object) -> None:
    with pytest.raises(LongTalkError, match="iteration"):
        loop_step(loop_plan(RATE, RATE, SHAPE), iteration, RATE, RATE)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [-1, 0.5, None])
def test_limits_are_counts(limit: object) -> None:
    with pytest.raises(LongTalkError, match="max_iterations"):
        loop_plan(RATE, RATE, SHAPE, limit)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the plan at its own frame rate


def test_clock_counts_in_its_frame_rate() -> None:
    assert [clock(frames, 24) for frames in (0, 12, 24, 1440, 1441)] == [
        "0:00.00",
        "0:00.50",
        "0:01.00",
        "1:00.00",
        "1:00.04",
    ]
    assert clock(1500) == clock(1500, 25) == clock(1440, 24)


def test_report_at_24_fps() -> None:
    report = plan_report(loop_plan(60 * RATE, RATE, geometry(20, 2, 24)))
    assert "1,440 frames, 60.00 s (1:00.00) at 24 fps" in report
    assert "- 1:00.00 " in report


@pytest.mark.parametrize("fps", [24, 25, 50])
def test_ticks_lie_at_their_times(fps: int) -> None:
    plan = loop_plan(60 * RATE, RATE, geometry(20, 2, fps))
    layout = lay_out(plan, 1)
    found = ticks(layout.strip, layout.px(120), fps)
    assert [text for _, text in found[:3]] == ["0:00", "0:10", "0:20"]
    assert [x for x, _ in found] == [layout.strip.x(10 * place * fps) for place in range(7)]


def test_a_second_of_sound_is_as_wide_at_any_frame_rate() -> None:
    """Half the time is loud: the waveform must change where the axis says half, whatever the frame rate."""
    loud = np.concatenate([np.tile([1.0, -1.0], 30 * 4000), np.zeros(30 * 8000)]).astype(np.float32)
    for fps in (24, 50):
        plan = loop_plan(60 * 8000, 8000, geometry(20, 2, fps))
        layout = lay_out(plan, 1)
        pixels = draw_plan(plan, [loud], 8000)
        top, bottom = layout.waves[0]
        dense = (pixels[top:bottom] == SPEAKERS[0]).all(axis=2).mean(axis=0) > 0.8
        inked = np.flatnonzero(dense)
        assert abs(int(inked.min()) - layout.strip.left) <= 1
        assert abs(int(inked.max()) - layout.strip.x(30 * fps)) <= 2


def test_25_fps_is_what_it_was() -> None:
    plan = plan_windows(267)
    assert plan.fps == 25
    assert "267 frames, 10.68 s at 25 fps" in plan_report(plan)
