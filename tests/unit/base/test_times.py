"""Times in people's notation, exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.base.times import parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00", 0),
        ("1:05", 65),
        ("1:05.5", Fraction(131, 2)),
        ("75:00", 4500),
        ("1:02:03", 3723),
        ("1:02:03.25", Fraction(14893, 4)),
        ("0", 0),
        ("65", 65),
        ("0.1", Fraction(1, 10)),
        (" 12.04 ", Fraction(301, 25)),
        ("100:00:00", 360_000),
    ],
)
def test_what_is_understood(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1:5", "1:60", "1:60:00", "1:2:03", "-1", "+1", "1e3", ".5", "5.", "1:05.", "1::05", "1:02:03:04"),
        *("1 2", "one", "0x10", "1,5", "\u0661", "1:05s", "nan", "9" * 5000, None, 5, b"1"),
    ],
)
def test_what_is_not(text: object) -> None:
    with pytest.raises(LongTalkError, match="time: expected M:SS"):
        parse_time(text)  # type: ignore[arg-type]


@given(st.integers(0, 9999), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_every_notation_of_a_time_is_the_same_time(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    exact = Fraction(3600_000 * hours + 60_000 * minutes + 1000 * seconds + thousandths, 1000)
    part = f".{thousandths:03d}"
    assert parse_time(f"{hours}:{minutes:02d}:{seconds:02d}{part}") == exact
    assert parse_time(f"{60 * hours + minutes}:{seconds:02d}{part}") == exact
    assert parse_time(f"{3600 * hours + 60 * minutes + seconds}{part}") == exact
