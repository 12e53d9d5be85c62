"""What is in a sound, before it is used."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io, ui

from ..audio.reading.source import TrackSource
from ..audio.report.analysis import analyse
from ..audio.report.findings import find
from ..audio.report.picture import draw_report
from ..audio.report.text import report_json, report_text
from ..audio.tracks import track_from_audio
from ..infinitetalk.host.events import sound_events
from .inputs import CATEGORY, to_image


class LongTalkAudioReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkAudioReport",
            display_name="Audio Report (LongTalk)",
            category=CATEGORY,
            description="Measures a sound and says what is wrong with it for a talking video, and what to do: "
            "loudness, noise, clipping, dull or boomy sound, silence, channels. Needs no model; the sound passes "
            "through unchanged.",
            search_aliases=["analyze audio", "spectrogram", "loudness", "LUFS", "waveform", "silence", "VAD"],
            inputs=[io.Audio.Input("audio", tooltip="The sound. One hour takes a minute or two.")],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="The same sound, so that the node can sit in a chain."),
                io.Image.Output(display_name="picture"),
                io.String.Output(display_name="report"),
                io.String.Output(display_name="json", tooltip="All values and findings, for a program."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, audio: Any) -> io.NodeOutput:
        track = track_from_audio(audio, "audio")
        analysis = analyse(TrackSource(track), progress=sound_events(track.duration_s))
        findings = find(analysis)
        picture = to_image(draw_report(analysis, findings))
        report = report_text(analysis, findings)
        shown = {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(report).as_dict()}
        return io.NodeOutput(audio, picture, report, json.dumps(report_json(analysis, findings), indent=1), ui=shown)
