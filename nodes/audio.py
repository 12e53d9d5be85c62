"""Sound before the model hears it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..audio.prepare.prepare import prepare_track
from ..audio.prepare.stages import AS_PRESET, MAX_TRIM_S, OFF, PRESETS, SETTINGS, Setting, stages_from
from ..audio.reading.track import Track, track_from_audio
from ..infinitetalk.host.events import sound_events
from .inputs import CATEGORY


def to_audio(track: Track) -> dict[str, Any]:
    """A track as AUDIO, ``[1, C, N]``."""
    return {"waveform": track.waveform[None], "sample_rate": track.sample_rate}


def _setting_input(setting: Setting) -> Any:
    presets = ", ".join(f"{name}: {setting.of_preset(name)}" for name in PRESETS if name != OFF)
    return io.String.Input(
        setting.name,
        default=AS_PRESET,
        optional=True,
        advanced=True,
        tooltip=f"{setting.what[0].upper()}{setting.what[1:]}. '{AS_PRESET}' ({presets}), '{OFF}', or a number from "
        f"{setting.lowest:g} to {setting.highest:g} ({setting.unit}).",
    )


class LongTalkAudioPrepare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkAudioPrepare",
            display_name="Audio Prepare (LongTalk)",
            category=CATEGORY,
            description="Makes speech easier to hear for the model: less boom, clearer consonants, an even level that "
            "never clips. Connect 'audio' to the sampler, and 'original' to its soundtrack: the video keeps the sound "
            "as it was.",
            search_aliases=["equalizer", "eq", "loudness", "normalize audio", "lufs", "high-pass", "trim audio"],
            inputs=[
                io.Audio.Input("audio", tooltip="The speech, of any rate and number of channels; both stay."),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="LTX",
                    tooltip="LTX: high-pass, equaliser, -16 LUFS. InfiniteTalk: -23 LUFS and nothing else. "
                    "off: only what is set below.",
                ),
                io.Float.Input(
                    "start_seconds",
                    default=0.0,
                    min=0.0,
                    max=MAX_TRIM_S,
                    step=0.01,
                    tooltip="What is before is left out, of both outputs.",
                ),
                io.Float.Input(
                    "end_seconds",
                    default=0.0,
                    min=0.0,
                    max=MAX_TRIM_S,
                    step=0.01,
                    tooltip="What is after is left out, of both outputs. 0: the end of the sound.",
                ),
                *map(_setting_input, SETTINGS),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="For the sampler's audio."),
                io.Audio.Output(
                    display_name="original", tooltip="Trimmed alike and otherwise untouched: for the soundtrack."
                ),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(
        cls, audio: Any, preset: str, start_seconds: float = 0.0, end_seconds: float = 0.0, **settings: Any
    ) -> io.NodeOutput:
        stages = stages_from(preset, settings, start_seconds, end_seconds)
        track = track_from_audio(audio, "audio")
        result, original, prepared = prepare_track(track, stages, sound_events(track.duration_s))
        return io.NodeOutput(to_audio(result), to_audio(original), prepared.report())
