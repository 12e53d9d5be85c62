"""Which windows a stretch of time is retaken in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.plan.ltx_windows import geometry, plan_ltx
from longtalk.infinitetalk.plan.shots import join_shots
from longtalk.infinitetalk.run.retakes import Retake, parse_retakes, retake_seeds
from longtalk.infinitetalk.run.store.record import window_keys

PLAN = plan_ltx(60 * 25, geometry(19.88, 2, 25))  # windows start at 0, 448, 896, 1344; the first 49 frames are pinned


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("0:00-0:10: 7", (Retake(1, 1, 7),)),
        ("0:17.92-0:19: 7", (Retake(1, 2, 7),)),  # in what window 1 hands to window 2
        ("0:20-0:35: 7", (Retake(2, 2, 7),)),
        ("20-35: 7\n0:56-1:00: 9", (Retake(2, 2, 7), Retake(4, 4, 9))),
        ("0:10-0:50: 7", (Retake(1, 3, 7),)),
        ("0-60: 0", (Retake(1, 4, 0),)),
    ],
)
def test_windows_of_a_stretch(text: str, found: tuple[Retake, ...]) -> None:
    assert parse_retakes(text, PLAN) == found


@pytest.mark.parametrize(
    "text",
    [
        "0:10",
        "0:10-0:05: 7",
        "0:10-0:20",
        "0:10-0:20: x",
        "0:10-1:01: 7",
        "0:10-0:20: 7, 0:12-0:13: 8",
        "a-b: 7",
        "0:10-0:20: 18446744073709551616",
        None,
    ],
)
def test_what_cannot_be_read(text: object) -> None:
    with pytest.raises(LongTalkError):
        parse_retakes(text, PLAN)  # type: ignore[arg-type]


@given(st.integers(0, 1499), st.integers(1, 1500))
def test_the_stretch_can_change(begin: int, length: int) -> None:
    """Every frame of it lies behind the first window's pinned frames and before the latents that the next one has."""
    end = min(1500, begin + length)
    [retake] = parse_retakes(f"{begin / 25:.2f}-{end / 25:.2f}: 1", PLAN)
    first, last = PLAN.window(retake.first), PLAN.window(retake.last)
    after = PLAN.after(last)
    assert first.start + first.pinned <= begin
    assert end <= (PLAN.frames if after is None else after.start - 7)
    # No fewer windows would do.
    if retake.first < retake.last:
        second = PLAN.window(retake.first + 1)
        assert end > last.start - 7
        assert begin < second.start + second.pinned


SHOTS = join_shots([PLAN, plan_ltx(25 * 25, geometry(19.88, 2, 25)), plan_ltx(100, geometry(19.88, 2, 25))])
"""Four windows, two from 60 s on, one from 85 s on."""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0:59-1:00: 7", (Retake(4, 4, 7),)),  # nothing is handed on at the end of a shot
        ("0:59-1:00.04: 7", (Retake(4, 5, 7),)),
        ("1:00-1:17.64: 7", (Retake(5, 5, 7),)),
        ("1:00-1:17.68: 7", (Retake(5, 6, 7),)),  # in what window 5 hands to window 6
        ("1:20-1:26: 7", (Retake(6, 7, 7),)),
    ],
)
def test_windows_of_a_stretch_in_shots(text: str, found: tuple[Retake, ...]) -> None:
    assert parse_retakes(text, SHOTS) == found


def test_shots_of_one_window_can_be_retaken_whatever_the_overlap() -> None:
    long = geometry(4, 3, 25)
    with pytest.raises(LongTalkError, match="less than half the window"):
        parse_retakes("0:00-0:01: 7", plan_ltx(150, long))
    assert parse_retakes("0:03-0:04: 7", join_shots([plan_ltx(75, long)] * 3)) == (Retake(2, 2, 7),)


def test_seeds_and_keys() -> None:
    seeds = retake_seeds((5, 6, 7, 8), [Retake(2, 3, 100)])
    assert seeds == (5, 101, 102, 8)
    first, again = window_keys("run", (5, 6, 7, 8)), window_keys("run", seeds, {2: 3, 3: 3})
    assert first[0] == again[0]
    assert not set(first[1:]) & set(again[1:])
    assert again != window_keys("run", seeds)  # made again to the end with those seeds
    assert again != window_keys("run", seeds, {2: 2, 3: 3})  # two retakes, the first of which ends as it did
