"""The advice on fp8: what ComfyUI says of its models, what is measured, and which line comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import sampler_settings

from longtalk.infinitetalk.plan.estimate import tokens_of

FP8, FP8_WIDE = torch.float8_e4m3fn, torch.float8_e5m2
GPU = torch.device("cuda", 0)
TOKENS = tokens_of(81, 832, 480)


@pytest.fixture
def supported(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Chooses whether ComfyUI finds that the device multiplies fp8."""
    import comfy.model_management

    def choose(value: bool) -> None:
        monkeypatch.setattr(comfy.model_management, "supports_fp8_compute", lambda device=None: value)

    choose(True)
    return choose


@pytest.fixture(scope="module")
def weights(comfy: ModuleType, tiny_models: Path) -> Callable[[], dict[str, torch.Tensor]]:
    """The tiny model's file."""
    import comfy.utils

    path = next(tiny_models.glob("*/longtalk_tiny_wan_i2v.safetensors"))
    return lambda: {name: weight.half() for name, weight in comfy.utils.load_torch_file(str(path)).items()}


@pytest.fixture
def kind(weights: Callable[[], dict[str, torch.Tensor]], supported: Callable[[bool], None]) -> Callable[..., Any]:
    """What the advice takes a loaded model for; options as a loader gives them."""
    import comfy.sd

    from longtalk.infinitetalk.host.wan.advice import weights_of

    def load(
        supports: bool = True, change: Callable[[dict[str, torch.Tensor]], None] | None = None, **options: Any
    ) -> Any:
        supported(supports)
        file = weights()
        if change is not None:
            change(file)
        model = comfy.sd.load_diffusion_model_state_dict(file, model_options=options)
        found = weights_of(SimpleNamespace(model=model.model, load_device=GPU))
        return None if found is None else found.name

    return load


def linear_names(file: dict[str, torch.Tensor], beginning: str = "blocks.") -> list[str]:
    return [
        name.removesuffix(".weight")
        for name, weight in file.items()
        if name.startswith(beginning) and name.endswith(".weight") and weight.ndim == 2
    ]


def scaled(file: dict[str, torch.Tensor], *, beginning: str = "blocks.", full_precision: bool = False) -> None:
    """Turn a file into one of fp8 weights with scales, as they were first published."""
    for name in linear_names(file, beginning):
        file[f"{name}.weight"] = file[f"{name}.weight"].to(FP8)
        file[f"{name}.scale_weight"] = torch.ones(())
    file["scaled_fp8"] = torch.zeros(2 if full_precision else 0, dtype=FP8)


def test_loaded_in_half_precision(kind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from comfy.cli_args import PerformanceFeature, args

    assert kind(dtype=torch.float16) == "HALF"
    # The option does nothing for weights that are not fp8.
    monkeypatch.setattr(args, "fast", {PerformanceFeature.Fp8MatrixMultiplication})
    assert kind(dtype=torch.float16) == "HALF"
    assert kind(dtype=torch.float32) is None


def test_loaded_in_fp8(kind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The options are what Load Diffusion Model makes of its weight_dtype."""
    from comfy.cli_args import PerformanceFeature, args

    monkeypatch.setattr(args, "fast", set())
    assert kind(dtype=FP8) == "FP8_CAST"
    assert kind(dtype=FP8, fp8_optimizations=True) == "FP8_MULTIPLIED"
    assert kind(False, dtype=FP8, fp8_optimizations=True) == "FP8_UNSUPPORTED"
    # ComfyUI's fp8 layers know e4m3fn only.
    assert kind(dtype=FP8_WIDE, fp8_optimizations=True) is None
    assert kind(False, dtype=FP8_WIDE) == "FP8_UNSUPPORTED"
    monkeypatch.setattr(args, "fast", {PerformanceFeature.Fp8MatrixMultiplication})
    assert kind(dtype=FP8) == "FP8_MULTIPLIED"


@pytest.mark.parametrize("full_precision", [True, False])
def test_a_file_with_scales_decides_for_itself(kind: Callable[..., Any], full_precision: bool) -> None:
    def change(file: dict[str, torch.Tensor]) -> None:
        scaled(file, full_precision=full_precision)

    assert kind(True, change) is None
    assert kind(False, change) == "FP8_UNSUPPORTED"


def test_a_file_with_scales_whose_first_block_is_left_out(kind: Callable[..., Any]) -> None:
    def change(file: dict[str, torch.Tensor]) -> None:
        scaled(file, beginning="blocks.1.")

    assert kind(True, change) is None
    assert kind(False, change) is None


def test_a_file_of_mixed_types(
    weights: Callable[[], dict[str, torch.Tensor]], supported: Callable[[bool], None]
) -> None:
    import comfy.sd

    from longtalk.infinitetalk.host.wan.advice import Weights, weights_of

    model = comfy.sd.load_diffusion_model_state_dict(weights(), model_options={"dtype": torch.float16}).model
    wrapped = SimpleNamespace(model=model, load_device=GPU)
    assert weights_of(wrapped) is Weights.HALF
    weight = model.diffusion_model.blocks[0].ffn[0].weight
    weight.data = weight.data.to(FP8)
    assert weights_of(wrapped) is None


def test_another_loaders_layers(kind: Callable[..., Any]) -> None:
    """As the GGUF loaders do it."""
    import comfy.ops

    class Operations(comfy.ops.manual_cast):
        pass

    assert kind(dtype=torch.float16, custom_operations=Operations) is None


def test_dynamic_vram_keeps_the_files_weights(
    weights: Callable[[], dict[str, torch.Tensor]], supported: Callable[[bool], None]
) -> None:
    """fp8_e4m3fn_fast on a file in half precision: ComfyUI's fp8 layers ask the file's type, and do not multiply."""
    import comfy.ops
    import comfy.sd

    from longtalk.infinitetalk.host.wan.advice import Weights, weights_of

    options = {"dtype": FP8, "fp8_optimizations": True}
    model = comfy.sd.load_diffusion_model_state_dict(weights(), model_options=options).model
    model.load_model_weights(weights(), "", assign=True)  # as with dynamic VRAM
    layer = model.diffusion_model.blocks[0].ffn[0]
    assert comfy.ops.fp8_linear(layer, torch.zeros(1, layer.in_features)) is None
    assert weights_of(SimpleNamespace(model=model, load_device=GPU)) is Weights.HALF_KEPT_AS_FP8


# The lines.


@pytest.fixture
def lines(supported: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The advice for the 14B model at 832x480x81 where fp8 takes so much of the time in half precision."""
    from longtalk.infinitetalk.host.wan import advice

    def give(name: str, fp8: float | Exception, **changes: Any) -> list[str]:
        def measure(*args: Any) -> Any:
            if isinstance(fp8, Exception):
                raise fp8
            return advice.Measured(1.0, fp8, 0.04)

        monkeypatch.setattr(advice, "weights_of", lambda model: advice.Weights[name])
        monkeypatch.setattr(advice, "measure", measure)
        settings = {"load_device": GPU, "dtype": torch.float16, **changes}
        net = SimpleNamespace(dim=5120, ffn_dim=13824, num_layers=40)
        inner = SimpleNamespace(diffusion_model=net, get_dtype_inference=lambda: settings["dtype"])
        return advice.advice(SimpleNamespace(model=inner, load_device=settings["load_device"]), TOKENS)

    return give


def test_the_option_that_is_off(lines: Callable[..., list[str]]) -> None:
    (line,) = lines("FP8_CAST", 0.65)
    assert "multiplied in float16" in line
    assert "weight_dtype fp8_e4m3fn_fast" in line
    assert "--fast fp8_matrix_mult" in line
    assert "about 15 % of a step" in line  # 0.43 * 0.35; 12 to 14 % in steps on an H200
    assert "about 4 %" in line


def test_the_options_exist() -> None:
    from comfy.cli_args import PerformanceFeature

    import nodes

    kinds = nodes.UNETLoader.INPUT_TYPES()["required"]["weight_dtype"][0]
    assert {"fp8_e4m3fn", "fp8_e4m3fn_fast"} <= set(kinds)
    assert PerformanceFeature.Fp8MatrixMultiplication.value == "fp8_matrix_mult"


@pytest.mark.parametrize("name", ["HALF", "HALF_KEPT_AS_FP8"])
def test_a_file_in_fp8_would_pay(lines: Callable[..., list[str]], name: str) -> None:
    (line,) = lines(name, 0.65)
    assert "a file of this model in fp8 (e4m3fn)" in line
    assert "would save about 15 %" in line
    assert lines(name, 1.5) == []


def test_slower_in_fp8(lines: Callable[..., list[str]]) -> None:
    (line,) = lines("FP8_CAST", 1.3)
    assert "about 13 % longer" in line
    assert "weight_dtype" not in line
    (line,) = lines("FP8_MULTIPLIED", 1.3)
    assert "costs about 11 %" in line  # 0.13 of 1.13
    assert "turn it off" in line


def test_nothing_to_say(lines: Callable[..., list[str]]) -> None:
    for name in ("FP8_CAST", "FP8_MULTIPLIED", "HALF"):
        assert lines(name, 0.95) == lines(name, 1.05) == []
        assert lines(name, 0.5, load_device=torch.device("cpu")) == []
        assert lines(name, 0.5, dtype=torch.float32) == []
    assert lines("FP8_MULTIPLIED", 0.5) == []
    assert lines("FP8_UNSUPPORTED", 0.5, load_device=torch.device("cpu")) == []


def test_a_gpu_without_fp8(lines: Callable[..., list[str]], supported: Callable[[bool], None]) -> None:
    supported(False)
    (line,) = lines("FP8_UNSUPPORTED", 0.5)
    assert "save memory, not time" in line
    assert "float16 on this GPU" in line
    assert lines("HALF", 0.5) == []


def test_a_measurement_that_fails_is_no_advice(lines: Callable[..., list[str]]) -> None:
    assert lines("FP8_CAST", 0.5)
    assert lines("FP8_CAST", torch.OutOfMemoryError("no memory left")) == []
    assert lines("FP8_CAST", 0.5)


# The measurement.


@pytest.mark.parametrize("kept", [torch.bfloat16, FP8])
def test_measured_with_comfyuis_layers(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch, kept: torch.dtype) -> None:
    """fp8 has three bits of fraction: values are off by up to 6 %, sums of their products by 2 to 6 %."""
    import comfy.ops

    from longtalk.infinitetalk.host.wan import advice

    ran = []

    def spy(layer: Any, x: torch.Tensor) -> Any:
        ran.append(tuple(layer.weight.shape))
        return fp8_linear(layer, x)

    fp8_linear = comfy.ops.fp8_linear
    monkeypatch.setattr(comfy.ops, "fp8_linear", spy)
    advice.measure.cache_clear()
    found = advice.measure(torch.device("cpu"), torch.bfloat16, kept, 64, 128, 48)
    assert 0.02 < found.difference < 0.06
    assert found.half_s > 0
    assert found.fp8_s > 0
    assert set(ran) == {(64, 64), (128, 64), (64, 128)}
    count = len(ran)
    assert advice.measure(torch.device("cpu"), torch.bfloat16, kept, 64, 128, 48) is found
    assert len(ran) == count
    advice.measure.cache_clear()


def test_the_line_is_in_the_report(
    parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import longtalk.nodes
    from longtalk.infinitetalk.host.wan import run as talk

    asked = []

    def give(model: Any, tokens: int) -> list[str]:
        asked.append((model, tokens))
        return [*advice(model, tokens), "fp8: a line"]

    advice = talk.advice
    monkeypatch.setattr(talk, "advice", give)
    settings = sampler_settings(parts, portrait, audio=make_audio(0.3), width=48, height=32, steps=1)
    report = longtalk.nodes.LongTalkSampler.execute(**settings).result[2]
    assert "note: fp8: a line" in report
    assert report.count("fp8") == 1, "nothing on a CPU"
    assert [tokens for _, tokens in asked] == [3 * 2 * 3]
    assert asked[0][0].model is parts.model.model
