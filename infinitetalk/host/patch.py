"""InfiniteTalk patches as ComfyUI knows them: a MODEL_PATCH that ComfyUI loads and offloads with the model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops

from ..errors import LongTalkError
from ..model.audio_attention import InfiniteTalkModel
from ..model.checkpoint import WANTED, read_patch

log = logging.getLogger(__name__)


def load_patch(path: Path) -> Any:
    """Load an InfiniteTalk file as a MODEL_PATCH, in the file's own dtype.

    Raises:
        LongTalkError: see :func:`~..model.checkpoint.read_patch`.
    """
    file = read_patch(path)
    offload = comfy.model_management.unet_offload_device()
    model = InfiniteTalkModel(
        file.width,
        file.layers,
        intermediate=file.intermediate,
        tokens=file.tokens,
        audio_width=file.audio_width,
        device=offload,
        dtype=file.dtype,
        operations=comfy.ops.manual_cast,
    )
    patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=offload
    )
    model.load_state_dict(file.weights, assign=patcher.is_dynamic())
    log.info("%s: InfiniteTalk, width %d, %d blocks, %s", path.name, file.width, file.layers, file.dtype)
    return patcher


def check_patch(patch: Any, model: Any) -> None:
    """Refuse a MODEL_PATCH that is not InfiniteTalk or was made for another model.

    Args:
        patch: ours or core's (ModelPatchLoader); both carry ``audio_proj`` and ``blocks``.
        model: the WAN model it will run in (a ModelPatcher).

    Raises:
        LongTalkError
    """
    net = getattr(patch, "model", None)
    if net is None or not hasattr(net, "audio_proj") or not hasattr(net, "blocks"):
        actual = "nothing" if patch is None else f"a {type(net if net is not None else patch).__name__}"
        raise LongTalkError(
            "model_patch", expected=WANTED, actual=actual, action="Load it with Load InfiniteTalk Patch (LongTalk)"
        )
    diffusion = model.model.diffusion_model
    width = net.blocks[0].norm_x.weight.shape[0]
    if width != diffusion.dim:
        raise LongTalkError(
            "model_patch",
            expected=f"an InfiniteTalk patch for hidden size {diffusion.dim}, as the model has",
            actual=f"one for {width}",
            action="Load the InfiniteTalk file made for this model (the published ones are for the 14B model, 5120)",
        )
    if len(net.blocks) < len(diffusion.blocks):
        raise LongTalkError(
            "model_patch",
            expected=f"{len(diffusion.blocks)} blocks, as the model has",
            actual=str(len(net.blocks)),
            action="Load the InfiniteTalk file made for this model",
        )
