"""Starts a ComfyUI in which nobody can import torchaudio: python without_torchaudio.py .../main.py [its options].

ComfyUI 0.30 to 0.33 import it themselves and would not start. So ComfyUI's own modules, and no others, get an empty
stand-in from ``import torchaudio``: they load, and what needs torchaudio fails when it is used. Python's path begins
with this file's folder, so ComfyUI's has to be in PYTHONPATH.
"""

from __future__ import annotations

import builtins
import importlib.abc
import runpy
import sys
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

HIDDEN = "torchaudio"


class _Missing(importlib.abc.MetaPathFinder):
    """Asked before all others, whoever imports and however."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] == HIDDEN:
            raise ModuleNotFoundError(f"No module named {HIDDEN!r}", name=HIDDEN)
        return None


def _main(main: Path) -> None:
    comfyui = main.resolve().parent
    real = builtins.__import__
    empty = types.ModuleType(HIDDEN)
    empty.functional = empty  # type: ignore[attr-defined]  # for `import torchaudio.functional as AF`

    def without(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        if level == 0 and name.split(".")[0] == HIDDEN and not fromlist:
            importer = Path((globals or {}).get("__file__") or "/").resolve()
            if comfyui in importer.parents and "custom_nodes" not in importer.parts:
                return empty
        return real(name, globals, locals, fromlist or (), level)

    sys.meta_path.insert(0, _Missing())
    builtins.__import__ = without
    sys.argv = [str(main), *sys.argv[2:]]
    runpy.run_path(str(main), run_name="__main__")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
