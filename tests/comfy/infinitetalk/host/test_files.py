"""Models from files without a graph: what ComfyUI's loader nodes give, and clear words for other files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtalk.base.errors import LongTalkError


@pytest.fixture(scope="module")
def files(comfy: ModuleType) -> ModuleType:
    from longtalk.infinitetalk.host import files

    return files


@pytest.fixture
def folders(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI's loader nodes find the tiny files."""
    import folder_paths

    for kind in ("diffusion_models", "vae", "checkpoints", "audio_encoders"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tiny_models / kind)], {".safetensors"}))


def weights(value: Any) -> dict[str, torch.Tensor]:
    model = getattr(value, "first_stage_model", None) or value.model
    return model.state_dict()


def unet(name: str) -> Any:
    from nodes import UNETLoader

    return UNETLoader().load_unet(name, "default")[0]


def vae(name: str) -> Any:
    from nodes import VAELoader

    return VAELoader().load_vae(name)[0]


def audio_vae(name: str) -> Any:
    from comfy_extras.nodes_lt_audio import LTXVAudioVAELoader

    return LTXVAudioVAELoader.execute(name).result[0]


def audio_encoder(name: str) -> Any:
    from comfy_extras.nodes_audio_encoder import AudioEncoderLoader

    return AudioEncoderLoader.execute(name).result[0]


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("loader", "node", "kind", "name"),
    [
        ("load_diffusion_model", unet, "diffusion_models", "wan_i2v"),
        ("load_diffusion_model", unet, "diffusion_models", "ltx"),
        ("load_vae", vae, "vae", "wan_vae"),
        ("load_vae", vae, "vae", "ltx_video_vae"),
        ("load_audio_vae", audio_vae, "checkpoints", "ltx_audio"),
        ("load_audio_encoder", audio_encoder, "audio_encoders", "wav2vec2"),
    ],
)
def test_files_load_as_comfyui_s_nodes_load_them(
    files: ModuleType, tiny_models: Path, loader: str, node: Callable[[str], Any], kind: str, name: str
) -> None:
    file = f"longtalk_tiny_{name}.safetensors"
    ours, theirs = getattr(files, loader)(tiny_models / kind / file), node(file)
    assert type(ours) is type(theirs)
    mine, reference = weights(ours), weights(theirs)
    assert mine.keys() == reference.keys()
    for key, weight in mine.items():
        assert weight.dtype == reference[key].dtype
        assert torch.equal(weight, reference[key]), key


@pytest.mark.parametrize("loader", ["load_diffusion_model", "load_vae", "load_audio_vae", "load_audio_encoder"])
def test_other_files_are_refused_in_words(files: ModuleType, tmp_path: Path, loader: str) -> None:
    with pytest.raises(LongTalkError, match=r"model file: expected a file .*, got nothing there"):
        getattr(files, loader)(tmp_path / "gone.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"something.weight": torch.zeros(3, 3)}, other)
    words = r"that ComfyUI knows in other\.safetensors, got an unknown file with keys such as something\.weight"
    with pytest.raises(LongTalkError, match=words):
        getattr(files, loader)(other)
    os.truncate(other, other.stat().st_size - 1)
    with pytest.raises(LongTalkError, match=r"knows in other\.safetensors, got no complete safetensors file \("):
        getattr(files, loader)(other)
