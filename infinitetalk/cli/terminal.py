"""Writes to the terminal: one line at a time, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from ...base.errors import SettingError
from ...base.words import printable

_LINE_LIMIT = 2000
"""The most characters of a line; a longer one is not for people, and comes from a file that somebody tampered with."""

_QUIET_S, _EVERY_S = 1.0, 0.2
"""How many seconds pass before progress is shown at all, and between two of its lines."""


def _line(text: str) -> str:
    """The text as a line that a terminal may be given."""
    return printable(text if len(text) <= _LINE_LIMIT else text[:_LINE_LIMIT] + "...")


def say(line: str = "", stream: TextIO | None = None) -> None:
    """Print a line; what the terminal's encoding lacks is shown as an escape."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(_line(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def complain(line: str) -> None:
    """Print a line on the error stream."""
    say(line, sys.stderr)


def say_json(content: object) -> None:
    """Print JSON in ASCII, where no character can do harm."""
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


class Progress:
    """Shows in one line of a terminal how far something long has come; nothing where the error stream is no terminal.

    Args:
        what: what is being done, in words.
        total_s: seconds of sound to go through, if that is known.
    """

    def __init__(self, what: str, total_s: float | None) -> None:
        self._what = what
        self._total_s = total_s
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._round, self._last_s = 1, 0.0
        self._next = time.monotonic() + _QUIET_S
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def tell(self, done_s: float) -> None:
        """Take note that so many seconds are done; fewer than before begin another round."""
        self._round += done_s < self._last_s
        self._last_s = done_s
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + _EVERY_S
        share = f" of {self._total_s:.0f} s ({min(done_s / self._total_s, 1):.0%})" if self._total_s else " s"
        again = f", round {self._round}" if self._round > 1 else ""
        self._write(f"{self._what}: {done_s:.0f}{share}{again}")

    def _write(self, line: str) -> None:
        if self._width or line:
            sys.stderr.write(f"\r{_line(line).ljust(self._width)}" + ("" if line else "\r"))
            sys.stderr.flush()
            self._width = len(line)


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """The rows as lines of a table; the columns in ``right`` are aligned at their right."""
    rows = [[_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def confirm(question: str) -> bool:
    """Ask on the terminal; anything but yes is no.

    Raises:
        LongTalkError: there is nobody to answer.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingError(
            "confirmation",
            expected="a person at the terminal, or --yes",
            actual="an input that is no terminal",
            action="Add --yes to delete without being asked, or --dry-run to see what would be deleted",
        )
    sys.stdout.write(f"{_line(question)} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
