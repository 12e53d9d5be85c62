"""scripts/comfy_nodes.py: what it reads of ComfyUI's own nodes is what the running ComfyUI says of them."""

from __future__ import annotations

from pathlib import Path

from comfy_compare import compare_nodes
from comfy_nodes import node_uses, read_signatures, run_signatures, workflow_files
from comfy_tree import Tree


def test_nodes_read_from_the_source_are_those_of_the_running_one(comfyui_path: Path) -> None:
    uses = node_uses(workflow_files())
    types = sorted({use.type for use in uses})
    run = run_signatures(comfyui_path, types)
    assert sorted(run) == types
    assert read_signatures(Tree(comfyui_path), types) == run
    assert [verdict for verdict in compare_nodes(uses, Tree(comfyui_path), run) if verdict.breaks] == []
