"""Starts the command line as a module of custom_nodes, or as a folder:

    python -m LongTalk.infinitetalk.cli runs list
    python custom_nodes/LongTalk/infinitetalk/cli runs list

The script ``bin/longtalk`` starts it too, and that works everywhere; the second form hands over to it.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).absolute().parents[2] / "bin" / "longtalk"


def _start() -> int:
    if not __package__:
        return _hand_over()
    code: int = importlib.import_module(".main", __package__).main(sys.argv[1:], f"python -m {__package__}")
    return code


def _hand_over() -> int:
    """Start the script in a Python of its own, with the same options.

    Python that is started with a folder looks for modules there first, where ours would hide others of the same name.
    """
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    command = [sys.executable, *options, str(_SCRIPT), *sys.argv[1:]]
    if os.name == "nt":
        # Windows replaces no process by another: whoever started this one would go on before the other has ended.
        return subprocess.call(command)
    os.execv(sys.executable, command)


if __name__ == "__main__":
    sys.exit(_start())
