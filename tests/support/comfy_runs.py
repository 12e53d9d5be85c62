"""Building one WAN family the way the sampler node does, for tests that look at latents."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


def sampler_settings(parts: SimpleNamespace, image: Any, **changes: Any) -> dict[str, Any]:
    """All inputs of LongTalkSampler, small: 96x64, windows of 21 frames, 2 steps."""
    return {
        "model": parts.model,
        "model_patch": parts.patch,
        "positive": parts.positive,
        "negative": parts.negative,
        "vae": parts.vae,
        "image": image,
        "width": 96,
        "height": 64,
        "seed": 3,
        "steps": 2,
        "cfg": 1.0,
        "audio_cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "audio_scale": 1.0,
        "window_frames": 21,
        "motion_frames": 9,
        "plan_mode": "exact",
        "features": "official",
        "codec": "h264",
        "crf": 18,
        "return_images": False,
        "audio_encoder": parts.audio_encoder,
        "clip_vision_output": parts.vision,
        **changes,
    }


def make_speech(
    parts: SimpleNamespace, audio: Any, *, features: str = "core", normalize: bool = False, start_s: float = 0.0
) -> Any:
    from longtalk.audio.tracks import track_from_audio
    from longtalk.infinitetalk.host.wan.sound import encode_speech
    from longtalk.infinitetalk.model.speakers import make_speakers

    speakers = make_speakers([track_from_audio(audio)], [None], starts_s=[start_s])
    return encode_speech(parts.audio_encoder, speakers, features, normalize)


def make_family(
    parts: SimpleNamespace,
    speech: Any,
    image: torch.Tensor,
    *,
    window_frames: int = 21,
    motion_frames: int = 9,
    width: int = 96,
    height: int = 64,
    seed: int = 5,
    noise: Any = None,
    steps: int = 2,
    cfg: float = 1.0,
    audio_cfg: float = 1.0,
    sampler: str = "euler",
    audio_scale: float = 1.0,
    guider: Any = None,
    sigmas: torch.Tensor | None = None,
    prompts: Any = None,
) -> tuple[Any, Any]:
    """``(family, plan)``"""
    import comfy.samplers

    from longtalk.infinitetalk.host.events import RunEvents
    from longtalk.infinitetalk.host.noise import SeedNoise, WindowNoise, base_seed
    from longtalk.infinitetalk.host.wan.guider import make_guider
    from longtalk.infinitetalk.host.wan.renderer import WanFamily
    from longtalk.infinitetalk.plan.windows import plan_windows
    from longtalk.infinitetalk.run.progress import RunProgress
    from longtalk.infinitetalk.run.seeds import window_seeds

    plan = plan_windows(speech.speakers.frames, window_frames, motion_frames)
    model = guider.model_patcher if guider is not None else parts.model
    if sigmas is None:
        sigmas = comfy.samplers.KSampler(model, steps, model.load_device, sampler, "simple").sigmas
    noise = noise or SeedNoise(seed)
    family = WanFamily(
        plan=plan,
        guider=guider or make_guider(parts.model, parts.positive, parts.negative, cfg, audio_cfg),
        model_patch=parts.patch,
        vae=parts.vae,
        image=image,
        clip_vision=parts.vision,
        features=speech.features,
        masks=speech.speakers.masks,
        names=speech.speakers.names,
        width=width,
        height=height,
        noise=WindowNoise(noise, window_seeds(base_seed(noise), len(plan.windows))),
        sampler=comfy.samplers.sampler_object(sampler),
        sigmas=sigmas,
        audio_scale=audio_scale,
        events=RunEvents(model, RunProgress(plan, sigmas.numel() - 1)),
        prompts=prompts,
    )
    return family, plan


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def ltx_settings(ltx: SimpleNamespace, image: Any, **changes: Any) -> dict[str, Any]:
    """All inputs of LongTalkLTXSampler, small: 96x64, windows of 33 frames, overlap of 3 latents, 2 steps."""
    return {
        "vae": ltx.vae,
        "audio_vae": ltx.audio_vae,
        "image": image,
        "width": 96,
        "height": 64,
        "fps": 25,
        "window_seconds": 33 / 25,
        "overlap_seconds": 17 / 25,
        "overlap_mode": "trim",
        "seed": 3,
        "steps": 2,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "linear_quadratic",
        "image_strength": 1.0,
        "img_compression": 18,
        "adain": 0.0,
        "reanchor_seconds": 0.0,
        "codec": "h264",
        "crf": 18,
        "return_images": False,
        "model": ltx.model,
        "positive": ltx.positive,
        "negative": ltx.negative,
        **changes,
    }


def make_ltx_family(
    ltx: SimpleNamespace,
    audio: Any,
    image: torch.Tensor,
    *,
    window_s: float = 33 / 25,
    overlap_s: float = 17 / 25,
    fps: int = 25,
    late: int = 0,
    width: int = 96,
    height: int = 64,
    seed: int = 3,
    cfg: float = 1.0,
    sampler: str = "euler",
    sigmas: torch.Tensor | None = None,
    options: Any = None,
    guides: Any = (),
    kind: Any = None,
) -> tuple[Any, Any]:
    """``(family, plan)``; ``kind`` is a class in the place of LtxFamily."""
    import comfy.samplers

    from longtalk.audio.tracks import track_from_audio
    from longtalk.infinitetalk.host.events import RunEvents
    from longtalk.infinitetalk.host.ltx.guider import make_ltx_guider
    from longtalk.infinitetalk.host.ltx.renderer import LtxFamily, LtxOptions
    from longtalk.infinitetalk.host.ltx.run import frames_of
    from longtalk.infinitetalk.host.noise import SeedNoise, WindowNoise
    from longtalk.infinitetalk.plan.ltx_windows import geometry, plan_ltx
    from longtalk.infinitetalk.run.progress import RunProgress
    from longtalk.infinitetalk.run.seeds import window_seeds

    track = track_from_audio(audio)
    plan = plan_ltx(frames_of(track, fps), geometry(window_s, overlap_s, fps), late)
    if sigmas is None:
        sigmas = comfy.samplers.KSampler(ltx.model, 2, ltx.model.load_device, sampler, "linear_quadratic").sigmas
    family = (kind or LtxFamily)(
        plan=plan,
        guider=make_ltx_guider(ltx.model, ltx.positive, ltx.negative, cfg),
        vae=ltx.vae,
        audio_vae=ltx.audio_vae,
        image=image,
        track=track,
        guides=guides,
        width=width,
        height=height,
        noise=WindowNoise(SeedNoise(seed), window_seeds(seed, len(plan.windows))),
        sampler=comfy.samplers.sampler_object(sampler),
        sigmas=sigmas,
        events=RunEvents(ltx.model, RunProgress(plan, sigmas.numel() - 1)),
        options=options or LtxOptions(image_strength=1.0),
    )
    return family, plan
