"""Which seed each window has, and what a re-render text may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.infinitetalk.errors import LongTalkError
from longtalk.infinitetalk.run.seeds import SEED_LIMIT, parse_rerender, window_seeds


def test_without_anything_a_window_has_the_seed_plus_its_index() -> None:
    assert parse_rerender("", 5) == ()
    assert parse_rerender(" , ", 5) == ()
    assert window_seeds(10, 4) == (10, 11, 12, 13)
    assert window_seeds(SEED_LIMIT - 1, 2) == (SEED_LIMIT - 1, 0)


def test_each_pair_counts_from_its_window_on() -> None:
    assert parse_rerender("3:100, 5 : 7", 6) == ((3, 100), (5, 7))
    assert window_seeds(10, 6, ((3, 100), (5, 7))) == (10, 11, 102, 103, 11, 12)


@pytest.mark.parametrize(
    "text",
    [
        "0:1",
        "7:1",
        "2",
        "2:",
        ":3",
        "2:-1",
        "-2:1",
        "a:b",
        "2:1;3:1",
        "3:1,2:1",
        "2:1,2:5",
        f"2:{SEED_LIMIT}",
        "2:1.5",
        "٢:٣ ",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(LongTalkError, match=r"rerender_from.*1 to 6.*'2:7'"):
        parse_rerender(text, 6)


@given(st.text(max_size=30), st.integers(1, 50))
def test_any_text_is_read_or_refused(text: str, windows: int) -> None:
    try:
        pairs = parse_rerender(text, windows)
    except LongTalkError:
        return
    assert all(1 <= window <= windows and 0 <= seed < SEED_LIMIT for window, seed in pairs)
    assert len(window_seeds(1, windows, pairs)) == windows
