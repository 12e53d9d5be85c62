"""The LTX workflow of the canvas, run in the real server with tiny models in place of its files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import demo_client
from canvas import as_prompt, info_of
from demo_server import ComfyServer, run_workflow
from small_graphs import shrink


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
