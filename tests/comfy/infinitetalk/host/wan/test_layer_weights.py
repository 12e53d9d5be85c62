"""A layer's plain weights, as another piece of code computes with them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def layer_weights(comfy: ModuleType) -> Any:
    from longtalk.infinitetalk.host.wan.layer_weights import layer_weights

    return layer_weights


def linear(operations: Any, dtype: torch.dtype, bias: bool = True) -> Any:
    layer = operations.Linear(8, 4, bias=bias, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype)
    return layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kept", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_they_are_what_the_layer_computes_with(layer_weights: Any, kept: torch.dtype, bias: bool) -> None:
    import comfy.ops

    layer = linear(comfy.ops.manual_cast, kept, bias)
    x = torch.randn(3, 8)
    with layer_weights(layer, x) as (weight, offset):
        assert weight.dtype == torch.float32
        assert (offset is None) == (not bias)
        assert torch.equal(torch.nn.functional.linear(x, weight, offset), layer(x))


@pytest.mark.parametrize("kind", ["Linear", "LayerNorm"])
def test_plain_layers_and_norms(layer_weights: Any, kind: str) -> None:
    import comfy.ops

    for operations in (torch.nn, comfy.ops.manual_cast, comfy.ops.disable_weight_init):
        layer = linear(operations, torch.float16) if kind == "Linear" else operations.LayerNorm(4, dtype=torch.float16)
        torch.nn.init.normal_(layer.weight)
        with layer_weights(layer, torch.zeros(1, dtype=torch.bfloat16)) as (weight, bias):
            assert weight.dtype == bias.dtype == torch.bfloat16
            assert torch.equal(weight, layer.weight.bfloat16())


def test_functions_on_the_weights_are_applied(layer_weights: Any) -> None:
    """That is how ComfyUI brings a LoRA to layers it keeps outside the GPU."""
    import comfy.ops

    layer = linear(comfy.ops.manual_cast, torch.float16)
    layer.weight_function = [lambda weight: weight * 2]
    layer.bias_function = [lambda bias: bias + 1]
    with layer_weights(layer, torch.zeros(1)) as (weight, bias):
        assert torch.equal(weight, layer.weight.float() * 2)
        assert torch.equal(bias, layer.bias.float() + 1)


def test_comfyui_s_own_quantised_weights_come_plain(layer_weights: Any) -> None:
    import comfy.ops
    from comfy.quant_ops import QuantizedTensor

    layer = linear(comfy.ops.manual_cast, torch.bfloat16)
    plain = layer.weight.data
    packed = QuantizedTensor.from_float(plain, "TensorCoreFP8E4M3Layout", scale="recalculate")
    layer.weight = torch.nn.Parameter(packed, requires_grad=False)
    with layer_weights(layer, torch.zeros(1, dtype=torch.bfloat16)) as (weight, _):
        assert type(weight) is torch.Tensor
        assert torch.equal(weight, packed.dequantize())


def test_they_are_given_back_after_an_error_too(layer_weights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.ops

    given_back = []
    monkeypatch.setattr(comfy.ops, "uncast_bias_weight", lambda *what: given_back.append(what[0]))
    layer = linear(comfy.ops.manual_cast, torch.float16)

    def fail() -> None:
        with layer_weights(layer, torch.zeros(1)):
            assert given_back == []
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert given_back == [layer]
