"""Published files and ComfyUI: the table has its models' own names, and wrong files are refused by the loaders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import published_layouts as layouts
import pytest
import torch
from published_files import write
from published_table import FILES

from longtalk.base.errors import LongTalkError


def infinitetalk() -> Any:
    from comfy_extras.nodes_model_patch import MultiTalkModelPatch

    return MultiTalkModelPatch(in_dim=layouts.WIDTH, num_layers=layouts.LAYERS, **as_comfyui())


def wan(kind: str) -> Any:
    from comfy.ldm.wan.model import WanModel

    sizes = {"dim": layouts.WIDTH, "ffn_dim": layouts.FEED_FORWARD, "num_layers": layouts.LAYERS}
    return WanModel(model_type=kind, in_dim=36, num_heads=40, **sizes, **as_comfyui())


def wan_vae() -> Any:
    from comfy.ldm.wan.vae import WanVAE

    return WanVAE(dim=96, z_dim=16, dim_mult=[1, 2, 4, 4], attn_scales=[], temperal_downsample=[False, True, True])


def umt5() -> Any:
    from comfy.text_encoders.t5 import T5

    return T5(configuration("text_encoders/umt5_config_xxl.json"), **as_comfyui())


def clip_vision_h() -> Any:
    from comfy.clip_model import CLIPVisionModelProjection

    return CLIPVisionModelProjection(configuration("clip_vision_config_h.json"), **as_comfyui())


def wav2vec2() -> Any:
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    return Wav2Vec2Model(embed_dim=768, num_heads=12, num_layers=12, conv_norm=False, conv_bias=False, **as_comfyui())


def as_comfyui() -> dict[str, Any]:
    import comfy.ops

    return {"dtype": torch.float16, "device": "meta", "operations": comfy.ops.disable_weight_init}


def configuration(name: str) -> Any:
    import comfy

    return json.loads((Path(comfy.__path__[0]) / name).read_text())


@pytest.mark.parametrize(
    ("shapes", "model"),
    [
        (layouts.infinitetalk, infinitetalk),
        (layouts.wan, lambda: wan("i2v")),
        (lambda: layouts.wan(image=False), lambda: wan("t2v")),
        (layouts.wan_vae, wan_vae),
        (layouts.umt5, umt5),
        (layouts.clip_vision_h, clip_vision_h),
        (layouts.wav2vec2, wav2vec2),
    ],
    ids=["InfiniteTalk", "WAN 2.1", "WAN 2.2", "VAE", "UMT5", "CLIP", "wav2vec2"],
)
def test_the_table_has_the_names_and_shapes_of_comfyui_s_models(
    comfy: ModuleType, shapes: Callable[[], layouts.Shapes], model: Callable[[], Any]
) -> None:
    with torch.device("meta"):
        weights = model().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == shapes()


@pytest.mark.parametrize(
    ("name", "loader", "words"),
    [
        ("wan2.1_infiniteTalk_single_fp16.safetensors", "load_diffusion_model", "an InfiniteTalk patch"),
        ("Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors", "load_vae", "an InfiniteTalk patch"),
        ("Wan2_1_VAE_bf16.safetensors", "load_diffusion_model", "a VAE"),
        ("Wan2_1_VAE_bf16.safetensors", "load_audio_vae", "a VAE"),
        ("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "load_diffusion_model", "a text encoder"),
        ("clip_vision_h.safetensors", "load_audio_encoder", "a CLIP vision model"),
        ("wav2vec2-chinese-base_fp16.safetensors", "load_vae", "a speech encoder"),
        ("Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors", "load_vae", "a diffusion model"),
        # larger than the memory of most machines, where ComfyUI cannot map it
        ("wan2.1_i2v_480p_14B_fp16.safetensors", "load_audio_encoder", "a diffusion model"),
    ],
)
def test_wrong_files_are_called_by_what_they_are(
    comfy: ModuleType, tmp_path: Path, name: str, loader: str, words: str
) -> None:
    from longtalk.infinitetalk.host import files

    (published,) = (each for each in FILES if each.name == name)
    path = write(tmp_path / name, published)
    with pytest.raises(LongTalkError, match=rf"that ComfyUI knows in {name}, got {words} \("):
        getattr(files, loader)(path)


def test_the_patch_loader_describes_or_refuses_before_it_reads(comfy: ModuleType, tmp_path: Path) -> None:
    """A base model in the patch's place: 33 GB that are not read, on a machine that could not."""
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    (published,) = (each for each in FILES if each.name == "wan2.1_i2v_480p_14B_fp16.safetensors")
    with pytest.raises(LongTalkError, match=r"got a diffusion model\. Load it with Load Diffusion Model"):
        load_patch(write(tmp_path / published.name, published))
