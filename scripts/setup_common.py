"""What the set-up scripts share: messages, errors and child processes. Standard library only."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """Something the user can put right: what is wrong and what to do next."""

    def __init__(self, problem: str, action: str) -> None:
        super().__init__(f"{problem}. To go on: {action}.")


def say(text: str) -> None:
    print(f"[longtalk] {text}", flush=True)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def child_environ() -> dict[str, str]:
    """The environment variables without those that would lead a child's Python to other packages."""
    foreign = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    environ = {name: value for name, value in os.environ.items() if name not in foreign}
    environ["PYTHONNOUSERSITE"] = "1"
    return environ


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    action: str = "see the message above",
    environ: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    leave_out: str | None = None,
) -> None:
    """Run a command whose output goes to the terminal. A failure becomes a SetupError that names `what`.

    Where the output goes to a file or a pipe, lines of stderr that begin with `leave_out` are not repeated
    (in a terminal nothing is touched, so that progress bars work).
    """
    words = [str(word) for word in command]
    environ = child_environ() if environ is None else environ
    try:
        if leave_out is None or sys.stderr.isatty():
            code = subprocess.run(words, env=environ, timeout=timeout_s).returncode
        else:
            with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True, errors="replace") as process:
                assert process.stderr is not None
                for line in process.stderr:
                    if not line.startswith(leave_out):
                        sys.stderr.write(line)
                        sys.stderr.flush()
            code = process.returncode
    except subprocess.TimeoutExpired:
        raise SetupError(f"{what} took more than {timeout_s:.0f} s", action) from None
    except OSError as error:
        raise SetupError(f"{what} could not start ({error})", action) from None
    if code != 0:
        raise SetupError(f"{what} failed (exit code {code}): {' '.join(words)}", action)
