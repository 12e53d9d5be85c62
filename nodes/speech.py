"""Speakers and their encoded speech."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..audio.tracks import MAX_START_S, TrackMode, track_from_audio
from ..infinitetalk.host.wan.sound import encode_speech
from ..infinitetalk.model.speaker_map import MAX_SPEAKERS
from ..infinitetalk.model.speakers import make_speakers
from .inputs import CATEGORY, SpeakersType, SpeechType, feature_input, speakers_from


def _start_input(number: int) -> Any:
    """The silence before a speaker's track."""
    after = "" if number == 1 else " In mode add counted from the end of the speaker before: a pause."
    return io.Float.Input(
        f"start_{number}",
        default=0.0,
        min=0.0,
        max=MAX_START_S,
        step=0.01,
        optional=True,
        tooltip=f"Seconds of silence before speaker {number} begins, counted from the start of the video.{after}",
    )


class LongTalkSpeakers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkSpeakers",
            display_name="Speakers (LongTalk)",
            category=CATEGORY,
            description="One to four speakers on a common timeline, each with a mask in the reference image. "
            "Where no mask is white nobody speaks. Several speakers need an InfiniteTalk 'multi' patch; it was made "
            "for two.",
            inputs=[
                io.Audio.Input("audio_1", tooltip="Speech of the first speaker."),
                io.Combo.Input(
                    "mode",
                    options=TrackMode,
                    default=TrackMode.PARA,
                    tooltip="para: all tracks start at 0 (the microphones of one talk). "
                    "add: each starts when the one before it ends.",
                ),
                io.Mask.Input("mask_1", optional=True, tooltip="The first speaker in the reference image."),
                io.Audio.Input("audio_2", optional=True, tooltip="Speech of the second speaker."),
                io.Mask.Input("mask_2", optional=True, tooltip="The second speaker in the reference image."),
                io.Audio.Input("audio_3", optional=True, tooltip="Speech of the third speaker."),
                io.Mask.Input("mask_3", optional=True, tooltip="The third speaker in the reference image."),
                io.Audio.Input("audio_4", optional=True, tooltip="Speech of the fourth speaker."),
                io.Mask.Input("mask_4", optional=True, tooltip="The fourth speaker in the reference image."),
                *(_start_input(number) for number in range(1, MAX_SPEAKERS + 1)),
            ],
            outputs=[SpeakersType.Output(display_name="speakers")],
        )

    @classmethod
    def execute(
        cls,
        audio_1: Any,
        mode: str,
        mask_1: Any = None,
        audio_2: Any = None,
        mask_2: Any = None,
        audio_3: Any = None,
        mask_3: Any = None,
        audio_4: Any = None,
        mask_4: Any = None,
        start_1: float = 0.0,
        start_2: float = 0.0,
        start_3: float = 0.0,
        start_4: float = 0.0,
    ) -> io.NodeOutput:
        given = (
            (1, audio_1, mask_1, start_1),
            (2, audio_2, mask_2, start_2),
            (3, audio_3, mask_3, start_3),
            (4, audio_4, mask_4, start_4),
        )
        tracks, masks, starts_s = [], [], []
        # A number left out (its loader bypassed, say) leaves nobody: the others keep their names and their order.
        for number, audio, mask, start_s in given:
            if number == 1 or audio is not None or mask is not None:
                tracks.append(track_from_audio(audio, f"speaker {number}"))
                masks.append(mask)
                starts_s.append(start_s)
        return io.NodeOutput(make_speakers(tracks, masks, mode, starts_s))


class LongTalkEncodeSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkEncodeSpeech",
            display_name="Encode Speech (LongTalk)",
            category=CATEGORY,
            description="wav2vec2 features of the speech, for Sampler Advanced (LongTalk). Kept between runs, so that "
            "another seed does not encode again.",
            inputs=[
                io.AudioEncoder.Input("audio_encoder", tooltip="wav2vec2-chinese-base, from Load Audio Encoder."),
                feature_input(),
                io.Boolean.Input(
                    "normalize_loudness",
                    default=True,
                    tooltip="Bring the speech to -23 LUFS for the encoder, as the model was trained. "
                    "The sound in the video is not changed.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="The speech, for one speaker."),
                SpeakersType.Input("speakers", optional=True, tooltip="Instead of audio, for several speakers."),
            ],
            outputs=[SpeechType.Output(display_name="speech")],
        )

    @classmethod
    def execute(
        cls, audio_encoder: Any, features: str, normalize_loudness: bool, audio: Any = None, speakers: Any = None
    ) -> io.NodeOutput:
        speakers = speakers_from(audio, speakers)
        return io.NodeOutput(encode_speech(audio_encoder, speakers, features, normalize_loudness, with_silence=True))
