"""The plain weight and bias of a layer that ComfyUI may keep elsewhere, in another precision, or packed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor
from torch import nn

from ....base.errors import LongTalkError, ModelError

Weights = tuple[torch.Tensor, "torch.Tensor | None"]


@contextmanager
def layer_weights(layer: Any, like: torch.Tensor) -> Iterator[Weights]:
    """Weight and bias of a layer as it computes with them, LoRAs applied, wherever ComfyUI keeps them.

    They are for the ``with`` block alone: behind it ComfyUI may fill their memory with another layer's weights.

    Args:
        layer: a Linear or LayerNorm of ComfyUI's operations, a plain one of PyTorch, or a layer whose weight lies
            packed in memory; the last has ``expand_weight(stored, dtype)``, which unpacks a copy of ``layer.weight``.
        like: any tensor with the device and dtype to compute in.

    Yields:
        ``(weight, bias)`` in ``like``'s device and dtype; the bias is None where the layer has none. Not to be changed.

    Raises:
        LongTalkError: a LoRA on a packed weight.
    """
    if not isinstance(layer, comfy.ops.CastWeightBiasOp):
        bias = layer.bias
        yield layer.weight.to(like), None if bias is None else bias.to(like)
        return
    expand = getattr(layer, "expand_weight", None)
    cast = comfy.ops.cast_bias_weight(layer, like, offloadable=True) if expand is None else _cast_packed(layer, like)
    weight, bias, place = cast
    stored = weight
    try:
        if expand is not None:
            weight = expand(stored, like.dtype)
            for function in layer.weight_function:
                weight = function(weight)
        elif isinstance(weight, QuantizedTensor):
            weight = weight.dequantize()
        yield weight, bias
    finally:
        comfy.ops.uncast_bias_weight(layer, stored, bias, place)


def _cast_packed(layer: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, Any]:
    """ComfyUI's cast with the weight's bytes as they are; functions on the weight are for the unpacked one."""
    functions = layer.weight_function
    refuse_lora(layer, functions)
    layer.weight_function = []
    try:
        out: tuple[torch.Tensor, torch.Tensor | None, Any] = comfy.ops.cast_bias_weight(
            layer, dtype=layer.weight.dtype, device=like.device, bias_dtype=like.dtype, offloadable=True
        )
    finally:
        layer.weight_function = functions
    return out


def refuse_lora(layer: nn.Module, functions: Any) -> None:
    """Raise where ComfyUI is to bring a LoRA to a packed weight: by ``functions``, or with dynamic VRAM beside them."""
    later = getattr(layer, "weight_lowvram_function", None)
    if later is not None or any(getattr(function, "is_lowvram_patch", False) for function in functions):
        raise lora_refused()


def lora_refused() -> LongTalkError:
    return ModelError(
        "model_patch",
        expected="no LoRA on an InfiniteTalk file in fp8 or GGUF, whose weights stay packed",
        actual="one with a LoRA",
        action="Load the fp16 file, or leave the LoRA out",
    )
