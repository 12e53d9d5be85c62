"""Says what a file of weights is by the names in it, and where such a file belongs."""

from __future__ import annotations

from collections.abc import Collection

_DIFFUSION = ("self_attn.q.weight", "attn.to_q.weight", "attn1.to_q.weight", "patch_embedding.")
_VAE = ("decoder.middle.", "decoder.conv_in.", "decoder.conv1.")
#: How optimum-quanto calls the numbers of a packed weight. MeiGen's own quantised InfiniteTalk files have such names.
_QUANTO = "weight._data"

#: Parts of weight names that tell what a file is (of each group one must be there), the most telling first, and where
#: such a file belongs.
_KINDS = (
    (
        ((_QUANTO,),),
        "a model packed by optimum-quanto, which ComfyUI cannot read",
        "Choose the fp16, scaled fp8 or GGUF file",
    ),
    ((("audio_proj.proj1.",),), "an InfiniteTalk patch", "Load it with Load InfiniteTalk Patch (LongTalk)"),
    ((("lora_up.", "lora_A.", "lora_down."),), "a LoRA", "Load it with Load LoRA (Model Only)"),
    ((_DIFFUSION, _VAE), "a checkpoint of a diffusion model and a VAE", "Load it with Load Checkpoint"),
    ((("feature_extractor.conv_layers.",),), "a speech encoder", "Load it with Load Audio Encoder"),
    (
        (("pos_embedding.embedding.",),),
        "a text encoder in the form that only WanVideoWrapper reads",
        "Choose umt5_xxl_fp16 or umt5_xxl_fp8_e4m3fn_scaled and load it with Load CLIP",
    ),
    (
        (("shared.weight", "encoder.block.0.", "text_model.", "embed_tokens.weight", "token_embd.weight"),),
        "a text encoder",
        "Load it with Load CLIP",
    ),
    ((("vision_model.", "visual.transformer."),), "a CLIP vision model", "Load it with Load CLIP Vision"),
    ((_VAE,), "a VAE", "Load it with Load VAE"),
    (
        (
            (
                *("controlnet_patch_embedding.", "controlnet_blocks.", "control_all_x_embedder."),
                *("control_model.", "feature_embedder.", "lllite_conditioning1."),
            ),
        ),
        "a patch for other models",
        "Load it with Load Model Patch",
    ),
    ((_DIFFUSION,), "a diffusion model", "Load it with Load Diffusion Model"),
)


def is_quanto(names: Collection[str]) -> bool:
    """Whether optimum-quanto packed a file of these names, whatever else is in it."""
    return any(_QUANTO in name for name in names)


def kind_of(names: Collection[str]) -> tuple[str, str]:
    """What a file of weights of these names is ("a VAE"), and what to do with it."""
    for groups, kind, action in _KINDS:
        if all(any(part in name for name in names for part in parts) for parts in groups):
            return kind, action
    such_as = ", ".join(name[:60] for name in list(names)[:3]) or "none"
    return f"an unknown file with keys such as {such_as}", "Choose the InfiniteTalk file"
