"""What goes to the terminal: one line at a time, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from ..errors import LongTalkError

_LINE_LIMIT = 2000
"""Characters; more is no line for a person, and comes from a file that somebody tampered with."""


_PROGRESS_S, _PROGRESS_LETTERS = 0.2, 79


def printable(text: str) -> str:
    """The text with control characters, line breaks and marks that turn the writing around shown as escapes."""
    text = text if len(text) <= _LINE_LIMIT else text[:_LINE_LIMIT] + "..."
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def say(line: str = "", stream: TextIO | None = None) -> None:
    """Print a line; what the terminal's encoding lacks is shown as an escape."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(printable(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def complain(line: str) -> None:
    """Print a line on the error stream."""
    say(line, sys.stderr)


def say_json(content: object) -> None:
    """Print JSON in ASCII, where no character can do harm."""
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


class ProgressLine:
    """One line on the error stream that is written over again; none where nobody watches.

    To be used in a ``with``, at whose end the line is gone.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._seen = self._stream is not None and self._stream.isatty()
        self._shown_at = -math.inf

    def show(self, line: str) -> None:
        """Show this instead of what is there, a few times per second at most."""
        if self._seen and time.monotonic() - self._shown_at > _PROGRESS_S:
            self._shown_at = time.monotonic()
            self._write(line)

    def _write(self, line: str) -> None:
        self._stream.write("\r\x1b[K" + printable(line)[:_PROGRESS_LETTERS])
        self._stream.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown_at > -math.inf:
            self._write("")


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines with columns below each other; the columns in ``right`` end at the same place."""
    rows = [[printable(cell) for cell in row] for row in rows]
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


def count(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def confirm(question: str) -> bool:
    """Ask on the terminal; anything but yes is no.

    Raises:
        LongTalkError: nobody is there to answer.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise LongTalkError(
            "confirmation",
            expected="a person at the terminal, or --yes",
            actual="an input that is no terminal",
            action="Add --yes to delete without being asked, or --dry-run to see what would be deleted",
        )
    sys.stdout.write(f"{printable(question)} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
