"""Whole windows against ComfyUI core's own node chain in the same process: same seed, sampler, weights, fp32."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_renderer, make_speech, relative

WIDTH, HEIGHT, STEPS, SEED = 96, 64, 3, 41
TOLERANCE = 1e-4


def core_window(
    parts: SimpleNamespace,
    core_patch: Any,
    audio: Any,
    image: torch.Tensor,
    length: int,
    seed: int,
    sampler: str,
    previous: torch.Tensor | None = None,
) -> torch.Tensor:
    """One window through AudioEncoderEncode, WanInfiniteTalkToVideo and KSampler."""
    from comfy_extras.nodes_audio_encoder import AudioEncoderEncode
    from comfy_extras.nodes_wan import WanInfiniteTalkToVideo

    import nodes

    encoded = AudioEncoderEncode.execute(parts.audio_encoder, audio)[0]
    model, positive, negative, latent, _ = WanInfiniteTalkToVideo.execute(
        mode={"mode": "single_speaker"},
        model=parts.model,
        model_patch=core_patch,
        positive=parts.positive,
        negative=parts.negative,
        vae=parts.vae,
        width=WIDTH,
        height=HEIGHT,
        length=length,
        audio_encoder_output_1=encoded,
        motion_frame_count=9,
        start_image=image,
        previous_frames=previous,
        audio_scale=1.0,
        clip_vision_output=parts.vision,
    ).result
    (out,) = nodes.common_ksampler(model, seed, STEPS, 1.0, sampler, "simple", positive, negative, latent)
    return out["samples"]


@pytest.mark.parametrize("sampler", ["euler", "uni_pc", "dpmpp_sde"])
def test_first_and_second_window_equal_core(
    parts: SimpleNamespace, core_patch: Any, make_audio: Callable[..., Any], portrait: torch.Tensor, sampler: str
) -> None:
    audio = make_audio(2.2, rate=22050, channels=2)
    settings = {"seed": SEED, "steps": STEPS, "sampler_name": sampler, "width": WIDTH, "height": HEIGHT}
    renderer, plan = make_renderer(parts, make_speech(parts, audio), portrait, **settings)
    assert len(plan.windows) >= 4  # the first two lie well inside the audio, where core pads nothing
    first, second = plan.windows[:2]

    ours = renderer.sample(first, {})
    theirs = core_window(parts, core_patch, audio, portrait, first.length, SEED, sampler)
    # Core leaves the reference latent as predicted; the official code and LongTalk put the reference back.
    assert relative(ours[:, :, 1:], theirs[:, :, 1:]) < TOLERANCE
    reference = parts.vae.encode(portrait)
    assert relative(ours[:, :, :1], reference) < TOLERANCE

    decoded = renderer._vae.decode(ours)
    ours = renderer.sample(second, {"motion": parts.vae.encode(decoded[-plan.motion_frames :])})
    theirs = core_window(parts, core_patch, audio, portrait, second.length, SEED + 1, sampler, previous=decoded)
    assert relative(ours, theirs) < TOLERANCE


def test_audio_matters(parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor) -> None:
    """Parity would be empty if the tiny model ignored its audio: other speech must give other latents."""
    one, plan = make_renderer(parts, make_speech(parts, make_audio(0.8)), portrait)
    other, _ = make_renderer(parts, make_speech(parts, make_audio(0.8, seed=3)), portrait)
    window = plan.windows[0]
    assert relative(one.sample(window, {})[:, :, 1:], other.sample(window, {})[:, :, 1:]) > 20 * TOLERANCE


def test_core_model_patch_works_in_our_sampler(
    parts: SimpleNamespace, core_patch: Any, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    speech = make_speech(parts, make_audio(0.8))
    ours, plan = make_renderer(parts, speech, portrait)
    with_core, _ = make_renderer(SimpleNamespace(**{**vars(parts), "patch": core_patch}), speech, portrait)
    window = plan.windows[0]
    assert relative(with_core.sample(window, {}), ours.sample(window, {})) < 1e-6


def test_shorter_window_sees_the_same_reference(
    parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    """The reference is encoded once, for the longest window; a shorter window takes its first latents."""
    renderer, plan = make_renderer(parts, make_speech(parts, make_audio(1.48)), portrait)
    lengths = {window.length for window in plan.windows}
    assert len(lengths) == 2
    picture = torch.full((min(lengths), HEIGHT, WIDTH, 3), 0.5)
    picture[:1] = torch.nn.functional.interpolate(portrait.movedim(-1, 1), size=(HEIGHT, WIDTH)).movedim(1, -1)
    alone = parts.vae.encode(picture)
    assert relative(renderer._reference[:, :, : alone.shape[2]], alone) < 1e-5
