"""Which seed each window has, and what a re-render text may say."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.run.seeds import SEED_LIMIT, parse_rerender, window_seeds
from longtalk.infinitetalk.run.store.record import keys_shown, video_key, window_keys


def test_without_anything_a_window_has_the_seed_plus_one_for_each_before_it() -> None:
    assert parse_rerender("", 5) == ()
    assert parse_rerender(" , ", 5) == ()
    assert window_seeds(10, 4) == (10, 11, 12, 13)
    assert window_seeds(SEED_LIMIT - 1, 2) == (SEED_LIMIT - 1, 0)


def test_each_pair_counts_from_its_window_on() -> None:
    assert parse_rerender("3:100, 5 : 7", 6) == ((3, 100), (5, 7))
    assert window_seeds(10, 6, ((3, 100), (5, 7))) == (10, 11, 102, 103, 11, 12)


def test_a_pair_counts_to_the_end_of_its_shot() -> None:
    pairs, shots = ((2, 100), (6, 7)), (1, 4, 6)
    assert window_seeds(10, 8, pairs, shots) == (10, 101, 102, 13, 14, 12, 13, 14)
    assert window_seeds(10, 8, ((4, 0),), shots) == (10, 11, 12, 3, 4, 15, 16, 17)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_what_is_made_again_in_a_shot_changes_no_key_of_another(lengths: list[int], data: st.DataObject) -> None:
    shots = [*itertools.accumulate(lengths, initial=1)][:-1]
    windows = sum(lengths)
    window = data.draw(st.integers(1, windows))
    first = window_seeds(10, windows, (), shots)
    again = window_seeds(10, windows, ((window, 99),), shots)
    keys, other = (window_keys("run", seeds, shots=shots) for seeds in (first, again))
    own = max(shot for shot in shots if shot <= window)
    end = own + lengths[shots.index(own)] - 1
    assert [a != b for a, b in zip(keys, other, strict=True)] == [window <= n <= end for n in range(1, windows + 1)]
    assert len(set(keys)) == windows
    assert video_key(keys, shots) != video_key(other, shots)
    assert keys_shown(video_key(keys, shots)) == tuple(keys[shot - 2] for shot in (*shots[1:], windows + 1))


def test_one_shot_has_the_keys_it_always_had() -> None:
    keys = window_keys("run", (5, 6, 7))
    assert keys == window_keys("run", (5, 6, 7), shots=(1,))
    assert keys[1] == hashlib.sha256(f"{hashlib.sha256(b'run:5').hexdigest()}:6".encode()).hexdigest()[:8]
    assert video_key(keys, (1,)) == keys[-1]


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
