"""The names and shapes of the weights in published models, by the code that reads them.

Each is compared with ComfyUI's own class of the model in tests/comfy/infinitetalk/host/test_published_files.py, but
for the audio layers and the text encoder in WanVideoWrapper's form, whose sources are named there.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

Shapes = dict[str, tuple[int, ...]]

WIDTH, LAYERS, FEED_FORWARD = 5120, 40, 13824


def linears(prefix: str, sizes: Iterable[tuple[str, int, int]], *, bias: bool = True) -> Shapes:
    """Linear layers ``(name, rows, columns)`` under a prefix."""
    out: Shapes = {}
    for name, rows, columns in sizes:
        out[f"{prefix}{name}.weight"] = (rows, columns)
        if bias:
            out[f"{prefix}{name}.bias"] = (rows,)
    return out


def vectors(prefix: str, sizes: Iterable[tuple[str, int]], *, bias: bool = True) -> Shapes:
    """Layer norms ``(name, width)`` under a prefix; without ``bias``, RMS norms."""
    ends = ("weight", "bias") if bias else ("weight",)
    return {f"{prefix}{name}.{end}": (width,) for name, width in sizes for end in ends}


def infinitetalk() -> Shapes:
    """The audio layers; MultiTalk's, InfiniteTalk's for one speaker and its for several are alike.

    Source: MeiGen-AI/InfiniteTalk, wan/modules/multitalk_model.py (AudioProjModel with a window of 5 frames, of 8 for
    later latents, 12 layers of 768) and wan/modules/attention.py (SingleStreamMutiAttention without norms of q and k).
    """
    out = linears(
        "audio_proj.",
        [
            ("proj1", 512, 5 * 12 * 768),
            ("proj1_vf", 512, 8 * 12 * 768),
            ("proj2", 512, 512),
            ("proj3", 32 * 768, 512),
        ],
    )
    out |= vectors("audio_proj.", [("norm", 768)])
    for block in range(LAYERS):
        sizes = [("q_linear", WIDTH, WIDTH), ("kv_linear", 2 * WIDTH, 768), ("proj", WIDTH, WIDTH)]
        out |= linears(f"blocks.{block}.audio_cross_attn.", sizes)
        out |= vectors(f"blocks.{block}.", [("norm_x", WIDTH)])
    return out


def _attention(prefix: str, names: tuple[str, ...]) -> Shapes:
    out = linears(prefix, [(name, WIDTH, WIDTH) for name in names])
    return out | vectors(prefix, [("norm_q", WIDTH), ("norm_k", WIDTH)], bias=False)


def wan(*, image: bool = True) -> Shapes:
    """WAN's 14B image-to-video model: 2.1's, or without ``image`` 2.2's, which looks at no CLIP vision."""
    out: Shapes = {"patch_embedding.weight": (WIDTH, 36, 1, 2, 2), "patch_embedding.bias": (WIDTH,)}
    out |= linears("text_embedding.", [("0", WIDTH, 4096), ("2", WIDTH, WIDTH)])
    out |= linears("time_embedding.", [("0", WIDTH, 256), ("2", WIDTH, WIDTH)])
    out |= linears("time_projection.", [("1", 6 * WIDTH, WIDTH)])
    for block in range(LAYERS):
        prefix = f"blocks.{block}."
        out[f"{prefix}modulation"] = (1, 6, WIDTH)
        out |= _attention(f"{prefix}self_attn.", ("q", "k", "v", "o"))
        out |= _attention(f"{prefix}cross_attn.", ("q", "k", "v", "o", *(("k_img", "v_img") if image else ())))
        if image:
            out |= vectors(f"{prefix}cross_attn.", [("norm_k_img", WIDTH)], bias=False)
        out |= vectors(prefix, [("norm3", WIDTH)])
        out |= linears(f"{prefix}ffn.", [("0", FEED_FORWARD, WIDTH), ("2", WIDTH, FEED_FORWARD)])
    out["head.modulation"] = (1, 2, WIDTH)
    out |= linears("head.", [("head", 64, WIDTH)])
    if image:
        out |= vectors("img_emb.proj.", [("0", 1280), ("4", WIDTH)])
        out |= linears("img_emb.proj.", [("1", 1280, 1280), ("3", WIDTH, 1280)])
    return out


def _residual(prefix: str, inside: int, outside: int) -> Shapes:
    out: Shapes = {f"{prefix}residual.0.gamma": (inside, 1, 1, 1), f"{prefix}residual.3.gamma": (outside, 1, 1, 1)}
    sizes = {"residual.2": (outside, inside, 3, 3, 3), "residual.6": (outside, outside, 3, 3, 3)}
    if inside != outside:
        sizes["shortcut"] = (outside, inside, 1, 1, 1)
    return out | _convolutions(prefix, sizes)


def _convolutions(prefix: str, sizes: dict[str, tuple[int, ...]]) -> Shapes:
    out: Shapes = {}
    for name, shape in sizes.items():
        out[f"{prefix}{name}.weight"], out[f"{prefix}{name}.bias"] = shape, shape[:1]
    return out


def wan_vae() -> Shapes:
    """WAN 2.1's VAE."""
    out = _convolutions("", {"conv1": (32, 32, 1, 1, 1), "conv2": (16, 16, 1, 1, 1)})
    out |= _convolutions("encoder.", {"conv1": (96, 3, 3, 3, 3), "head.2": (32, 384, 3, 3, 3)})
    out |= _convolutions("decoder.", {"conv1": (384, 16, 3, 3, 3), "head.2": (3, 96, 3, 3, 3)})
    out |= {"encoder.head.0.gamma": (384, 1, 1, 1), "decoder.head.0.gamma": (96, 1, 1, 1)}
    for half in ("encoder.middle.", "decoder.middle."):
        out |= _residual(f"{half}0.", 384, 384) | _residual(f"{half}2.", 384, 384)
        out |= _convolutions(f"{half}1.", {"to_qkv": (1152, 384, 1, 1), "proj": (384, 384, 1, 1)})
        out[f"{half}1.norm.gamma"] = (384, 1, 1)
    widths = (96, 96, 192, 384, 384)
    for level, (inside, outside) in enumerate(pairwise(widths)):
        place = f"encoder.downsamples.{3 * level}."
        out |= _residual(place, inside, outside)
        out |= _residual(f"encoder.downsamples.{3 * level + 1}.", outside, outside)
        sizes = {"resample.1": (outside, outside, 3, 3), "time_conv": (outside, outside, 3, 1, 1)}
        if level < 3:
            out |= _convolutions(f"encoder.downsamples.{3 * level + 2}.", dict(list(sizes.items())[: 1 + (level > 0)]))
    for level, (inside, outside) in enumerate([(384, 384), (192, 384), (192, 192), (96, 96)]):
        for block in range(3):
            out |= _residual(f"decoder.upsamples.{4 * level + block}.", inside if block == 0 else outside, outside)
        sizes = {"resample.1": (outside // 2, outside, 3, 3), "time_conv": (2 * outside, outside, 3, 1, 1)}
        if level < 3:
            out |= _convolutions(f"decoder.upsamples.{4 * level + 3}.", dict(list(sizes.items())[: 1 + (level < 2)]))
    return out


def umt5() -> Shapes:
    """The text encoder as ComfyUI reads it."""
    out: Shapes = {"shared.weight": (256384, 4096), "encoder.final_layer_norm.weight": (4096,)}
    for block in range(24):
        prefix = f"encoder.block.{block}.layer."
        out |= linears(f"{prefix}0.SelfAttention.", [(name, 4096, 4096) for name in "qkvo"], bias=False)
        out |= linears(f"{prefix}0.SelfAttention.", [("relative_attention_bias", 32, 64)], bias=False)
        sizes = [("wi_0", 10240, 4096), ("wi_1", 10240, 4096), ("wo", 4096, 10240)]
        out |= linears(f"{prefix}1.DenseReluDense.", sizes, bias=False)
        out |= vectors(prefix, [("0.layer_norm", 4096), ("1.layer_norm", 4096)], bias=False)
    return out


def umt5_of_wan() -> Shapes:
    """The same as WAN's own code has it. Source: Wan-Video/Wan2.1, wan/modules/t5.py (T5Encoder)."""
    out: Shapes = {"token_embedding.weight": (256384, 4096), "norm.weight": (4096,)}
    for block in range(24):
        prefix = f"blocks.{block}."
        out |= linears(f"{prefix}attn.", [(name, 4096, 4096) for name in "qkvo"], bias=False)
        out |= linears(
            f"{prefix}ffn.", [("gate.0", 10240, 4096), ("fc1", 10240, 4096), ("fc2", 4096, 10240)], bias=False
        )
        out |= linears(f"{prefix}pos_embedding.", [("embedding", 32, 64)], bias=False)
        out |= vectors(prefix, [("norm1", 4096), ("norm2", 4096)], bias=False)
    return out


def umt5_of_llama_cpp() -> Shapes:
    """The same as llama.cpp names it. Source: ggml-org/llama.cpp, gguf-py/gguf/constants.py (T5ENCODER)."""
    out: Shapes = {"token_embd.weight": (256384, 4096), "enc.output_norm.weight": (4096,)}
    for block in range(24):
        prefix = f"enc.blk.{block}."
        out |= linears(prefix, [(f"attn_{name}", 4096, 4096) for name in "qkvo"], bias=False)
        sizes = [("ffn_gate", 10240, 4096), ("ffn_up", 10240, 4096), ("ffn_down", 4096, 10240), ("attn_rel_b", 32, 64)]
        out |= linears(prefix, sizes, bias=False)
        out |= vectors(prefix, [("attn_norm", 4096), ("ffn_norm", 4096)], bias=False)
    return out


def clip_vision_h() -> Shapes:
    """CLIP ViT-H/14, the half that sees."""
    root = "vision_model."
    out: Shapes = {
        f"{root}embeddings.class_embedding": (1280,),
        f"{root}embeddings.patch_embedding.weight": (1280, 3, 14, 14),
        f"{root}embeddings.position_embedding.weight": (257, 1280),
        "visual_projection.weight": (1024, 1280),
    }
    out |= vectors(root, [("pre_layrnorm", 1280), ("post_layernorm", 1280)])
    for block in range(32):
        prefix = f"{root}encoder.layers.{block}."
        out |= vectors(prefix, [("layer_norm1", 1280), ("layer_norm2", 1280)])
        out |= linears(f"{prefix}self_attn.", [(f"{name}_proj", 1280, 1280) for name in ("q", "k", "v", "out")])
        out |= linears(f"{prefix}mlp.", [("fc1", 5120, 1280), ("fc2", 1280, 5120)])
    return out


def wav2vec2() -> Shapes:
    """wav2vec2-base: 12 layers of 768."""
    out: Shapes = {
        "masked_spec_embed": (768,),
        "encoder.pos_conv_embed.conv.bias": (768,),
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0": (1, 1, 128),
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1": (768, 48, 128),
    }
    for layer, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        name = f"feature_extractor.conv_layers.{layer}.conv.weight"
        out[name] = (512, 1 if layer == 0 else 512, kernel)
    out |= vectors("feature_extractor.conv_layers.", [("0.layer_norm", 512)])
    out |= vectors("", [("feature_projection.layer_norm", 512), ("encoder.layer_norm", 768)])
    out |= linears("feature_projection.", [("projection", 768, 512)])
    for block in range(12):
        prefix = f"encoder.layers.{block}."
        out |= linears(f"{prefix}attention.", [(f"{name}_proj", 768, 768) for name in ("q", "k", "v", "out")])
        sizes = [("intermediate_dense", 3072, 768), ("output_dense", 768, 3072)]
        out |= linears(f"{prefix}feed_forward.", sizes)
        out |= vectors(prefix, [("layer_norm", 768), ("final_layer_norm", 768)])
    return out


def wav2vec2_for_training() -> Shapes:
    """The same with what only its training needs, as Tencent published it.

    Source: huggingface/transformers, Wav2Vec2ForPreTraining: two groups of 320 codes of 128, projected to 256.
    """
    out = {f"wav2vec2.{name}": shape for name, shape in wav2vec2().items()}
    for old, new in (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
    ):
        place = "wav2vec2.encoder.pos_conv_embed.conv."
        out[place + new] = out.pop(place + old)
    out["quantizer.codevectors"] = (1, 640, 128)
    return out | linears("", [("quantizer.weight_proj", 640, 512), ("project_q", 256, 256), ("project_hid", 256, 768)])
