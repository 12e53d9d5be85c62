"""nodes/schemas.json says what the nodes say, on any machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_schemas import FILE, as_text


@pytest.fixture
def nodes(comfy: Any) -> list[Any]:
    from longtalk.nodes import LongTalkExtension

    extension = LongTalkExtension()
    asyncio.run(extension.on_load())
    return asyncio.run(extension.get_node_list())


@pytest.fixture
def files_of_a_user(comfy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model in each folder from which nodes offer names."""
    import folder_paths

    for folder in ("model_patches", "conditioning", "diffusion_models"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_roformer.safetensors").touch()
        known = folder_paths.folder_names_and_paths.get(folder, ([], {".safetensors"}))
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, ([str(tmp_path / folder)], known[1]))
        assert folder_paths.get_filename_list(folder) == ["my_roformer.safetensors"]
    yield
    folder_paths.filename_list_cache.clear()


def test_the_file_says_what_the_nodes_say(nodes: list[Any]) -> None:
    assert as_text(nodes) == FILE.read_text(encoding="utf-8"), "python3 scripts/node_schemas.py writes it anew"


def test_it_is_the_same_beside_a_users_models(nodes: list[Any], files_of_a_user: None) -> None:
    offered = {
        each.id: each.options
        for node in nodes
        for each in node.GET_SCHEMA().inputs
        if "my_roformer.safetensors" in (getattr(each, "options", None) or [])
    }
    assert offered.keys() == {"name", "model_name"}
    assert as_text(nodes) == FILE.read_text(encoding="utf-8")


def test_it_is_the_same_with_other_samplers(nodes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.samplers

    for name in ("SAMPLERS", "SCHEDULERS"):
        more = [*getattr(comfy.samplers.KSampler, name), "of another version"]
        monkeypatch.setattr(comfy.samplers.KSampler, name, more)
    sampler = next(node for node in nodes if node.__name__ == "LongTalkSampler")
    assert sum("of another version" in each.as_dict().get("options", ()) for each in sampler.GET_SCHEMA().inputs) == 2
    assert as_text(nodes) == FILE.read_text(encoding="utf-8")
