"""For loops that are wired by hand around LTX-2.3: where each iteration stands, the plan, keyframes."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..audio.tracks import mono, track_from_audio
from ..base.values import check_number, check_whole
from ..base.words import clock
from ..infinitetalk.draw.plan_picture import PICTURE_RATE_HZ, draw_plan
from ..infinitetalk.plan.keyframes import STRENGTH_MAX, check_images, full_window, keyframes_in, parse_keyframes
from ..infinitetalk.plan.ltx_loop import ITERATION_MAX, loop_plan, loop_report, loop_step
from ..infinitetalk.plan.ltx_windows import geometry
from ..infinitetalk.plan.schedule import schedule_report
from ..infinitetalk.run.seeds import SEED_LIMIT
from .inputs import CATEGORY, prompts_from, schedule_text_input, to_image
from .loop_inputs import fps_input, image_batch, iteration_input, limit_input, loop_inputs

log = logging.getLogger(__name__)


class LongTalkLoopController(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLoopController",
            display_name="Loop Controller (LongTalk)",
            category=CATEGORY,
            description="Where one iteration of a hand-wired LTX loop stands: its start, its sound, its length, its "
            "seed, and whether it is the last. Sound and picture advance by exactly the same time.",
            search_aliases=["ltx loop", "audio loop", "iteration", "long video"],
            inputs=[
                iteration_input(),
                *loop_inputs(),
                io.Audio.Input("audio", tooltip="The whole sound; a window's share of it comes out."),
                io.Int.Input(
                    "base_seed",
                    default=0,
                    min=0,
                    max=SEED_LIMIT - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Iteration n (from 0) uses base_seed + n.",
                ),
                fps_input(),
                limit_input(),
            ],
            outputs=[
                io.Float.Output(display_name="start_s", tooltip="Where the window starts, its overlap included."),
                io.Boolean.Output(display_name="should_stop", tooltip="True from the last iteration on."),
                io.Int.Output(display_name="iteration_seed"),
                io.Float.Output(display_name="stride_s", tooltip="From one window's start to the next one's."),
                io.Int.Output(display_name="overlap_frames"),
                io.Int.Output(display_name="overlap_latents", tooltip="For Latent Context and Crossfade."),
                io.Float.Output(display_name="overlap_s", tooltip="What overlap_seconds became in whole latents."),
                io.Int.Output(display_name="total_iterations"),
                io.Int.Output(display_name="window_frames", tooltip="Of this window; the last one is shorter."),
                io.Audio.Output(display_name="audio", tooltip="The sound of this window."),
                io.Int.Output(display_name="pinned_latents", tooltip="0 in the first window, else overlap_latents."),
            ],
        )

    @classmethod
    def execute(
        cls,
        iteration: int,
        window_seconds: float,
        overlap_seconds: float,
        audio: Any,
        base_seed: int,
        fps: int,
        max_iterations: int = 0,
    ) -> io.NodeOutput:
        shape = geometry(window_seconds, overlap_seconds, fps)
        seed = check_whole(base_seed, "base_seed", 0, SEED_LIMIT - 1)
        track = track_from_audio(audio, "audio")
        plan = loop_plan(track.samples, track.sample_rate, shape, max_iterations)
        step = loop_step(plan, iteration, track.samples, track.sample_rate)
        sound = track.waveform[None, :, step.first_sample : step.end_sample]
        return io.NodeOutput(
            step.window.start / shape.fps,
            step.should_stop,
            (seed + int(iteration)) % SEED_LIMIT,
            shape.stride_s,
            shape.overlap_frames,
            shape.overlap_latents,
            shape.overlap_s,
            step.total,
            step.window.length,
            # A copy: whoever changes a window's sound leaves the whole alone.
            {"waveform": torch.nn.functional.pad(sound, (0, step.silence)).clone(), "sample_rate": track.sample_rate},
            step.pinned_latents,
        )


class LongTalkLoopPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLoopPlan",
            display_name="Loop Plan (LongTalk)",
            category=CATEGORY,
            description="Shows the windows of a hand-wired LTX loop before it runs, and counts its iterations. Needs "
            "no model; use the same settings as in Loop Controller.",
            search_aliases=["ltx loop", "windows", "iterations"],
            inputs=[
                io.Audio.Input("audio", tooltip="The whole sound."),
                *loop_inputs(),
                fps_input(),
                limit_input(),
                schedule_text_input(),
            ],
            outputs=[
                io.Image.Output(display_name="picture"),
                io.String.Output(display_name="report"),
                io.Int.Output(display_name="total_iterations", tooltip="For the loop's counter."),
                io.Int.Output(display_name="frames", tooltip="Frames of the finished video."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        audio: Any,
        window_seconds: float,
        overlap_seconds: float,
        fps: int,
        max_iterations: int = 0,
        schedule_text: str = "",
    ) -> io.NodeOutput:
        shape = geometry(window_seconds, overlap_seconds, fps)
        track = track_from_audio(audio, "audio")
        plan = loop_plan(track.samples, track.sample_rate, shape, max_iterations)
        prompts = prompts_from(schedule_text, plan)
        waveform = mono(track, PICTURE_RATE_HZ).numpy()
        picture = to_image(draw_plan(plan, [waveform], PICTURE_RATE_HZ, prompts=prompts))
        report = loop_report(plan, shape) + (f"\n\n{schedule_report(prompts)}" if prompts else "")
        shown = {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(report).as_dict()}
        return io.NodeOutput(picture, report, len(plan.windows), plan.frames, ui=shown)


class LongTalkKeyframes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkKeyframes",
            display_name="Keyframes (LongTalk)",
            category=CATEGORY,
            description="A picture for a moment of the video: for the window of this iteration, the picture that falls "
            "into its new frames and where, for LTXVAddGuide.",
            search_aliases=["guide", "image schedule", "keyframe"],
            inputs=[
                io.String.Input(
                    "keyframes",
                    multiline=True,
                    default="0:20: 0\n0:40: 1",
                    tooltip="Lines of 'time: picture', pictures counted from 0 and a space after the colon; "
                    "'0:20: 1, 0.7' sets a strength.",
                ),
                io.Image.Input("images", tooltip="The pictures, as a batch."),
                iteration_input(),
                *loop_inputs(),
                fps_input(),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=STRENGTH_MAX,
                    step=0.01,
                    tooltip="For the lines that name none.",
                ),
                io.Int.Input(
                    "number",
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    tooltip="Which of the keyframes in this window, from 0: a second node with 1 gives the second.",
                ),
                io.Audio.Input(
                    "audio", optional=True, tooltip="The whole sound: tells where the last window is and ends."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The first of the batch where there is no keyframe."),
                io.Int.Output(display_name="frame_idx", tooltip="Inside this window, for LTXVAddGuide."),
                io.Float.Output(display_name="strength", tooltip="0 where there is no keyframe."),
                io.Boolean.Output(display_name="has_keyframe"),
                io.Int.Output(display_name="count", tooltip="Keyframes in this window."),
            ],
        )

    @classmethod
    def execute(
        cls,
        keyframes: str,
        images: Any,
        iteration: int,
        window_seconds: float,
        overlap_seconds: float,
        fps: int,
        strength: float,
        number: int = 0,
        audio: Any = None,
    ) -> io.NodeOutput:
        shape = geometry(window_seconds, overlap_seconds, fps)
        strength = check_number(strength, "strength", 0.0, STRENGTH_MAX)
        number = check_whole(number, "number", 0, 1000)
        iteration = check_whole(iteration, "iteration", 0, ITERATION_MAX)
        schedule = parse_keyframes(keyframes)
        check_images(schedule, image_batch("images", images).shape[0])
        if audio is None:
            window = full_window(iteration + 1, shape)
        else:
            track = track_from_audio(audio, "audio")
            plan = loop_plan(track.samples, track.sample_rate, shape)
            window = loop_step(plan, iteration, track.samples, track.sample_rate).window
            for keyframe in schedule if iteration == 0 else ():
                if keyframe.frame(shape.fps) >= plan.frames:
                    end = clock(plan.frames, shape.fps)
                    log.warning("line %d of the keyframes lies past the end of the audio, %s", keyframe.line, end)
        found = keyframes_in(window, schedule, shape.fps)
        if number >= len(found):
            return io.NodeOutput(images[:1], 0, 0.0, False, len(found))
        frame, keyframe = found[number]
        chosen = strength if keyframe.strength is None else keyframe.strength
        return io.NodeOutput(images[keyframe.image : keyframe.image + 1], frame, chosen, True, len(found))
