"""Starts the command line as a module, or, where Python finds none (its own folder name, its own path), as a folder:

    python -m LongTalk.infinitetalk.cli runs list              in custom_nodes
    python custom_nodes/LongTalk/infinitetalk/cli runs list    anywhere

The second works whatever the pack's folder is called, and with the embedded Python of ComfyUI's portable version, which
looks for modules in its own folders only.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path


def _load_pack() -> str:
    """Load the pack by path, as ComfyUI does, and return the name it got."""
    name = "longtalk"
    here = Path(__file__).absolute().parent
    pack = here.parents[1]
    # Python put this folder first, where our modules would hide others of the same name.
    sys.path[:] = [entry for entry in sys.path if entry != sys.argv[0] and Path(entry).absolute() != here]
    spec = importlib.util.spec_from_file_location(name, pack / "__init__.py", submodule_search_locations=[str(pack)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name


def _start() -> int:
    if __package__:
        package, called = __package__, f"python -m {__package__}"
    else:
        called = f"python {sys.argv[0]}"
        package = f"{_load_pack()}.infinitetalk.cli"
    code: int = importlib.import_module(".main", package).main(sys.argv[1:], called)
    return code


if __name__ == "__main__":
    sys.exit(_start())
