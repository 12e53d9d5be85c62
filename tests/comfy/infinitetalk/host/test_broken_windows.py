"""Broken pictures in the real pipeline: tried once more with PyTorch's own attention, then the run stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import sampler_settings
from watched import forwards_of, frames_hash

from longtalk.base.errors import LongTalkError, ResultError


@pytest.fixture
def small(parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> dict[str, Any]:
    """Two windows of 13 frames at 48x32."""
    changes = {"width": 48, "height": 32, "steps": 2, "window_frames": 13, "motion_frames": 5}
    return sampler_settings(parts, portrait, audio=make_audio(0.8), **changes)


def run(settings: dict[str, Any]) -> tuple[Path, str]:
    import longtalk.nodes

    with torch.inference_mode():
        video, _, report = longtalk.nodes.LongTalkSampler.execute(**settings).result
    return Path(video.get_stream_source()), report


def with_attention(model: Any, function: Callable[..., torch.Tensor]) -> Any:
    """As SageAttention nodes and the like do."""
    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = function
    return clone


def noisy_kernel(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    return function(*args, **kwargs) * float("nan")


def pytorchs_own(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    import comfy.ldm.modules.attention

    out: torch.Tensor = comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
    return out


def test_a_broken_attention_kernel_is_left_for_pytorchs_own(
    comfy: ModuleType, small: dict[str, Any], parts: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    # Which kernel is the fastest, and so the usual one, depends on the machine.
    expected = frames_hash(run({**small, "model": with_attention(parts.model, pytorchs_own)})[0])
    broken = {**small, "model": with_attention(parts.model, noisy_kernel)}
    with forwards_of(parts) as forwards:
        path, report = run(broken)
    assert len(forwards) == 2 + 2 * 2  # the first window twice
    assert frames_hash(path) == expected
    assert "plain attention" in report
    assert "noisy_kernel" in caplog.text
    assert "optimized_attention_override" in broken["model"].model_options["transformer_options"]


def test_what_plain_attention_cannot_mend_stops_and_names_it(
    comfy: ModuleType,
    small: dict[str, Any],
    parts: SimpleNamespace,
    output_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vae = parts.vae.first_stage_model
    original = vae.decode
    monkeypatch.setitem(vae.__dict__, "decode", lambda *args, **kwargs: original(*args, **kwargs) * 0 - 1)
    words = r"window 1: .*black.*attention_.* and with PyTorch's own attention.*No window of 2 was finished"
    with pytest.raises(LongTalkError, match=words):
        run(small)
    assert not list(output_folder.rglob("window_*"))


def test_a_window_that_breaks_later_keeps_those_before_it(
    comfy: ModuleType,
    small: dict[str, Any],
    parts: SimpleNamespace,
    output_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = type(parts.model.model.diffusion_model)
    original = net.forward
    forwards = [0]

    def forward(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        forwards[0] += 1
        out: torch.Tensor = original(self, *args, **kwargs)
        return out * float("nan") if forwards[0] > 2 else out

    with monkeypatch.context() as patch:
        patch.setattr(net, "forward", forward)
        with pytest.raises(ResultError, match=r"window 2: .*NaN.*1 of 2 windows are kept.*\[LT-RESULT\]$"):
            run(small)
    assert forwards[0] == 6
    assert len(list(output_folder.rglob("window_*.json"))) == 1
    with forwards_of(parts) as seen:
        run(small)
    assert len(seen) == 2
