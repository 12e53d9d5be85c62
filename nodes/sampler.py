"""The samplers: everything in, a file-backed VIDEO of exactly the audio's length out."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..base.values import check_choice, check_whole
from ..infinitetalk.host.checks import SIZE_MAX, STEPS_MAX
from ..infinitetalk.host.guiders import one_guider
from ..infinitetalk.host.noise import SeedNoise
from ..infinitetalk.host.session import make
from ..infinitetalk.host.wan.guider import make_guider
from ..infinitetalk.host.wan.run import WanRun
from ..infinitetalk.host.wan.sound import encode_speech
from ..infinitetalk.model.speakers import Speech
from ..infinitetalk.run.seeds import SEED_LIMIT
from .inputs import (
    CATEGORY,
    SpeakersType,
    SpeechType,
    attention_input,
    feature_input,
    last_inputs,
    output_inputs,
    output_of,
    run_inputs,
    schedule_input,
    shared_fields,
    soundtrack_input,
    speakers_from,
    speakers_plan,
    timing_from,
    window_inputs,
)
from .video_outputs import VideoNode, hand_out, sampler_outputs


def size_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "width",
            default=832,
            min=16,
            max=SIZE_MAX,
            step=16,
            tooltip="Multiple of 16. 832x480 and 480x832 for the 480p model, 1280x720 and 720x1280 for the 720p one.",
        ),
        io.Int.Input("height", default=480, min=16, max=SIZE_MAX, step=16, tooltip="Multiple of 16."),
    ]


def audio_scale_input() -> Any:
    return io.Float.Input(
        "audio_scale",
        default=1.0,
        min=-10.0,
        max=10.0,
        step=0.01,
        tooltip="Strength of the audio in the model. 0 leaves the audio layers out, at no cost.",
    )


def cfg_inputs() -> list[Any]:
    return [
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Text guidance. 1.0 with a step-distill LoRA (lightx2v), 5.0 with 40 steps. "
            "Above 1 each step takes two forwards.",
        ),
        io.Float.Input(
            "audio_cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Audio guidance: higher follows the voice more strongly. 1.0 to 2.0 with a step-distill LoRA, 4.0 "
            "with 40 steps. Other than 1 each step takes two forwards, three when cfg is not 1 either.",
        ),
    ]


def optional_inputs() -> list[Any]:
    return [
        io.ClipVisionOutput.Input(
            "clip_vision_output", optional=True, tooltip="clip_vision_h of the reference image: holds the identity."
        ),
        soundtrack_input("the speech itself: connect the original when 'audio' is the separated voice."),
    ]


class LongTalkSampler(VideoNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkSampler",
            display_name="Sampler (LongTalk)",
            category=CATEGORY,
            description="Turns one picture and speech of any length into a talking video of exactly that length, "
            "with WAN 2.1 and InfiniteTalk. Memory does not grow with the length.",
            search_aliases=["infinitetalk", "talking head", "lip sync"],
            inputs=[
                io.Model.Input("model", tooltip="WAN 2.1 image-to-video."),
                io.ModelPatch.Input("model_patch", tooltip="InfiniteTalk."),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Vae.Input("vae", tooltip="WAN 2.1 VAE."),
                io.Image.Input("image", tooltip="Reference picture: scaled and centre-cropped to width and height."),
                *size_inputs(),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    # A seed that changes by itself would make every run another one, and none would go on.
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Window n (from 0) uses seed + n. Keep it fixed to go on with a run that was stopped.",
                ),
                io.Int.Input(
                    "steps", default=4, min=1, max=10000, tooltip="4 to 6 with a step-distill LoRA, 40 without."
                ),
                *cfg_inputs(),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler"),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple"),
                audio_scale_input(),
                *window_inputs(),
                feature_input(),
                *output_inputs(),
                io.AudioEncoder.Input(
                    "audio_encoder", optional=True, tooltip="wav2vec2-chinese-base, from Load Audio Encoder."
                ),
                io.Audio.Input("audio", optional=True, tooltip="The speech, for one speaker."),
                SpeakersType.Input("speakers", optional=True, tooltip="Instead of audio, for several speakers."),
                *optional_inputs(),
                *run_inputs(),
                attention_input(),
                schedule_input(),
                *last_inputs(),
            ],
            outputs=sampler_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        model_patch: Any,
        positive: Any,
        negative: Any,
        vae: Any,
        image: Any,
        width: int,
        height: int,
        seed: int,
        steps: int,
        cfg: float,
        audio_cfg: float,
        sampler_name: str,
        scheduler: str,
        audio_scale: float,
        window_frames: int,
        motion_frames: int,
        plan_mode: str,
        features: str,
        codec: str,
        crf: int,
        return_images: bool,
        audio_encoder: Any = None,
        audio: Any = None,
        speakers: Any = None,
        clip_vision_output: Any = None,
        timing: Any = None,
        **shared: Any,
    ) -> io.NodeOutput:
        guider = make_guider(model, positive, negative, cfg, audio_cfg)
        speakers = speakers_from(audio, speakers)
        timing = timing_from(timing, speakers.arrangement.tracks)
        # KSampler takes the first of its list for a name it does not know.
        check_choice(sampler_name, "sampler_name", comfy.samplers.KSampler.SAMPLERS)
        check_choice(scheduler, "scheduler", comfy.samplers.KSampler.SCHEDULERS)
        steps = check_whole(steps, "steps", 1, STEPS_MAX)
        seed = check_whole(seed, "seed", 0, SEED_LIMIT - 1)
        sigmas = comfy.samplers.KSampler(
            model, steps=steps, device=model.load_device, sampler=sampler_name, scheduler=scheduler
        ).sigmas
        run = WanRun(
            plan=speakers_plan(speakers, timing, window_frames, motion_frames, plan_mode),
            guider=guider,
            model_patch=model_patch,
            vae=vae,
            image=image,
            speech=lambda: encode_speech(audio_encoder, speakers, features, with_silence=timing is not None),
            noise=SeedNoise(seed),
            sampler=comfy.samplers.sampler_object(sampler_name),
            sigmas=sigmas,
            width=width,
            height=height,
            clip_vision=clip_vision_output,
            audio_scale=audio_scale,
            timing=timing,
            **shared_fields(codec, crf, return_images, shared),
        )
        return hand_out(make(run))


class LongTalkSamplerAdvanced(VideoNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkSamplerAdvanced",
            display_name="Sampler Advanced (LongTalk)",
            category=CATEGORY,
            description="As Sampler (LongTalk), with NOISE, SAMPLER and SIGMAS from their own nodes, and either a "
            "GUIDER or a model with its two prompts.",
            inputs=[
                io.ModelPatch.Input("model_patch", tooltip="InfiniteTalk."),
                SpeechType.Input("speech", tooltip="From Encode Speech (LongTalk)."),
                io.Vae.Input("vae", tooltip="WAN 2.1 VAE."),
                io.Image.Input("image", tooltip="Reference picture: scaled and centre-cropped to width and height."),
                io.Noise.Input("noise", tooltip="Each window gets its own: the seed plus the window's index."),
                io.Sampler.Input("sampler"),
                io.Sigmas.Input("sigmas"),
                *size_inputs(),
                *cfg_inputs(),
                audio_scale_input(),
                *window_inputs(),
                *output_inputs(),
                io.Guider.Input(
                    "guider", optional=True, tooltip="Instead of model and prompts; cfg and audio_cfg are then its own."
                ),
                io.Model.Input("model", optional=True, tooltip="WAN 2.1 image-to-video, when there is no guider."),
                io.Conditioning.Input("positive", optional=True),
                io.Conditioning.Input("negative", optional=True),
                *optional_inputs(),
                *run_inputs(),
                attention_input(),
                schedule_input(),
                *last_inputs(),
            ],
            outputs=sampler_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model_patch: Any,
        speech: Any,
        vae: Any,
        image: Any,
        noise: Any,
        sampler: Any,
        sigmas: Any,
        width: int,
        height: int,
        cfg: float,
        audio_cfg: float,
        audio_scale: float,
        window_frames: int,
        motion_frames: int,
        plan_mode: str,
        codec: str,
        crf: int,
        return_images: bool,
        guider: Any = None,
        model: Any = None,
        positive: Any = None,
        negative: Any = None,
        clip_vision_output: Any = None,
        timing: Any = None,
        **shared: Any,
    ) -> io.NodeOutput:
        guider = one_guider(guider, model, lambda: make_guider(model, positive, negative, cfg, audio_cfg))
        speech = output_of("speech", speech, Speech, "Encode Speech (LongTalk)")
        timing = timing_from(timing, speech.speakers.arrangement.tracks)
        run = WanRun(
            plan=speakers_plan(speech.speakers, timing, window_frames, motion_frames, plan_mode),
            guider=guider,
            model_patch=model_patch,
            vae=vae,
            image=image,
            speech=lambda: speech,
            noise=noise,
            sampler=sampler,
            sigmas=sigmas,
            width=width,
            height=height,
            clip_vision=clip_vision_output,
            audio_scale=audio_scale,
            timing=timing,
            **shared_fields(codec, crf, return_images, shared),
        )
        return hand_out(make(run))


class LongTalkGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkGuider",
            display_name="Audio Guider (LongTalk)",
            category=CATEGORY,
            description="A GUIDER with text and audio guidance, for Sampler Advanced (LongTalk).",
            inputs=[
                io.Model.Input("model", tooltip="WAN 2.1 image-to-video."),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                *cfg_inputs(),
            ],
            outputs=[io.Guider.Output(display_name="guider")],
        )

    @classmethod
    def execute(cls, model: Any, positive: Any, negative: Any, cfg: float, audio_cfg: float) -> io.NodeOutput:
        return io.NodeOutput(make_guider(model, positive, negative, cfg, audio_cfg))
