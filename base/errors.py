"""The one error that LongTalk raises for anything a user can cause."""

from __future__ import annotations


class LongTalkError(Exception):
    """A problem the user can solve: what was expected, what was found and what to do next.

    Args:
        what: the thing that is wrong, as the user knows it ("audio", "mask of speaker 2").
        expected: what LongTalk needs there.
        actual: what it found.
        action: the next step, as a full sentence without the final period.
    """

    def __init__(self, what: str, *, expected: str, actual: str, action: str) -> None:
        self.what = what
        self.expected = expected
        self.actual = actual
        self.action = action.rstrip(".")
        super().__init__(f"{what}: expected {expected}, got {actual}. {self.action}.")
