"""Runs and renderers made the way the sampler nodes make them, for tests that look at latents."""

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


def make_run(parts: SimpleNamespace, speech: Any, image: torch.Tensor, **changes: Any) -> Any:
    """A checked WanRun as the sampler node makes it: 96x64, windows of 21 frames, 2 steps.

    Args:
        changes: fields of WanRun; and ``window_frames``, ``motion_frames``, ``seed``, ``steps``, ``sampler_name``,
            ``cfg`` and ``audio_cfg``, as the node's widgets have them.
    """
    import comfy.samplers

    from longtalk.infinitetalk.host.noise import SeedNoise
    from longtalk.infinitetalk.host.wan.guider import make_guider
    from longtalk.infinitetalk.host.wan.run import WanRun
    from longtalk.infinitetalk.plan.windows import plan_windows

    widgets = {"window_frames": 21, "motion_frames": 9, "seed": 5, "steps": 2, "sampler_name": "euler"}
    widgets |= {"cfg": 1.0, "audio_cfg": 1.0}
    widgets |= {name: changes.pop(name) for name in list(changes) if name in widgets}
    if changes.get("guider") is None:
        scales = widgets["cfg"], widgets["audio_cfg"]
        changes["guider"] = make_guider(parts.model, parts.positive, parts.negative, *scales)
    model = changes["guider"].model_patcher
    if changes.get("sigmas") is None:
        sampler, steps = widgets["sampler_name"], widgets["steps"]
        changes["sigmas"] = comfy.samplers.KSampler(model, steps, model.load_device, sampler, "simple").sigmas
    fields = {
        "plan": plan_windows(speech.speakers.frames, widgets["window_frames"], widgets["motion_frames"]),
        "model_patch": parts.patch,
        "vae": parts.vae,
        "image": image,
        "clip_vision": parts.vision,
        "speech": lambda: speech,
        "width": 96,
        "height": 64,
        "noise": SeedNoise(widgets["seed"]),
        "sampler": comfy.samplers.sampler_object(widgets["sampler_name"]),
        "attention": None,
        **changes,
    }
    return WanRun(**fields).checked()


def renderer_of(run: Any, kind: Any = None) -> Any:
    """What renders the windows of a checked run, outside a session; ``kind`` is a class in the place of its own."""
    from longtalk.infinitetalk.host.events import RunEvents
    from longtalk.infinitetalk.host.noise import WindowNoise
    from longtalk.infinitetalk.run.progress import RunProgress
    from longtalk.infinitetalk.run.store.take import Take

    take = Take("0" * 16, run.seeds, run.plan.shot_starts)
    events = RunEvents(run.model, RunProgress(run.plan, run.denoising_steps), take)
    noise = WindowNoise(run.noise, run.seeds)
    return run.renderer(noise, events) if kind is None else kind(run, noise, events)


def make_renderer(parts: SimpleNamespace, speech: Any, image: torch.Tensor, **changes: Any) -> tuple[Any, Any]:
    """``(renderer, plan)`` of :func:`make_run`."""
    run = make_run(parts, speech, image, **changes)
    return renderer_of(run), run.plan


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


def make_ltx_run(ltx: SimpleNamespace, audio: Any, image: torch.Tensor, **changes: Any) -> Any:
    """A checked LtxRun as the sampler node makes it: 96x64, windows of 33 frames, overlap of 3 latents, 2 steps.

    Args:
        changes: fields of LtxRun; and ``window_s``, ``overlap_s``, ``fps``, ``seed``, ``cfg``, ``sampler_name``, as
            the node's widgets have them, and ``late``, see :func:`plan_ltx`.
    """
    import comfy.samplers

    from longtalk.audio.tracks import track_from_audio
    from longtalk.infinitetalk.host.ltx.guider import make_ltx_guider
    from longtalk.infinitetalk.host.ltx.run import LtxOptions, LtxRun, frames_of
    from longtalk.infinitetalk.host.noise import SeedNoise
    from longtalk.infinitetalk.plan.ltx_windows import geometry, plan_ltx

    widgets = {"window_s": 33 / 25, "overlap_s": 17 / 25, "fps": 25, "late": 0, "seed": 3, "cfg": 1.0}
    widgets |= {"sampler_name": "euler"}
    widgets |= {name: changes.pop(name) for name in list(changes) if name in widgets}
    sampler, fps = widgets["sampler_name"], widgets["fps"]
    if changes.get("sigmas") is None:
        changes["sigmas"] = comfy.samplers.KSampler(
            ltx.model, 2, ltx.model.load_device, sampler, "linear_quadratic"
        ).sigmas
    track = track_from_audio(audio)
    shape = geometry(widgets["window_s"], widgets["overlap_s"], fps)
    fields = {
        "plan": plan_ltx(frames_of(track, fps), shape, widgets["late"]),
        "guider": make_ltx_guider(ltx.model, ltx.positive, ltx.negative, widgets["cfg"]),
        "vae": ltx.vae,
        "audio_vae": ltx.audio_vae,
        "image": image,
        "track": track,
        "width": 96,
        "height": 64,
        "noise": SeedNoise(widgets["seed"]),
        "sampler": comfy.samplers.sampler_object(sampler),
        "options": LtxOptions(image_strength=1.0),
        "attention": None,
        **changes,
    }
    return LtxRun(**fields).checked()


def make_ltx_renderer(ltx: SimpleNamespace, audio: Any, image: torch.Tensor, **changes: Any) -> tuple[Any, Any]:
    """``(renderer, plan)`` of :func:`make_ltx_run`."""
    run = make_ltx_run(ltx, audio, image, **changes)
    return renderer_of(run), run.plan
