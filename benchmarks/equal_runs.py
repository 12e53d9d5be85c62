"""One checkout's half of the comparison: every configuration through its nodes, written down into a folder.

    python -m benchmarks.equal_runs --models MODELS --checkout FOLDER --out FOLDER

Started by `benchmarks.equal` with the Python of a checkout, ComfyUI and then this repository on its path. So `longtalk`
is that checkout's, and everything named `benchmarks` is this repository's. Only the extension's list of nodes is used.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from .equal_cases import CASES
from .equal_studio import Studio


def start_comfyui(base: Path, models: Path) -> None:
    """Import ComfyUI, on the processor and with one thread, with folders of its own and the tiny models."""
    for name in ("input", "output", "temp", "user", "custom_nodes"):
        (base / name).mkdir(parents=True)
    (base / "models").symlink_to(models)
    argv, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args

    sys.argv = argv
    import comfy.sd
    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)


def nodes_of(checkout: Path) -> dict[str, Any]:
    """The checkout's nodes by their ids, as ComfyUI asks for them."""
    import longtalk

    found = Path(longtalk.__file__).resolve().parent
    if found != checkout.resolve():
        raise SystemExit(f"error: longtalk is {found} here, not {checkout}. To go on: delete that checkout's .venv")

    async def listed() -> list[Any]:
        extension = await longtalk.comfy_entrypoint()
        await extension.on_load()
        nodes: list[Any] = await extension.get_node_list()
        return nodes

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(listed())}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equal_runs", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", type=Path, required=True, help="the folder of tiny models")
    parser.add_argument("--checkout", type=Path, required=True, help="whose nodes must run")
    parser.add_argument("--speech", type=Path, required=True, help="a recording")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*", help="configurations; all when none is named")
    arguments = parser.parse_args()
    base = arguments.out / "comfyui"
    start_comfyui(base, arguments.models)
    studio = Studio(nodes_of(arguments.checkout), arguments.models, base, arguments.speech)
    for name in arguments.names or CASES:
        began = time.perf_counter()
        with studio.kept(name, arguments.out / "records"):
            try:
                CASES[name](studio)
            except Exception:
                studio.record.found["failed"] = traceback.format_exc()
                print(studio.record.found["failed"], flush=True)
        print(f"  {name}: {time.perf_counter() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
