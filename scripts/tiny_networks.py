"""ComfyUI's own classes of WAN 2.1, InfiniteTalk and wav2vec2, for every model with weights of our own: those of the
tiny models, of the benchmarks and of the tests.

The sizes are those of the tiny models unless they are given; what else a class takes (``device``, ``dtype``,
``operations``) is handed on.
"""

from __future__ import annotations

from typing import Any

import torch

#: Hidden size: divisible by 128 (WAN's heads) and by 40 (the audio heads of every InfiniteTalk file).
WIDTH = 640
FFN = 1280


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """In fp32, and without weights of its own where nothing else is asked for."""
    import comfy.ops

    return {"dtype": torch.float32, "operations": comfy.ops.disable_weight_init, **settings}


def wan_i2v(layers: int, *, width: int = WIDTH, ffn: int = FFN, **settings: Any) -> torch.nn.Module:
    import comfy.ldm.wan.model

    return comfy.ldm.wan.model.WanModel(
        model_type="i2v",
        in_dim=36,
        dim=width,
        ffn_dim=ffn,
        num_heads=width // 128,
        num_layers=layers,
        **_with_defaults(settings),
    )


def wan_vae(width: int) -> torch.nn.Module:
    import comfy.ldm.wan.vae

    return comfy.ldm.wan.vae.WanVAE(
        dim=width,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
        image_channels=3,
        conv_out_channels=3,
        dropout=0.0,
    )


def infinitetalk(layers: int, intermediate: int = 512, *, width: int = WIDTH, **settings: Any) -> torch.nn.Module:
    """In ComfyUI's own module, whose loader takes files of 40 blocks only."""
    from comfy_extras.nodes_model_patch import MultiTalkModelPatch

    return MultiTalkModelPatch(
        in_dim=width,
        intermediate_dim=intermediate,
        num_layers=layers,
        **_with_defaults(settings),
    )


def wav2vec2_base(**settings: Any) -> torch.nn.Module:
    """Of the published size: the features have to have the shape that InfiniteTalk wants."""
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    return Wav2Vec2Model(
        embed_dim=768,
        num_heads=12,
        num_layers=12,
        conv_norm=False,
        conv_bias=False,
        do_normalize=False,
        do_stable_layer_norm=False,
        **_with_defaults(settings),
    )
