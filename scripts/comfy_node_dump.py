"""Print, as JSON, how a ComfyUI defines node types.

    PYTHONPATH=COMFYUI python scripts/comfy_node_dump.py BASE_FOLDER TYPE ...

That ComfyUI is imported, on the CPU, so this Python must have its packages. `comfy_nodes.py` starts this file in a
process of its own, because a process can import one ComfyUI only. BASE_FOLDER is an empty folder for its files.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any


def type_name(kind: Any) -> str:
    """The type of an input: a list of choices is a COMBO."""
    return kind if isinstance(kind, str) else "COMBO"


def signature(node: Any) -> dict[str, Any]:
    """Inputs as ``[id, type, is required]``, those that are required first, and the types of the outputs."""
    found = node.INPUT_TYPES()
    inputs = [
        [name, type_name(given[0]), group == "required"]
        for group in ("required", "optional")
        for name, given in found.get(group, {}).items()
    ]
    return {"inputs": inputs, "outputs": [type_name(kind) for kind in node.RETURN_TYPES]}


def main() -> None:
    base, *types = sys.argv[1:]
    for name in ("input", "output", "temp", "user", "models", "custom_nodes"):
        (Path(base) / name).mkdir(exist_ok=True)
    sys.argv = ["main.py", "--cpu", "--base-directory", base]
    import comfy.options

    comfy.options.enable_args_parsing()
    import nodes

    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    known = nodes.NODE_CLASS_MAPPINGS
    print(json.dumps({name: signature(known[name]) for name in types if name in known}))


if __name__ == "__main__":
    main()
