"""The window loop and its progress, with a fake family: no model, milliseconds."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.base.words import clock_text
from longtalk.infinitetalk.plan.shots import join_shots
from longtalk.infinitetalk.plan.windows import Plan, Window, plan_windows
from longtalk.infinitetalk.run.loop import MEMORY_LEVELS, Fallbacks, MadeWindow, Rendered, Start, run_windows
from longtalk.infinitetalk.run.progress import RunProgress
from longtalk.infinitetalk.run.window_checks import Look, look_of

GREY = look_of(torch.full((1, 2, 2, 3), 0.5))


class Numbered:
    """Each frame's red holds its place on the timeline; checks what it is given to continue from."""

    attention = "numbered attention"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rendered: list[int] = []
        self.fallbacks: list[Fallbacks] = []

    def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
        self.rendered.append(window.number)
        if window.number == 1:
            assert not carry
        else:
            assert carry["after"].tolist() == [window.start + window.pinned - 1]
        numbers = torch.arange(window.start, window.start + window.length).float() / 1000
        frames = torch.full((window.length, 2, 2, 3), 0.5)
        frames[..., 0] = numbers[:, None, None]
        return Rendered(torch.zeros(1, 16, window.latents, 1, 1), frames)

    def hand_on(self, window: Window, carry: Mapping[str, torch.Tensor], rendered: Rendered) -> dict[str, torch.Tensor]:
        return {"after": torch.tensor([window.start + window.length - 1])}

    def fall_back(self, fallbacks: Fallbacks) -> None:
        self.fallbacks.append(fallbacks)

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)


def written_by(plan: Plan, family: Any, start: Start | None = None, look: Look = GREY) -> tuple[list[int], list[Any]]:
    """Numbers of the frames that came out, and the windows."""
    numbers: list[int] = []
    windows: list[MadeWindow] = []

    def put(made: MadeWindow, frames: torch.Tensor) -> None:
        numbers.extend(round(value * 1000) for value in frames[:, 0, 0, 0].tolist())
        assert made.last_frame.dtype == torch.uint8
        assert made.last_frame[0, 0, 0] == round(float(frames[-1, 0, 0, 0]) * 255)
        windows.append(made)

    run_windows(plan, family, put, look, start)
    return numbers, windows


@settings(max_examples=examples(150), deadline=None)
@given(
    frames=st.integers(1, 700),
    window=st.integers(1, 25).map(lambda n: 4 * n + 1),
    motion=st.integers(0, 20).map(lambda n: 4 * n + 1),
    mode=st.sampled_from(["exact", "aligned_down", "aligned_up"]),
    data=st.data(),
)
def test_every_frame_comes_out_once_and_in_order_from_wherever_it_starts(
    frames: int, window: int, motion: int, mode: str, data: st.DataObject
) -> None:
    if motion >= window:
        motion = 1
    plan = plan_windows(frames, window, motion, mode)
    written, windows = written_by(plan, Numbered(plan))
    assert written == list(range(plan.frames))
    assert [made.window for made in windows] == list(plan.windows)

    first = data.draw(st.integers(0, len(plan.windows) - 1))
    before = windows[first - 1] if first else None
    start = Start(first, before.carry, before.last_frame) if before else Start()
    again, rest = written_by(plan, Numbered(plan), start)
    assert again == list(range(plan.windows[first].output[0], plan.frames))
    assert [made.stats for made in rest] == [made.stats for made in windows[first:]]


@settings(max_examples=examples(60), deadline=None)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=5), held=st.integers(0, 9), data=st.data())
def test_a_shot_continues_from_nothing(lengths: list[int], held: int, data: st.DataObject) -> None:
    """And what a run makes of it is the same from wherever it goes on."""
    plan = join_shots([plan_windows(frames, 21, 9) for frames in lengths], sum(lengths) + held)

    class Shots(Numbered):
        def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
            assert bool(carry) != plan.is_fresh(window)
            return super().render(replace(window, number=1 if plan.is_fresh(window) else 2), carry)

    written, windows = written_by(plan, Shots(plan))
    assert written == list(range(plan.frames - held))
    assert [made.stats.boundary_change is None for made in windows] == [plan.is_fresh(w) for w in plan.windows]
    first = data.draw(st.integers(1, len(plan.windows)))
    before = windows[first - 1]
    again, rest = written_by(plan, Shots(plan), Start(first, before.carry, before.last_frame))
    assert again == written[len(written) - len(again) :]
    assert [made.stats for made in rest] == [made.stats for made in windows[first:]]


def test_a_windows_frames_are_gone_before_the_next_is_rendered() -> None:
    plan = plan_windows(60, 21, 9)
    alive: list[weakref.ref[torch.Tensor]] = []

    class Family(Numbered):
        def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
            gc.collect()
            assert all(ref() is None for ref in alive)
            rendered = super().render(window, carry)
            alive.append(weakref.ref(rendered.frames))
            return rendered

    run_windows(plan, Family(plan), lambda made, frames: None, GREY)
    assert len(alive) == len(plan.windows)


def test_an_interrupt_stops_before_the_window_is_handed_on() -> None:
    plan = plan_windows(100, 21, 9)
    family = Numbered(plan)

    class InterruptedRunError(Exception):
        pass

    def check() -> None:
        if family.rendered[-1:] == [3]:
            raise InterruptedRunError

    written: list[int] = []
    with pytest.raises(InterruptedRunError):
        run_windows(plan, family, lambda made, new: written.append(new.shape[0]), GREY, check_interrupt=check)
    assert family.rendered == [1, 2, 3]
    assert len(written) == 2


def test_a_family_that_returns_too_little_is_a_bug() -> None:
    plan = plan_windows(50, 21, 9)

    class Short(Numbered):
        def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
            whole = super().render(window, carry)
            return Rendered(whole.latents, whole.frames[:-1])

    with pytest.raises(ValueError, match="expected 21 frames, got 20"):
        run_windows(plan, Short(plan), lambda made, frames: None, GREY)


class Scarce(Numbered):
    """Window 2 does not fit into memory until ``level`` has been given up."""

    def __init__(self, plan: Plan, level: int) -> None:
        super().__init__(plan)
        self.level = level

    def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
        rendered = super().render(window, carry)
        if window.number == 2 and (self.fallbacks or [Fallbacks()])[-1].memory_level < self.level:
            raise MemoryError("2 GB too little\nlong explanation")
        return rendered


@pytest.mark.parametrize("level", [1, MEMORY_LEVELS])
def test_out_of_memory_gives_up_speed_once_and_stays_there(level: int) -> None:
    plan = plan_windows(60, 21, 9)
    family = Scarce(plan, level)
    written, windows = written_by(plan, family)
    assert written == list(range(plan.frames))
    assert family.rendered == [1] + [2] * (level + 1) + list(range(3, len(plan.windows) + 1))
    assert [made.fallbacks.memory_level for made in windows] == [0] + [level] * (len(plan.windows) - 1)


def test_out_of_memory_stops_with_advice_when_there_is_nothing_left_to_give_up() -> None:
    plan = plan_windows(60, 21, 9)
    family = Scarce(plan, MEMORY_LEVELS + 1)
    windows: list[MadeWindow] = []
    with pytest.raises(LongTalkError, match=r"memory in window 2: .*2 GB too little.*window_frames"):
        run_windows(plan, family, lambda made, frames: windows.append(made), GREY)
    assert len(windows) == 1
    assert family.rendered == [1] + [2] * (MEMORY_LEVELS + 1)


def test_another_error_is_not_taken_for_memory() -> None:
    plan = plan_windows(60, 21, 9)

    class Failing(Numbered):
        def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
            super().render(window, carry)
            raise RuntimeError("something else")

    family = Failing(plan)
    with pytest.raises(RuntimeError, match="something else"):
        run_windows(plan, family, lambda made, frames: None, GREY)
    assert family.rendered == [1]


class Broken(Numbered):
    """NaN from window ``first`` on, until PyTorch's own attention is used, or for ever."""

    def __init__(self, plan: Plan, first: int, for_ever: bool) -> None:
        super().__init__(plan)
        self.first = first
        self.for_ever = for_ever

    def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
        rendered = super().render(window, carry)
        plain = any(fallbacks.plain_attention for fallbacks in self.fallbacks)
        if window.number >= self.first and (self.for_ever or not plain):
            rendered.latents.fill_(float("nan"))
        return rendered


@pytest.mark.parametrize("first", [1, 3])
def test_a_broken_window_is_tried_once_with_plain_attention(first: int) -> None:
    plan = plan_windows(60, 21, 9)
    family = Broken(plan, first, for_ever=False)
    written, windows = written_by(plan, family)
    assert written == list(range(plan.frames))
    assert family.fallbacks == [Fallbacks(plain_attention=True)]
    assert family.rendered.count(first) == 2
    assert [made.fallbacks.plain_attention for made in windows] == [made.window.number >= first for made in windows]


def test_a_window_that_stays_broken_stops_the_run_and_names_the_attention() -> None:
    plan = plan_windows(60, 21, 9)
    family = Broken(plan, 1, for_ever=True)
    with pytest.raises(LongTalkError, match=r"window 1: .*with numbered attention and with numbered attention"):
        run_windows(plan, family, lambda made, frames: None, GREY)
    assert family.rendered == [1, 1]


def test_a_resumed_run_keeps_what_it_had_given_up() -> None:
    plan = plan_windows(60, 21, 9)
    _, windows = written_by(plan, Numbered(plan))
    family = Numbered(plan)
    given_up = Fallbacks(plain_attention=True, memory_level=1)
    _, rest = written_by(plan, family, Start(2, windows[1].carry, windows[1].last_frame, given_up))
    assert family.fallbacks == [given_up]
    assert {made.fallbacks for made in rest} == {given_up}


def test_a_jump_is_told_but_does_not_stop(caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_windows(60, 21, 9)

    class Jumping(Numbered):
        def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
            rendered = super().render(window, carry)
            if window.number == 2:
                rendered.frames[..., 1:] = 0.9
            return rendered

    windows: list[MadeWindow] = []
    run_windows(plan, Jumping(plan), lambda made, frames: windows.append(made), GREY)
    assert len(windows) == len(plan.windows)
    assert [record.args[0] for record in caplog.records if "first frame" in record.message] == [2, 3]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"plain_attention": True},
        {"plain_attention": 1, "memory_level": 0},
        {"plain_attention": True, "memory_level": MEMORY_LEVELS + 1},
        {"plain_attention": True, "memory_level": "0"},
        {"plain_attention": True, "memory_level": 0, "more": 1},
    ],
)
def test_fallbacks_from_a_file_are_checked(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not fallbacks"):
        Fallbacks.from_json(content)


def clock(times: list[float]) -> Callable[[], float]:
    return lambda: times[0]


def test_time_left_follows_the_lengths() -> None:
    """Two windows of 21 and 17 frames, 2 steps each: after the first, 17/21 of its time is left."""
    plan = plan_windows(29, 21, 9)
    assert [window.length for window in plan.windows] == [21, 17]
    now = [0.0]
    progress = RunProgress(plan, 2, clock=clock(now))
    progress.start_window(1)
    assert progress.left_s is None
    now[0] = 21.0
    progress.step(2)
    assert progress.left_s == pytest.approx(17.0)
    assert progress.text() == "window 1 of 2, step 2 of 2, 0:17 left"
    progress.start_window(2)
    assert progress.done_steps == 2
    assert progress.left_s == pytest.approx(17.0)
    now[0] = 38.0
    progress.step(2)
    assert progress.left_s == 0
    assert progress.done_steps == progress.total_steps == 4


def test_the_estimate_holds_until_a_window_is_done_then_the_clock_does() -> None:
    plan = plan_windows(45, 21, 9)
    assert [window.length for window in plan.windows] == [21, 21, 21]
    now = [0.0]
    progress = RunProgress(plan, 2, expected_s=600.0, clock=clock(now))
    assert progress.left_s == 600.0
    now[0] = 10.0
    progress.step(1)
    assert progress.left_s == pytest.approx(500.0)
    progress.start_window(2)
    assert progress.left_s == pytest.approx(20.0)


def test_windows_of_an_earlier_session_do_not_count_for_the_rate() -> None:
    plan = plan_windows(45, 21, 9)
    now = [0.0]
    progress = RunProgress(plan, 2, made=1, clock=clock(now))
    progress.start_window(2)
    assert progress.done_steps == 2
    assert progress.left_s is None
    now[0] = 8.0
    progress.start_window(3)
    assert progress.left_s == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (65, "1:05"), (3599.6, "1:00:00"), (3725, "1:02:05"), (-3, "0:00")],
)
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
