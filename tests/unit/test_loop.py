"""The window loop and its progress, with a fake family: no model, milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.infinitetalk.plan.windows import Plan, Window, plan_windows
from longtalk.infinitetalk.run.loop import run_windows
from longtalk.infinitetalk.run.progress import RunProgress, clock_text


class Numbered:
    """Each frame's pixels hold its place on the timeline; checks the motion frames it is given."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rendered: list[int] = []

    def render(self, window: Window, motion: torch.Tensor | None) -> torch.Tensor:
        self.rendered.append(window.index)
        if window.index == 0:
            assert motion is None
        else:
            assert motion is not None
            start = window.start
            assert motion[:, 0, 0, 0].tolist() == list(range(start, start + self.plan.motion_frames))
        frames = torch.arange(window.start, window.start + window.length).float()
        return frames[:, None, None, None].expand(-1, 2, 2, 3).clone()


@settings(max_examples=150, deadline=None)
@given(
    frames=st.integers(1, 700),
    window=st.integers(1, 25).map(lambda n: 4 * n + 1),
    motion=st.integers(0, 20).map(lambda n: 4 * n + 1),
    mode=st.sampled_from(["exact", "aligned_down", "aligned_up"]),
)
def test_every_frame_comes_out_once_and_in_order(frames: int, window: int, motion: int, mode: str) -> None:
    if motion >= window:
        motion = 1
    plan = plan_windows(frames, window, motion, mode)
    written: list[float] = []
    report = run_windows(plan, Numbered(plan), lambda new: written.extend(new[:, 0, 0, 0].tolist()))
    assert written == list(range(plan.frames))
    assert report.frames == plan.frames
    assert [entry.window for entry in report.times] == list(plan.windows)


def test_motion_frames_are_a_copy_of_their_own() -> None:
    """A view would keep the whole window's memory alive while the next one is rendered."""
    plan = plan_windows(60, 21, 9)
    seen = []

    class Family(Numbered):
        def render(self, window: Window, motion: torch.Tensor | None) -> torch.Tensor:
            if motion is not None:
                seen.append(motion.untyped_storage().nbytes() == motion.numel() * motion.element_size())
            return super().render(window, motion)

    run_windows(plan, Family(plan), lambda new: None)
    assert seen
    assert all(seen)


def test_an_interrupt_stops_before_the_next_window() -> None:
    plan = plan_windows(100, 21, 9)
    family = Numbered(plan)

    class InterruptedRunError(Exception):
        pass

    def check() -> None:
        if family.rendered[-1:] == [2]:
            raise InterruptedRunError

    written: list[int] = []
    with pytest.raises(InterruptedRunError):
        run_windows(plan, family, lambda new: written.append(new.shape[0]), check_interrupt=check)
    assert family.rendered == [0, 1, 2]
    assert len(written) == 2


def test_a_family_that_returns_too_little_is_a_bug() -> None:
    plan = plan_windows(50, 21, 9)

    class Short(Numbered):
        def render(self, window: Window, motion: torch.Tensor | None) -> torch.Tensor:
            return super().render(window, motion)[:-1]

    with pytest.raises(ValueError, match="expected 21 frames, got 20"):
        run_windows(plan, Short(plan), lambda new: None)


def clock(times: list[float]) -> Callable[[], float]:
    return lambda: times[0]


def test_time_left_follows_the_lengths() -> None:
    """Two windows of 21 and 17 frames, 2 steps each: after the first, 17/21 of its time is left."""
    plan = plan_windows(29, 21, 9)
    assert [window.length for window in plan.windows] == [21, 17]
    now = [0.0]
    progress = RunProgress(plan, 2, clock(now))
    progress.start_window(0)
    assert progress.left_s is None
    now[0] = 21.0
    progress.step(2)
    assert progress.left_s == pytest.approx(17.0)
    assert progress.text() == "window 1 of 2, step 2 of 2, 0:17 left"
    progress.start_window(1)
    assert progress.done_steps == 2
    assert progress.left_s == pytest.approx(17.0)
    now[0] = 38.0
    progress.step(2)
    assert progress.left_s == 0
    assert progress.done_steps == progress.total_steps == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (65, "1:05"), (3599.6, "1:00:00"), (3725, "1:02:05"), (-3, "0:00")],
)
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
