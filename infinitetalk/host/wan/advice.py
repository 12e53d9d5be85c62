"""Before a run: would ComfyUI's multiplication in fp8 save time on this GPU? Measured here, said in one line.

What cannot be told for sure (GGUF and other loaders' layers, files that mix types) gets no line.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import comfy.model_management
import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor

from ...plan.estimate import Transformer, linear_share

log = logging.getLogger(__name__)

FP8 = torch.float8_e4m3fn
"""The only type that ComfyUI's fp8 layers multiply (comfy.ops.fp8_linear)."""
_FP8_TYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
_FP8_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_HALF = (torch.float16, torch.bfloat16)

#: Below this part of a step there is nothing to say.
_WORTH = 0.03
#: As large as a product has to be to show what the GPU reaches; more tokens only take longer and more memory.
_MOST_ROWS = 8192
_TRIES = 3
#: Rows whose results are compared.
_COMPARED_ROWS = 256

_OPTION = "weight_dtype fp8_e4m3fn_fast in Load Diffusion Model"


class Weights(Enum):
    """How ComfyUI keeps and multiplies the weights of a model's linear layers."""

    FP8_MULTIPLIED = "fp8, multiplied in fp8"
    FP8_CAST = "fp8, multiplied in half precision, because no option asked for more"
    FP8_UNSUPPORTED = "fp8, multiplied in half precision, because ComfyUI cannot do otherwise on this device"
    HALF = "half precision"
    HALF_KEPT_AS_FP8 = "half precision in the file, fp8 in the GPU's memory, multiplied in half precision"


@dataclass(frozen=True)
class Measured:
    """One layer's products that fp8 concerns, all of them on the same number of tokens.

    Attributes:
        half_s: seconds with the weights as they are kept, multiplied in half precision.
        fp8_s: seconds in fp8, rounding the input to it included.
        difference: of the result in fp8, relative to that in half precision (norms).
    """

    half_s: float
    fp8_s: float
    difference: float


def advice(model: Any, tokens: int) -> list[str]:
    """What to change, or to know, about fp8; no line when it makes less than 3 % of a step.

    Args:
        model: ModelPatcher of a checked WAN 2.1 model.
        tokens: of the longest window.

    The part of a step that is saved: what the products save, measured, times their part of all operations
    (:func:`~...plan.estimate.linear_share`). Measuring takes up to half a second, once per process.
    """
    device = model.load_device
    if comfy.model_management.is_device_cpu(device):
        return []
    try:
        weights = weights_of(model)
        if weights is None:
            return []
        dtype = model.model.get_dtype_inference()
        name = str(dtype).removeprefix("torch.")
        if weights is Weights.FP8_UNSUPPORTED:
            return [f"fp8: the model's weights save memory, not time: ComfyUI multiplies them in {name} on this GPU"]
        if dtype not in _HALF or not comfy.model_management.supports_fp8_compute(device):
            return []
        net = model.model.diffusion_model
        sizes = Transformer(int(net.dim), int(net.ffn_dim), int(net.num_layers))
        kept = dtype if weights is Weights.HALF else FP8
        found = measure(device, dtype, kept, sizes.hidden, sizes.ffn, min(tokens, _MOST_ROWS))
    except Exception as error:  # an odd wrapper, a kernel that is missing, no memory left for it
        log.info("fp8 could not be measured: %s: %s", type(error).__name__, error)
        return []
    share = linear_share(sizes, tokens)
    log.info(
        "fp8: a layer's products on %d tokens take %.2f ms in %s and %.2f ms in fp8; they are %.0f %% of a step",
        min(tokens, _MOST_ROWS),
        1000 * found.half_s,
        name,
        1000 * found.fp8_s,
        100 * share,
    )
    saved = share * (1.0 - found.fp8_s / found.half_s)
    # What turning fp8 off would give, as a part of the step with it.
    costs = -saved / (1.0 - saved)
    line = _line(weights, saved, costs, found.difference, name)
    return [] if line is None else [line]


def _line(weights: Weights, saved: float, costs: float, difference: float, name: str) -> str | None:
    about = f"about {100 * saved:.0f} % of a step (measured on this GPU)"
    changes = f"The picture changes: each linear layer's result by about {100 * difference:.0f} %"
    if weights is Weights.FP8_MULTIPLIED:
        if costs < _WORTH:
            return None
        return (
            f"fp8: ComfyUI multiplies in fp8, which costs about {100 * costs:.0f} % of a step on this GPU (measured). "
            f"weight_dtype fp8_e4m3fn in Load Diffusion Model, and ComfyUI without --fast fp8_matrix_mult, turn it off"
        )
    if weights is Weights.FP8_CAST:
        if saved <= -_WORTH:
            return (
                "fp8: the model's weights save memory, not time: multiplied in fp8 a step would take about "
                f"{-100 * saved:.0f} % longer on this GPU (measured)"
            )
        if saved < _WORTH:
            return None
        return (
            f"fp8: the model's weights are fp8, but multiplied in {name}. {_OPTION} (or ComfyUI started with "
            f"--fast fp8_matrix_mult) saves {about}. {changes}"
        )
    if saved < _WORTH:
        return None
    return f"fp8: a file of this model in fp8 (e4m3fn) with {_OPTION} would save {about}. {changes}"


def weights_of(model: Any) -> Weights | None:
    """How ComfyUI treats the linear layers of a model's first block; None where that is not known for sure.

    - a loader with layers of its own (GGUF): ``model_config.custom_operations``
    - a file with scales (fp8 scaled, nvfp4 and so on): its layers have a ``quant_format`` and multiply in it where the
      device can and the file allows it (comfy.ops.mixed_precision_ops); no option changes that
    - fp8 multiplication: the layers are ``comfy.ops.fp8_ops.Linear``, and the weights that were loaded are e4m3fn.
      With dynamic VRAM those are the file's, and another type asked for only holds in the GPU's memory
      (``weight_comfy_model_dtype``)
    """
    config = model.model.model_config
    if config.custom_operations is not None:
        return None
    block = model.model.diffusion_model.blocks[0]
    kinds = {
        _kind(layer, model.load_device)
        for part in (block.self_attn, block.cross_attn, block.ffn)
        for layer in part.modules()
        if hasattr(layer, "in_features")
    }
    kind = kinds.pop() if len(kinds) == 1 else None
    # A file with scales may leave single blocks in half precision.
    return kind if config.quant_config is None or kind is Weights.FP8_UNSUPPORTED else None


def _kind(layer: Any, device: torch.device) -> Weights | None:
    supported = comfy.model_management.supports_fp8_compute(device)
    if isinstance(layer.weight, QuantizedTensor) or getattr(layer, "quant_format", None) is not None:
        is_fp8 = getattr(layer, "quant_format", None) in _FP8_FORMATS
        return Weights.FP8_UNSUPPORTED if is_fp8 and not supported else None
    loaded = layer.weight.dtype
    kept = getattr(layer, "weight_comfy_model_dtype", None) or loaded
    if loaded in _FP8_TYPES and kept == loaded:
        if not supported:
            return Weights.FP8_UNSUPPORTED
        if loaded != FP8:
            return None
        return Weights.FP8_MULTIPLIED if isinstance(layer, comfy.ops.fp8_ops.Linear) else Weights.FP8_CAST
    if loaded in _HALF:
        if kept == FP8:
            return Weights.HALF_KEPT_AS_FP8
        return Weights.HALF if kept in _HALF else None
    return None


@functools.cache
def measure(device: torch.device, dtype: torch.dtype, kept: torch.dtype, width: int, ffn: int, rows: int) -> Measured:
    """Time the linear layers of one block with ComfyUI's own classes, in half precision and in fp8.

    Args:
        device, dtype: that the model computes on and in.
        kept: type of the weights while they are multiplied in ``dtype``; fp8 ones are cast in every call.
        width, ffn: of the model: six products of ``rows x width x width``, one each with ``ffn`` as output and input.
        rows: tokens.

    Needs at most ``rows * (width + 2 * ffn) + 2 * width * ffn`` numbers of 2 bytes: 0.7 GB for the 14B model.

    Raises:
        RuntimeError: the device cannot do it (out of memory, a type it has not).
    """
    half_s = fp8_s = difference = 0.0
    with torch.no_grad():
        for size, out, times in ((width, width, 6), (width, ffn, 1), (ffn, width, 1)):
            x = torch.randn((rows, size), device=device, dtype=dtype)
            weight = torch.randn((out, size), device=device, dtype=dtype) * size**-0.5
            bias = torch.zeros(out, device=device, dtype=dtype)
            half = _layer(comfy.ops.manual_cast, weight.to(kept), bias)
            eighth = _layer(comfy.ops.fp8_ops, weight.to(FP8), bias)
            exact = torch.nn.functional.linear(x[:_COMPARED_ROWS], weight).float()
            # A copy: ComfyUI's fp8 layer clamps its input in place.
            rounded = eighth(x[:_COMPARED_ROWS].clone()).float()
            difference = max(difference, float((rounded - exact).norm() / exact.norm()))
            half_s += times * _best_s(half, x)
            fp8_s += times * _best_s(eighth, x)
    return Measured(half_s, fp8_s, difference)


def _layer(operations: Any, weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Module:
    """One of ComfyUI's linear layers with these weights."""
    layer: torch.nn.Module = operations.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
    # With dynamic VRAM a new layer has none of its own.
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    return layer


def _best_s(layer: torch.nn.Module, x: torch.Tensor) -> float:
    """Seconds of the quickest call: the first one chooses a kernel, others are disturbed by what else runs."""
    times = []
    for _ in range(1 + _TRIES):
        _wait(x.device)
        began = time.perf_counter()
        layer(x)
        _wait(x.device)
        times.append(time.perf_counter() - began)
    return max(min(times[1:]), 1e-9)


def _wait(device: torch.device) -> None:
    """Return when the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
