"""One ComfyUI server after the other, each killed while it works on a run and followed by one that resumes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import av
import demo_client
import environment
import numpy as np
import torch
from demo_server import ComfyServer, DemoError, submit, wait_until_up
from setup_common import CLONE

from longtalk.infinitetalk.plan.windows import frames_for_samples, plan_windows
from longtalk.infinitetalk.run.store.folder import RunFolder, run_names
from longtalk.infinitetalk.run.store.names import RUNS_FOLDER

from .fault_evidence import SUFFIX, Attempt, Decoded, OnDisk, Reference, Verdict, failures, judge, rendered_windows

SPEECH = "short.wav"
SPEECH_S = 2.5
WINDOW_FRAMES = 21
MOTION_FRAMES = 9
SAMPLER = {"width": 48, "height": 32, "steps": 2, "window_frames": WINDOW_FRAMES, "motion_frames": MOTION_FRAMES}
APG = {"eta": 0.5, "norm_threshold": 2.0, "momentum": -0.5}
#: A resumed run must end within this many times what the reference took (the machine may be busy with other things).
PATIENCE = 20
FREE_S = 1.0
POLL_S = 0.1
LOOK_S = 0.001
REFER_EVERY = 8


#: What is special about a run: nothing; it is asked to start over, each time it is queued; the pack lies in a folder of
#: another name when it is resumed; core's APG node, which keeps an average from step to step, is on the model.
KINDS = ("plain", "start over", "moved", "apg")


@dataclass(frozen=True)
class Kills:
    """When one run is killed; the first one is while it is begun, the second while it is resumed.

    Each is a share of what an uninterrupted run takes, or the name of a file (``*`` for any characters) when the kill
    comes as soon as it is there. ``kind`` is one of :data:`KINDS`.
    """

    run: int
    at: tuple[float | str, ...]
    kind: str = "plain"


def short_workflow(kind: str) -> dict[str, Any]:
    """The demo's workflow: only what the video needs, and little of that; with what is special about the kind."""
    nodes: dict[str, Any] = json.loads((CLONE / "workflows" / "api" / "longtalk_demo.json").read_text())
    for node in nodes.values():
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = SPEECH
        if node["class_type"] == "LongTalkSampler":
            node["inputs"].update(SAMPLER)
            if kind == "start over":
                node["inputs"]["resume"] = kind
            if kind == "apg":
                nodes["apg"] = {"class_type": "APG", "inputs": {"model": node["inputs"]["model"], **APG}}
                node["inputs"].update(model=["apg", 0], cfg=2.0)
                break  # the dictionary has grown
    return {name: node for name, node in nodes.items() if node["class_type"] not in ("LongTalkPlan", "SaveImage")}


def shorten_speech(folder: Path) -> int:
    """Write the first seconds of the demo's speech beside it; returns the video frames it needs."""
    with av.open(str(folder / "speech.flac")) as source:
        blocks = [block.to_ndarray() for block in source.decode(audio=0)]
        rate_hz = source.streams.audio[0].rate
    samples = np.concatenate(blocks, axis=1)[0, : round(SPEECH_S * rate_hz)]
    with wave.open(str(folder / SPEECH), "wb") as short:
        short.setnchannels(1)
        short.setsampwidth(2)
        short.setframerate(rate_hz)
        short.writeframes(samples.astype("<i2").tobytes())
    return frames_for_samples(len(samples), rate_hz)


class Lane:
    """One server at a time, with folders of its own.

    A server start takes longer than a run. So the server that resumed one run also begins the next one, with all of
    ComfyUI's caches dropped and an empty output folder: there is one start per kill.
    """

    def __init__(self, number: int, folder: Path, made: environment.Environment, keep: bool) -> None:
        self._name = f"server {number}"
        self._base = folder / f"server_{number}"
        self._base.mkdir()
        demo_client.make_base(self._base, made.models)
        self._output = self._base / "output"
        self._runs = self._output / RUNS_FOLDER
        self._comfyui = made.comfyui
        self._keep = keep
        self._pack = next((self._base / "custom_nodes").iterdir())
        self._starts = 0
        self._log_read = 0
        self._finished = 0
        self.windows = len(plan_windows(shorten_speech(self._base / "input"), WINDOW_FRAMES, MOTION_FRAMES).windows)
        #: By kind; kinds that are not here give what a plain run gives.
        self.references: dict[str, Reference] = {}
        self.whole_s = 0.0
        self.unsteady = 0

    async def work(self, waiting: list[Kills], verdicts: list[Verdict], told: Any) -> None:
        """Take runs from ``waiting`` until there are none, and add what they showed to ``verdicts``."""
        kills: Kills | None = None
        attempts: list[Attempt] = []
        while kills is not None or waiting:
            if kills is not None and kills.kind == "moved":
                self._pack = self._pack.rename(self._pack.with_name(f"longtalk-{self._starts}"))
            with self._server() as server:
                async with aiohttp.ClientSession(server.url) as session:
                    await wait_until_up(server, session)
                    if not self.references:
                        # The first in a process takes longer than those after it, which are the ones to be killed.
                        for kind in ("apg", "plain", "plain"):
                            await self._refer(server, session, told, kind)
                    if kills is not None:
                        if len(attempts) < len(kills.at):
                            attempts.append(await self._kill(server, session, kills.at[len(attempts)], kills.kind))
                            continue
                        verdict = await self._finish(server, session, kills, attempts)
                        verdicts.append(verdict)
                        self._finished += 1
                        print(verdict, file=told, flush=True)
                        await self._clear(session, f"run_{kills.run:03d}")
                        kills, attempts = None, []
                        if self._finished % REFER_EVERY == 0:
                            await self._refer(server, session, told, "plain")
                    if waiting:
                        kills = waiting.pop(0)
                        attempts.append(await self._kill(server, session, kills.at[0], kills.kind))

    @contextlib.contextmanager
    def _server(self) -> Iterator[ComfyServer]:
        self._starts += 1
        self._log_read = 0
        log = self._base / f"server_{self._starts:03d}.log"
        with ComfyServer(self._comfyui, self._base, log, cpu=not torch.cuda.is_available()) as server:
            yield server

    async def _refer(self, server: ComfyServer, session: aiohttp.ClientSession, told: Any, kind: str) -> None:
        """A run that nothing interrupts. The first one is what all others are compared with; each tells how long a run
        takes, which changes when the machine has other work.
        """
        began = time.perf_counter()
        error = await self._run(server, session, kind)
        self.whole_s = time.perf_counter() - began
        if error:
            raise DemoError(f"an uninterrupted run failed: {error}\n{server.log_tail()}")
        if self._read_log(server)[0] != tuple(range(1, self.windows + 1)):
            raise DemoError(f"the log does not tell of {self.windows} rendered windows\n{server.log_tail()}")
        on_disk = await asyncio.to_thread(OnDisk.read, self._runs)
        found = [Reference.of(video, on_disk) for video in await asyncio.to_thread(self._videos)]
        reference = self.references.setdefault(kind, found[0])
        others = reference.other_windows(on_disk)
        if any(each.video != reference.video for each in found):
            self.unsteady += 1
            others.append("the video DIFFERS")
        took = f"uninterrupted run took {self.whole_s:.1f} s"
        print("; ".join([f"{self._name}: {took}", *others]), file=told, flush=True)
        await self._clear(session, f"uninterrupted_{self._starts:03d}_{self._log_read}")

    async def _kill(
        self, server: ComfyServer, session: aiohttp.ClientSession, moment: float | str, kind: str
    ) -> Attempt:
        await submit(session, short_workflow(kind), "faults")
        began = time.perf_counter()
        if isinstance(moment, str):
            await asyncio.to_thread(self._wait_for_file, moment)
        else:
            await asyncio.sleep(moment * self.whole_s)
        server.check_alive()
        assert server.process is not None
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
        kill_s = time.perf_counter() - began
        on_disk = await asyncio.to_thread(OnDisk.read, self._runs)
        rendered, errors = self._read_log(server)
        if errors:
            raise DemoError(f"a run failed before it was killed: {errors[0]}\n{server.log_tail()}")
        return Attempt(rendered, on_disk, kill_s)

    def _wait_for_file(self, name: str) -> None:
        """Return as soon as the run has a file of this name, or when it should long have had it."""
        limit_s = time.perf_counter() + 3 * self.whole_s
        while not any(self._runs.glob(f"*/{name}")) and time.perf_counter() < limit_s:
            time.sleep(LOOK_S)

    async def _finish(
        self, server: ComfyServer, session: aiohttp.ClientSession, kills: Kills, attempts: list[Attempt]
    ) -> Verdict:
        error = await self._run(server, session, kills.kind)
        last = Attempt(self._read_log(server)[0])
        end = await asyncio.to_thread(OnDisk.read, self._runs)
        videos = [] if error else await asyncio.to_thread(self._videos)
        reference = self.references.get(kills.kind, self.references["plain"])
        verdict = judge(kills.run, [*attempts, last], end, videos, reference, self.windows)
        verdict.kind = kills.kind
        if error:
            verdict.problems.append(f"the resumed run failed: {error}")
        return verdict

    async def _run(self, server: ComfyServer, session: aiohttp.ClientSession, kind: str) -> str | None:
        """Run the workflow to its end; what went wrong, or None."""
        prompt = await submit(session, short_workflow(kind), "faults")
        limit_s = time.perf_counter() + PATIENCE * max(self.whole_s, 30.0)
        while time.perf_counter() < limit_s:
            server.check_alive()
            async with session.get(f"/history/{prompt}") as answer:
                history = await answer.json()
            if prompt in history:
                status = history[prompt]["status"]
                told = [detail for kind, detail in status["messages"] if kind == "execution_error"]
                return None if status["completed"] else str(told[0]["exception_message"] if told else status)
            await asyncio.sleep(POLL_S)
        raise DemoError(f"a run did not end.\n{server.log_tail()}")

    def _videos(self) -> list[Decoded]:
        """The run's own video and the newest that Save Video copied (a killed one may lie beside it)."""
        runs = [RunFolder(self._runs, name, SUFFIX) for name in run_names(self._runs)]
        own = [run.video_path(name) for run in runs for name in run.video_names()]
        saved = sorted(self._runs.glob(f"talk_*{SUFFIX}"))[-1:]
        return [Decoded.of(path) for path in [*own, *saved]]

    def _read_log(self, server: ComfyServer) -> tuple[tuple[int, ...], list[str]]:
        """The windows rendered, and errors, since the last look."""
        log = server.log.read_bytes()
        new = log[self._log_read :].decode(errors="replace")
        self._log_read = len(log)
        return rendered_windows(new), failures(new)

    async def _clear(self, session: aiohttp.ClientSession, name: str) -> None:
        """Begin anew: an empty output folder, and nothing in ComfyUI's caches."""
        if self._keep:
            kept = self._base / "runs" / name
            kept.parent.mkdir(exist_ok=True)
            self._runs.rename(kept)
        else:
            shutil.rmtree(self._runs, ignore_errors=True)
        async with session.post("/free", json={"unload_models": True, "free_memory": True}) as answer:
            answer.raise_for_status()
        await asyncio.sleep(
            FREE_S
        )  # the worker does it in its own time, and a workflow that came sooner would go first
