"""The real ComfyUI server with LongTalk as its only custom node, for all server tests."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import av
import demo_client
import numpy as np
import pytest
import torch
from demo_server import ComfyServer

#: Of a server. Threads that wait for each other are ten times slower on cores that do something else too, as they do
#: while other tests run beside these.
THREADS = 1
#: The first seconds of the demo's speech, for tests that need only a few windows.
SHORT = "short.wav"
SHORT_S = 1.8


@pytest.fixture(scope="session")
def base(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folders: this clone, the tiny models, the demo's picture and speech."""
    folder = tmp_path_factory.mktemp("server_base")
    demo_client.make_base(folder, tiny_models)
    with av.open(str(folder / "input" / "speech.flac")) as source:
        frames = [frame.to_ndarray() for frame in source.decode(audio=0)]
        rate = source.streams.audio[0].rate
    sound = np.concatenate(frames, axis=1)[0, : round(SHORT_S * rate)]
    with wave.open(str(folder / "input" / SHORT), "wb") as short:
        short.setnchannels(1)
        short.setsampwidth(2)
        short.setframerate(rate)
        short.writeframes(sound.astype("<i2").tobytes())
    return folder


@pytest.fixture(scope="session")
def server(comfyui_path: Path, base: Path) -> Iterator[ComfyServer]:
    cpu = not torch.cuda.is_available()
    with ComfyServer(comfyui_path, base, base / "server.log", cpu=cpu, threads=THREADS) as running:
        yield running
