"""Calling ``runs ...``, on runs that :mod:`made_runs` made, and what happens to such runs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from made_runs import make_run

from longtalk.base.files import write_json
from longtalk.infinitetalk.cli.main import main
from longtalk.infinitetalk.run.loop import Fallbacks
from longtalk.infinitetalk.run.store.folder import RunFolder

OTHER = "fedcba9876543210"
SEED = 100
make_talk = functools.partial(make_run, frames=60, motion_frames=5, seed=SEED, fallbacks=Fallbacks(memory_level=1))
"""Four windows, of 21, 16, 12 and 11 new frames."""

Run = Callable[..., tuple[int, str, str]]


def call(output: Path, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of ``runs ...``."""
    return command("runs", *arguments, "--output", output)


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of any command; checks that a terminal can show every character."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main([*map(str, arguments)])
    text = out.getvalue() + errors.getvalue()
    assert all(character == "\n" or character.isprintable() for character in text), repr(text)
    assert "Traceback" not in text
    return code, out.getvalue(), errors.getvalue()


def states(output: Path) -> dict[str, str]:
    return {run["name"]: run["state"] for run in json.loads(call(output, "list", "--json")[1])}


def size(folder: RunFolder) -> str:
    return f"{folder.bytes() / 1e6:.1f} MB"


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[int]:
    """Another process works on the run; its number."""
    code = (
        "import sys; from pathlib import Path; from longtalk.infinitetalk.run.store.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1]), sys.argv[2], '.mp4').owned(): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(folder.path.parent), folder.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.communicate("\n")


def mutated(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The content with other values at the places named, as "about.ends"."""
    content = json.loads(json.dumps(content))
    content.pop("digest", None)
    for place, value in changes.items():
        inner, *names = content, *place.split(".")
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = value
    return content


def apply(path: Path, changes: dict[str, Any]) -> None:
    """Sign a JSON file anew with other values in it."""
    content = json.loads(path.read_bytes())
    # What is inside is changed before the whole of it is.
    with contextlib.suppress(TypeError):
        content = mutated(content, dict(sorted(changes.items(), key=lambda item: -item[0].count("."))))
    content.pop("digest", None)
    write_json(path, content)
