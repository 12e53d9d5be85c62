"""InfiniteTalk patches as ComfyUI knows them: a MODEL_PATCH that ComfyUI loads and offloads with the model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import nn

from ....base.errors import ModelError
from ...model.audio_attention import InfiniteTalkModel
from ...model.checkpoint import WANTED, PatchFile, open_patch
from .packed_linear import PackedLinear, factor_name

log = logging.getLogger(__name__)


def load_patch(path: Path) -> Any:
    """Load an InfiniteTalk file as a MODEL_PATCH that takes as much memory as the file does on disk.

    Raises:
        LongTalkError: see :func:`~...model.checkpoint.open_patch` and its ``read``.
    """
    header = open_patch(path)
    file = header.read()
    model = _empty_model(file)
    patcher = comfy.model_patcher.CoreModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    model.load_state_dict(_tensors(file, copy=not patcher.is_dynamic()), assign=True)
    log.info("%s: %s", path.name, header)
    return patcher


def _empty_model(file: PatchFile) -> InfiniteTalkModel:
    """The model without memory for its weights; they come as they are, each in its own precision."""
    sizes = file.sizes
    model = InfiniteTalkModel(
        sizes.width,
        sizes.layers,
        intermediate=sizes.intermediate,
        tokens=sizes.tokens,
        audio_width=sizes.audio_width,
        device="meta",
        operations=comfy.ops.manual_cast,
    )
    for name, packed in file.packed.items():
        model.set_submodule(name.removesuffix(".weight"), PackedLinear(packed))
    return model.requires_grad_(False)


def _tensors(file: PatchFile, *, copy: bool) -> dict[str, torch.Tensor]:
    """The weights by the model's names.

    Args:
        copy: into memory of their own. Tensors of a safetensors file are views of the file, which may be replaced or
            unmounted; only ComfyUI's dynamic VRAM wants them so. Tensors of a GGUF file are in memory already.
    """
    out = {name: tensor.clone() if copy else tensor for name, tensor in file.weights.items()}
    for name, packed in file.packed.items():
        out[name] = packed.stored.clone() if copy and packed.stored.is_floating_point() else packed.stored
        if packed.factor is not None:
            out[factor_name(name)] = packed.factor
    return out


def _width_of(net: Any) -> int | None:
    """Hidden size of an InfiniteTalk model, ours or core's; None for anything else."""
    blocks = getattr(net, "blocks", None)
    if not isinstance(getattr(net, "audio_proj", None), nn.Module) or not isinstance(blocks, nn.ModuleList):
        return None
    widths = {_block_width(block) for block in blocks}
    return widths.pop() if len(widths) == 1 else None


def _block_width(block: Any) -> int | None:
    norm = getattr(block, "norm_x", None)
    if not isinstance(norm, nn.LayerNorm) or not hasattr(block, "audio_cross_attn"):
        return None
    return int(norm.normalized_shape[0])


def check_patch(patch: Any, model: Any) -> None:
    """Refuse a MODEL_PATCH that is not InfiniteTalk or was made for another model.

    Args:
        patch: ours or core's (ModelPatchLoader); both carry ``audio_proj`` and ``blocks``.
        model: the WAN model it will run in (a ModelPatcher).

    Raises:
        LongTalkError
    """
    net: Any = getattr(patch, "model", None)
    width = _width_of(net)
    if width is None:
        actual = "nothing" if patch is None else f"a {type(net if net is not None else patch).__name__}"
        raise ModelError(
            "model_patch", expected=WANTED, actual=actual, action="Load it with Load InfiniteTalk Patch (LongTalk)"
        )
    diffusion = model.model.diffusion_model
    if width != diffusion.dim:
        raise ModelError(
            "model_patch",
            expected=f"an InfiniteTalk patch for hidden size {diffusion.dim}, as the model has",
            actual=f"one for {width}",
            action="Load the InfiniteTalk file made for this model (the published ones are for the 14B model, 5120)",
        )
    if len(net.blocks) < len(diffusion.blocks):
        raise ModelError(
            "model_patch",
            expected=f"{len(diffusion.blocks)} blocks, as the model has",
            actual=str(len(net.blocks)),
            action="Load the InfiniteTalk file made for this model",
        )
    if not isinstance(patch, comfy.model_patcher.ModelPatcher):
        raise ModelError(
            "model_patch",
            expected="a MODEL_PATCH, which ComfyUI loads and offloads",
            actual=f"a {type(patch).__name__} around one",
            action="Load it with Load InfiniteTalk Patch (LongTalk)",
        )
