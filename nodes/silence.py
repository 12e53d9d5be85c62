"""Pauses, the ending and shots: who speaks when, and what the samplers do about it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..audio.voice import leveled_speech
from ..base.values import check_number
from ..infinitetalk.host.events import check_interrupt
from ..infinitetalk.plan.timing import PAUSE_MAX_S, PAUSE_MIN_S, SHOT_MAX_S, Ending, make_timing
from ..infinitetalk.plan.timing_text import timing_report
from .inputs import CATEGORY, SpeakersType, TimingType, speakers_from


class LongTalkSilence(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkSilence",
            display_name="Silence and Shots (LongTalk)",
            category=CATEGORY,
            description="Finds where each speaker speaks. The samplers then let the mouth rest in pauses, end the "
            "video as chosen, and begin a new shot from the picture in a pause every so many seconds.",
            search_aliases=["voice activity", "vad", "pause", "mouth closed", "drift", "ending"],
            inputs=[
                io.Boolean.Input(
                    "silence_gate",
                    default=True,
                    tooltip="While a speaker pauses the model hears silence, so the mouth rests. The video keeps the "
                    "original sound.",
                ),
                io.Float.Input(
                    "pause_seconds",
                    default=0.6,
                    min=PAUSE_MIN_S,
                    max=PAUSE_MAX_S,
                    step=0.1,
                    tooltip="Pauses up to this long stay as they sound; the lips move between words anyway.",
                ),
                io.Combo.Input(
                    "ending",
                    options=Ending,
                    default=Ending.AS_HEARD,
                    tooltip="After the last word. as heard: whatever the sound does. rest: silence for the model, the "
                    "mouth rests to the end. hold: the picture stands still from 0.6 s later on, which costs nothing. "
                    "cut: video and sound end 0.6 s later.",
                ),
                io.Float.Input(
                    "shots",
                    default=0.0,
                    min=0.0,
                    max=SHOT_MAX_S,
                    step=0.5,
                    tooltip="0: one continuous video. Otherwise the shortest shot in seconds (8, say): in a pause "
                    "after it the video begins again from the picture, which bounds drift. A cut is seen there.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="The speech, for one speaker."),
                SpeakersType.Input("speakers", optional=True, tooltip="Instead of audio, for several speakers."),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.05,
                    max=0.95,
                    step=0.05,
                    optional=True,
                    tooltip="How sure it must be that somebody speaks. Lower finds whispers, higher ignores noise.",
                ),
            ],
            outputs=[
                TimingType.Output(display_name="timing", tooltip="For 'timing' of a sampler and of Plan."),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(
        cls,
        silence_gate: bool,
        pause_seconds: float,
        ending: str,
        shots: float,
        audio: Any = None,
        speakers: Any = None,
        threshold: float = 0.5,
    ) -> io.NodeOutput:
        threshold = check_number(threshold, "threshold", 0.05, 0.95)
        tracks = speakers_from(audio, speakers).arrangement.tracks
        timing = make_timing(
            [track.name for track in tracks],
            [leveled_speech(track, threshold, check_interrupt) for track in tracks],
            max(track.duration_s for track in tracks),
            gate=silence_gate,
            pause_s=pause_seconds,
            ending=ending,
            shot_s=shots,
        )
        report = timing_report(timing)
        return io.NodeOutput(timing, report, ui=ui.PreviewText(report))
