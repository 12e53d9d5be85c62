"""One ComfyUI server after the other, each killed while it works on a run and followed by one that resumes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
import wave
from collections.abc import Iterator, Sequence
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

from longtalk.infinitetalk.plan.windows import frames_for_samples, plan_windows
from longtalk.infinitetalk.run.store.folder import RunFolder, run_names
from longtalk.infinitetalk.run.store.names import RUNS_FOLDER

from .fault_evidence import (
    SUFFIX,
    Attempt,
    Decoded,
    Given,
    OnDisk,
    Place,
    Reference,
    Story,
    Verdict,
    failures,
    judge,
    rendered_windows,
)
from .fault_kinds import KINDS, MOTION_FRAMES, PLAIN, SPEECH, WINDOW_FRAMES, Workflow

SPEECH_S = 2.5
#: A resumed run must end within this many times what the reference took (the machine may be busy with other things).
PATIENCE = 20
FREE_S = 1.0
POLL_S = 0.1
LOOK_S = 0.001
REFER_EVERY = 8
#: Two of them wait for each other where a core has other work: a run of 7 s took more than a minute.
THREADS = 1


@dataclass(frozen=True)
class Kills:
    """When one run is killed: the first time while it is begun, then while it is resumed.

    Each is a share of what a take of an uninterrupted run takes, or the name of a file (``*`` for any characters) when
    the kill comes as soon as it is there. ``kind`` is one of :data:`~.fault_kinds.KINDS`.
    """

    run: int
    at: tuple[float | str, ...]
    kind: str = PLAIN


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

    Args:
        number: from 1.
        folder: for the folders of all lanes.
        made: where ComfyUI and the models are.
        keep: whether the runs stay.
        references: by kind; all lanes share them.
    """

    def __init__(
        self, number: int, folder: Path, made: environment.Environment, keep: bool, references: dict[str, Reference]
    ) -> None:
        self._name = f"server {number}"
        self._base = folder / f"server_{number}"
        self._base.mkdir()
        demo_client.make_base(self._base, made.models)
        self._output = self._base / "output"
        self._comfyui = made.comfyui
        self._keep = keep
        self._pack = next((self._base / "custom_nodes").iterdir())
        self._starts = 0
        self._log_read = 0
        self._finished = 0
        self._references = references
        self._whole_s = 0.0
        self.windows = len(plan_windows(shorten_speech(self._base / "input"), WINDOW_FRAMES, MOTION_FRAMES).windows)
        self.unsteady = 0

    @property
    def _runs(self) -> Path:
        return self._output / RUNS_FOLDER

    async def refer(self, kinds: Sequence[str], told: Any) -> None:
        """Make the references of these kinds, and find out how long a plain run takes."""
        with self._server() as server:
            async with aiohttp.ClientSession(server.url) as session:
                await wait_until_up(server, session)
                # The first in a process takes longer than those after it, which are the ones to be killed.
                for kind in (*kinds, PLAIN):
                    await self._refer(server, session, told, kind)

    async def work(self, waiting: list[Kills], verdicts: list[Verdict], told: Any) -> None:
        """Take runs from ``waiting`` until there are none, and add what they showed to ``verdicts``."""
        kills: Kills | None = None
        before = OnDisk.read(self._runs)
        attempts: list[Attempt] = []
        while kills is not None or waiting:
            if kills is not None and KINDS[kills.kind].moves:
                self._pack = self._pack.rename(self._pack.with_name(f"longtalk-{self._starts}"))
                self._output = self._output.rename(self._output.with_name(f"output-{self._starts}"))
            with self._server() as server:
                async with aiohttp.ClientSession(server.url) as session:
                    await wait_until_up(server, session)
                    if kills is not None:
                        if len(attempts) < len(kills.at):
                            attempts.append(await self._kill(server, session, kills, len(attempts)))
                            continue
                        verdict = await self._finish(server, session, kills, before, attempts)
                        verdicts.append(verdict)
                        self._finished += 1
                        print(verdict, file=told, flush=True)
                        await self._clear(session, f"run_{kills.run:03d}")
                        kills, attempts = None, []
                        if self._finished % REFER_EVERY == 0:
                            await self._refer(server, session, told, PLAIN)
                    if waiting:
                        kills = waiting.pop(0)
                        before = await self._begin(server, session, kills.kind)
                        attempts.append(await self._kill(server, session, kills, 0))

    @contextlib.contextmanager
    def _server(self) -> Iterator[ComfyServer]:
        self._starts += 1
        self._log_read = 0
        log = self._base / f"server_{self._starts:03d}.log"
        # The pack is the only one there; ComfyUI would pass over a folder of another name than LongTalk.
        options = ("--output-directory", str(self._output))
        cpu = not torch.cuda.is_available()
        with ComfyServer(
            self._comfyui, self._base, log, cpu=cpu, threads=THREADS, every_pack=True, options=options
        ) as server:
            yield server

    async def _begin(self, server: ComfyServer, session: aiohttp.ClientSession, kind: str) -> OnDisk:
        """Make what a run of this kind begins with; what is on the disk then."""
        for changes in KINDS[kind].before:
            error = await self._run(server, session, KINDS[kind].workflow(changes))
            if error:
                raise DemoError(f"what a run begins with failed: {error}\n{server.log_tail()}")
            await self._free(session)
        self._read_log(server)
        return await asyncio.to_thread(OnDisk.read, self._runs)

    async def _refer(self, server: ComfyServer, session: aiohttp.ClientSession, told: Any, kind: str) -> None:
        """A run that nothing interrupts. The first one is what all others are compared with; a plain one tells how long
        a run takes, which changes when the machine has other work.
        """
        before = await self._begin(server, session, kind)
        began = time.perf_counter()
        given, error = await self._ask(server, session, kind, 0)
        took_s = time.perf_counter() - began
        if kind == PLAIN:
            self._whole_s = took_s
        if given is None or not given.is_plausible:
            raise DemoError(f"an uninterrupted run ({kind}) failed or gave {given}: {error}\n{server.log_tail()}")
        on_disk = await asyncio.to_thread(OnDisk.read, self._runs)
        found = Reference.of(given, before, on_disk, self._read_log(server)[0], took_s)
        if kind == PLAIN and len(found.rendered) != self.windows:
            raise DemoError(f"the log does not tell of {self.windows} rendered windows\n{server.log_tail()}")
        if any(other.given == given for name, other in self._references.items() if name != kind):
            raise DemoError(f"a run that is special ({kind}) gave what another kind gives\n{server.log_tail()}")
        reference = self._references.setdefault(kind, found)
        others = reference.other_windows(on_disk)
        if given != reference.given:
            self.unsteady += 1
            others.append("a video DIFFERS")
        took = f"uninterrupted run ({kind}) took {took_s:.1f} s"
        print("; ".join([f"{self._name}: {took}", *others]), file=told, flush=True)
        await self._clear(session, f"uninterrupted_{self._starts:03d}_{self._log_read}")

    async def _kill(self, server: ComfyServer, session: aiohttp.ClientSession, kills: Kills, attempt: int) -> Attempt:
        kind, moment = KINDS[kills.kind], kills.at[attempt]
        await submit(session, kind.workflow(kind.takes[attempt % len(kind.takes)]), "faults")
        began = time.perf_counter()
        if isinstance(moment, str):
            await asyncio.to_thread(self._wait_for_file, moment)
        else:
            await asyncio.sleep(moment * self._take_s(kills.kind))
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

    def _take_s(self, kind: str) -> float:
        """What one take of an uninterrupted run of this kind takes now."""
        reference = self._references[KINDS[kind].gives or kind]
        return reference.took_s / len(KINDS[kind].takes) * self._whole_s / self._references[PLAIN].took_s

    def _wait_for_file(self, name: str) -> None:
        """Return as soon as the run has a file of this name, or when it should long have had it."""
        limit_s = time.perf_counter() + 3 * self._whole_s
        while not any(self._runs.glob(f"*/{name}")) and time.perf_counter() < limit_s:
            time.sleep(LOOK_S)

    async def _finish(
        self,
        server: ComfyServer,
        session: aiohttp.ClientSession,
        kills: Kills,
        before: OnDisk,
        attempts: list[Attempt],
    ) -> Verdict:
        kind = KINDS[kills.kind]
        given, error = await self._ask(server, session, kills.kind, len(attempts))
        last = Attempt(self._read_log(server)[0])
        end = await asyncio.to_thread(OnDisk.read, self._runs)
        story = Story(before, [*attempts, last], end, given, kind.starts_over)
        verdict = judge(kills.run, kills.kind, story, self._references[kind.gives or kills.kind])
        if error:
            verdict.problems.append(f"the resumed run failed: {error}")
        return verdict

    async def _ask(
        self, server: ComfyServer, session: aiohttp.ClientSession, kind: str, attempt: int
    ) -> tuple[Given | None, str | None]:
        """Ask for all takes in turn, to the end; what they gave, or what went wrong.

        Args:
            attempt: how many there were before, each of which asked for the next take.
        """
        takes = KINDS[kind].takes
        saved: dict[int, Decoded] = {}
        for number in range(attempt, attempt + len(takes)):
            take = number % len(takes)
            error = await self._run(server, session, KINDS[kind].workflow(takes[take]))
            if error:
                return None, error
            # The newest that Save Video copied; a killed one may lie beside it.
            copied = max(self._runs.glob(f"talk_*{SUFFIX}"))
            saved[take] = await asyncio.to_thread(Decoded.of, copied)
        own = await asyncio.to_thread(self._own_videos)
        return Given(own, tuple(saved[take] for take in range(len(takes)))), None

    async def _run(self, server: ComfyServer, session: aiohttp.ClientSession, workflow: Workflow) -> str | None:
        """Run a workflow to its end; what went wrong, or None."""
        prompt = await submit(session, workflow, "faults")
        limit_s = time.perf_counter() + PATIENCE * max(self._whole_s, 30.0)
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

    def _own_videos(self) -> tuple[tuple[str, Decoded], ...]:
        """What :class:`Given` has of the videos in the folders of the runs."""
        runs = [RunFolder(self._runs, name, SUFFIX) for name in run_names(self._runs)]
        return tuple(
            (name.split("_")[0], Decoded.of(run.video_path(name))) for run in runs for name in sorted(run.video_names())
        )

    def _read_log(self, server: ComfyServer) -> tuple[tuple[Place, ...], list[str]]:
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
        await self._free(session)

    async def _free(self, session: aiohttp.ClientSession) -> None:
        """Empty ComfyUI's caches, so that the next run loads what it needs."""
        async with session.post("/free", json={"unload_models": True, "free_memory": True}) as answer:
            answer.raise_for_status()
        # The worker does it in its own time, and a workflow that came sooner would go first.
        await asyncio.sleep(FREE_S)
