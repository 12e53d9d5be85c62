"""The plan before the run: a timeline picture and a text."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..audio.tracks import mono
from ..infinitetalk.draw.plan_picture import PICTURE_RATE_HZ, draw_plan
from ..infinitetalk.plan.plan_text import plan_report
from ..infinitetalk.plan.schedule import schedule_report
from .inputs import (
    CATEGORY,
    SpeakersType,
    prompts_from,
    schedule_text_input,
    speakers_from,
    speakers_plan,
    timing_from,
    timing_input,
    to_image,
    window_inputs,
)


class LongTalkPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkPlan",
            display_name="Plan (LongTalk)",
            category=CATEGORY,
            description="Shows which windows a run will have: waveform, windows, overlaps, surplus. Needs no model; "
            "use the same three settings as in the sampler.",
            inputs=[
                *window_inputs(),
                io.Audio.Input("audio", optional=True, tooltip="The speech, for one speaker."),
                SpeakersType.Input("speakers", optional=True, tooltip="Instead of audio, for several speakers."),
                schedule_text_input(),
                timing_input(),
            ],
            outputs=[
                io.Image.Output(display_name="picture"),
                io.String.Output(display_name="report"),
                io.Int.Output(display_name="frames", tooltip="Frames of the finished video, 25 per second."),
                io.Int.Output(display_name="windows"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        window_frames: int,
        motion_frames: int,
        plan_mode: str,
        audio: Any = None,
        speakers: Any = None,
        schedule_text: str = "",
        timing: Any = None,
    ) -> io.NodeOutput:
        speakers = speakers_from(audio, speakers)
        tracks = speakers.arrangement.tracks
        timing = timing_from(timing, tracks)
        plan = speakers_plan(speakers, timing, window_frames, motion_frames, plan_mode)
        waveforms = [mono(track, PICTURE_RATE_HZ).numpy() for track in tracks]
        labels = [track.name for track in tracks] if len(tracks) > 1 else None
        prompts = prompts_from(schedule_text, plan)
        quiet = timing.quiet_each if timing is not None else ()
        picture = to_image(draw_plan(plan, waveforms, PICTURE_RATE_HZ, labels=labels, prompts=prompts, quiet=quiet))
        report = plan_report(plan) + (f"\n\n{schedule_report(prompts)}" if prompts else "")
        shown = {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(report).as_dict()}
        return io.NodeOutput(picture, report, plan.frames, len(plan.windows), ui=shown)
