"""Which published files there are, and what LongTalk says of each as an InfiniteTalk patch."""

from __future__ import annotations

import published_layouts as layouts
from published_files import (
    PT,
    Published,
    Tensor,
    Tensors,
    comfy_quant,
    ggml,
    is_matrix,
    named,
    plain,
    prefixed,
    quanto,
    scaled,
)

CORE = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"
KIJAI = "Kijai/WanVideo_comfy"
KIJAI_FP8 = "Kijai/WanVideo_comfy_fp8_scaled"
KIJAI_GGUF = "Kijai/WanVideo_comfy_GGUF"
MEIGEN = "MeiGen-AI/InfiniteTalk"
NO_FILE = "written by silveroxides/convert_to_quant; no published InfiniteTalk file of this kind was found"

ALIKE = "names: MeiGen-AI/InfiniteTalk; "
BY_SIZE = "types: the published size"
BY_TOOL = "types: the rules of city96/ComfyUI-GGUF, tools/lcpp.patch; whether audio_proj is packed is unproven"
WHOLE = "InfiniteTalk, width 5120, 40 blocks, 330 tensors, "


def _umt5_scaled() -> Tensors:
    def packed(name: str, shape: tuple[int, ...]) -> bool:
        return is_matrix(name, shape) and "shared" not in name and "relative" not in name

    out = scaled(layouts.umt5(), "F8_E4M3", "F16", which=packed)
    return [*out, Tensor("spiece_model", "U8", (4548313,))]


def _umt5_of_wan() -> Tensors:
    return [
        Tensor(name, "F8_E4M3" if is_matrix(name, shape) and "embedding" not in name else "BF16", shape)
        for name, shape in layouts.umt5_of_wan().items()
    ]


def _scaled_base() -> Tensors:
    tensors = scaled(layouts.wan(), "F8_E4M3", "F16")
    return [Tensor(each.name, "F32", each.shape) if "patch_emb" in each.name else each for each in tensors]


def _lora() -> Tensors:
    names = (f"diffusion_model.blocks.{block}.self_attn.{name}" for block in range(40) for name in "qkvo")
    return [
        Tensor(f"{name}.lora_{end}.weight", "BF16", shape)
        for name in names
        for end, shape in (("down", (64, layouts.WIDTH)), ("up", (layouts.WIDTH, 64)))
    ]


def _ltx_checkpoint() -> Tensors:
    names = [
        *(f"model.diffusion_model.transformer_blocks.{block}.attn1.to_q.weight" for block in range(48)),
        *("vae.decoder.conv_in.conv.weight", "audio_vae.decoder.conv_in.conv.weight", "vocoder.conv_pre.weight"),
    ]
    return named("BF16", names)


def _ltx_transformer() -> Tensors:
    return named("Q4_K", (f"transformer_blocks.{block}.attn1.to_q.weight" for block in range(48)), (64, 256))


ACCEPTED = (
    Published(
        "wan2.1_infiniteTalk_single_fp16.safetensors",
        CORE,
        lambda: plain(layouts.infinitetalk(), "F16", "F32"),
        ALIKE + BY_SIZE,
        WHOLE + "float16, float32",
        taken=True,
        size=5125258232,
        spare=72,
    ),
    Published(
        "wan2.1_infiniteTalk_multi_fp16.safetensors",
        CORE,
        lambda: plain(layouts.infinitetalk(), "F16", "F32"),
        ALIKE + "types: taken to be those of the single file, unproven",
        WHOLE + "float16, float32",
        taken=True,
    ),
    Published(
        "Wan2_1-InfiniTetalk-Single_fp16.safetensors",
        KIJAI,
        lambda: plain(layouts.infinitetalk(), "F16", "F32"),
        ALIKE + BY_SIZE,
        WHOLE + "float16, float32",
        taken=True,
        size=5125258232,
        spare=72,
    ),
    Published(
        "Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors",
        KIJAI_FP8,
        lambda: scaled(layouts.infinitetalk(), "F8_E4M3", "F32"),
        ALIKE + "types: the listed size; shape of the factors unproven",
        WHOLE + "float8_e4m3fn, float32",
        taken=True,
        listed="2.71",
    ),
    Published(
        "Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ.safetensors",
        KIJAI_FP8,
        lambda: scaled(layouts.infinitetalk(), "F8_E4M3", "F32"),
        ALIKE + "types: the listed size; shape of the factors unproven",
        WHOLE + "float8_e4m3fn, float32",
        taken=True,
        listed="2.71",
    ),
    Published(
        "Wan2_1-InfiniteTalk-Multi_fp8_e5m2_scaled_KJ.safetensors",
        KIJAI_FP8,
        lambda: scaled(layouts.infinitetalk(), "F8_E5M2", "F32"),
        ALIKE + "types: taken to be as in the single file, unproven",
        WHOLE + "float8_e5m2, float32",
        taken=True,
    ),
    Published(
        "WanVideo_2_1_Multitalk_14B_fp8_e4m3fn.safetensors",
        KIJAI,
        lambda: plain(layouts.infinitetalk(), "F8_E4M3", "BF16"),
        ALIKE + "fp8 without factors: kijai/ComfyUI-WanVideoWrapper, nodes_model_loading.py; other types unproven",
        WHOLE + "float8_e4m3fn, bfloat16",
        taken=True,
    ),
    *(
        Published(
            f"{name}/infinitetalk.safetensors",
            MEIGEN,
            lambda: plain(layouts.infinitetalk(), "F32"),
            ALIKE + types,
            WHOLE + "float32",
            taken=True,
            listed=listed,
        )
        for name, types, listed in (
            ("multi", "type: the listed size", "9.95"),
            ("single", "type: taken to be that of the other, unproven", ""),
        )
    ),
    *(
        Published(
            f"Wan2_1-InfiniteTalk_{name}.gguf",
            KIJAI_GGUF,
            lambda kind=kind: ggml(layouts.infinitetalk(), kind),
            ALIKE + BY_TOOL,
            WHOLE + kind,
            taken=True,
        )
        for name, kind in (
            ("Single_Q8", "Q8_0"),
            ("Multi_Q8", "Q8_0"),
            ("Single_Q6_K", "Q6_K"),
            ("Single_Q4_K_M", "Q4_K"),
        )
    ),
    Published(
        "Wan21-SkyReelsV3-A2V_fp8_scaled_mixed.safetensors",
        KIJAI_FP8,
        lambda: scaled({**layouts.wan(), **layouts.infinitetalk()}, "F8_E4M3", "F16"),
        "a base and a patch in one: SkyworkAI/SkyReels-V3, skyreels_v3/modules/transformer_a2v.py; types unproven",
        WHOLE + "float8_e4m3fn, float16; other tensors in the file, which are not read: 1303",
        taken=True,
    ),
    Published(
        "infinitetalk_saved_by_comfyui.safetensors",
        "a base and a patch saved in one by ComfyUI; no published file of this kind was found",
        lambda: prefixed(plain({**layouts.wan(), **layouts.infinitetalk()}, "F16"), "model.diffusion_model."),
        "the prefix: Comfy-Org/ComfyUI, comfy/model_base.py (state_dict_for_saving)",
        WHOLE + "float16; other tensors in the file, which are not read: 1303",
        taken=True,
    ),
    Published(
        "infinitetalk_fp8_comfy_quant.safetensors",
        NO_FILE,
        lambda: comfy_quant(layouts.infinitetalk(), "float8_e4m3fn"),
        "types: comfy/ops.py",
        WHOLE + "float8_e4m3fn, float32",
        taken=True,
    ),
)

OTHER_FORMATS = (
    Published(
        "infinitetalk_mxfp8.safetensors",
        NO_FILE,
        lambda: comfy_quant(layouts.infinitetalk(), "mxfp8", group_size=32),
        "types: comfy/ops.py; factors: formats/mxfp8_conversion.py",
        "kv_linear.weight in fp32, fp16, bf16 or scaled fp8, got mxfp8, F8_E4M3 [10240, 768]",
    ),
    Published(
        "infinitetalk_int8_convrot.safetensors",
        NO_FILE,
        lambda: comfy_quant(layouts.infinitetalk(), "int8_tensorwise", convrot=True, convrot_groupsize=256),
        "types: comfy/ops.py; factors: formats/fp8_conversion.py",
        "kv_linear.weight in fp32, fp16, bf16 or scaled fp8, got int8_tensorwise, I8 [10240, 768]",
    ),
    Published(
        "infinitetalk_nvfp4.safetensors",
        NO_FILE,
        lambda: comfy_quant(layouts.infinitetalk(), "nvfp4"),
        "types: comfy/ops.py; factors: formats/nvfp4_conversion.py",
        "kv_linear.weight in fp32, fp16, bf16 or scaled fp8, got nvfp4, U8 [10240, 384]",
    ),
    *(
        Published(
            f"quant_models/infinitetalk_single_{name}.safetensors",
            MEIGEN,
            lambda kind=kind: quanto({**layouts.wan(), **layouts.infinitetalk()}, kind),
            "wan/multitalk.py (optimum.quanto, requantize), a line for each linear layer in its map; types unproven",
            "got a model packed by optimum-quanto, which ComfyUI cannot read. Choose the fp16, scaled fp8 or GGUF",
        )
        for name, kind in (("fp8", "F8_E4M3"), ("int8", "I8"))
    ),
)

_DIFFUSION = "got a diffusion model. Load it with Load Diffusion Model"
_GGUF = ". Choose the InfiniteTalk file; other GGUF files have loaders of their own"
OTHER_MODELS = (
    Published(
        "wan2.1_i2v_480p_14B_fp16.safetensors",
        CORE,
        lambda: plain(layouts.wan(), "F16"),
        "comfy/ldm/wan/model.py; types: the name",
        _DIFFUSION,
    ),
    Published(
        "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors",
        KIJAI_FP8,
        _scaled_base,
        "comfy/ldm/wan/model.py; " + BY_SIZE,
        _DIFFUSION,
        size=16643349018,
        spare=538,
    ),
    Published(
        "wan2.2_i2v_high_noise_14B_fp16.safetensors",
        "Comfy-Org/Wan_2.2_ComfyUI_Repackaged",
        lambda: plain(layouts.wan(image=False), "F16"),
        "comfy/ldm/wan/model.py; types: the listed size",
        _DIFFUSION,
        listed="28.6",
    ),
    *(
        Published(
            name,
            maker,
            lambda kind=kind, values=values, prefix=prefix: ggml(layouts.wan(), kind, values, prefix),
            "types: the rules of city96/ComfyUI-GGUF, tools/lcpp.patch; " + known,
            "got a diffusion model" + _GGUF,
            architecture=architecture,
        )
        for name, maker, kind, values, prefix, architecture, known in (
            ("wan2.1-i2v-14b-480p-Q8_0.gguf", "city96/Wan2.1-I2V-14B-480P-gguf", "Q8_0", None, "", "wan", "its maker"),
            (
                "wan2.1-i2v-14b-480p-Q4_K_M.gguf",
                "city96/Wan2.1-I2V-14B-480P-gguf",
                "Q4_K",
                "Q6_K",
                "",
                "wan",
                "its maker",
            ),
            (
                "wan2.1-i2v-14b-480p-q4_0.gguf",
                "calcuis/wan-gguf",
                "Q4_0",
                None,
                "",
                "pig",
                "architecture: loader.py; name unproven",
            ),
            (
                *("wan_by_stable-diffusion.cpp.gguf", "a file without an architecture: loader.py", "Q5_1", None),
                *("model.diffusion_model.", "", "architecture and prefix: loader.py"),
            ),
        )
    ),
    Published(
        "Wan2_1_VAE_bf16.safetensors",
        KIJAI,
        lambda: plain(layouts.wan_vae(), "BF16"),
        "comfy/ldm/wan/vae.py; " + BY_SIZE,
        "got a VAE. Load it with Load VAE",
        size=253806278,
        about=PT,
    ),
    Published(
        "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        CORE,
        _umt5_scaled,
        "comfy/text_encoders/t5.py; " + BY_SIZE,
        "got a text encoder. Load it with Load CLIP",
        size=6735906897,
    ),
    Published(
        "umt5-xxl-enc-fp8_e4m3fn.safetensors",
        KIJAI,
        _umt5_of_wan,
        "Wan-Video/Wan2.1, wan/modules/t5.py; " + BY_SIZE,
        "got a text encoder in the form that only WanVideoWrapper reads. Choose umt5_xxl_fp16",
        size=6731333792,
        about=PT,
    ),
    Published(
        "umt5-xxl-encoder-Q8_0.gguf",
        "city96/umt5-xxl-encoder-gguf",
        lambda: ggml(layouts.umt5_of_llama_cpp(), "Q8_0"),
        "ggml-org/llama.cpp, gguf-py/gguf/constants.py; types unproven",
        "got a text encoder" + _GGUF,
        architecture="t5encoder",
    ),
    Published(
        "clip_vision_h.safetensors",
        CORE,
        lambda: [
            *plain(layouts.clip_vision_h(), "F16"),
            Tensor("vision_model.embeddings.position_ids", "I64", (1, 257)),
        ],
        "comfy/clip_model.py; " + BY_SIZE,
        "got a CLIP vision model. Load it with Load CLIP Vision",
        size=1264219396,
        spare=28,
    ),
    Published(
        "wav2vec2-chinese-base_fp16.safetensors",
        "Kijai/wav2vec2_safetensors",
        lambda: plain(layouts.wav2vec2_for_training(), "F16"),
        "huggingface/transformers, Wav2Vec2ForPreTraining; " + BY_SIZE,
        "got a speech encoder. Load it with Load Audio Encoder",
        size=190115368,
        about=PT,
    ),
    Published(
        "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors",
        KIJAI,
        _lora,
        "names: kijai/ComfyUI-WanVideoWrapper, nodes_model_loading.py; a part of them",
        "got a LoRA. Load it with Load LoRA (Model Only)",
    ),
    Published(
        "ltx-2.3-22b-dev-fp8.safetensors",
        "Lightricks/LTX-2.3-fp8",
        _ltx_checkpoint,
        "names: Lightricks/LTX-2, packages/ltx-core/src/ltx_core/model; a few of them",
        "got a checkpoint of a diffusion model and a VAE. Load it with Load Checkpoint",
    ),
    Published(
        "ltx-2.3-22b-dev-Q4_K_M.gguf",
        "unsloth/LTX-2.3-GGUF",
        _ltx_transformer,
        "names: comfy/ldm/lightricks/av_model.py; a few of them",
        "got a diffusion model" + _GGUF,
        architecture="ltxv",
    ),
    Published(
        "Wan21_Uni3C_controlnet_fp16.safetensors",
        KIJAI,
        lambda: named("F16", ["controlnet_patch_embedding.weight", "controlnet_mask_embedding.mask_proj.0.weight"]),
        "names: comfy_extras/nodes_model_patch.py; a few of them",
        "got a patch for other models. Load it with Load Model Patch",
    ),
)

FILES = (*ACCEPTED, *OTHER_FORMATS, *OTHER_MODELS)


def as_markdown() -> str:
    """The table of docs/model-files.md."""
    rows = ["| file | from | as InfiniteTalk patch | known from |", "| --- | --- | --- | --- |"]
    for each in FILES:
        said = each.answer.removeprefix(WHOLE) if each.taken else each.answer.split(", got ")[-1].removeprefix("got ")
        verdict = "taken" if each.taken else "refused"
        size = f" ({each.size:,} bytes)" if each.size is not None else f" ({each.listed} GB)" if each.listed else ""
        rows.append(f"| {each.name}{size} | {each.maker} | {verdict}: {said} | {each.known} |")
    return "\n".join(rows) + "\n"
