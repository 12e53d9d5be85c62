"""The measured attention inside ComfyUI: it computes what ComfyUI computes, on a clone, with a table in the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from comfy_runs import relative, sampler_settings

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.attention.backends import PYTORCH, Backend
from longtalk.infinitetalk.attention.chooser import Chooser
from longtalk.infinitetalk.attention.measured import Precision, Store

BATCH, QUERIES, KEYS, HEADS, SIZE = 2, 60, 40, 3, 16


@pytest.fixture
def measuring(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The CPU counts as a device with a choice of kernels; the file of measurements."""
    import folder_paths

    from longtalk.infinitetalk.host import attention

    monkeypatch.setattr(attention, "DEVICES", ("cpu",))
    monkeypatch.setattr(attention, "_DTYPES", (torch.float32, torch.float16))
    monkeypatch.setattr(attention, "_LEAST_WORK", 1)
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    attention.chooser.cache_clear()
    yield tmp_path / "longtalk" / "attention.json"
    attention.chooser.cache_clear()


def watched(ran: list[str]) -> Chooser:
    """A chooser among PyTorch's kernels that tells which of them ran."""

    def watch(backend: Backend) -> Backend:
        def run(*arguments: Any) -> torch.Tensor:
            ran.append(backend.name)
            return backend.run(*arguments)

        return Backend(backend.name, run, backend.masks)

    return Chooser(lambda: [watch(backend) for backend in PYTORCH], lambda: Store(None, ""))


def tensors(split: bool, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    lengths = (QUERIES, KEYS, KEYS)
    flat = [torch.randn(BATCH, n, HEADS * SIZE, generator=generator).to(dtype) for n in lengths]
    return [part.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for part in flat] if split else flat


MASKS = {
    "none": None,
    "two": torch.rand(QUERIES, KEYS, generator=torch.Generator().manual_seed(1)) > 0.4,
    "three": torch.randn(BATCH, QUERIES, KEYS, generator=torch.Generator().manual_seed(2)),
    "four": torch.randn(BATCH, HEADS, QUERIES, KEYS, generator=torch.Generator().manual_seed(3)),
    "row": torch.rand(BATCH, 1, 1, KEYS, generator=torch.Generator().manual_seed(5)) > 0.4,
}


@pytest.mark.matrix(strength=2)
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("flat_output", [True, False])
@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_computes_what_comfyuis_attention_computes(
    measuring: Path, mask: str, split: bool, flat_output: bool, scale: float | None
) -> None:
    """Called as models call it, through ComfyUI's own function with the override in its options."""
    from comfy.ldm.modules.attention import attention_pytorch

    from longtalk.infinitetalk.host.attention import OVERRIDE, MeasuredAttention

    q, k, v = tensors(split)
    options: dict[str, Any] = {"mask": MASKS[mask], "skip_reshape": split, "skip_output_reshape": not flat_output}
    if scale is not None:
        options["scale"] = scale
    theirs = attention_pytorch(q, k, v, HEADS, **options)
    ran: list[str] = []
    override = MeasuredAttention("exact", watched(ran))
    ours = attention_pytorch(q, k, v, HEADS, transformer_options={OVERRIDE: override}, **options)
    assert ours.shape == theirs.shape
    assert relative(ours, theirs) < 1e-6
    assert len(ran) > 1, "measured, then used"


@pytest.mark.parametrize(
    "options",
    [{"attn_precision": torch.float32}, {"enable_gqa": True}, {"unheard_of": 1}],
    ids=["float32 wanted", "grouped queries", "something new"],
)
def test_what_it_does_not_know_is_left_to_comfyui(measuring: Path, options: dict[str, Any]) -> None:
    from longtalk.infinitetalk.host.attention import MeasuredAttention

    ran: list[str] = []
    asked = []

    def theirs(*args: Any, **kwargs: Any) -> str:
        asked.append(kwargs)
        return "theirs"

    q, k, v = tensors(True, torch.float16)
    assert MeasuredAttention("exact", watched(ran))(theirs, q, k, v, HEADS, skip_reshape=True, **options) == "theirs"
    assert ran == []
    for name, value in options.items():
        assert asked[0][name] is value


def test_a_call_that_must_be_exact_is(measuring: Path) -> None:
    """WAN asks for it where it attends to the image."""
    from longtalk.infinitetalk.host.attention import MeasuredAttention

    def rough(q: Any, k: Any, v: Any, mask: Any, scale: Any) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale) * 1.02

    chooser = Chooser(lambda: [Backend("rough", rough, True)], lambda: Store(None, ""))
    q, k, v = tensors(True)

    def call(precision: str, **options: Any) -> Any:
        return MeasuredAttention(precision, chooser)(
            lambda *args, **kwargs: "theirs", q, k, v, HEADS, skip_reshape=True, **options
        )

    assert isinstance(call("fast"), torch.Tensor)
    assert call("fast", low_precision_attention=False) == "theirs"
    assert call("exact") == "theirs"


def test_what_comfyui_was_started_with_competes_and_may_be_rough(measuring: Path) -> None:
    from longtalk.infinitetalk.host.attention import MeasuredAttention

    def attention_sage(q: Any, k: Any, v: Any, heads: int, mask: Any = None, **options: Any) -> torch.Tensor:
        assert options["skip_reshape"]
        assert options["skip_output_reshape"]
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask) * 1.02

    chooser = Chooser(list, lambda: Store(None, ""))
    q, k, v = tensors(True)
    override = MeasuredAttention("exact", chooser)
    override(attention_sage, q, k, v, HEADS, skip_reshape=True)
    assert override.name == "ComfyUI's attention_sage"


def test_on_the_cpu_comfyui_keeps_its_own(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.attention import MeasuredAttention

    ran: list[str] = []
    override = MeasuredAttention("exact", watched(ran))
    assert (
        override(lambda *args, **kwargs: "theirs", *tensors(True, torch.float16), HEADS, skip_reshape=True) == "theirs"
    )
    assert ran == []
    assert override.report() == []


@pytest.fixture
def small(parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> dict[str, Any]:
    """Two windows of 13 frames at 48x32."""
    changes = {"width": 48, "height": 32, "steps": 2, "window_frames": 13, "motion_frames": 5, "return_images": True}
    return sampler_settings(parts, portrait, audio=make_audio(0.8), **changes)


def sample(settings: dict[str, Any], **changes: Any) -> tuple[torch.Tensor, str]:
    import longtalk.nodes

    with torch.inference_mode():
        _, images, report = longtalk.nodes.LongTalkSampler.execute(**{**settings, **changes}).result
    return images, report


def test_the_sampler_measures_and_reports(measuring: Path, small: dict[str, Any]) -> None:
    plain, report = sample(small, attention="as ComfyUI")
    assert "attention:" not in report
    assert not measuring.exists()
    ours, report = sample(small, attention="exact")
    assert relative(ours, plain) < 1e-2
    assert "attention: cpu, float32, heads of" in report
    assert "PyTorch flash" in report
    assert sum(line.startswith("  * ") for line in report.splitlines()) == report.count("attention: cpu")
    kept = json.loads(measuring.read_text())
    assert {trial["name"] for trial in kept["cases"][0]["trials"]} >= {backend.name for backend in PYTORCH}


def test_another_class_is_another_run(small: dict[str, Any], output_folder: Path) -> None:
    for choice in ("exact", "fast", "as ComfyUI", "exact"):
        sample(small, attention=choice)
    assert len(list((output_folder / "longtalk").iterdir())) == 3


def test_an_attention_from_another_node_stays(measuring: Path, small: dict[str, Any], parts: SimpleNamespace) -> None:
    calls = Mock()  # one for all windows, where a list would be fresh in each

    def theirs(function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls()
        return function(*args, **kwargs)

    model = parts.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = theirs
    _, report = sample({**small, "model": model}, attention="exact")
    assert calls.called
    assert "attention: cpu" not in report


def test_the_node_changes_a_clone_only(measuring: Path, parts: SimpleNamespace) -> None:
    import longtalk.nodes
    from longtalk.infinitetalk.host.attention import OVERRIDE, MeasuredAttention

    before = dict(parts.model.model_options["transformer_options"])
    (model,) = longtalk.nodes.LongTalkAttention.execute(model=parts.model, precision="fast").result
    override = model.model_options["transformer_options"][OVERRIDE]
    assert isinstance(override, MeasuredAttention)
    assert override.precision is Precision.FAST
    assert parts.model.model_options["transformer_options"] == before
    assert model.is_clone(parts.model)
    twice = model.clone()
    assert twice.model_options["transformer_options"][OVERRIDE] is override


def test_the_nodes_attention_stays_in_the_sampler(
    measuring: Path, small: dict[str, Any], parts: SimpleNamespace
) -> None:
    import longtalk.nodes

    (model,) = longtalk.nodes.LongTalkAttention.execute(model=parts.model, precision="fast").result
    _, report = sample({**small, "model": model})
    assert "fast, error up to 3.0%" in report


@pytest.mark.parametrize("model", [None, "model", torch.zeros(1)])
def test_the_node_refuses_what_is_no_model(comfy: ModuleType, model: Any) -> None:
    import longtalk.nodes

    with pytest.raises(LongTalkError, match="Load Diffusion Model"):
        longtalk.nodes.LongTalkAttention.execute(model=model, precision="exact")
    with pytest.raises(LongTalkError, match="'exact' or 'fast'"):
        longtalk.nodes.LongTalkAttention.execute(model=model, precision="quick")


def test_a_choice_that_does_not_exist(small: dict[str, Any]) -> None:
    with pytest.raises(LongTalkError, match="attention"):
        sample(small, attention="sage")


def test_folded_products_in_the_sampler(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model is too narrow for them to pay; forced, the frames are the same."""
    from longtalk.infinitetalk.host.wan import audio_patch

    folded = []

    def spy(*args: Any) -> torch.Tensor:
        folded.append(1)
        return add_audio(*args)

    add_audio = audio_patch.add_audio
    plain, _ = sample(small)
    assert not folded
    monkeypatch.setattr(audio_patch, "is_worth_folding", lambda *args: True)
    monkeypatch.setattr(audio_patch, "add_audio", spy)
    ours, _ = sample(small, resume="start over")
    assert folded
    assert relative(ours, plain) < 1e-4


def test_a_measurement_is_no_part_of_a_recorded_forward(
    measuring: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ComfyUI from 0.34 on may record what a forward allocates. A stand-in for its pause: no recording ran here."""
    import comfy.model_prefetch

    from longtalk.infinitetalk.attention import chooser
    from longtalk.infinitetalk.host import attention

    paused: list[str] = []
    during: dict[str, list[bool]] = {"kernel": [], "comparison": []}

    class Pause:
        def __init__(self, sync: bool = False) -> None:
            assert sync, "the pause waits for the GPU"

        def __enter__(self) -> None:
            assert not paused
            paused.append("paused")

        def __exit__(self, *error: Any) -> None:
            paused.pop()

    def watch(backend: Backend) -> Backend:
        def run(*arguments: Any) -> torch.Tensor:
            during["kernel"].append(bool(paused))
            return backend.run(*arguments)

        return Backend(backend.name, run, backend.masks)

    def compare(*arguments: Any) -> torch.Tensor:
        during["comparison"].append(bool(paused))
        return reference(*arguments)

    reference = chooser.reference_rows
    monkeypatch.setattr(comfy.model_prefetch, "pause_malloc_graph", Pause, raising=False)
    monkeypatch.setattr(attention, "installed", lambda: [watch(backend) for backend in PYTORCH])
    monkeypatch.setattr(chooser, "reference_rows", compare)
    _, report = sample(small, attention="exact")
    assert "attention: cpu" in report
    cases = report.count("attention: cpu")
    assert len(during["comparison"]) > cases, "measured, and looked at again"
    assert all(during["comparison"])
    assert during["kernel"].count(False) > during["kernel"].count(True) > 0, "the forwards' own calls are recorded"
    assert not paused
