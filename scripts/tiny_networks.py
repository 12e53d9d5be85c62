"""ComfyUI's own classes of WAN 2.1, InfiniteTalk and wav2vec2, small: what the tiny models are shapes of."""

from __future__ import annotations

import torch

#: Hidden size: divisible by 128 (WAN's heads) and by 40 (the audio heads of every InfiniteTalk file).
WIDTH = 640
FFN = 1280


def wan_i2v(layers: int, **settings: object) -> torch.nn.Module:
    import comfy.ldm.wan.model
    import comfy.ops

    return comfy.ldm.wan.model.WanModel(
        model_type="i2v",
        in_dim=36,
        dim=WIDTH,
        ffn_dim=FFN,
        num_heads=WIDTH // 128,
        num_layers=layers,
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
        **settings,
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


def infinitetalk(layers: int, intermediate: int, **settings: object) -> torch.nn.Module:
    import comfy.ops
    from comfy_extras.nodes_model_patch import MultiTalkModelPatch

    return MultiTalkModelPatch(
        in_dim=WIDTH,
        intermediate_dim=intermediate,
        num_layers=layers,
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
        **settings,
    )


def wav2vec2_base() -> torch.nn.Module:
    """Of the published size: the features have to have the shape that InfiniteTalk wants."""
    import comfy.ops
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    return Wav2Vec2Model(
        embed_dim=768,
        num_heads=12,
        num_layers=12,
        conv_norm=False,
        conv_bias=False,
        do_normalize=False,
        do_stable_layer_norm=False,
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
