"""The kinds of runs that are killed: what each of them asks ComfyUI for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from setup_common import CLONE

SPEECH = "short.wav"
WINDOW_FRAMES = 21
MOTION_FRAMES = 9
APG = {"eta": 0.5, "norm_threshold": 2.0, "momentum": -0.5}

Workflow = dict[str, Any]
Settings = dict[str, Any]


def wan(changes: Settings) -> Workflow:
    """The demo's workflow: only what the video needs, and little of that."""
    nodes: Workflow = json.loads((CLONE / "workflows" / "api" / "longtalk_demo.json").read_text())
    kinds = {node["class_type"]: node["inputs"] for node in nodes.values()}
    kinds["LoadAudio"]["audio"] = SPEECH
    lengths = {"window_frames": WINDOW_FRAMES, "motion_frames": MOTION_FRAMES}
    kinds["LongTalkSampler"].update({"width": 48, "height": 32, "steps": 2, **lengths, **changes})
    return {name: node for name, node in nodes.items() if node["class_type"] not in ("LongTalkPlan", "SaveImage")}


def apg(changes: Settings) -> Workflow:
    """The same with core's APG node, which keeps an average from step to step, on the model."""
    nodes = wan({**changes, "cfg": 2.0})
    [sampler] = [node["inputs"] for node in nodes.values() if node["class_type"] == "LongTalkSampler"]
    nodes["apg"] = node("APG", model=sampler["model"], **APG)
    sampler["model"] = ["apg", 0]
    return nodes


def ltx(changes: Settings) -> Workflow:
    """LTX with its tiny models: three windows, which begin at the frames 0, 24 and 48."""
    inputs = ("model", "vae", "audio_vae", "positive", "negative", "image", "audio")
    settings = {
        "width": 96,
        "height": 64,
        "fps": 25,
        "window_seconds": 33 / 25,
        "overlap_seconds": 9 / 25,
        "overlap_mode": "trim",
        "seed": 3,
        "steps": 2,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "linear_quadratic",
        "image_strength": 1.0,
        "img_compression": 18,
        "adain": 0.0,
        "reanchor_seconds": 0.0,
        "codec": "h264",
        "crf": 18,
        "return_images": False,
        **changes,
    }
    return {
        "model": node("UNETLoader", unet_name="longtalk_tiny_ltx.safetensors", weight_dtype="default"),
        "vae": node("VAELoader", vae_name="longtalk_tiny_ltx_video_vae.safetensors"),
        "audio_vae": node("LTXVAudioVAELoader", ckpt_name="longtalk_tiny_ltx_audio.safetensors"),
        "positive": node("LongTalkLoadConditioning", name="longtalk_tiny_ltx_positive.safetensors"),
        "negative": node("LongTalkLoadConditioning", name="longtalk_tiny_ltx_negative.safetensors"),
        "image": node("LoadImage", image="portrait.png"),
        "audio": node("LoadAudio", audio=SPEECH),
        "talk": node("LongTalkLTXSampler", **{name: [name, 0] for name in inputs}, **settings),
        "save": node("SaveVideo", video=["talk", 0], filename_prefix="longtalk/talk", format="auto", codec="auto"),
    }


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


@dataclass(frozen=True)
class Kind:
    """What is special about a run.

    Attributes:
        workflow: gives the workflow, with changes to the sampler's settings.
        takes: such changes, of each take; an attempt that is killed asks for one of them, the next one for the next.
        before: such changes, of what is made before the first attempt, without a kill.
        moves: the folder of the pack and ComfyUI's output folder have other names each time a server is started.
        gives: the kind whose uninterrupted run gives the same windows and videos; empty for this one itself.
    """

    workflow: Callable[[Settings], Workflow] = wan
    takes: tuple[Settings, ...] = ({},)
    before: tuple[Settings, ...] = ()
    moves: bool = False
    gives: str = ""

    @property
    def starts_over(self) -> bool:
        return self.takes[0].get("resume") == "start over"


PLAIN = "plain"
KINDS = {
    PLAIN: Kind(),
    "start over": Kind(takes=({"resume": "start over"},), before=({},), gives=PLAIN),
    "moved": Kind(moves=True, gives=PLAIN),
    "apg": Kind(apg),
    # Windows 3 to 5 are others in the second one.
    "two takes": Kind(takes=({}, {"rerender_from": "3:77"})),
    # Window 2 is made again, between windows that stay: behind what it pins (frame 33), before what is handed on (41).
    "retake": Kind(ltx, takes=({"retake": "1.36-1.6: 77"},), before=({},)),
}
