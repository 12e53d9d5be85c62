"""Prompts that change over time."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..infinitetalk.host.prompts import encode_schedule
from ..infinitetalk.plan.schedule import BLEND_MAX_S, entries_report
from .inputs import CATEGORY, ScheduleType

EXAMPLE = """0:00-0:08: a woman in a red coat, talking calmly to the camera
0:08: a woman in a red coat, laughing
0:20+: a woman in a red coat, waving good-bye"""


class LongTalkPromptSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkPromptSchedule",
            display_name="Prompt Schedule (LongTalk)",
            category=CATEGORY,
            description="Prompts that change over time. Each text is encoded once, before the run. Connect it to "
            "'schedule' of a sampler; Plan (LongTalk) shows where the changes fall.",
            search_aliases=["prompt travel", "timed prompts", "prompt timeline"],
            inputs=[
                io.Clip.Input("clip", tooltip="umt5_xxl for WAN 2.1, from Load CLIP."),
                io.String.Input(
                    "schedule",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="A line per prompt: start-end: text, start+: text (to the end) or start: text (until the "
                    "next). Times are 1:05, 1:05.5, 1:02:03 or seconds. Lines that begin with # are comments. "
                    "Begin every text with the same words for the person, up to a comma.",
                ),
                io.Boolean.Input(
                    "snap",
                    default=True,
                    tooltip="Move each change to the nearest start of a window, so that every window has one prompt. "
                    "The sampler's report tells what moved. Off: a window has the prompt of its middle.",
                ),
                io.Float.Input(
                    "blend_s",
                    default=0.0,
                    min=0.0,
                    max=BLEND_MAX_S,
                    step=0.1,
                    tooltip="Seconds that a change takes: windows around it get a mix of both prompts. 0 is a hard "
                    "switch. Less than a window is raised to one; with snap only more than one has an effect.",
                ),
            ],
            outputs=[ScheduleType.Output(display_name="schedule"), io.String.Output(display_name="report")],
        )

    @classmethod
    def execute(cls, clip: Any, schedule: str, snap: bool, blend_s: float) -> io.NodeOutput:
        encoded = encode_schedule(clip, schedule, snap, blend_s)
        report = entries_report(encoded.schedule)
        return io.NodeOutput(encoded, report, ui=ui.PreviewText(report))
