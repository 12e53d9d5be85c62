"""Files of the tiny models: the same bytes each time, and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_weights import write, written_whole

#: As many entries as safetensors will hardly write twice in the same order.
METADATA = {f"key {number}": f'{{"quoted": "ü {number}\\n"}}' for number in range(12)}
TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(5, dtype=torch.float16)}


def test_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for path in paths:
        write(path, TENSORS, METADATA)
    assert len({path.read_bytes() for path in paths}) == 1
    write(paths[0], TENSORS, {**METADATA, "key 3": "other"})
    assert paths[0].read_bytes() != paths[1].read_bytes()


@pytest.mark.parametrize("metadata", [METADATA, {"one": "only"}, None])
def test_everything_written_is_read(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "folder" / "a.safetensors"
    write(path, TENSORS, metadata)
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == set(TENSORS)
        for name, tensor in TENSORS.items():
            assert file.get_tensor(name).dtype == tensor.dtype
            assert torch.equal(file.get_tensor(name), tensor)


def test_file_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("before")
    with written_whole(path) as part:
        Path(part).write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]
