"""Steps between rendering and measuring: what they see, what they carry over, and what the next window goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from longtalk.infinitetalk.plan.shots import join_shots
from longtalk.infinitetalk.plan.windows import Plan, Window, plan_windows
from longtalk.infinitetalk.run.finish import Finish
from longtalk.infinitetalk.run.loop import Fallbacks, MadeWindow, Rendered, Start, run_windows
from longtalk.infinitetalk.run.window_checks import look_of

GREY = torch.full((1, 2, 2, 3), 0.5)


class Still:
    """Renders grey frames; what it hands on is what it was given of them."""

    attention = "none"

    def render(self, window: Window, carry: Mapping[str, torch.Tensor]) -> Rendered:
        return Rendered(torch.zeros(1, 16, window.latents, 1, 1), GREY.repeat(window.length, 1, 1, 1))

    def hand_on(self, window: Window, carry: Mapping[str, torch.Tensor], rendered: Rendered) -> dict[str, torch.Tensor]:
        return {"last": rendered.frames[-1].clone()}

    def fall_back(self, fallbacks: Fallbacks) -> None:
        raise AssertionError("grey is a picture")

    def is_out_of_memory(self, error: Exception) -> bool:
        return False


class Brighter:
    """Makes each window of a shot a little brighter than the one before, by what it counted so far."""

    def __init__(self, name: str, by: float) -> None:
        self.name = name
        self.by = by
        self.seen: list[tuple[int, tuple[int, ...], bool]] = []

    def apply(
        self, window: Window, frames: torch.Tensor, reference: torch.Tensor, state: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        self.seen.append((window.number, tuple(frames.shape), bool(state)))
        assert torch.equal(reference, GREY)
        count = state["count"] + 1 if state else torch.tensor(1)
        return frames + self.by * count, {"count": count}


def run(plan: Plan, steps: list[Any], start: Start | None = None) -> tuple[list[float], list[MadeWindow]]:
    """How bright each window came out, and the windows."""
    shades: list[float] = []
    windows: list[MadeWindow] = []

    def put(made: MadeWindow, frames: torch.Tensor) -> None:
        assert float(frames.amax() - frames.amin()) == 0
        shades.append(round(float(frames[0, 0, 0, 0]), 4))
        windows.append(made)

    run_windows(plan, Still(), put, look_of(GREY), start, finish=Finish(steps, GREY))
    return shades, windows


def test_steps_follow_one_another_and_carry_over() -> None:
    plan = plan_windows(60, 21, 9)
    one, other = Brighter("one", 0.01), Brighter("other", 0.05)
    shades, windows = run(plan, [one, other])
    assert shades == [round(0.5 + 0.06 * window.number, 4) for window in plan.windows]
    assert one.seen == [(window.number, (window.length, 2, 2, 3), window.number > 1) for window in plan.windows]
    for made, shade in zip(windows, shades, strict=True):
        assert set(made.carry) == {"last", "finish.one.count", "finish.other.count"}
        assert float(made.carry["last"][0, 0, 0]) == pytest.approx(shade), "the next window goes on from what is seen"
        assert made.last_frame[0, 0, 0] == round(shade * 255), "and it is what is measured"


def test_a_resumed_run_goes_on_with_what_was_carried_over() -> None:
    plan = plan_windows(60, 21, 9)
    shades, windows = run(plan, [Brighter("one", 0.01)])
    for first in range(1, len(plan.windows)):
        before = windows[first - 1]
        rest, _ = run(plan, [Brighter("one", 0.01)], Start(first, before.carry, before.last_frame))
        assert rest == shades[first:]


def test_a_shot_begins_with_nothing() -> None:
    plan = join_shots([plan_windows(33, 21, 9), plan_windows(33, 21, 9)], 66)
    shades, _ = run(plan, [Brighter("one", 0.01)])
    assert shades == [0.51, 0.52, 0.51, 0.52]


@pytest.mark.parametrize("names", [("same", "same"), ("a.b",)])
def test_names_that_would_mix_up_states_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Finish([Brighter(name, 0.0) for name in names], GREY)
