#!/usr/bin/env python3
"""Write nodes/schemas.json: what every node takes and gives, as data that is read without ComfyUI.

`python3 scripts/node_schemas.py` writes it with the ComfyUI that scripts/test would take, after a change to a schema.
For each node, by its id: its name, category and description; its inputs in the order in which they stand on the node,
each with id, type and whatever the schema says of it (optional, default, min, max, step, options, advanced, tooltip);
its outputs. Choices that ComfyUI or a folder of models gives, and that differ from one machine to the next, are not
listed: `options_from` says where they come from.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from environment import ensure
from setup_common import CLONE, SetupError, child_environ, say

FILE = CLONE / "nodes" / "schemas.json"
LIMIT_S = 300

#: Choices that are not ours, by (node, input): where they come from.
OPTIONS_FROM = {
    ("LongTalkSampler", "sampler_name"): "ComfyUI's samplers",
    ("LongTalkSampler", "scheduler"): "ComfyUI's schedulers",
    ("LongTalkLTXSampler", "sampler_name"): "ComfyUI's samplers",
    ("LongTalkLTXSampler", "scheduler"): "ComfyUI's schedulers",
    ("LongTalkLoadPatch", "name"): "models/model_patches",
    ("LongTalkLoadConditioning", "name"): "models/conditioning",
    ("LongTalkVocals", "model_name"): "models/diffusion_models",
}


def as_text(nodes: Iterable[Any]) -> str:
    """The file for these classes of nodes. Runs where ComfyUI is imported."""
    schemas = [node.GET_SCHEMA() for node in nodes]
    content = {schema.node_id: _of_node(schema) for schema in sorted(schemas, key=lambda schema: schema.node_id)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _of_node(schema: Any) -> dict[str, Any]:
    return {
        "display_name": schema.display_name,
        "category": schema.category,
        "description": schema.description,
        "search_aliases": schema.search_aliases or [],
        "is_output_node": schema.is_output_node,
        "inputs": [_of_input(schema.node_id, each) for each in schema.inputs],
        "outputs": [_of_output(each) for each in schema.outputs],
    }


def _of_input(node_id: str, given: Any) -> dict[str, Any]:
    out = {"id": given.id, "type": given.get_io_type(), "optional": False, **given.as_dict()}
    if not out.get("multiselect", True):
        del out["multiselect"]
    source = OPTIONS_FROM.get((node_id, given.id))
    if source is not None:
        del out["options"]
        out["options_from"] = source
    return out


def _of_output(given: Any) -> dict[str, Any]:
    out = {"name": given.display_name or given.io_type, "type": given.get_io_type()}
    if given.tooltip:
        out["tooltip"] = given.tooltip
    if given.is_output_list:
        out["is_list"] = True
    return out


def _print_here() -> None:
    """Print the file; this process finds ComfyUI."""
    with tempfile.TemporaryDirectory(prefix="longtalk_schemas_") as base:
        for name in ("input", "output", "temp", "user", "models", "custom_nodes"):
            (Path(base) / name).mkdir()
        sys.argv = ["main.py", "--cpu", "--base-directory", base]
        import comfy.options

        comfy.options.enable_args_parsing()
        from longtalk.nodes import LongTalkExtension

        extension = LongTalkExtension()
        asyncio.run(extension.on_load())
        sys.stdout.write(as_text(asyncio.run(extension.get_node_list())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true", help="print the file instead; this Python finds ComfyUI")
    if parser.parse_args().here:
        _print_here()
        return 0
    try:
        made = ensure()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = [made.python, __file__, "--here"]
    environ = {**child_environ(), "PYTHONPATH": str(made.comfyui)}
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        print(f"error: ComfyUI {made.comfyui_version} did not give the schemas, see above", file=sys.stderr)
        return 1
    if FILE.is_file() and FILE.read_text(encoding="utf-8") == done.stdout:
        say(f"{FILE.relative_to(CLONE)} is true")
        return 0
    FILE.write_text(done.stdout, encoding="utf-8")
    say(f"{FILE.relative_to(CLONE)} is written anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
