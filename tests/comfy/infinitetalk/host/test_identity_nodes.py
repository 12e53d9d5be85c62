"""Behind each of ComfyUI's nodes the same settings give the same name in another process and another installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import named_nodes
import pytest

ROOT = Path(named_nodes.__file__).resolve().parents[2]
ALL = [node for kind in named_nodes.NODES.values() for node in kind]
#: One of each way that a node works: closures, compiled code, state, other packs, hooks, guiders, samplers.
SHORT = ["APG", "ModelSamplingSD3", "TorchCompileModel", "NagLikeNode", "NagUsedNode", "HookedConditioning"]
SHORT += ["LoraLoaderModelOnly", "DualModelGuider", "SamplerSASolver"]


def started(folder: Path, comfyui: Path, pack: str, models: Path, seed: str, nodes: list[str]) -> subprocess.Popen[str]:
    """The names from an installation in a folder, where our pack has a name of its own and ComfyUI is a link."""
    for each in ("input", "output", "temp", "user", "models", "custom_nodes"):
        (folder / each).mkdir(parents=True)
    (folder / "custom_nodes" / pack).symlink_to(ROOT)
    shutil.copytree(Path(named_nodes.__file__).parent / "nag_pack", folder / "custom_nodes" / "nag_pack")
    (folder / "ComfyUI").symlink_to(comfyui)
    arguments = [folder / "ComfyUI", folder / "custom_nodes" / pack, models, folder, "--nodes", ",".join(nodes)]
    return subprocess.Popen(
        [sys.executable, named_nodes.__file__, *map(str, arguments)],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(folder / "ComfyUI")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    )


def named(process: subprocess.Popen[str]) -> dict[str, dict[str, str]]:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    found: dict[str, dict[str, str]] = json.loads(out.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize("nodes", [SHORT, pytest.param(ALL, marks=pytest.mark.long)], ids=["short", "all"])
def test_names_behind_nodes(comfyui_path: Path, tiny_models: Path, tmp_path: Path, nodes: list[str]) -> None:
    assert len(ALL) >= 40
    places = [(tmp_path / "one", "longtalk", "1"), (tmp_path / "moved.2" / "to here", "comfyui-LongTalk main", "2")]
    begun = [started(folder, comfyui_path, pack, tiny_models, seed, nodes) for folder, pack, seed in places]
    here, there = map(named, begun)
    assert sorted(here) == sorted(nodes)
    assert {node: names for node, names in here.items() if "error" in names} == {}
    assert here == there
    alike: dict[str, Any] = {}
    for node, names in here.items():
        counted = {name: key for name, key in names.items() if (node, name) not in named_nodes.NO_EFFECT}
        if len({*counted.values()}) != len(counted):
            alike[node] = counted
        for name in {*names} - {*counted}:
            assert names[name] == names[""], f"{node}: {name} has an effect"
    assert alike == {}
    # What another sampler left on the modules while it ran does not count.
    assert here["NagLikeNode"] == here["NagUsedNode"]
    assert sum(len(names) for names in here.values()) > 3 * len(nodes)
