"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import LongTalkError
from ..run.files import atomic, disk_errors


def seconds(text: str) -> float:
    """ "83.5" or "1:23.5" as seconds."""
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for a program")


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A name to write to; the file appears under ``path`` when it is complete, and its folder is made.

    Raises:
        LongTalkError: the disk.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        yield part


def check_new_file(path: Path, force: bool) -> None:
    """Refuse a place to write to that is taken.

    Raises:
        LongTalkError: a folder, or a file that ``--force`` was not given for.
    """
    if path.is_dir() or (os.path.lexists(path) and not force):
        raise LongTalkError(
            f"file {path}",
            expected="a new file",
            actual="a folder" if path.is_dir() else "one that is there already",
            action="Name another file" if path.is_dir() else "Name another file, or add --force to replace it",
        )
