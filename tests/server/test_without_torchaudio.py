"""The demo in a server without torchaudio, which ComfyUI no longer promises."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import demo_client
import pytest
import torch
from demo_server import ComfyServer, run_workflow

LAUNCHER = Path(__file__).resolve().parents[1] / "support" / "without_torchaudio.py"


@pytest.fixture
def bare_base(tiny_models: Path, tmp_path: Path) -> Path:
    demo_client.make_base(tmp_path, tiny_models)
    return tmp_path


@pytest.fixture
def bare_server(comfyui_path: Path, bare_base: Path) -> Iterator[ComfyServer]:
    cpu = not torch.cuda.is_available()
    server = ComfyServer(comfyui_path, bare_base, bare_base / "server.log", cpu=cpu, threads=1)
    server.command.insert(1, str(LAUNCHER))
    server.environ["PYTHONPATH"] = str(comfyui_path)
    with server as running:
        yield running


def test_every_node_loads_and_the_demo_talks(bare_server: ComfyServer, bare_base: Path, root: Path) -> None:
    demo = json.loads((root / "workflows" / "api" / "longtalk_demo.json").read_text())
    outputs = asyncio.run(run_workflow(bare_server, demo))
    promised = json.loads((root / "tests" / "server" / "promised_inputs.json").read_text())
    log = re.sub(r"\x1b\[[0-9;]*m", "", bare_server.log.read_text())
    assert f"LongTalk: {len(promised)} nodes" in log

    [(_, saved)] = demo_client.saved_files(outputs, (".mp4",))
    video = bare_base / "output" / saved["subfolder"] / saved["filename"]
    speech = demo_client.demo_media.read_sound(demo_client.SPEECH)
    assert demo_client.check(demo_client.demo_media.read_video(video), speech) == []
    talk = demo_client.demo_sync.Talk(video, demo_client.SPEECH)
    assert talk.sync.r >= demo_client.LEAST_R
    assert talk.sync.lag == 0
    reports = "\n".join(demo_client.texts(outputs))
    assert f"resampled from {speech.rate_hz} to 16000 Hz with scipy (torchaudio is not installed)" in reports
