"""The configurations of LTX that two checkouts are compared in."""

from __future__ import annotations

import torch

from .equal_parts import LTX, LTX_FOUR_S, PROMPTS, music, stopped_and_resumed, timing_of
from .equal_studio import Studio, Texts, picture, speech_like


def ltx_plain(studio: Studio) -> None:
    studio.sampled("run", LTX, **studio.ltx_inputs(audio=speech_like(LTX_FOUR_S, rate_hz=32000, channels=2)))


def ltx_crossfade(studio: Studio) -> None:
    studio.sampled("run", LTX, **studio.ltx_inputs(audio=speech_like(LTX_FOUR_S), overlap_mode="crossfade", cfg=2.5))


def ltx_adain(studio: Studio) -> None:
    for mode in ("trim", "crossfade"):
        inputs = studio.ltx_inputs(audio=speech_like(2.5), overlap_mode=mode, adain=0.4, image_strength=0.7)
        studio.sampled(mode, LTX, **inputs)


def ltx_keyframes(studio: Studio) -> None:
    inputs = studio.ltx_inputs(
        audio=speech_like(LTX_FOUR_S),
        keyframe_images=torch.cat([picture(21), picture(22), picture(23)]),
        keyframes="0:00.5: 1\n1.6: 0, 0.6\n0:02.9: 2",
        keyframe_strength=0.8,
    )
    studio.sampled("run", LTX, **inputs)


def ltx_reanchor(studio: Studio) -> None:
    inputs = studio.ltx_inputs(audio=speech_like(LTX_FOUR_S), reanchor_seconds=1.0, keyframe_strength=0.5)
    studio.sampled("run", LTX, **inputs)


def ltx_without_overlap(studio: Studio) -> None:
    studio.sampled("run", LTX, **studio.ltx_inputs(audio=speech_like(2.5), overlap_seconds=0.0, fps=24))


def ltx_retake(studio: Studio) -> None:
    inputs = studio.ltx_inputs(audio=speech_like(113 / 25), overlap_seconds=9 / 25)
    studio.sampled("first", LTX, **inputs)
    for label, changes in (
        ("retake", {"retake": "2.4-3.2: 77"}),
        ("two retakes", {"retake": "0.2-0.5: 7, 4.3-4.5: 9"}),
        ("undone", {}),
        ("from 3", {"rerender_from": "3:1000"}),
    ):
        with studio.forwards(studio.ltx.model):
            studio.sampled(label, LTX, **{**inputs, **changes})


def ltx_schedule(studio: Studio) -> None:
    texts = Texts(studio.ltx.positive)
    for label, snap, blend_s in (("snapped", True, 0.0), ("blended", False, 1.5)):
        schedule = studio.node("LongTalkPromptSchedule", clip=texts, schedule=PROMPTS, snap=snap, blend_s=blend_s)[0]
        studio.sampled(label, LTX, **studio.ltx_inputs(audio=speech_like(2.5), schedule=schedule))


def ltx_picture_and_soundtrack(studio: Studio) -> None:
    for label, changes in (
        ("strength 0.7", {"image_strength": 0.7, "img_compression": 0}),
        ("upright picture", {"image": picture(3, 60, 200), "codec": "h264"}),
    ):
        sound = speech_like(1.4, rate_hz=44100, channels=2, seed=5)
        studio.sampled(label, LTX, **studio.ltx_inputs(audio=speech_like(1.5), soundtrack=sound, **changes))


def ltx_timing(studio: Studio) -> None:
    audio = studio.talk((0.0, 2.0), 0.9, (2.0, 3.0), 1.0)
    for label, ending, shots in (("cut and shots", "cut", 2.0), ("hold", "hold", 0.0), ("rest", "rest", 0.0)):
        timing = timing_of(studio, label, audio, ending=ending, shots=shots)
        studio.sampled(label, LTX, **studio.ltx_inputs(audio=audio, timing=timing, soundtrack=music(audio)))


def ltx_guider_and_sigmas(studio: Studio) -> None:
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(studio.ltx.model)
    guider.set_conds(studio.ltx.positive, studio.ltx.negative)
    guider.set_cfg(2.0)
    inputs = studio.ltx_inputs(audio=speech_like(2.0), model=None, positive=None, negative=None)
    sigmas = torch.tensor([1.0, 0.9, 0.4, 0.0])
    sampler = comfy.samplers.sampler_object("euler_ancestral")
    studio.sampled("run", LTX, **inputs, guider=guider, sigmas=sigmas, sampler=sampler)


def ltx_resume(studio: Studio) -> None:
    inputs = studio.ltx_inputs(audio=speech_like(LTX_FOUR_S), overlap_mode="crossfade", adain=0.3)
    stopped_and_resumed(studio, LTX, studio.ltx.model, inputs, 2 * 2 + 1)
