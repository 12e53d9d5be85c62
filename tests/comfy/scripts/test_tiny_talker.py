"""The trained weights in the repository, and the checkpoint files that are made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType

import pytest
import tiny_talker
import torch
from safetensors.torch import load_file

#: Of the trained tensors, expanded: the same on every machine. Changes with the weights.
TRAINED = "9ef445f7c724ff37e3887cf109cf1ca3ca5ccefbe28e47b55cc74224cb49aa96"
MOST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def talker(comfy: ModuleType) -> ModuleType:
    """The module that expands the weights, which imports ComfyUI's classes."""
    return tiny_talker


@pytest.fixture(scope="module")
def compact(talker: ModuleType) -> dict[str, torch.Tensor]:
    return load_file(str(talker.COMPACT))


def digest(tensors: dict[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {list(tensors[name].shape)} {tensors[name].dtype}\n".encode())
        total.update(tensors[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def trained(talker: ModuleType, compact: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without what is seeded: the parts that read the prompt and CLIP vision."""
    found = talker.expand(compact)
    kept = {name.removeprefix("wan.").removesuffix(".left") for name in compact if name.startswith("wan.")}
    wan = {name: tensor for name, tensor in found["wan"].items() if name in kept}
    return {f"{part}.{name}": t for part, tensors in {**found, "wan": wan}.items() for name, t in tensors.items()}


def test_the_weights_are_small(talker: ModuleType) -> None:
    assert talker.COMPACT.stat().st_size <= MOST_BYTES


def test_they_expand_to_the_same_bits_everywhere(talker: ModuleType, compact: dict[str, torch.Tensor]) -> None:
    found = trained(talker, compact)
    assert len(found) > 250
    assert digest(found) == TRAINED


def test_threads_do_not_change_a_bit(talker: ModuleType, compact: dict[str, torch.Tensor]) -> None:
    digests = set()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            digests.add(digest(trained(talker, compact)))
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


def test_the_files_are_complete_checkpoints(talker: ModuleType, tiny_models: Path) -> None:
    """Every weight that ComfyUI's classes have, and none besides."""
    for name, build in (("diffusion", talker.wan_i2v), ("vae", talker.wan_vae), ("patch", talker.infinitetalk)):
        with torch.device("meta"):
            wanted = {key: tensor.shape for key, tensor in build().state_dict().items()}
        found = load_file(str(tiny_models / talker.FILES[f"talker_{name}"]))
        assert {key: tensor.shape for key, tensor in found.items()} == wanted
        assert all(torch.isfinite(tensor).all() for tensor in found.values())


def test_the_same_files_byte_for_byte(
    talker: ModuleType, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talker, "wav2vec2", lambda: {"weight": torch.zeros(1)})  # 190 MB; seeded like the others
    talker.make_all(tmp_path)
    for name in ("diffusion", "vae", "patch", "patch_q8"):
        path = talker.FILES[f"talker_{name}"]
        assert (tmp_path / path).read_bytes() == (tiny_models / path).read_bytes()
