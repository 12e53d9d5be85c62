"""Hand over to start.py where Python was started with `-m` and a module of benchmarks/ or training/.

Those packages run this file, by its path, when they are imported. It comes back only where they were merely imported.
Standard library only, and nothing of the scripts beside it: Python's path does not hold them yet.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGES = ("benchmarks", "training")


def hand_over(words: list[str]) -> None:
    """Start the module after `-m` in Python's own arguments by start.py, with the same options; does not return."""
    if "-m" not in words:
        return
    module, *options = words[words.index("-m") + 1 :]
    module = module.removeprefix("longtalk.")
    if module.split(".")[0] in PACKAGES and "." in module:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name("start.py")), module, *options])


hand_over(sys.orig_argv)
