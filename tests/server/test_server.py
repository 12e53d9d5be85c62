"""LongTalk in the real server, over HTTP and the websocket, as the browser uses it."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import av
import demo_client
import numpy as np
import pytest
from demo_server import TEXT_EVENT, ComfyServer, run_workflow, wait_until_up
from watched import talk_in

from longtalk.infinitetalk.run.store.folder import run_names

NODES = {
    "LongTalkPlan",
    "LongTalkLoadPatch",
    "LongTalkEncodeSpeech",
    "LongTalkSpeakers",
    "LongTalkSampler",
    "LongTalkSamplerAdvanced",
    "LongTalkGuider",
    "LongTalkSaveConditioning",
    "LongTalkLoadConditioning",
    "LongTalkAttention",
    "LongTalkLTXSampler",
    "LongTalkLoopController",
    "LongTalkLoopPlan",
    "LongTalkLatentContext",
    "LongTalkLatentTrim",
    "LongTalkLatentCrossfade",
    "LongTalkConditioningBlend",
    "LongTalkConditioningAt",
    "LongTalkKeyframes",
    "LongTalkFrameAt",
    "LongTalkPurgeVRAM",
    "LongTalkPromptSchedule",
    "LongTalkLTXEncodeSound",
    "LongTalkLatentPin",
    "LongTalkAudioPrepare",
    "LongTalkVocals",
    "LongTalkAudioReport",
    "LongTalkSilence",
}


def get(server: ComfyServer, path: str) -> Any:
    async def fetch() -> Any:
        async with aiohttp.ClientSession(server.url) as session:
            await wait_until_up(server, session)
            async with session.get(path) as answer:
                assert answer.status == 200
                return await answer.json()

    return asyncio.run(fetch())


@pytest.fixture(scope="module")
def object_info(server: ComfyServer) -> dict[str, Any]:
    return get(server, "/object_info")


def sampler_id(prompt: dict[str, Any]) -> str:
    return next(name for name, node in prompt.items() if node["class_type"] == "LongTalkSampler")


@pytest.fixture
def demo(root: Path) -> dict[str, Any]:
    """The demo's workflow as it is."""
    nodes: dict[str, Any] = json.loads((root / "workflows" / "api" / "longtalk_demo.json").read_text())
    return nodes


@pytest.fixture
def workflow(demo: dict[str, Any]) -> dict[str, Any]:
    """The demo's workflow at 48x32 with 2 steps."""
    demo[sampler_id(demo)]["inputs"].update(width=48, height=32, steps=2)
    return demo


@pytest.fixture
def short_workflow(workflow: dict[str, Any]) -> dict[str, Any]:
    """The same on the first 1.8 s of the speech, in windows of 21 frames."""
    for node in workflow.values():
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = "short.wav"
        if node["class_type"] in ("LongTalkSampler", "LongTalkPlan"):
            node["inputs"]["window_frames"] = 21
    return workflow


def inputs_of(info: dict[str, Any]) -> list[str]:
    order = info["input_order"]
    return [*order.get("required", []), *order.get("optional", [])]


def test_every_node_is_there(object_info: dict[str, Any]) -> None:
    assert {name for name in object_info if name.startswith("LongTalk")} == NODES
    for name in NODES:
        info = object_info[name]
        assert info["category"] == "LongTalk"
        assert info["display_name"].endswith("(LongTalk)")
        assert info["description"]


def test_every_widget_explains_itself(object_info: dict[str, Any]) -> None:
    """All number and choice widgets carry a tooltip, but for those whose name is ComfyUI's own term."""
    plain = {"sampler_name", "scheduler", "name"}
    for node in NODES:
        for group in object_info[node]["input"].values():
            for name, spec in group.items():
                options = spec[1] if len(spec) > 1 else {}
                if "default" in options and name not in plain:
                    assert options.get("tooltip"), f"{node}.{name}"


def test_the_log_holds_one_line_of_ours(server: ComfyServer, object_info: dict[str, Any]) -> None:
    log = re.sub(r"\x1b\[[0-9;]*m", "", server.log.read_text())
    start = log[: log.index("got prompt")] if "got prompt" in log else log
    # Without paths: core prints where it finds things and what each custom node took to import.
    said = [re.sub(r"\S*/\S*", "", line).removeprefix("[INFO] ") for line in start.splitlines()]
    assert [line for line in said if re.search("longtalk", line, re.IGNORECASE)] == [f"LongTalk: {len(NODES)} nodes"]
    for trouble in ("Traceback", "IMPORT FAILED", "WARNING", "ERROR"):
        assert trouble not in start, start


def test_saved_workflows_keep_their_meaning(object_info: dict[str, Any], root: Path) -> None:
    """Inputs are only ever appended: saved workflows hold widget values by position."""
    promised = json.loads((root / "tests" / "server" / "promised_inputs.json").read_text())
    assert set(promised) == NODES
    for node, inputs in promised.items():
        now = object_info[node]["input"]
        for group, names in inputs.items():
            assert object_info[node]["input_order"].get(group, [])[: len(names)] == names, node
            assert set(names) <= set(now[group])


@pytest.mark.parametrize("name", ["portrait", "portrait_16gb", "portrait_12gb", "ltx", "sound"])
def test_the_canvas_workflows_fit_the_nodes(object_info: dict[str, Any], root: Path, name: str) -> None:
    """Every node exists, links have matching types, and LongTalk's widgets hold values their inputs accept."""
    graph = json.loads((root / "workflows" / f"longtalk_{name}.json").read_text())
    nodes = {node["id"]: node for node in graph["nodes"]}
    for node in nodes.values():
        assert node["type"] == "MarkdownNote" or node["type"] in object_info
    for _, source, output, target, slot, kind in graph["links"]:
        assert object_info[nodes[source]["type"]]["output"][output] == kind
        name = nodes[target]["inputs"][slot]["name"]
        groups = object_info[nodes[target]["type"]]["input"]
        assert next(group[name][0] for group in groups.values() if name in group) == kind
    for node in nodes.values():
        if node["type"].startswith("LongTalk") and node["type"] != "LongTalkLoadPatch":
            check_widgets(node, object_info[node["type"]])


def check_widgets(node: dict[str, Any], info: dict[str, Any]) -> None:
    # A widget that a link feeds keeps its place among the values.
    sockets = {entry["name"] for entry in node["inputs"] if "widget" not in entry}
    values = list(node["widgets_values"])
    for name in inputs_of(info):
        if name in sockets:
            continue
        kind, options = next(group[name] for group in info["input"].values() if name in group)
        value = values.pop(0)
        if kind == "INT":
            assert isinstance(value, int)
            assert options["min"] <= value <= options["max"]
            if options.get("control_after_generate"):
                assert values.pop(0) == "fixed"
        elif kind == "FLOAT":
            assert options["min"] <= value <= options["max"]
        elif kind == "COMBO":
            assert value in options["options"]
        elif kind == "STRING":
            assert isinstance(value, str)
        else:
            assert kind == "BOOLEAN"
            assert isinstance(value, bool)
    assert values == []


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_demo_workflow_from_submit_to_saved_video(server: ComfyServer, demo: dict[str, Any], base: Path) -> None:
    runs = base / "output" / "longtalk"
    before = set(run_names(runs))
    outputs = asyncio.run(run_workflow(server, demo))
    [(_, saved)] = demo_client.saved_files(outputs, (".mp4",))
    video = base / "output" / saved["subfolder"] / saved["filename"]
    speech = demo_client.demo_media.read_sound(demo_client.SPEECH)
    assert demo_client.check(demo_client.demo_media.read_video(video), speech) == []

    # The face in the file says what is in the sound.
    talk = demo_client.demo_sync.Talk(video, demo_client.SPEECH)
    assert talk.sync.r >= demo_client.LEAST_R
    assert talk.sync.lag == 0

    # Save Video copied our file's packets: every decoded frame is bit for bit the same.
    [name] = set(run_names(runs)) - before
    ours, theirs = decoded(talk_in(runs / name)), decoded(video)
    assert len(ours) == len(theirs)
    assert all(np.array_equal(first, second) for first, second in zip(ours, theirs, strict=True))

    pictures = [file for _, file in demo_client.saved_files(outputs, (".png",)) if file["type"] == "output"]
    assert len(pictures) == 1
    reports = "\n".join(demo_client.texts(outputs))
    assert f"{len(ours)} frames" in reports
    assert demo_client.windows_in([reports]) >= 3


async def events_of(
    server: ComfyServer, prompt: dict[str, Any], react: Callable[[aiohttp.ClientSession, dict[str, Any]], Any] | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """All websocket events of one prompt until it ended, and the progress texts."""
    events, texts = [], []
    client = uuid.uuid4().hex
    async with aiohttp.ClientSession(server.url) as session:
        await wait_until_up(server, session)
        async with session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as socket:
            async with session.post("/prompt", json={"prompt": prompt, "client_id": client}) as answer:
                assert answer.status == 200, await answer.text()
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    if struct.unpack(">I", message.data[:4])[0] == TEXT_EVENT:
                        (length,) = struct.unpack(">I", message.data[4:8])
                        texts.append(message.data[8 + length :].decode())
                    continue
                event = json.loads(message.data)
                events.append(event)
                if react is not None:
                    await react(session, event)
                if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                    return events, texts
    raise AssertionError("the connection closed")


def test_progress_covers_the_whole_run_with_time_left(server: ComfyServer, short_workflow: dict[str, Any]) -> None:
    sampler = short_workflow[sampler_id(short_workflow)]["inputs"]
    sampler.update(seed=77)  # not cached
    events, texts = asyncio.run(events_of(server, short_workflow, None))
    assert events[-1]["type"] == "execution_success"
    mine = [e["data"] for e in events if e["type"] == "progress" and e["data"]["node"] == sampler_id(short_workflow)]
    values = [entry["value"] for entry in mine if entry["max"] > 1]
    windows = mine[-1]["max"] // sampler["steps"]
    assert windows >= 3
    assert values == sorted(values)
    assert values[-1] == mine[-1]["max"]
    assert any(re.search(rf"window 2 of {windows}, step 1 of 2, \d+:\d\d left", text) for text in texts), texts


def test_cancel_stops_within_one_step_and_leaves_what_there_is_to_watch(
    server: ComfyServer, short_workflow: dict[str, Any], base: Path
) -> None:
    node = sampler_id(short_workflow)
    steps, windows = 20, 2
    short_workflow[node]["inputs"].update(seed=78, steps=steps, width=112, height=64, window_frames=41)
    at = steps + 3  # in the second window
    posted: list[int] = []

    async def interrupt(session: aiohttp.ClientSession, event: dict[str, Any]) -> None:
        if (
            event["type"] == "progress"
            and event["data"]["node"] == node
            and event["data"]["value"] == at
            and not posted
        ):
            posted.append(at)
            async with session.post("/interrupt", json={}) as answer:
                assert answer.status == 200

    runs = base / "output" / "longtalk"
    before = set(run_names(runs))
    events, texts = asyncio.run(events_of(server, short_workflow, interrupt))
    assert posted == [at]
    assert events[-1]["type"] == "execution_interrupted"
    last = max(e["data"]["value"] for e in events if e["type"] == "progress" and e["data"]["node"] == node)
    assert last <= at + 1
    [name] = set(run_names(runs)) - before
    run = runs / name
    [partial] = run.glob("partial_*")
    assert partial.name == f"partial_1_of_{windows}_windows.mp4"
    whole = demo_client.demo_media.read_video(partial)
    assert 0 < whole.frames < 45
    assert whole.sound is not None
    assert abs(whole.sound.duration_s - whole.frames / 25) < 0.06
    assert any("queue the same workflow again" in text for text in texts), texts

    plan_only = {
        name: entry for name, entry in short_workflow.items() if entry["class_type"] in ("LoadAudio", "LongTalkPlan")
    }
    events, _ = asyncio.run(events_of(server, plan_only, None))
    assert events[-1]["type"] == "execution_success"

    # The same workflow again goes on with the second window.
    events, _ = asyncio.run(events_of(server, short_workflow, None))
    assert events[-1]["type"] == "execution_success"
    first = next(
        e["data"] for e in events if e["type"] == "progress" and e["data"]["node"] == node and e["data"]["max"] > 1
    )
    assert first["value"] > steps
    assert not list(run.glob("partial_*"))
    assert demo_client.demo_media.read_video(talk_in(run)).frames == 45


def test_errors_reach_the_user_as_written(server: ComfyServer, short_workflow: dict[str, Any]) -> None:
    """The message names expected, actual and next action, with the code behind it and no module in front of it."""
    short_workflow[sampler_id(short_workflow)]["inputs"].update(width=64, height=48, seed=79)
    short_workflow[sampler_id(short_workflow)]["inputs"].pop("audio_encoder")
    events, _ = asyncio.run(events_of(server, short_workflow, None))
    assert events[-1]["type"] == "execution_error"
    data = events[-1]["data"]
    assert data["exception_type"] == "LongTalk"
    assert data["exception_message"].strip() == (
        "audio_encoder: expected wav2vec2-chinese-base, got nothing. "
        "Load wav2vec2-chinese-base_fp16.safetensors with Load Audio Encoder and connect it. [LT-MODEL]"
    )


def test_vocals_without_the_pack_say_what_to_install(server: ComfyServer) -> None:
    prompt = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "short.wav"}},
        "2": {
            "class_type": "LongTalkVocals",
            "inputs": {
                "audio": ["1", 0],
                "model_name": "MelBandRoformer_fp16.safetensors",
                "model_finds": "voice",
            },
        },
        "3": {"class_type": "PreviewAudio", "inputs": {"audio": ["2", 0]}},
    }
    events, _ = asyncio.run(events_of(server, prompt, None))
    assert events[-1]["type"] == "execution_error"
    message = events[-1]["data"]["exception_message"]
    for word in ("ComfyUI-MelBandRoFormer", "MelBandRoFormerSampler", "ComfyUI Manager", "bypass"):
        assert word in message


def test_conditioning_is_saved_and_loaded(server: ComfyServer, base: Path) -> None:
    save = {
        "1": {"class_type": "LongTalkLoadConditioning", "inputs": {"name": "longtalk_tiny_positive.safetensors"}},
        "2": {
            "class_type": "LongTalkSaveConditioning",
            "inputs": {"conditioning": ["1", 0], "filename_prefix": "mine", "clip_vision_output": ["1", 1]},
        },
    }
    asyncio.run(run_workflow(server, save))
    saved = base / "output" / "conditioning" / "mine_00001_.safetensors"
    original = base / "models" / "conditioning" / "longtalk_tiny_positive.safetensors"
    from longtalk.infinitetalk.model import conditioning_file

    (again, vision), (first, first_vision) = conditioning_file.load(saved), conditioning_file.load(original)
    assert bool((again[0][0] == first[0][0]).all())
    assert vision is not None
    assert first_vision is not None
    assert bool((vision["penultimate_hidden_states"] == first_vision["penultimate_hidden_states"]).all())
    names = get(server, "/object_info/LongTalkLoadConditioning")["LongTalkLoadConditioning"]
    assert "mine_00001_.safetensors" in names["input"]["required"]["name"][1]["options"]


def test_a_prefix_cannot_leave_the_output_folder(server: ComfyServer, base: Path) -> None:
    prompt = {
        "1": {"class_type": "LongTalkLoadConditioning", "inputs": {"name": "longtalk_tiny_positive.safetensors"}},
        "2": {
            "class_type": "LongTalkSaveConditioning",
            "inputs": {"conditioning": ["1", 0], "filename_prefix": "../../escaped"},
        },
    }
    events, _ = asyncio.run(events_of(server, prompt, None))
    assert events[-1]["type"] == "execution_error"
    assert not list(base.rglob("escaped*"))
    assert not list(base.parent.glob("escaped*"))


def test_a_sound_is_prepared(server: ComfyServer) -> None:
    """Advanced inputs that were never touched, one that was, and the trim of both sounds."""
    prepare = {"audio": ["1", 0], "preset": "LTX", "start_seconds": 0.3, "end_seconds": 1.5, "eq_200_hz": "off"}
    prompt = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "short.wav"}},
        "2": {"class_type": "LongTalkAudioPrepare", "inputs": prepare},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 2]}},
        **{
            f"4{output}": {
                "class_type": "LongTalkPlan",
                "inputs": {"audio": ["2", output], "window_frames": 33, "motion_frames": 5, "plan_mode": "exact"},
            }
            for output in (0, 1)
        },
    }
    outputs = asyncio.run(run_workflow(server, prompt))
    report = outputs["3"]["text"][0]
    assert "1.20 s" in report
    assert "equalizer=f=400" in report
    assert "equalizer=f=200" not in report
    assert all("30 frames, 1.20 s" in outputs[name]["text"][0] for name in ("40", "41"))
