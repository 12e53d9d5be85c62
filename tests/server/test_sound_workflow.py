"""The sound workflow of the canvas in the real server: its chain of sound nodes, with tiny models behind it."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import demo_client
from canvas import as_prompt, info_of
from demo_server import ComfyServer, run_workflow

#: The chain of the sound, from the file to what plans and samples.
CHAIN = ["LoadAudio", "LongTalkAudioReport", "LongTalkVocals", "LongTalkAudioPrepare", "LongTalkSilence"]


def bypassed(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    """Without a node, as after Ctrl+B: what it is given goes on in its place."""
    [(gone, node)] = [(name, node) for name, node in prompt.items() if node["class_type"] == kind]
    left = {name: node for name, node in prompt.items() if name != gone}
    for other in left.values():
        for name, value in other["inputs"].items():
            if isinstance(value, list) and value[0] == gone:
                other["inputs"][name] = node["inputs"]["audio"]
    return left


def test_the_sound_goes_through_every_node_to_the_video(server: ComfyServer, base: Path, root: Path) -> None:
    graph = json.loads((root / "workflows" / "longtalk_sound.json").read_text())
    prompt = as_prompt(graph, info_of(server))
    kinds = {name: node["class_type"] for name, node in prompt.items()}
    for before, after in itertools.pairwise(CHAIN):
        [given] = [node["inputs"]["audio"] for node in prompt.values() if node["class_type"] == after]
        assert kinds[given[0]] == before

    api = json.loads((root / "workflows" / "api" / "longtalk_demo.json").read_text())
    [demo] = [node["inputs"] for node in api.values() if node["class_type"] == "LongTalkSampler"]
    [(name, sampler)] = [
        (name, node["inputs"]) for name, node in prompt.items() if node["class_type"] == "LongTalkSampler"
    ]
    assert kinds[sampler["soundtrack"][0]] == "LoadAudio"
    heard = {key: sampler[key] for key in ("audio", "soundtrack", "timing")}
    # The demo's tiny models, size and windows; the sound as the workflow has it.
    loaders = {
        f"demo {key}": {
            **node,
            "inputs": {
                entry: [f"demo {value[0]}", value[1]] if isinstance(value, list) else value
                for entry, value in node["inputs"].items()
            },
        }
        for key, node in api.items()
    }
    small = {key: [f"demo {value[0]}", value[1]] if isinstance(value, list) else value for key, value in demo.items()}
    small |= {"width": 48, "height": 32, "steps": 1, "seed": 91, **heard}
    wanted = {key: node for key, node in prompt.items() if node["class_type"] in [*CHAIN, "LongTalkPlan"]}
    [saving] = [key for key, node in prompt.items() if node["class_type"] == "SaveVideo"]
    chain = {**wanted, name: {"class_type": "LongTalkSampler", "inputs": small}, saving: prompt[saving]}
    for node in chain.values():
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = "short.wav"
    used = needed(bypassed({**loaders, **chain}, "LongTalkVocals"), [saving, *wanted])

    outputs = asyncio.run(run_workflow(server, used))
    [(_, saved)] = demo_client.saved_files(outputs, (".mp4",))
    video = demo_client.demo_media.read_video(base / "output" / saved["subfolder"] / saved["filename"])
    assert video.frames == 45
    texts = "\n".join(demo_client.texts(outputs))
    for words in ("speech to noise", "the last word ends at"):
        assert words in texts, texts


def needed(prompt: dict[str, Any], ends: list[str]) -> dict[str, Any]:
    """The nodes that these depend on, and these."""
    found: dict[str, Any] = {}
    waiting = [name for name in ends if name in prompt]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = prompt[name]
            waiting += [value[0] for value in prompt[name]["inputs"].values() if isinstance(value, list)]
    return found
