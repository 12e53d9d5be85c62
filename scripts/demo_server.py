"""A ComfyUI server of our own for one workflow: start, submit, follow, fetch, stop."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from setup_common import child_environ
from tqdm import tqdm

START_LIMIT_S = 300
STOP_LIMIT_S = 15
HISTORY_LIMIT_S = 30
LOG_TAIL_LINES = 30
TEXT_EVENT = 3  # ComfyUI's BinaryEventTypes.TEXT


class DemoError(Exception):
    """The demo cannot go on; the message is for the person who started it."""


class ComfyServer:
    """The server process. `with ComfyServer(...)` starts it and always stops it.

    It uses `base` for models, input, output and custom nodes, and keeps its database in memory: nothing is written to
    ComfyUI's own folder. Of custom nodes it loads LongTalk alone, or with `every_pack` all that are there. `options`
    are further ones of ComfyUI's command line.
    """

    def __init__(
        self,
        comfyui: Path,
        base: Path,
        log: Path,
        *,
        cpu: bool,
        threads: int | None = None,
        python: Path | None = None,
        every_pack: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.command = [str(python or sys.executable), str(comfyui / "main.py"), "--base-directory", str(base)]
        if not every_pack:
            self.command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", "LongTalk"]
        self.command += ["--disable-api-nodes"]
        self.command += ["--database-url", "sqlite:///:memory:", "--port", str(self.port), *(["--cpu"] if cpu else [])]
        self.command += options
        self.base = base
        self.environ = {**child_environ(), "PYTHONUNBUFFERED": "1"}
        if threads is not None:
            self.environ["OMP_NUM_THREADS"] = str(threads)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ComfyServer:
        with open(self.log, "wb") as log:
            # Its own session: Ctrl-C in the terminal reaches only us, and we stop it in order.
            self.process = subprocess.Popen(
                self.command,
                cwd=self.base,
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def check_alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise DemoError(f"the server ended (exit code {self.process.returncode}).\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The log's last lines; of a line that a progress bar rewrote, only what stood there last."""
        lines = self.log.read_text(errors="replace").splitlines()
        tail = "\n".join(line.rsplit("\r", 1)[-1] for line in lines[-LOG_TAIL_LINES:])
        return f"The last lines of {self.log}:\n{tail}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def run_workflow(server: ComfyServer, workflow: dict[str, Any]) -> dict[str, Any]:
    """Wait for the server, run the workflow with a progress bar; returns the outputs by node, from the history."""
    try:
        async with aiohttp.ClientSession(server.url) as session:
            await wait_until_up(server, session)
            await check_nodes(server, session, workflow)
            client = uuid.uuid4().hex
            async with session.ws_connect(f"/ws?clientId={client}", max_msg_size=0, heartbeat=60) as socket_:
                prompt = await submit(session, workflow, client)
                await follow(server, socket_, prompt, workflow)
            return await outputs_of(server, session, prompt)
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        raise DemoError(f"lost the server: {type(error).__name__} {error}\n{server.log_tail()}") from error


async def outputs_of(server: ComfyServer, session: aiohttp.ClientSession, prompt: str) -> dict[str, Any]:
    """The finished prompt's outputs. The server reports success a moment before it writes the history, so wait."""
    for _ in range(HISTORY_LIMIT_S * 10):
        server.check_alive()
        async with session.get(f"/history/{prompt}") as answer:
            history = await answer.json()
        if prompt in history:
            return dict(history[prompt]["outputs"])
        await asyncio.sleep(0.1)
    raise DemoError(f"the run ended, but the server's history does not have it.\n{server.log_tail()}")


async def wait_until_up(server: ComfyServer, session: aiohttp.ClientSession) -> None:
    for _ in range(START_LIMIT_S * 4):
        server.check_alive()
        try:
            async with session.get("/system_stats") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.25)
    raise DemoError(f"the server did not answer within {START_LIMIT_S} s.\n{server.log_tail()}")


async def check_nodes(server: ComfyServer, session: aiohttp.ClientSession, workflow: dict[str, Any]) -> None:
    async with session.get("/object_info") as answer:
        known = await answer.json()
    missing = sorted({node["class_type"] for node in workflow.values()} - set(known))
    if missing:
        raise DemoError(f"the server does not have these nodes: {', '.join(missing)}.\n{server.log_tail()}")


async def submit(session: aiohttp.ClientSession, workflow: dict[str, Any], client: str) -> str:
    async with session.post("/prompt", json={"prompt": workflow, "client_id": client}) as answer:
        body = await answer.json()
    if answer.status != 200:
        problems = [f"  {body['error']['message']}: {body['error'].get('details', '')}".rstrip(": ")]
        for node, found in body.get("node_errors", {}).items():
            for error in found["errors"]:
                problems.append(f"  node {node} ({found['class_type']}): {error['message']}: {error['details']}")
        raise DemoError("the server refused the workflow:\n" + "\n".join(problems))
    return str(body["prompt_id"])


async def follow(
    server: ComfyServer, socket_: aiohttp.ClientWebSocketResponse, prompt: str, workflow: dict[str, Any]
) -> None:
    """Show progress until the prompt has ended. Raises DemoError when it failed."""
    bars = Progress(workflow)
    try:
        async for message in socket_:
            if message.type == aiohttp.WSMsgType.BINARY:
                show_text(bars, message.data)
                continue
            if message.type != aiohttp.WSMsgType.TEXT:
                break
            event = json.loads(message.data)
            data = event.get("data", {})
            if data.get("prompt_id") != prompt:
                continue
            if event["type"] == "executing" and data.get("node"):
                bars.begin(data["node"])
            elif event["type"] == "progress":
                bars.advance(data["node"], data["value"], data["max"])
            elif event["type"] == "execution_success":
                return
            elif event["type"] in ("execution_error", "execution_interrupted"):
                bars.close()
                reason = f"{data.get('exception_type', event['type'])}: {data.get('exception_message', '').strip()}"
                where = f"node {data['node_id']} ({data['node_type']})"
                raise DemoError(f"{where} failed with {reason}\n{server.log_tail()}")
    finally:
        bars.close()
    server.check_alive()
    raise DemoError(f"the server closed the connection.\n{server.log_tail()}")


def show_text(bars: Progress, message: bytes) -> None:
    """A binary event: its type, then for text the length of the node id, the id and the text."""
    if len(message) < 8 or struct.unpack(">I", message[:4])[0] != TEXT_EVENT:
        return
    (length,) = struct.unpack(">I", message[4:8])
    bars.describe(message[8 : 8 + length].decode(), message[8 + length :].decode(errors="replace"))


class Progress:
    """A line per node that reports steps: name, steps done and in all, time left, and the node's own words."""

    def __init__(self, workflow: dict[str, Any]) -> None:
        self.workflow = workflow
        self.node: str | None = None
        self.bar: tqdm[Any] | None = None

    def begin(self, node: str) -> None:
        if node != self.node:
            self.close()
            self.node = node

    def advance(self, node: str, value: float, total: float) -> None:
        self.begin(node)
        if total <= 1:
            return  # what every node reports, whether it has steps or not
        if self.bar is None:
            # A file or a pipe keeps every redraw, so there redraw seldom.
            seldom = 0.2 if sys.stderr.isatty() else 10.0
            name = self.workflow.get(node, {}).get("class_type", node)
            self.bar = tqdm(total=total, desc=name, unit="step", mininterval=seldom, dynamic_ncols=True)
        self.bar.total = total
        self.bar.update(value - self.bar.n)

    def describe(self, node: str, text: str) -> None:
        if self.bar is not None and node == self.node:
            self.bar.set_postfix_str(re.sub(r"\s+", " ", text).strip()[:60], refresh=False)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None
        self.node = None


async def fetch_file(server: ComfyServer, file: dict[str, str]) -> bytes:
    """A file as the history names it ({filename, subfolder, type}), through the server."""
    query = {key: file.get(key, "") for key in ("filename", "subfolder", "type")}
    async with aiohttp.ClientSession(server.url) as session, session.get("/view", params=query) as answer:
        if answer.status != 200:
            raise DemoError(f"the server does not hand out {query['filename']} (HTTP {answer.status})")
        return await answer.read()
