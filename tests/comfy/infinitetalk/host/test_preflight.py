"""What is refused before the first step, with advice that really fits, and what the estimates are made from."""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_ltx_renderer, sampler_settings

from longtalk.base.errors import LongTalkError
from longtalk.base.grid import LTX_GRID
from longtalk.infinitetalk.plan import estimate
from longtalk.infinitetalk.plan.windows import plan_windows
from longtalk.infinitetalk.run.video.formats import VideoFormat

TWENTY_SECONDS = 500
RATE = 1e12


class Machine:
    """A machine of our choice in place of this one: bytes of the GPU, of memory, free memory and free disk."""

    def __init__(self) -> None:
        self.gpu, self.total, self.free, self.disk = 24e9, 64e9, 64e9, 1e12
        self.asked: list[Path] = []

    def get_total_memory(self, dev: torch.device) -> float:
        return self.gpu if dev.type == "cuda" else self.total

    def get_free_memory(self, device: torch.device, torch_free_too: bool = False) -> Any:
        return (self.free, 0.0) if torch_free_too else self.free

    def disk_usage(self, path: Path) -> Any:
        self.asked.append(path)
        return SimpleNamespace(total=2 * self.disk, used=self.disk, free=self.disk)


@pytest.fixture
def machine(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Machine:
    import comfy.model_management

    from longtalk.infinitetalk.host import preflight

    machine = Machine()
    manager = comfy.model_management
    monkeypatch.setattr(manager, "get_total_memory", machine.get_total_memory)
    monkeypatch.setattr(manager, "get_free_memory", machine.get_free_memory)
    monkeypatch.setattr(manager, "pytorch_attention_flash_attention", lambda: True)
    monkeypatch.setattr(shutil, "disk_usage", machine.disk_usage)
    monkeypatch.setattr(preflight, "matmul_flops_per_s", lambda device, dtype: RATE)
    return machine


@pytest.fixture
def check(machine: Machine, wan_14b: SimpleNamespace, tmp_path: Path) -> Callable[..., estimate.Estimate]:
    """``preflight`` of 20 s at 832x480 with the 14B model on the chosen machine; changes by name."""
    from longtalk.infinitetalk.host.preflight import Demand, preflight

    def run(frames: int = TWENTY_SECONDS, window_frames: int = 81, **changes: Any) -> estimate.Estimate:
        settings: dict[str, Any] = {
            "plan": plan_windows(frames, window_frames),
            "width": 832,
            "height": 480,
            "steps": 4,
            "forwards": 1,
            "model": wan_14b,
            "video": VideoFormat(),
            "speakers": 1,
            "return_images": False,
        }
        place: dict[str, Any] = {"made": 0, "folder": tmp_path / "longtalk" / "run", "window_s": None}
        place |= {name: changes.pop(name) for name in place if name in changes}
        return preflight(Demand(**{**settings, **changes}), **place)

    return run


def advised(action: str) -> tuple[int, tuple[int, int]]:
    """Window frames and size out of an error's advice."""
    window = re.search(r"window_frames (\d+) or fewer", action)
    size = re.search(r"a size of (\d+)x(\d+) or smaller", action)
    assert window
    assert size
    return int(window[1]), (int(size[1]), int(size[2]))


# GPU.


@pytest.mark.parametrize(("width", "height", "reserved"), [(832, 480, 6.33), (1280, 720, 14.61)])
@pytest.mark.parametrize("card", [12.9e9, 17.2e9, 25.8e9])
def test_cards_of_12_16_and_24_gib_are_not_refused(
    check: Callable[..., Any], machine: Machine, card: float, width: int, height: int, reserved: float
) -> None:
    machine.gpu = card
    found = check(width=width, height=height)
    assert found.gpu_bytes / 1e9 == pytest.approx(reserved, abs=0.01)


def test_a_card_that_no_forward_fits_into_is_refused_with_advice_that_fits(
    check: Callable[..., Any], machine: Machine, wan_14b: SimpleNamespace
) -> None:
    from longtalk.infinitetalk.host.preflight import forward_bytes

    machine.gpu = 5.1e9
    assert check().gpu_bytes > machine.gpu  # 832x480: more than ComfyUI wants, but it may work
    with pytest.raises(LongTalkError, match="GPU memory") as refused:
        check(width=1280, height=720)
    error = refused.value
    assert "5.1 GB" in error.expected
    assert "81 frames of 1280x720" in error.actual
    assert "5.8 GB" in error.actual  # 14.6 / 2.5
    assert "14.6 GB" in error.actual
    window, (width, height) = advised(error.action)
    assert check(window_frames=window, width=1280, height=720).gpu_bytes <= machine.gpu
    assert check(width=width, height=height).gpu_bytes <= machine.gpu
    assert forward_bytes(wan_14b, window + 4, 1280, 720) > machine.gpu
    assert forward_bytes(wan_14b, 81, width + 16, (width + 16) * 720 // 1280 // 16 * 16) > machine.gpu


def test_a_plan_with_one_short_window_needs_only_that(check: Callable[..., Any], machine: Machine) -> None:
    machine.gpu = 5.1e9
    assert check(frames=21, width=1280, height=720).gpu_bytes < machine.gpu


def test_gpu_memory_is_what_comfyui_asks_for_as_its_minimum(
    machine: Machine, wan_14b: SimpleNamespace, parts: SimpleNamespace
) -> None:
    import comfy.sampler_helpers

    from longtalk.infinitetalk.host.preflight import forward_bytes

    for model in (wan_14b, parts.model):
        both, least = comfy.sampler_helpers.estimate_memory(model, [1, 16, 21, 60, 104], {})
        assert forward_bytes(model, 81, 832, 480) == pytest.approx(least)
        assert both == pytest.approx(2 * least)


def test_gpu_memory_of_packed_latents_is_what_comfyui_asks_for_as_its_minimum(
    machine: Machine, ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.sampler_helpers

    from longtalk.infinitetalk.host.preflight import forward_bytes

    asked = []
    ask = comfy.sampler_helpers.estimate_memory

    def listen(model: Any, noise_shape: Any, conds: Any) -> Any:
        asked.append((list(noise_shape), ask(model, noise_shape, conds)[1]))
        return asked[-1][1], asked[-1][1]

    renderer, plan = make_ltx_renderer(ltx, make_audio(33 / 25), portrait)
    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", listen)
    with torch.inference_mode():
        made = renderer.render(plan.windows[0], {})
    (shape, least), *_ = asked
    numbers = made.latents.numel()
    assert shape == [1, 1, numbers + 128 * 33]  # the sound's: 8 channels of 16 bands, 25 a second
    ours = forward_bytes(ltx.model, 33, 96, 64, LTX_GRID)
    assert ours == pytest.approx(least * numbers / shape[2])
    # The sound is left out, a fiftieth of the whole at 832x448.
    pictures = math.prod(LTX_GRID.shape(497, 832, 448))
    assert 0.01 < 128 * 497 / pictures < 0.03


def test_the_figure_does_not_depend_on_comfyuis_guess_of_the_attention(
    machine: Machine, wan_14b: SimpleNamespace, parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    from longtalk.infinitetalk.host.preflight import forward_bytes

    fused = [forward_bytes(model, 81, 832, 480) for model in (wan_14b, parts.model)]
    raw = wan_14b.model.memory_required([1, 16, 21, 60, 104])
    monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda: False)
    assert wan_14b.model.memory_required([1, 16, 21, 60, 104]) > 5 * raw
    assert [forward_bytes(model, 81, 832, 480) for model in (wan_14b, parts.model)] == fused


def test_there_is_no_gpu_figure_without_a_gpu_or_without_what_comfyui_knows(
    check: Callable[..., Any], machine: Machine, parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    machine.gpu = 1.0
    assert check(model=parts.model).gpu_bytes is None
    odd = SimpleNamespace(model=SimpleNamespace(), load_device=torch.device("cuda", 0))
    found = check(model=odd)
    assert (found.gpu_bytes, found.seconds) == (None, None)
    assert "time unknown" in found.text()
    with pytest.raises(LongTalkError, match="GPU memory"):
        check()
    monkeypatch.setattr(comfy.model_management, "directml_enabled", True)
    assert check().gpu_bytes is None


# Host memory.


def test_a_machine_whose_memory_one_window_does_not_fit_into(check: Callable[..., Any], machine: Machine) -> None:
    machine.total = machine.free = 1.0e9
    with pytest.raises(LongTalkError, match="memory of this machine") as refused:
        check()
    error = refused.value
    assert "1.0 GB" in error.expected
    assert "1.4 GB" in error.actual  # 81 frames of 1.2 MB, 14 times, and 18 MB of features
    window, (width, height) = advised(error.action)
    assert check(window_frames=window).host_bytes <= 1.0e9
    assert check(width=width, height=height).host_bytes <= 1.0e9
    assert "return_images" not in error.action


def test_images_that_the_machine_cannot_hold(check: Callable[..., Any], machine: Machine) -> None:
    machine.total = machine.free = 3.0e9
    with pytest.raises(LongTalkError, match="memory of this machine") as refused:
        check(return_images=True)
    assert "500 as images" in refused.value.actual
    assert "3.8 GB" in refused.value.actual  # 2.4 of images
    assert "Turn return_images off" in refused.value.action
    assert "1.4 GB are enough" in refused.value.action
    assert check().host_bytes <= 3.0e9


def test_images_are_named_with_the_rest_when_that_does_not_fit_either(
    check: Callable[..., Any], machine: Machine
) -> None:
    machine.total = machine.free = 1.0e9
    with pytest.raises(LongTalkError, match="Turn return_images off") as refused:
        check(return_images=True)
    window, (width, height) = advised(refused.value.action)
    assert check(window_frames=window).host_bytes <= 1.0e9
    assert check(width=width, height=height).host_bytes <= 1.0e9


def test_less_free_memory_than_needed_is_only_a_warning(
    check: Callable[..., Any], machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check()
    assert not caplog.records
    machine.free = 0.5e9
    with caplog.at_level(logging.WARNING):
        check()
    assert "about 1.4 GB" in caplog.text
    assert "500 MB are free" in caplog.text


# Disk.


def test_a_full_disk_is_refused_with_a_quality_that_fits(check: Callable[..., Any], machine: Machine) -> None:
    enough = check().disk_bytes
    machine.disk = enough
    assert check().disk_bytes == enough
    machine.disk = enough * 0.8
    with pytest.raises(LongTalkError, match="disk of") as refused:
        check()
    error = refused.value
    assert estimate.size_text(enough) in error.expected
    assert estimate.size_text(machine.disk) in error.actual
    assert estimate.size_text(enough - machine.disk) in error.action  # how much to free
    assert "runs delete" in error.action
    assert "finished_runs to 'video only'" in error.action
    assert "--output-directory" in error.action
    advice = re.findall(r"codec (h26[45]) with crf (\d+) or more", error.action)
    assert [codec for codec, _ in advice] == ["h264", "h265"]
    for codec, crf in advice:
        assert check(video=VideoFormat(codec, int(crf))).disk_bytes <= machine.disk
        assert int(crf) <= 35
        with pytest.raises(LongTalkError, match="disk of"):
            check(video=VideoFormat(codec, int(crf) - 1))


def test_a_lossless_video_that_does_not_fit_is_sent_to_a_codec_that_does(
    check: Callable[..., Any], machine: Machine
) -> None:
    machine.disk = 0.3e9
    with pytest.raises(LongTalkError, match="disk of") as refused:
        check(video=VideoFormat("ffv1"))
    advice = re.findall(r"codec (h26[45]) with crf (\d+) or more", refused.value.action)
    assert advice == [("h264", "18"), ("h265", "18")]
    assert check(video=VideoFormat("h264", 18)).disk_bytes <= machine.disk


def test_a_disk_that_does_not_say_how_full_it_is_is_tried(
    check: Callable[..., Any], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(path: Path) -> Any:
        raise OSError("not supported")

    enough = check().disk_bytes
    monkeypatch.setattr(shutil, "disk_usage", unknown)
    assert check().disk_bytes == enough


def test_no_setting_is_advised_where_none_helps(check: Callable[..., Any], machine: Machine) -> None:
    machine.disk = 1e6
    with pytest.raises(LongTalkError, match="disk of") as refused:
        check()
    assert "crf" not in refused.value.action
    assert refused.value.action.startswith("Free at least ")


def test_a_resumed_run_needs_only_the_rest_and_is_told_that_other_settings_begin_anew(
    check: Callable[..., Any], machine: Machine
) -> None:
    whole, rest = check().disk_bytes, check(made=1).disk_bytes
    assert rest < whole
    machine.disk = rest - 1
    with pytest.raises(LongTalkError, match="disk of") as refused:
        check(made=1)
    assert "a new run" in refused.value.action
    codec, crf = re.findall(r"codec (h26[45]) with crf (\d+) or more", refused.value.action)[0]
    assert check(video=VideoFormat(codec, int(crf))).disk_bytes <= machine.disk  # from its first window


def test_the_disk_asked_is_that_of_the_nearest_folder_there_is(
    check: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    check(folder=tmp_path / "not" / "there" / "yet")
    (tmp_path / "run").mkdir()
    check(folder=tmp_path / "run")
    assert machine.asked == [tmp_path, tmp_path / "run"]


# Time.


def test_a_resumed_run_counts_the_windows_that_are_left_at_their_measured_time(
    check: Callable[..., Any], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtalk.infinitetalk.host import preflight

    def never(*args: Any) -> float:
        raise AssertionError("the device was measured although windows were")

    monkeypatch.setattr(preflight, "matmul_flops_per_s", never)
    found = check(made=4, window_s=20.0)
    assert (found.windows, found.windows_total, found.seconds, found.measured) == (3, 7, 60.0, True)
    assert "3 of 7 windows to make" in found.text()


def test_time_is_computed_from_the_models_sizes_and_the_rate(check: Callable[..., Any], machine: Machine) -> None:
    plan = plan_windows(TWENTY_SECONDS)
    sizes = estimate.Transformer(5120, 13824, 40)
    expected = estimate.run_seconds(plan, 0, 832, 480, steps=8, forwards=1, model=sizes, flops_per_s=RATE)
    found = check()
    assert check(steps=4, forwards=2).seconds == pytest.approx(expected)
    assert not found.measured
    assert check(made=4).seconds == pytest.approx(
        estimate.run_seconds(plan, 4, 832, 480, steps=4, forwards=1, model=sizes, flops_per_s=RATE)
    )


def test_a_narrow_vae_is_quicker(check: Callable[..., Any], machine: Machine, parts: SimpleNamespace) -> None:
    published, tiny = check(model=parts.model).seconds, check(model=parts.model, vae=parts.vae).seconds
    without_vae = check(model=parts.model, vae=SimpleNamespace(first_stage_model=SimpleNamespace(dim=0))).seconds
    assert (tiny - without_vae) / (published - without_vae) == pytest.approx((16 / 96) ** 2)


def test_the_rate_is_operations_by_time(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from longtalk.infinitetalk.host import preflight

    sides = []

    def at_a_fixed_rate(left: torch.Tensor, right: torch.Tensor, repeats: int) -> float:
        sides.append(left.shape[0])
        return 2.0 * left.shape[0] * right.shape[1] * left.shape[1] * repeats / 3e11

    monkeypatch.setattr(preflight, "_product_s", at_a_fixed_rate)
    assert preflight.matmul_flops_per_s(torch.device("cpu"), torch.float32) == pytest.approx(3e11)
    assert max(sides) == 1024  # 7 ms; the next would take 57 ms


def test_a_product_that_was_disturbed_does_not_count(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from longtalk.infinitetalk.host import preflight

    calls = iter(range(1000))

    def every_third_undisturbed(left: torch.Tensor, right: torch.Tensor, repeats: int) -> float:
        seconds = 2.0 * left.shape[0] ** 3 * repeats / 3e11
        return seconds if next(calls) % 3 == 2 else 10 * seconds

    monkeypatch.setattr(preflight, "_product_s", every_third_undisturbed)
    assert preflight.matmul_flops_per_s(torch.device("cpu"), torch.float32) == pytest.approx(3e11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_the_device_is_measured_in_each_type(comfy: ModuleType, dtype: torch.dtype) -> None:
    from longtalk.infinitetalk.host.preflight import matmul_flops_per_s

    assert 1e6 < matmul_flops_per_s(torch.device("cpu"), dtype) < 1e15


def test_a_device_that_cannot_be_measured_gives_no_time(
    check: Callable[..., Any], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtalk.infinitetalk.host import preflight

    def full(*args: Any) -> float:
        raise torch.OutOfMemoryError("no memory for the probe")

    monkeypatch.setattr(preflight, "matmul_flops_per_s", full)
    assert check().seconds is None


# In a run.


def test_a_run_that_is_refused_leaves_nothing_behind(
    parts: SimpleNamespace,
    portrait: torch.Tensor,
    make_audio: Callable[..., Any],
    output_folder: Path,
    machine: Machine,
) -> None:
    """The sound of an hour takes a minute to write; it is not written for a run that cannot fit."""
    import longtalk.nodes

    machine.disk = 1000
    settings = sampler_settings(parts, portrait, audio=make_audio(2.0))
    with pytest.raises(LongTalkError, match="disk of"):
        longtalk.nodes.LongTalkSampler.execute(**settings)
    left = [
        path.name for path in output_folder.rglob("*") if path.is_file() and path.name not in {"lock", "owner.json"}
    ]
    assert left == []
