"""A Linear whose weight stays packed wherever ComfyUI keeps it, and is unpacked where it computes."""

from __future__ import annotations

from typing import Any

import comfy.ops
import torch
from torch import nn

from ...model.quantised import PackedWeight, expand
from .layer_weights import layer_weights, lora_refused

_FACTOR = "weight_factor"


def factor_name(weight: str) -> str:
    """The name of a packed weight's factor, beside it in the model."""
    return weight.removesuffix("weight") + _FACTOR


class PackedLinear(nn.Module, comfy.ops.CastWeightBiasOp):
    """``torch.nn.Linear`` over a packed weight.

    ``weight`` holds the file's bytes (uint8, or float8), so for ComfyUI it is a parameter as any other: counted by its
    size, moved with its layer, streamed to the GPU while the layer before computes. Only the copy that is on the
    computing device is unpacked, for the time of one multiplication.

    Attributes:
        kind: how the weight is packed, see :class:`~...model.quantised.PackedWeight`.
        weight, weight_factor: as there; the factor is None for all but scaled fp8.
        bias: ``[rows]`` in the file's precision.
    """

    comfy_cast_weights = True

    def __init__(self, packed: PackedWeight) -> None:
        """Without memory for the weights, which ``load_state_dict(assign=True)`` brings."""
        super().__init__()
        self.kind = packed.kind
        self.out_features, self.in_features = packed.shape
        self.weight = _empty(packed.stored)
        self.bias = nn.Parameter(torch.empty(self.out_features, device="meta"), requires_grad=False)
        self.weight_factor = None if packed.factor is None else _empty(packed.factor)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"

    def expand_weight(self, stored: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """What :func:`~.layer_weights.layer_weights` makes of a copy of ``weight``, on that copy's device."""
        return expand(self.kind, stored, self.weight_factor, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        comfy.ops.run_every_op()
        with layer_weights(self, x) as (weight, bias):
            return nn.functional.linear(x, weight, bias)

    def convert_weight(self, weight: torch.Tensor, **_: Any) -> torch.Tensor:
        """ComfyUI asks for this before it merges a LoRA into the weight, and whenever it moves a small layer.

        Raises:
            LongTalkError: for a LoRA, when the bytes come as numbers of another type.
        """
        if weight.dtype != self.weight.dtype:
            raise lora_refused()
        return weight


def _empty(like: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(like, device="meta"), requires_grad=False)
