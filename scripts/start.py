#!/usr/bin/env python3
"""Start a module of benchmarks/ or training/ with everything it imports on Python's path, under any Python.

    python3 scripts/start.py benchmarks.loop [the module's options]

`python3 -m benchmarks.loop` comes here by itself. What `-m` puts first on the path is the clone, whose `nodes` hides
ComfyUI's; a file puts its own folder first instead, here the scripts. Where the module imports ComfyUI, that follows:
the one that COMFYUI_PATH names, otherwise the environment's. A Python that does not know this clone as `longtalk`
hands over to the clone's own, which is made where it is missing.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from pathlib import Path

from environment import ensure, ensure_python
from setup_common import CLONE, SetupError, child_environ

#: Modules that import ComfyUI into their own process.
IN_COMFYUI = (
    "benchmarks.cards",
    "benchmarks.cards_files",
    "benchmarks.compare",
    "benchmarks.fault_operations",
    "benchmarks.half",
    "benchmarks.ltx",
    "benchmarks.queue",
    "benchmarks.sync",
    "training.judge",
    "training.train_talker",
    "training.train_vae",
)
#: The first argument of a process that has its path.
READY = "--ready"


def knows_the_clone() -> bool:
    found = importlib.util.find_spec("longtalk")
    return found is not None and found.origin is not None and Path(found.origin).resolve().parent == CLONE


def prepared(with_comfyui: bool) -> tuple[str, dict[str, str]]:
    """The Python to go on with, and its environment variables."""
    if knows_the_clone():
        python, environ = sys.executable, dict(os.environ)
    else:
        python, environ = str(ensure_python()), child_environ()
    if with_comfyui:
        comfyui = str(Path(environ.get("COMFYUI_PATH") or ensure().comfyui).resolve())
        path = [comfyui, *environ.get("PYTHONPATH", "").split(os.pathsep)]
        environ |= {"COMFYUI_PATH": comfyui, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    return python, environ


def run(module: str, arguments: list[str]) -> None:
    if not knows_the_clone():
        raise SystemExit("error: the clone's .venv does not know longtalk. To go on: delete .venv and run this again.")
    sys.argv = [module, *arguments]
    runpy.run_module(f"longtalk.{module}", run_name="__main__", alter_sys=True)


def main(words: list[str]) -> None:
    if words[:1] == [READY]:
        run(words[1], words[2:])
        return
    if not words:
        raise SystemExit(f"error: expected a module, such as benchmarks.loop.\n\n{__doc__}")
    try:
        python, environ = prepared(words[0] in IN_COMFYUI)
    except SetupError as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.flush()
    os.execve(python, [python, str(Path(__file__).resolve()), READY, *words], environ)


if __name__ == "__main__":
    main(sys.argv[1:])
