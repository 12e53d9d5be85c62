"""Values from other nodes: what passes, what is refused, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from longtalk.base.errors import LongTalkError
from longtalk.base.tensors import described, is_finite, is_plain
from longtalk.base.values import as_whole, check_choice, check_flag, check_number, check_whole, shown


@pytest.mark.parametrize(
    "value", [3, np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor([3]), 3.0, np.float32(3), Fraction(6, 2)]
)
def test_whole_numbers_of_any_type(value: object) -> None:
    assert as_whole(value) == 3
    assert type(check_whole(value, "steps", 1, 10)) is int


@pytest.mark.parametrize(
    "value",
    [
        3.5,
        math.nan,
        -math.inf,
        np.float64(3.5),
        Fraction(7, 2),
        "3",
        None,
        True,
        np.True_,
        [3],
        torch.tensor(3.0),
        torch.zeros(2, dtype=torch.int),
        torch.tensor(3).to("meta"),
    ],
)
def test_what_is_no_whole_number(value: object) -> None:
    assert as_whole(value) is None
    with pytest.raises(LongTalkError, match=r"steps: expected a whole number from 1 to 10, got .+\. Set steps"):
        check_whole(value, "steps", 1, 10)


@pytest.mark.parametrize("value", [0, 11, -1, pytest.param(10**5000, id="5000 digits")])
def test_whole_numbers_out_of_range(value: int) -> None:
    with pytest.raises(LongTalkError, match="from 1 to 10"):
        check_whole(value, "steps", 1, 10)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), torch.tensor(2.0)])
def test_numbers_of_any_type(value: object) -> None:
    assert check_number(value, "cfg", 0.0, 100.0) == 2.0


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -0.1, 100.5, "2", b"2", True, None, 1j, [2.0], 10**400, torch.zeros(2)]
)
def test_what_is_no_number_in_range(value: object) -> None:
    with pytest.raises(LongTalkError, match=r"cfg: expected a number from 0 to 100, got .+\. Set cfg"):
        check_number(value, "cfg", 0.0, 100.0)


def test_choices() -> None:
    options = [f"sampler {index}" for index in range(20)]
    assert check_choice("sampler 3", "sampler_name", options) == "sampler 3"
    with pytest.raises(LongTalkError, match=r"one of sampler 0, .* and 12 more, got 'euler'"):
        check_choice("euler", "sampler_name", options)
    for value in (None, ["sampler 3"], torch.zeros(3), 3):
        with pytest.raises(LongTalkError, match="sampler_name"):
            check_choice(value, "sampler_name", options)


def test_switches() -> None:
    assert [check_flag(value, "on") for value in (True, False, 1, 0.0, np.int64(1))] == [True, False, True, False, True]
    for value in ("true", None, 2, 0.5, [], torch.zeros(3)):
        with pytest.raises(LongTalkError, match="on: expected true or false"):
            check_flag(value, "on")


@pytest.mark.parametrize("value", ["x" * 10**6, list(range(10**5)), torch.zeros(100, 100), np.zeros((50, 50)), {1: {}}])
def test_shown_on_one_short_line(value: object) -> None:
    assert len(shown(value)) < 200
    assert "\n" not in shown(value)


def test_shown_as_python_writes_it() -> None:
    assert [shown(value) for value in ("a", 1.5, None, [16000])] == ["'a'", "1.5", "None", "[16000]"]
    assert shown(10**5000) == "a very long int"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: None, "nothing"),
        (lambda: "a", "'a'"),
        (dict, "a dict"),
        (object, "an object"),
        (lambda: torch.zeros(1, 77, 768, dtype=torch.float16), "float16 [1, 77, 768]"),
        (lambda: torch.zeros(2, 3, device="meta"), "an empty shell of float32 [2, 3]"),
        (lambda: torch.ones(2, 3).to_sparse(), "a sparse or quantised float32 [2, 3]"),
        (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "a nested tensor of float32"),
    ],
)
def test_described(make: Callable[[], object], words: str) -> None:
    value = make()
    assert described(value) == words
    assert is_plain(value) is words.startswith("float16")


def test_finite() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64):
        assert is_finite(torch.ones(3).to(dtype))
        assert not is_finite(torch.tensor([1.0, math.nan]).to(dtype))
    assert not is_finite(torch.tensor([math.inf]).to(torch.float8_e5m2))
    assert is_finite(torch.tensor([True, False]))
