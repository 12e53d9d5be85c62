"""Words of other programs in our messages."""

from __future__ import annotations

import pytest

from longtalk.base.words import brief


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", ""),
        ("one line", "one line"),
        (OSError("\n first\tline \n\nin between\n last line\n"), "first line ... last line"),
        ("x" * 400, "x" * 297 + "..."),
        ("x" * 400 + "\n" + "y" * 100, "x" * 147 + "... ... " + "y" * 100),
    ],
)
def test_the_first_and_the_last_line_of_it(words: object, told: str) -> None:
    assert brief(words) == told
