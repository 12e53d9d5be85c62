"""The command line as a whole: which commands there are, and what an error means to whoever called.

A command is a module beside this one with ``add_parser(commands)``: it adds its own parser to ``commands`` and sets
``run``, a function that takes what was chosen and gives the exit code. That function imports what takes time to import
(torch), so that no command waits for the imports of another.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from ...base.errors import LongTalkError
from . import analyze, plan, prepare, runs, song
from .terminal import complain

COMMANDS = (plan, analyze, prepare, song, runs)
"""All commands, in the order in which the help shows them."""


def main(arguments: Sequence[str], called: str = "longtalk") -> int:
    """Do what the command line says.

    Args:
        arguments: what was typed behind the program's name.
        called: how the program is called, for the help.

    Returns:
        The exit code: 0; 1 for an error, for damage that was found, and for "no" to a question. argparse exits with 2.
    """
    chosen = _parser(called).parse_args(arguments)
    try:
        with _warnings_shown():
            code: int = chosen.run(chosen)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, say) has enough. Python would complain once more when it empties the stream at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LongTalkError, OSError) as error:
        complain(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        complain("error: stopped")
        return 130


def _parser(called: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=called, description="LongTalk's command line.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(f"note: {record.getMessage()}")


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """While the block runs, each warning in the pack's log becomes a line on the error stream."""
    pack = logging.getLogger(__name__.rpartition(".infinitetalk.")[0])
    handler = _Notes(logging.WARNING)
    before = pack.propagate
    pack.addHandler(handler)
    pack.propagate = False
    try:
        yield
    finally:
        pack.removeHandler(handler)
        pack.propagate = before
