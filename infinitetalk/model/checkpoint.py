"""Reading an InfiniteTalk file: what it holds, in its own dtype, or a clear word about what it is instead."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...audio.features import LAYERS as AUDIO_LAYERS
from ...audio.features import WIDTH as AUDIO_WIDTH
from ..errors import LongTalkError
from .audio_attention import AUDIO_HEADS
from .audio_projection import AUDIO_WINDOW, LATER_WINDOW

log = logging.getLogger(__name__)

WANTED = "an InfiniteTalk patch (wan2.1_infiniteTalk_single_fp16.safetensors or ..._multi_fp16.safetensors)"
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)

_OURS = re.compile(
    r"audio_proj\.(proj1|proj1_vf|proj2|proj3|norm)\.(weight|bias)"
    r"|blocks\.(\d+)\.(audio_cross_attn\.(q_linear|kv_linear|proj)|norm_x)\.(weight|bias)"
)

#: Key fragments that tell what a file is, most telling first, and where it belongs.
_KINDS = (
    (("lora_up.", "lora_A.", "lora_down."), "a LoRA", "Load it with Load LoRA (Model Only)"),
    (("feature_extractor.conv_layers.",), "a speech encoder", "Load it with Load Audio Encoder"),
    (("vision_model.", "visual.transformer."), "a CLIP vision model", "Load it with Load CLIP Vision"),
    (("shared.weight", "encoder.block.0.", "text_model."), "a text encoder", "Load it with Load CLIP"),
    (("decoder.middle.", "decoder.conv_in.", "decoder.conv1."), "a VAE", "Load it with Load VAE"),
    (
        ("self_attn.q.weight", "attn.to_q.weight", "patch_embedding."),
        "a diffusion model",
        "Load it with Load Diffusion Model",
    ),
)


@dataclass(frozen=True)
class PatchFile:
    """An InfiniteTalk file in memory.

    Attributes:
        weights: by the names of :class:`~.audio_attention.InfiniteTalkModel`.
        width: hidden size of the diffusion model it was made for.
        layers: its transformer blocks.
        dtype: of the weights.
    """

    weights: dict[str, torch.Tensor]
    width: int
    layers: int
    intermediate: int
    tokens: int
    audio_width: int
    dtype: torch.dtype


def _kind_of(keys: list[str]) -> tuple[str, str]:
    for fragments, kind, action in _KINDS:
        if any(fragment in key for key in keys for fragment in fragments):
            return kind, action
    return f"an unknown file with keys such as {', '.join(keys[:3]) or 'none'}", "Choose the InfiniteTalk file"


def _read(path: Path) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"GGUF":
        raise LongTalkError(
            path.name,
            expected=WANTED,
            actual="a GGUF file",
            action="Choose the safetensors file; GGUF patches are not supported by this version",
        )
    if head[:2] in (b"PK", b"\x80\x02"):
        raise LongTalkError(
            path.name,
            expected=WANTED,
            actual="a pickled PyTorch file, which could run code",
            action="Choose the safetensors file",
        )
    try:
        return load_file(str(path))
    except (SafetensorError, ValueError, OSError) as error:
        raise LongTalkError(
            path.name,
            expected=WANTED,
            actual=f"a file that is not valid safetensors ({error})",
            action="Download it again; the download may have been cut off",
        ) from error


def _dequantised(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Scaled fp8 (``X.weight`` in float8 times ``X.scale_weight``) as float16; other tensors as they are."""
    out: dict[str, torch.Tensor] = {}
    for key, tensor in weights.items():
        if tensor.dtype in FP8_DTYPES:
            scale = weights.get(key.removesuffix("weight") + "scale_weight")
            tensor = tensor.float() if scale is None else tensor.float() * scale.float()
            tensor = tensor.half()
        out[key] = tensor
    return out


def read_patch(path: Path) -> PatchFile:
    """Read an InfiniteTalk safetensors file.

    The weights keep the file's dtype (fp32, fp16 or bf16); scaled fp8 is expanded to fp16 while loading.

    Raises:
        LongTalkError: not a safetensors file, not InfiniteTalk (the message says what it is), or incomplete.
    """
    raw = _read(path)
    for prefix in PREFIXES:
        raw = {key.removeprefix(prefix): tensor for key, tensor in raw.items()}
    weights = {key: tensor for key, tensor in _dequantised(raw).items() if _OURS.fullmatch(key)}
    if "audio_proj.proj1.weight" not in weights:
        kind, action = _kind_of(list(raw))
        raise LongTalkError(path.name, expected=WANTED, actual=kind, action=action)
    if len(weights) < len(raw):
        others = sorted(key for key in raw if key not in weights and not key.endswith(("scale_weight", "scaled_fp8")))
        if others:
            log.info("%s: %d other tensors ignored, such as %s", path.name, len(others), others[0])
    return _describe(path.name, weights)


def _describe(name: str, weights: dict[str, torch.Tensor]) -> PatchFile:
    blocks = {int(match[3]) for key in weights if (match := _OURS.fullmatch(key)) and match[3]}
    layers = max(blocks, default=-1) + 1
    names = [f"audio_proj.{part}" for part in ("proj1", "proj1_vf", "proj2", "proj3", "norm")]
    for block in range(layers):
        names += [f"blocks.{block}.audio_cross_attn.{part}" for part in ("q_linear", "kv_linear", "proj")]
        names.append(f"blocks.{block}.norm_x")
    missing = [f"{part}.{leaf}" for part in names for leaf in ("weight", "bias") if f"{part}.{leaf}" not in weights]
    if missing or not layers:
        raise LongTalkError(
            name,
            expected="all InfiniteTalk weights",
            actual=f"{len(missing)} missing, such as {missing[0]}" if missing else "no transformer blocks",
            action="Download the file again",
        )
    audio_width = weights["audio_proj.norm.weight"].shape[0]
    patch = PatchFile(
        weights=weights,
        width=weights["blocks.0.audio_cross_attn.proj.weight"].shape[0],
        layers=layers,
        intermediate=weights["audio_proj.proj1.weight"].shape[0],
        tokens=weights["audio_proj.proj3.weight"].shape[0] // audio_width,
        audio_width=audio_width,
        dtype=weights["blocks.0.audio_cross_attn.q_linear.weight"].dtype,
    )
    inputs = tuple(weights[f"audio_proj.{part}.weight"].shape[1] for part in ("proj1", "proj1_vf"))
    per_frame = AUDIO_LAYERS * AUDIO_WIDTH
    if inputs != (AUDIO_WINDOW * per_frame, LATER_WINDOW * per_frame):
        raise LongTalkError(
            name,
            expected=f"windows of {AUDIO_WINDOW} and {LATER_WINDOW} frames of {AUDIO_LAYERS}x{AUDIO_WIDTH} features",
            actual=f"inputs of {inputs[0]} and {inputs[1]} values",
            action="Choose an InfiniteTalk or MultiTalk file made for wav2vec2-base features",
        )
    if patch.width % AUDIO_HEADS:
        raise LongTalkError(
            name,
            expected=f"a hidden size divisible by {AUDIO_HEADS}",
            actual=str(patch.width),
            action="Choose another InfiniteTalk file",
        )
    return patch
