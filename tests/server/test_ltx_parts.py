"""The parts of hand-wired loops in ComfyUI's own execution: lists, types that match, values from node to node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import demo_client
from demo_server import ComfyServer, run_workflow

from longtalk.infinitetalk.model import conditioning_file


def load(name: str) -> dict[str, Any]:
    return {"class_type": "LongTalkLoadConditioning", "inputs": {"name": f"longtalk_tiny_{name}.safetensors"}}


def test_the_prompt_of_an_iteration_out_of_a_list(server: ComfyServer, base: Path) -> None:
    """Create List makes the list; past its end the last one is used, and Purge VRAM passes it on."""
    prompt = {
        "1": load("positive"),
        "2": load("negative"),
        "3": {"class_type": "CreateList", "inputs": {"inputs.input0": ["1", 0], "inputs.input1": ["2", 0]}},
    }
    for iteration, name in ((0, "positive"), (1, "negative"), (7, "negative")):
        at = {"class_type": "LongTalkConditioningAt", "inputs": {"conditionings": ["3", 0], "iteration": iteration}}
        prompt["4"] = at
        prompt["5"] = {"class_type": "LongTalkPurgeVRAM", "inputs": {"anything": ["4", 0]}}
        save = {"conditioning": ["5", 0], "filename_prefix": f"at{iteration}"}
        prompt["6"] = {"class_type": "LongTalkSaveConditioning", "inputs": save}
        asyncio.run(run_workflow(server, prompt))
        saved, _ = conditioning_file.load(base / "output" / "conditioning" / f"at{iteration}_00001_.safetensors")
        wanted, _ = conditioning_file.load(base / "models" / "conditioning" / f"longtalk_tiny_{name}.safetensors")
        assert saved[0][0].equal(wanted[0][0])


def test_the_plan_and_an_iteration(server: ComfyServer) -> None:
    """1.8 s are 45 frames: windows of 17 frames and a stride of 16, of which the last has 13 frames of sound."""
    lengths = {"window_seconds": 0.68, "overlap_seconds": 0.04, "fps": 25}
    prompt = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "short.wav"}},
        "2": {"class_type": "LongTalkLoopPlan", "inputs": {"audio": ["1", 0], **lengths}},
        "3": {
            "class_type": "LongTalkLoopController",
            "inputs": {"audio": ["1", 0], "iteration": 9, "base_seed": 5, **lengths},
        },
        **{
            f"4{output}": {"class_type": "PreviewAny", "inputs": {"source": ["3", output]}}
            for output in (0, 1, 2, 7, 8)
        },
    }
    outputs = asyncio.run(run_workflow(server, prompt))
    texts = demo_client.texts(outputs)
    assert any("Iterations: 3" in text for text in texts)
    shown = {name: outputs[name]["text"][0] for name in outputs if name.startswith("4")}
    assert shown == {"40": "1.28", "41": "True", "42": "14", "47": "3", "48": "17"}
