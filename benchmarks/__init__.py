"""Benchmarks. The first three have a limit that their exit code reports; those after sync want a GPU.

    python -m benchmarks.faults    is anything lost when the server is killed while it works?
    python -m benchmarks.memory    does memory stay flat over a long video?
    python -m benchmarks.loop      what does LongTalk itself cost per window?
    python -m benchmarks.findings  does the report of a sound find what is wrong, and nothing else?
    python -m benchmarks.compare   how fast is it beside ComfyUI's own nodes and another pack, and how exact?
    python -m benchmarks.cards     does it run in the memory of a 24, 16 and 12 GB card, and how fast?
    python -m benchmarks.ltx       what does a window of LTX-2.3 take, in seconds and in GPU memory?
    python -m benchmarks.tables    the results of these two as a page and a plot

They run with any Python on a fresh clone: one that does not know `longtalk` hands over to the clone's environment.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

HANDED_OVER = "LONGTALK_BENCHMARK_HANDED_OVER"


def _hand_over() -> None:
    """Start the same module with the same arguments under the clone's Python; does not return.

    Does nothing in a Python that has `longtalk`, and when the package is merely imported.
    """
    words = sys.orig_argv
    if "-m" not in words or importlib.util.find_spec("longtalk") is not None:
        return
    if os.environ.get(HANDED_OVER):
        raise SystemExit("error: the clone's .venv does not know longtalk. To go on: delete .venv and run this again.")
    module = words.index("-m") + 1
    if not words[module].startswith("benchmarks."):
        return
    scripts = str(Path(__file__).resolve().parent.parent / "scripts")
    sys.path.insert(0, scripts)
    try:
        from environment import ensure_python
        from setup_common import SetupError, child_environ
    finally:
        sys.path.remove(scripts)
    try:
        python = str(ensure_python())
    except SetupError as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.flush()
    os.execve(python, [python, *words[module - 1 :]], {**child_environ(), HANDED_OVER: "1"})


_hand_over()
