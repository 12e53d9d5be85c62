"""The LTX workflow of the canvas, run in the real server with tiny models in place of its files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import demo_client
from canvas import as_prompt, info_of
from demo_server import ComfyServer, run_workflow

#: What stands in for each loader of the workflow, by its output: the tiny files are not in one checkpoint.
TINY = {
    ("LoraLoaderModelOnly", 0): (
        "UNETLoader",
        {"unet_name": "longtalk_tiny_ltx.safetensors", "weight_dtype": "default"},
    ),
    ("CheckpointLoaderSimple", 2): ("VAELoader", {"vae_name": "longtalk_tiny_ltx_video_vae.safetensors"}),
    ("LTXVAudioVAELoader", 0): ("LTXVAudioVAELoader", {"ckpt_name": "longtalk_tiny_ltx_audio.safetensors"}),
    ("CLIPTextEncode", 0): ("LongTalkLoadConditioning", {"name": "longtalk_tiny_ltx_positive.safetensors"}),
}
#: The workflow's windows and size, made small: 1.8 s are 45 frames in windows of 33.
SMALL = {"window_seconds": 1.32, "overlap_seconds": 0.36, "width": 96, "height": 64}


def shrink(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same graph with tiny models, the short sound and small windows."""
    small = {name: node for name, node in prompt.items() if not is_loader(node["class_type"])}
    for node in small.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and is_loader(prompt[value[0]]["class_type"]):
                kind, settings = TINY[prompt[value[0]]["class_type"], value[1]]
                node["inputs"][name] = [f"tiny {kind}", 0]
                small = {**small, f"tiny {kind}": {"class_type": kind, "inputs": settings}}
            elif name in SMALL:
                node["inputs"][name] = SMALL[name]
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = "short.wav"
    return small


def is_loader(kind: str) -> bool:
    return kind == "LTXAVTextEncoderLoader" or kind in {name for name, _ in TINY}


def test_the_workflow_makes_a_video_of_the_sound_s_length(server: ComfyServer, base: Path, root: Path) -> None:
    graph = json.loads((root / "workflows" / "longtalk_ltx.json").read_text())
    prompt = as_prompt(graph, info_of(server))
    [sampler] = [node["inputs"] for node in prompt.values() if node["class_type"] == "LongTalkLTXSampler"]
    distilled = {"steps": 8, "cfg": 1.0, "sampler_name": "euler", "scheduler": "linear_quadratic"}
    assert {name: sampler[name] for name in distilled} == distilled
    [plan] = [node["inputs"] for node in prompt.values() if node["class_type"] == "LongTalkLoopPlan"]
    for name in ("window_seconds", "overlap_seconds", "fps"):
        assert plan[name] == sampler[name]

    outputs = asyncio.run(run_workflow(server, shrink(prompt)))
    [(_, saved)] = demo_client.saved_files(outputs, (".mp4",))
    video = demo_client.demo_media.read_video(base / "output" / saved["subfolder"] / saved["filename"])
    assert video.frames == 45
    assert video.sound is not None
    assert any("Iterations: 2" in text for text in demo_client.texts(outputs))
