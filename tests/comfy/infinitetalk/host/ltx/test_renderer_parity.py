"""LTX windows equal those of ComfyUI's own node chain, wired by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_ltx_renderer, relative
from ltx_chain import Settings, first_window, next_window

DISTILLED = torch.tensor([1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0])
FEW = torch.tensor([1.0, 0.98, 0.725, 0.0])


@pytest.mark.parametrize(
    ("fps", "rate", "sampler", "cfg", "sigmas"),
    [
        (25, 16000, "euler", 1.0, DISTILLED),
        (24, 44100, "euler", 3.0, FEW),
        (25, 48000, "dpmpp_2m", 1.0, FEW),
    ],
)
def test_windows_equal_the_chain(
    ltx: SimpleNamespace,
    portrait: torch.Tensor,
    make_audio: Callable[..., dict[str, Any]],
    fps: int,
    rate: int,
    sampler: str,
    cfg: float,
    sigmas: torch.Tensor,
) -> None:
    audio = make_audio(80.5 / fps, rate=rate)
    settings = Settings(sigmas, fps=fps, cfg=cfg, overlap=3, sampler=sampler)
    lengths = {"window_s": 33 / fps, "overlap_s": 17 / fps, "fps": fps}
    renderer, plan = make_ltx_renderer(ltx, audio, portrait, **lengths, cfg=cfg, sampler_name=sampler, sigmas=sigmas)
    assert [(window.length, window.pinned_latents) for window in plan.windows] == [(33, 1), (33, 3), (33, 3), (33, 3)]
    carry: Any = {}
    theirs = first_window(ltx, settings, portrait, audio)
    ours = renderer.render(plan.windows[0], {})
    assert relative(ours.latents, theirs.video) < 1e-4
    assert relative(ours.frames, theirs.frames) < 1e-4
    for window in plan.windows[1:3]:
        theirs = next_window(ltx, settings, ours.latents, audio, window.number)
        carry = renderer.hand_on(plan.before(window), carry, ours)
        ours = renderer.render(window, carry)
        assert relative(ours.latents[:, :, 3:], theirs.video[:, :, 3:]) < 1e-4
        assert relative(ours.latents, theirs.video) < 1e-4


def test_linear_quadratic_with_eight_steps_is_the_distilled_schedule(ltx: SimpleNamespace) -> None:
    import comfy.samplers

    sigmas = comfy.samplers.KSampler(ltx.model, 8, ltx.model.load_device, "euler", "linear_quadratic").sigmas
    assert torch.allclose(sigmas.cpu(), DISTILLED, atol=1e-6)
