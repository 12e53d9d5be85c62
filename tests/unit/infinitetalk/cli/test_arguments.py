"""Times as the command line takes them: in every notation that the nodes take, and in no other."""

from __future__ import annotations

import argparse
import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.infinitetalk.cli.arguments import seconds


@pytest.mark.parametrize(
    ("text", "expected"), [("83.5", 83.5), ("1:23.5", 83.5), ("1:02:03", 3723.0), ("0", 0.0), ("0:00.04", 0.04)]
)
def test_what_a_person_writes(text: str, expected: float) -> None:
    assert seconds(text) == expected


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_a_program_may_hand_over_the_time_of_a_frame_with_all_its_digits(frame: int, fps: int) -> None:
    assert seconds(repr(frame / fps)) == frame / fps


@pytest.mark.parametrize("text", ["1:75", "1:5", "-1", "1e3", "nan", "inf", "1:-5", "", "1:2:3:4", "0x10"])
def test_what_is_no_time_is_a_usage_error_that_names_the_notations(text: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--at", type=seconds)
    said = io.StringIO()
    with pytest.raises(SystemExit) as left, contextlib.redirect_stderr(said):
        parser.parse_args([f"--at={text}"])
    assert left.value.code == 2
    assert f"argument --at: expected M:SS, H:MM:SS or seconds, like 1:05, 1:05.5, 1:02:03 or 65.5, got {text!r}" in (
        said.getvalue()
    )
