"""Speakers and their encoded speech."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..audio.features import FeatureMode
from ..audio.tracks import TrackMode, track_from_audio
from ..infinitetalk.host.speech import encode_speech
from ..infinitetalk.speech import make_speakers
from .common import CATEGORY, SpeakersType, SpeechType, speakers_from


def feature_input() -> Any:
    """The widget that chooses how features are made."""
    return io.Combo.Input(
        "features",
        options=FeatureMode,
        default=FeatureMode.OFFICIAL,
        tooltip="official: 25 features per second enter wav2vec2's transformer, as the model was trained. "
        "core: 50 per second enter it and its outputs are interpolated, as ComfyUI's own nodes do.",
    )


class LongTalkSpeakers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkSpeakers",
            display_name="Speakers (LongTalk)",
            category=CATEGORY,
            description="One or two speakers on a common timeline, each with a mask in the reference image. "
            "Where no mask is white nobody speaks. Two speakers need an InfiniteTalk 'multi' patch.",
            inputs=[
                io.Audio.Input("audio_1", tooltip="Speech of the first speaker."),
                io.Combo.Input(
                    "mode",
                    options=TrackMode,
                    default=TrackMode.PARA,
                    tooltip="para: both tracks start at 0 (two microphones of one talk). "
                    "add: the second starts when the first ends.",
                ),
                io.Mask.Input("mask_1", optional=True, tooltip="The first speaker in the reference image."),
                io.Audio.Input("audio_2", optional=True, tooltip="Speech of the second speaker."),
                io.Mask.Input("mask_2", optional=True, tooltip="The second speaker in the reference image."),
            ],
            outputs=[SpeakersType.Output(display_name="speakers")],
        )

    @classmethod
    def execute(
        cls, audio_1: Any, mode: str, mask_1: Any = None, audio_2: Any = None, mask_2: Any = None
    ) -> io.NodeOutput:
        tracks = [track_from_audio(audio_1, "speaker 1")]
        masks = [mask_1]
        if audio_2 is not None or mask_2 is not None:
            tracks.append(track_from_audio(audio_2, "speaker 2"))
            masks.append(mask_2)
        return io.NodeOutput(make_speakers(tracks, masks, mode))


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
                SpeakersType.Input("speakers", optional=True, tooltip="Instead of audio, for two speakers."),
            ],
            outputs=[SpeechType.Output(display_name="speech")],
        )

    @classmethod
    def execute(
        cls, audio_encoder: Any, features: str, normalize_loudness: bool, audio: Any = None, speakers: Any = None
    ) -> io.NodeOutput:
        return io.NodeOutput(encode_speech(audio_encoder, speakers_from(audio, speakers), features, normalize_loudness))
