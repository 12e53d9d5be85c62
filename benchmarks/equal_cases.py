"""The configurations that two checkouts are compared in: what a workflow could contain, as small as it gets.

Each is a function of a :class:`~benchmarks.equal_studio.Studio`; its name is the configuration's. To add one, write it
and name it in the list at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from .equal_ltx import (
    ltx_adain,
    ltx_crossfade,
    ltx_guider_and_sigmas,
    ltx_keyframes,
    ltx_picture_and_soundtrack,
    ltx_plain,
    ltx_reanchor,
    ltx_resume,
    ltx_retake,
    ltx_schedule,
    ltx_timing,
    ltx_without_overlap,
)
from .equal_parts import ADVANCED, FOUR_S, LTX, PROMPTS, WAN, music, planned, stopped_and_resumed, timing_of
from .equal_studio import Studio, Texts, picture, speech_like


def wan_one_speaker(studio: Studio) -> None:
    studio.sampled("run", WAN, **studio.wan_inputs(width=96, height=64, window_frames=21, audio=speech_like(1.8)))


def _masks(count: int) -> list[torch.Tensor]:
    masks = []
    for number in range(count):
        mask = torch.zeros(1, 64, 96)
        mask[:, :, number * 96 // count : (number + 1) * 96 // count - 4] = 1.0
        masks.append(mask)
    return masks


def _speakers(studio: Studio, seconds: tuple[float, ...], mode: str, starts_s: tuple[float, ...] = ()) -> Any:
    inputs: dict[str, Any] = {"mode": mode}
    for number, (mask, length_s) in enumerate(zip(_masks(len(seconds)), seconds, strict=True), 1):
        inputs |= {f"audio_{number}": speech_like(length_s, seed=number), f"mask_{number}": mask}
    inputs |= {f"start_{number}": start_s for number, start_s in enumerate(starts_s, 1)}
    return studio.node("LongTalkSpeakers", **inputs)[0]


def wan_two_speakers_with_guidance(studio: Studio) -> None:
    speakers = _speakers(studio, (FOUR_S, 1.2), "para")
    studio.sampled("run", WAN, **studio.wan_inputs(speakers=speakers, cfg=3.0, audio_cfg=2.5))
    planned(studio, "para", speakers=speakers)


def wan_three_speakers_one_after_the_other(studio: Studio) -> None:
    speakers = _speakers(studio, (0.6, 0.5, 0.7), "add", (0.2, 0.0, 0.3))
    studio.sampled("run", WAN, **studio.wan_inputs(speakers=speakers))
    planned(studio, "add", speakers=speakers)


def wan_guidance(studio: Studio) -> None:
    for cfg, audio_cfg in ((3.0, 2.5), (1.0, 2.0), (4.0, 1.0)):
        inputs = studio.wan_inputs(audio=speech_like(0.8), cfg=cfg, audio_cfg=audio_cfg, audio_scale=1.3)
        studio.sampled(f"cfg {cfg}, audio_cfg {audio_cfg}", WAN, **inputs)


def wan_schedule(studio: Studio) -> None:
    texts = Texts(studio.wan.positive)
    for label, snap, blend_s in (("snapped", True, 0.0), ("blended", False, 1.0), ("as written", False, 0.0)):
        schedule, report = studio.node(
            "LongTalkPromptSchedule", clip=texts, schedule=PROMPTS, snap=snap, blend_s=blend_s
        )
        studio.record.text(label, report)
        studio.sampled(label, WAN, **studio.wan_inputs(audio=speech_like(FOUR_S), schedule=schedule))


def wan_timing(studio: Studio) -> None:
    audio = studio.talk(0.8, (0.0, 1.0), 1.5)
    for ending in ("rest", "hold", "cut"):
        timing = timing_of(studio, ending, audio, ending=ending)
        studio.sampled(
            ending, WAN, **studio.wan_inputs(audio=audio, timing=timing, soundtrack=music(audio), window_frames=25)
        )
        planned(studio, ending, audio=audio, timing=timing)


def wan_shots(studio: Studio) -> None:
    audio = studio.talk((0.0, 2.0), 0.9, (2.0, 3.5), 0.8)
    timing = timing_of(studio, "shots", audio, ending="cut", shots=2.0)
    studio.sampled("shots", WAN, **studio.wan_inputs(audio=audio, timing=timing, window_frames=21))
    planned(studio, "shots", audio=audio, timing=timing)


def wan_rerender(studio: Studio) -> None:
    inputs = studio.wan_inputs(audio=speech_like(FOUR_S))
    studio.sampled("first", WAN, **inputs)
    for label, changes in (
        ("from 3", {"rerender_from": "3:1000"}),
        ("from 3 and 4", {"rerender_from": "3:1000, 4:5"}),
        ("first again", {}),
        ("start over", {"resume": "start over", "finished_runs": "video only"}),
    ):
        with studio.forwards(studio.wan.model):
            studio.sampled(label, WAN, **{**inputs, **changes})


def formats(studio: Studio) -> None:
    sound = speech_like(0.9, rate_hz=44100, channels=2, seed=4)
    for codec, crf in (("h264", 18), ("h264", 35), ("h265", 26), ("ffv1", 18), ("prores", 18)):
        inputs = studio.wan_inputs(audio=speech_like(0.8), codec=codec, crf=crf, soundtrack=sound, seed=9)
        studio.sampled(f"{codec} {crf}", WAN, **inputs)


def sizes(studio: Studio) -> None:
    """Sizes that are rounded, which the report tells of, and pictures of another size and shape."""
    for label, changes in (
        ("rounded", {"width": 50, "height": 45}),
        ("small picture", {"image": picture(3, 24, 16)}),
        ("upright picture", {"image": picture(3, 60, 200)}),
    ):
        studio.sampled(label, WAN, **studio.wan_inputs(audio=speech_like(0.5), **changes))
    studio.sampled("rounded LTX", LTX, **studio.ltx_inputs(audio=speech_like(1.0), width=72, height=48))


def wan_core_features_without_clip_vision(studio: Studio) -> None:
    for mode in ("aligned_down", "aligned_up"):
        inputs = studio.wan_inputs(
            audio=speech_like(1.3), clip_vision_output=None, features="core", plan_mode=mode, attention="as ComfyUI"
        )
        studio.sampled(mode, WAN, **inputs)
        planned(studio, mode, audio=inputs["audio"], plan_mode=mode)


def wan_gguf_patch(studio: Studio) -> None:
    patch = studio.node("LongTalkLoadPatch", name="longtalk_tiny_infinitetalk_Q8_0.gguf")[0]
    studio.sampled("run", WAN, **studio.wan_inputs(audio=speech_like(0.8), model_patch=patch))


def wan_core_patch(studio: Studio) -> None:
    studio.sampled("run", WAN, **studio.wan_inputs(audio=speech_like(0.8), model_patch=studio.core_patch))


def wan_advanced(studio: Studio) -> None:
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    wan, usual = studio.wan, studio.wan_inputs()
    guider = comfy.samplers.CFGGuider(wan.model)
    guider.set_conds(wan.positive, wan.negative)
    guider.set_cfg(2.0)
    ours = studio.node(
        "LongTalkGuider", model=wan.model, positive=wan.positive, negative=wan.negative, cfg=2.0, audio_cfg=1.5
    )[0]
    names = ("model_patch", "vae", "image", "width", "height", "cfg", "audio_cfg", "audio_scale", "window_frames")
    names += ("motion_frames", "plan_mode", "codec", "crf", "return_images", "clip_vision_output")
    for label, normalize, given in (
        ("core's guider", False, {"guider": guider}),
        ("LongTalk's guider", True, {"guider": ours}),
        ("model", True, {name: usual[name] for name in ("model", "positive", "negative")}),
    ):
        speech = studio.node(
            "LongTalkEncodeSpeech",
            audio_encoder=wan.audio_encoder,
            features="official",
            normalize_loudness=normalize,
            audio=speech_like(0.8),
        )[0]
        studio.sampled(
            label,
            ADVANCED,
            speech=speech,
            noise=Noise_RandomNoise(11),
            sampler=comfy.samplers.sampler_object("dpmpp_2m"),
            sigmas=comfy.samplers.calculate_sigmas(wan.model.get_model_object("model_sampling"), "simple", 3),
            soundtrack=speech_like(0.9, rate_hz=48000, channels=2, seed=2),
            **{name: usual[name] for name in names},
            **given,
        )


def wan_resume(studio: Studio) -> None:
    inputs = studio.wan_inputs(audio=speech_like(FOUR_S), codec="h264")
    stopped_and_resumed(studio, WAN, studio.wan.model, inputs, 2 * 2 + 1)


def wan_out_of_memory(studio: Studio) -> None:
    """The first forward and the first decode find too little memory; what is done about it stays so."""
    inputs = studio.wan_inputs(audio=speech_like(0.8), cfg=3.0, audio_cfg=2.5)

    def full(count: int) -> None:
        if count == 1:
            raise torch.OutOfMemoryError("Allocation on device: tried to allocate 2.00 GiB")

    with studio.forwards(studio.wan.model, full):
        studio.sampled("forward", WAN, **inputs)
    with studio.disturbed(studio.wan.vae, "decode", full):
        studio.sampled("decode", WAN, **{**inputs, "seed": 4})


def broken_window(studio: Studio) -> None:
    """The model gives no numbers in the second window."""

    def broken(count: int) -> Any:
        return (lambda made: made * float("nan")) if count > 2 else None

    with studio.disturbed(studio.wan.model.model.diffusion_model, "forward", broken):
        studio.refused("no numbers", WAN, **studio.wan_inputs(audio=speech_like(0.8)))
    studio.partial("no numbers")


def loops_by_hand(studio: Studio) -> None:
    """The nodes for loops that are wired by hand."""
    shape = {"window_seconds": 33 / 25, "overlap_seconds": 17 / 25, "fps": 25}
    audio = speech_like(2.6)
    shown, report, *numbers = studio.node("LongTalkLoopPlan", audio=audio, schedule_text=PROMPTS, **shape)
    studio.record.array("plan", "loop plan", shown)
    studio.record.text("loop plan", f"{report}\n{numbers}")
    images = torch.cat([picture(21), picture(22)])
    for iteration in (0, 1, 4):
        made = studio.node("LongTalkLoopController", iteration=iteration, audio=audio, base_seed=5, **shape)
        sounds = [each for each in made if isinstance(each, dict)]
        studio.record.text(f"iteration {iteration}", str([each for each in made if not isinstance(each, dict)]))
        studio.record.array("sound", f"iteration {iteration}", sounds[0]["waveform"])
        latent = studio.node(
            "LongTalkLTXEncodeSound", audio=audio, audio_vae=studio.ltx.audio_vae, iteration=iteration, **shape
        )[0]
        studio.record.array("sound", f"iteration {iteration} encoded", latent["samples"])
        keyframe = studio.node(
            "LongTalkKeyframes",
            keyframes="0:00.4: 1\n1.1: 0, 0.5",
            images=images,
            iteration=iteration,
            strength=0.9,
            audio=audio,
            **shape,
        )
        studio.record.array("frames", f"iteration {iteration} keyframe", keyframe[0])
        studio.record.text(f"keyframe {iteration}", str(keyframe[1:]))
    generator = torch.Generator().manual_seed(1)
    first, second = ({"samples": torch.randn((1, 128, 5, 2, 3), generator=generator)} for _ in range(2))
    for curve in ("cosine", "linear"):
        joined = studio.node("LongTalkLatentCrossfade", first=first, second=second, latents=3, curve=curve)[0]
        studio.record.array("frames", f"crossfade {curve}", joined["samples"])
    for node_id in ("LongTalkLatentContext", "LongTalkLatentTrim"):
        studio.record.array("frames", node_id, studio.node(node_id, latent=first, latents=2)[0]["samples"])
    end = studio.node("LongTalkLatentContext", latent=first, latents=2)[0]
    pinned = studio.node("LongTalkLatentPin", latent=second, given=end, latents=2, strength=0.8)[0]
    studio.record.array("frames", "pinned", pinned["samples"])
    studio.record.array("frames", "pinned mask", pinned["noise_mask"])


def plans(studio: Studio) -> None:
    for mode in ("exact", "aligned_down", "aligned_up"):
        planned(studio, mode, audio=speech_like(9.3), window_frames=81, motion_frames=9, plan_mode=mode)
    planned(studio, "schedule", audio=speech_like(4.0), schedule_text=PROMPTS)


def sounds(studio: Studio) -> None:
    """What is said about a sound, and what is done to it."""
    audio = studio.talk((0.0, 3.0), 1.0, (3.0, 5.0))
    _, shown, report, found = studio.node("LongTalkAudioReport", audio=audio)
    studio.record.array("plan", "sound report", shown)
    studio.record.text("sound report", f"{report}\n{found}")
    for preset in studio.nodes["LongTalkAudioPrepare"].GET_SCHEMA().inputs[1].options:
        try:
            result, original, told = studio.node("LongTalkAudioPrepare", audio=audio, preset=preset, start_seconds=0.5)
        except Exception as error:
            studio.record.text(preset, f"{type(error).__name__}: {error}")
            continue
        studio.record.array("sound", f"{preset} result", result["waveform"])
        studio.record.array("sound", f"{preset} original", original["waveform"])
        studio.record.text(preset, told)


def refusals(studio: Studio) -> None:
    """Inputs that cannot be; the words that say so."""
    wan, ltx = studio.wan_inputs(audio=speech_like(0.8)), studio.ltx_inputs(audio=speech_like(1.5))
    tries: list[tuple[str, dict[str, Any]]] = [
        (WAN, {**wan, "width": 0}),
        (WAN, {**wan, "window_frames": 14}),
        (WAN, {**wan, "motion_frames": 13}),
        (WAN, {**wan, "codec": "gif"}),
        (WAN, {**wan, "crf": 99}),
        (WAN, {**wan, "features": "none"}),
        (WAN, {**wan, "rerender_from": "9:1"}),
        (WAN, {**wan, "rerender_from": "a"}),
        (WAN, {**wan, "resume": "maybe"}),
        (WAN, {**wan, "attention": "fastest"}),
        (WAN, {**wan, "sampler_name": "none"}),
        (WAN, {**wan, "audio": None}),
        (WAN, {**wan, "audio_encoder": None}),
        (WAN, {**wan, "model": studio.ltx.model}),
        (WAN, {**wan, "model_patch": None}),
        (WAN, {**wan, "vae": studio.ltx.vae}),
        (WAN, {**wan, "image": torch.full((1, 64, 96, 3), float("nan"))}),
        (WAN, {**wan, "image": torch.cat([picture(1), picture(2)])}),
        (WAN, {**wan, "positive": []}),
        (WAN, {**wan, "clip_vision_output": "a picture"}),
        (WAN, {**wan, "schedule": "0:00: a woman"}),
        (WAN, {**wan, "timing": "rest"}),
        (WAN, {**wan, "cfg": float("nan")}),
        (LTX, {**ltx, "width": 0}),
        (LTX, {**ltx, "overlap_seconds": 5.0}),
        (LTX, {**ltx, "overlap_mode": "cut"}),
        (LTX, {**ltx, "retake": "0:09-0:10: 7"}),
        (LTX, {**ltx, "keyframes": "0:00.5: 1"}),
        (LTX, {**ltx, "keyframes": "0:00.5: 1", "keyframe_images": picture()}),
        (LTX, {**ltx, "vae": studio.wan.vae}),
        (LTX, {**ltx, "audio_vae": studio.ltx.vae}),
        (LTX, {**ltx, "model": studio.wan.model}),
        (LTX, {**ltx, "model": None}),
        (LTX, {**ltx, "adain": 2.0}),
        (LTX, {**ltx, "image_strength": -1.0}),
    ]
    for number, (node_id, inputs) in enumerate(tries, 1):
        studio.refused(f"{number} {node_id}", node_id, **inputs)


def schemas(studio: Studio) -> None:
    """Ids, inputs, their order, defaults, choices and tooltips, as ComfyUI gives them to its frontend."""
    for node_id, node in studio.nodes.items():
        info = node.GET_NODE_INFO_V1()
        # Where the node comes from is the module's name, which may change.
        info.pop("python_module", None)
        studio.record.text(node_id, json.dumps(info, indent=1, default=str))


CASES: dict[str, Callable[[Studio], None]] = {
    case.__name__: case
    for case in (
        schemas,
        plans,
        sounds,
        refusals,
        wan_one_speaker,
        wan_two_speakers_with_guidance,
        wan_three_speakers_one_after_the_other,
        wan_guidance,
        wan_schedule,
        wan_timing,
        wan_shots,
        wan_rerender,
        formats,
        sizes,
        wan_core_features_without_clip_vision,
        wan_gguf_patch,
        wan_core_patch,
        wan_advanced,
        wan_resume,
        wan_out_of_memory,
        broken_window,
        ltx_plain,
        ltx_crossfade,
        ltx_adain,
        ltx_keyframes,
        ltx_reanchor,
        ltx_without_overlap,
        ltx_retake,
        ltx_schedule,
        ltx_picture_and_soundtrack,
        ltx_timing,
        ltx_guider_and_sigmas,
        ltx_resume,
        loops_by_hand,
    )
}
