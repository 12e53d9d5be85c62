"""Statistics of a window: which say that it jumps, and how they are kept as JSON. Synthetic pictures only."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from still_pictures import GOOD, REFERENCE, after, detailed, eight_bit, grain, waves

from longtalk.infinitetalk.run.window_checks import measure
from longtalk.infinitetalk.run.window_stats import WindowStats, jumps


@pytest.mark.parametrize(
    ("boundary", "interior", "jump"),
    [
        (0.024, 0.001, False),
        (0.026, 0.001, True),
        (0.1, 0.0255, False),
        (0.1, 0.0245, True),
        (0.5, 0.2, False),
        # A still picture.
        (0.026, 0.0, True),
        (1 / 255, 0.0, False),
        (0.0, 0.0, False),
    ],
)
def test_where_jumps_begin(boundary: float, interior: float, jump: bool) -> None:
    assert jumps(replace(GOOD, boundary_change=boundary, interior_change=interior)) == jump


@pytest.mark.parametrize(("levels", "jump"), [(0, False), (1, False), (5, False), (8, True), (40, True)])
def test_a_still_picture_that_steps(levels: int, jump: bool) -> None:
    still = detailed() * 0.5 + 0.2
    stats = after(still, grain((still + levels / 255).expand(12, -1, -1, -1), levels=0.3))
    assert stats.boundary_change == pytest.approx(levels / 255, abs=0.0015)
    assert jumps(stats) == jump


@pytest.mark.parametrize("frames_of_pan", [4, 8, 40])
def test_a_pan_that_begins_at_the_boundary_is_no_jump(frames_of_pan: int) -> None:
    """3 % of the width per frame, the speed of a fast turn of the head."""
    still = detailed()
    steps = [6 * min(frame, frames_of_pan) for frame in range(1, 41)]
    stats = after(still, torch.stack([torch.roll(still, step, dims=1) for step in steps]))
    assert stats.boundary_change is not None
    assert stats.boundary_change > 0.1
    assert not jumps(stats)


def test_the_same_shift_at_the_boundary_alone_is_a_jump() -> None:
    still = detailed()
    stats = after(still, grain(torch.roll(still, 6, dims=1).expand(40, -1, -1, -1), levels=1))
    assert jumps(stats)


def test_a_flash_of_the_first_frame_is_a_jump() -> None:
    """One frame that falls out on both sides is no movement that goes on."""
    still = detailed() * 0.5 + 0.2
    frames = grain(still.expand(40, -1, -1, -1), levels=1)
    frames[0] += 0.1
    assert jumps(after(still, frames))


def test_a_pause_at_the_start_does_not_make_the_window_still() -> None:
    positions = torch.tensor([0.0] * 5 + [0.01 * frame for frame in range(20)])
    pause = measure(waves(positions), REFERENCE, None)
    moving = measure(waves(positions[5:]), REFERENCE, None)
    assert pause.interior_change == pytest.approx(moving.interior_change, rel=0.05)


def test_noise_does_not_jump_but_a_cut_does() -> None:
    noise = torch.rand(12, 64, 112, 3, generator=torch.Generator().manual_seed(0))
    stats = measure(noise[1:], REFERENCE, eight_bit(noise[0]))
    assert stats.seam_ratio == pytest.approx(1, abs=0.05)
    assert not jumps(stats)
    moving = waves(torch.arange(20) / 500)
    assert jumps(measure(moving, REFERENCE, eight_bit(1 - moving[0])))


def test_the_blink_of_a_key_frame_is_no_jump() -> None:
    """A key frame brings back the fine detail that the frames before had lost; at crf 35 it changes 0.020."""
    still = detailed() * 0.5 + 0.2
    blink = grain(still[None], levels=6.2)
    stats = after(still, grain(blink.expand(12, -1, -1, -1), levels=0.3))
    assert stats.boundary_change == pytest.approx(0.02, abs=0.001)
    assert stats.seam_ratio is not None
    assert stats.seam_ratio > 6
    assert not jumps(stats)


def test_json_round_trip() -> None:
    for stats in (GOOD, replace(GOOD, boundary_change=None, interior_change=None)):
        assert WindowStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats
    names = ["brightness", "contrast", "drift", "boundary_change", "interior_change"]
    assert GOOD.to_json() == dict(zip(names, [0.4, 0.2, 1.5, 0.01, 0.005], strict=True))
    whole = WindowStats.from_json({**GOOD.to_json(), "drift": 2})
    assert isinstance(whole.drift, float)


@pytest.mark.parametrize("name", ["brightness", "contrast", "drift", "boundary_change", "interior_change"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", True, [0.5], {}, 10**400])
def test_bad_numbers_in_json(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        WindowStats.from_json({**GOOD.to_json(), name: value})


@pytest.mark.parametrize("name", ["brightness", "contrast", "drift"])
def test_none_in_json_where_a_number_must_be(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        WindowStats.from_json({**GOOD.to_json(), name: None})


@pytest.mark.parametrize("content", [None, 3, "x", [], {}, [1, 2, 3, 4, 5], {"brightness": 0.4}])
def test_json_of_another_shape(content: Any) -> None:
    with pytest.raises(ValueError, match="window statistics"):
        WindowStats.from_json(content)
    with pytest.raises(ValueError, match="window statistics"):
        WindowStats.from_json({**GOOD.to_json(), "more": 1.0})
