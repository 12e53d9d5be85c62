"""The LTX sampler: one picture and sound of any length in, a file-backed VIDEO of exactly that length out."""

from __future__ import annotations

from enum import Enum
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..audio.tracks import track_from_audio
from ..base.values import check_choice, check_whole
from ..infinitetalk.host.checks import SIZE_MAX, STEPS_MAX
from ..infinitetalk.host.guiders import one_guider
from ..infinitetalk.host.ltx.checks import check_ltx_guider
from ..infinitetalk.host.ltx.guider import make_ltx_guider
from ..infinitetalk.host.ltx.run import LtxOptions, LtxRun, frames_of, guides_from
from ..infinitetalk.host.noise import SeedNoise
from ..infinitetalk.host.session import make
from ..infinitetalk.plan.ltx_windows import FPS_MAX, WINDOW_MAX_S, geometry, plan_ltx
from ..infinitetalk.plan.shots import timed_plan
from ..infinitetalk.run.seeds import SEED_LIMIT
from .inputs import (
    CATEGORY,
    attention_input,
    last_inputs,
    output_inputs,
    run_inputs,
    schedule_input,
    share_input,
    shared_fields,
    soundtrack_input,
    timing_from,
)
from .video_outputs import VideoNode, hand_out, sampler_outputs


class OverlapMode(str, Enum):
    """How a window goes on from the one before."""

    TRIM = "trim"
    """The overlap is pinned, and dropped."""
    CROSSFADE = "crossfade"
    """Its later half is made anew and blended with what was there."""


def ltx_window_inputs() -> list[Any]:
    """The widgets that decide LTX's windows."""
    return [
        io.Int.Input("fps", default=25, min=1, max=FPS_MAX, tooltip="Frames per second of the video."),
        io.Float.Input(
            "window_seconds",
            default=19.88,
            min=0.2,
            max=WINDOW_MAX_S,
            step=0.01,
            tooltip="Length of a window; taken down to 8n+1 frames. 19.88 s at 25 fps (497 frames) is what the model "
            "was made for; shorter ones need less memory.",
        ),
        io.Float.Input(
            "overlap_seconds",
            default=2.0,
            min=0.0,
            max=WINDOW_MAX_S,
            step=0.01,
            tooltip="How much of the end of each window the next one starts with; the report says what it is in "
            "whole latents. 3 s where the face changes between windows; 0 starts each window from the picture again.",
        ),
    ]


class LongTalkLTXSampler(VideoNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLTXSampler",
            display_name="LTX Sampler (LongTalk)",
            category=CATEGORY,
            description="Turns one picture and sound of any length into a video of exactly that length that moves and "
            "speaks with it, with LTX-2.3. The original sound is kept. Memory does not grow with the length.",
            search_aliases=["ltx", "ltx-2.3", "talking head", "lip sync", "audio to video", "loop"],
            inputs=[
                io.Vae.Input("vae", tooltip="LTX's video VAE."),
                io.Vae.Input("audio_vae", tooltip="LTX's audio VAE, from Load LTXV Audio VAE."),
                io.Image.Input("image", tooltip="Reference picture: scaled and centre-cropped to width and height."),
                io.Audio.Input("audio", tooltip="What the video speaks, sings or moves to."),
                io.Int.Input("width", default=832, min=32, max=SIZE_MAX, step=32, tooltip="Multiple of 32."),
                io.Int.Input("height", default=448, min=32, max=SIZE_MAX, step=32, tooltip="Multiple of 32."),
                *ltx_window_inputs(),
                io.Combo.Input(
                    "overlap_mode",
                    options=OverlapMode,
                    default=OverlapMode.TRIM,
                    tooltip="trim: the overlap is pinned, and dropped. crossfade: its later half is made anew and "
                    "blended with what was there.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Window n (from 0) uses seed + n. Keep it fixed to go on with a run that was stopped.",
                ),
                io.Int.Input(
                    "steps",
                    default=8,
                    min=1,
                    max=10000,
                    tooltip="8 with the distilled model or LoRA, 20 to 40 without.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Text guidance. 1.0 with the distilled model; above 1 each step takes two forwards.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="euler; not an ancestral one for the distilled model.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="linear_quadratic",
                    tooltip="linear_quadratic with 8 steps is the distilled model's own schedule.",
                ),
                share_input(
                    "image_strength",
                    0.7,
                    "How firmly the picture holds the first frame. 0.7 as in ComfyUI's template; at 1.0 the first "
                    "frame is exactly the picture, and the video tends to stand still.",
                ),
                io.Int.Input(
                    "img_compression",
                    default=18,
                    min=0,
                    max=100,
                    tooltip="The picture goes through one frame of compressed video: too clean a picture freezes the "
                    "first frames. 0 leaves it as it is.",
                ),
                share_input("adain", 0.0, "Draws each window's colours towards the first window's, against drift."),
                io.Float.Input(
                    "reanchor_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.1,
                    tooltip="Shows the model the reference picture again every so many seconds, as a keyframe, with "
                    "keyframe_strength. 0: never.",
                ),
                *output_inputs(),
                io.Model.Input("model", optional=True, tooltip="LTX-2.3, with audio; when there is no guider."),
                io.Conditioning.Input("positive", optional=True),
                io.Conditioning.Input("negative", optional=True),
                io.Guider.Input(
                    "guider", optional=True, tooltip="Instead of model and prompts; guidance is then its own."
                ),
                io.Sampler.Input("sampler", optional=True, tooltip="Instead of sampler_name."),
                io.Sigmas.Input("sigmas", optional=True, tooltip="Instead of steps and scheduler."),
                io.Image.Input(
                    "keyframe_images", optional=True, tooltip="Pictures the video shall come to, as a batch."
                ),
                io.String.Input(
                    "keyframes",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Which picture when: a line for each, a time and the picture's number from 0, as in "
                    "'0:20.5: 1', or '0:20.5: 1, 0.6' with a strength of its own.",
                ),
                share_input("keyframe_strength", 1.0, "Of keyframes and re-anchoring.", optional=True),
                soundtrack_input(
                    "'audio' itself: connect the original when 'audio' is prepared or the separated voice."
                ),
                *run_inputs(),
                attention_input(),
                schedule_input(),
                io.String.Input(
                    "retake",
                    default="",
                    optional=True,
                    tooltip="Make a stretch again with a new seed and leave everything else: 0:40-0:45: 7; several "
                    "separated by commas. Empty: as first made.",
                ),
                *last_inputs(),
            ],
            outputs=sampler_outputs(),
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        audio_vae: Any,
        image: Any,
        audio: Any,
        width: int,
        height: int,
        fps: int,
        window_seconds: float,
        overlap_seconds: float,
        overlap_mode: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        image_strength: float,
        img_compression: int,
        adain: float,
        reanchor_seconds: float,
        codec: str,
        crf: int,
        return_images: bool,
        model: Any = None,
        positive: Any = None,
        negative: Any = None,
        guider: Any = None,
        sampler: Any = None,
        sigmas: Any = None,
        keyframe_images: Any = None,
        keyframes: str = "",
        keyframe_strength: float = 1.0,
        timing: Any = None,
        **shared: Any,
    ) -> io.NodeOutput:
        check_choice(overlap_mode, "overlap_mode", [each.value for each in OverlapMode])
        check_choice(sampler_name, "sampler_name", comfy.samplers.KSampler.SAMPLERS)
        check_choice(scheduler, "scheduler", comfy.samplers.KSampler.SCHEDULERS)
        seed = check_whole(seed, "seed", 0, SEED_LIMIT - 1)
        steps = check_whole(steps, "steps", 1, STEPS_MAX)
        track = track_from_audio(audio, "audio")
        timing = timing_from(timing, [track], mixed=True)
        shape = geometry(window_seconds, overlap_seconds, fps)
        plan = timed_plan(frames_of(track, shape.fps), shape.fps, timing, lambda frames: plan_ltx(frames, shape))
        guider = one_guider(guider, model, lambda: make_ltx_guider(model, positive, negative, cfg))
        check_ltx_guider(guider)
        if sigmas is None:
            patcher = guider.model_patcher
            sigmas = comfy.samplers.KSampler(
                patcher, steps=steps, device=patcher.load_device, sampler=sampler_name, scheduler=scheduler
            ).sigmas
        run = LtxRun(
            plan=plan,
            guider=guider,
            vae=vae,
            audio_vae=audio_vae,
            image=image,
            track=track,
            noise=SeedNoise(seed),
            sampler=sampler if sampler is not None else comfy.samplers.sampler_object(sampler_name),
            sigmas=sigmas,
            width=width,
            height=height,
            guides=guides_from(keyframe_images, keyframes, keyframe_strength, plan),
            reanchor_s=reanchor_seconds,
            reanchor_strength=keyframe_strength,
            options=LtxOptions(
                image_strength=image_strength,
                compression=img_compression,
                blend=overlap_mode == OverlapMode.CROSSFADE,
                adain=adain,
            ),
            timing=timing,
            **shared_fields(codec, crf, return_images, shared),
        )
        return hand_out(make(run))
