"""Run a workflow in a real ComfyUI server, from start to stop, and report what it made.

Started by scripts/demo inside the clone's environment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import demo_media
import demo_sync
import torch
from demo_server import ComfyServer, DemoError, fetch_file, run_workflow
from setup_common import CLONE

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
PICTURE_SUFFIXES = (".png",)
FPS = 25
SPEECH = CLONE / "scripts" / "assets" / "speech.flac"
LEAST_R = 0.9


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Make a talking video with tiny models.")
    parser.add_argument("--comfyui", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    parser.add_argument(
        "--workflow", type=Path, default=CLONE / "workflows" / "api" / "longtalk_demo.json", help="API format"
    )
    parser.add_argument("--output", type=Path, default=CLONE / "demo-output", help="where the results go")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even when there is a GPU")
    return parser.parse_args()


def make_base(base: Path, models: Path) -> None:
    """ComfyUI's user folders: this clone as the only custom node, the tiny models, the demo's picture and speech."""
    make_folders(base, models)
    (base / "custom_nodes" / "LongTalk").symlink_to(CLONE, target_is_directory=True)


def make_folders(base: Path, models: Path) -> None:
    """The same without any custom node."""
    for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / name).mkdir()
    for folder in models.iterdir():
        if folder.is_dir():
            (base / "models" / folder.name).symlink_to(folder, target_is_directory=True)
    for asset in (CLONE / "scripts" / "assets").iterdir():
        if asset.suffix in (".flac", ".png"):
            shutil.copy(asset, base / "input" / asset.name)


def saved_files(outputs: dict[str, Any], suffixes: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """(node id, file) of each file of these kinds in a history entry's outputs, whatever the nodes call the list."""
    return [
        (node, file)
        for node, output in outputs.items()
        for files in output.values()
        if isinstance(files, list)
        for file in files
        if isinstance(file, dict) and str(file.get("filename", "")).lower().endswith(suffixes)
    ]


def texts(outputs: dict[str, Any]) -> list[str]:
    return [text for out in outputs.values() for text in out.get("text", ()) if isinstance(text, str)]


def windows_in(reports: list[str]) -> int | None:
    """The number of windows that a report names ("... in 3 windows")."""
    found = re.search(r"([\d,]+) windows?\b", "\n".join(reports))
    return int(found[1].replace(",", "")) if found else None


async def run(server: ComfyServer, workflow: dict[str, Any], output: Path) -> list[str]:
    """Run the workflow and fetch its video and plan picture into `output`; returns the nodes' reports."""
    outputs = await run_workflow(server, workflow)
    pictures = saved_files(outputs, PICTURE_SUFFIXES)
    # The plan node's own picture before any other.
    pictures.sort(key=lambda found: "Plan" not in workflow[found[0]]["class_type"])
    videos = saved_files(outputs, VIDEO_SUFFIXES)
    for kind, found, name in (("video", videos, "talk.mp4"), ("picture", pictures, "plan.png")):
        if not found:
            raise DemoError(f"the workflow ran, but saved no {kind}")
        (output / name).write_bytes(await fetch_file(server, found[0][1]))
    return texts(outputs)


def check(talk: demo_media.Video, speech: demo_media.Sound) -> list[str]:
    """What is wrong with the video, given the speech that went in; empty when it is as promised."""
    problems = []
    # 25 fps, and a last frame that is not full counts: ceil(samples * 25 / rate), in integers.
    frames = -(-speech.samples * FPS // speech.rate_hz)
    if talk.fps != FPS or talk.frames != frames:
        problems.append(f"expected {frames} frames at {FPS} fps, got {talk.frames} at {float(talk.fps):g}")
    if talk.sound is None:
        problems.append("expected a sound track, got none")
    elif abs(talk.sound.duration_s - speech.duration_s) > 1 / FPS:
        problems.append(f"expected {speech.duration_s:.3f} s of sound, got {talk.sound.duration_s:.3f} s")
    return problems


def report(output: Path, reports: list[str]) -> list[str]:
    """Print what was made; returns what is wrong with it."""
    talk = demo_media.read_video(output / "talk.mp4")
    speech = demo_media.read_sound(SPEECH)
    width, height = demo_media.read_picture(output / "plan.png")
    windows = windows_in(reports)
    size_kb = (output / "talk.mp4").stat().st_size / 1000
    print(f"\n{output / 'talk.mp4'} ({size_kb:,.0f} kB)")
    print(f"  frames   {talk.frames} (counted by decoding), {talk.duration_s:.2f} s at {float(talk.fps):g} fps")
    print(f"  picture  {talk.width}x{talk.height}, {talk.codec}")
    print(f"  windows  {windows if windows is not None else 'not reported by the workflow'}")
    if talk.sound:
        sound = talk.sound
        channels = {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels} channels")
        print(f"  sound    {sound.codec}, {sound.rate_hz} Hz, {channels}, {sound.duration_s:.2f} s")
    print(f"{output / 'plan.png'}\n  picture  {width}x{height}")
    return [*check(talk, speech), *follows(output)]


def follows(output: Path) -> list[str]:
    """Measure and draw mouth against voice; returns what is wrong with it."""
    talk = demo_sync.Talk(output / "talk.mp4", SPEECH)
    if talk.frames.shape[1:3] != demo_sync.SIZE:
        print("The mouth is not looked at: the demo knows where it is in its own picture of 64x80 only.")
        return []
    demo_sync.write_picture(talk, output / "sync.png")
    sync = talk.sync
    print(
        f"{output / 'sync.png'}\n  mouth    follows the voice with r = {sync.r:.2f}, best at a lag of {sync.lag} frames"
    )
    if sync.r < LEAST_R or abs(sync.lag) > 1:
        return [f"expected the mouth to follow the voice (r of {LEAST_R} at lag 0), got {sync.r:.2f}, lag {sync.lag}"]
    return []


def main() -> int:
    args = arguments()
    workflow = json.loads(args.workflow.read_text())
    args.output.mkdir(parents=True, exist_ok=True)
    for name in ("talk.mp4", "plan.png", "sync.png"):
        (args.output / name).unlink(missing_ok=True)
    cpu = args.cpu or not torch.cuda.is_available()
    # A second Ctrl-C or a polite kill must not leave the server behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="longtalk-demo-") as temporary:
            make_base(Path(temporary), args.models)
            server = ComfyServer(args.comfyui, Path(temporary), args.output / "server.log", cpu=cpu)
            device = "CPU" if cpu else torch.cuda.get_device_name()
            print(f"[longtalk] starting ComfyUI on the {device} (log: {server.log})", flush=True)
            with server:
                reports = asyncio.run(run(server, workflow, args.output))
        problems = report(args.output, reports)
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the server is stopped too", file=sys.stderr)
        return 130
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"total time {time.time() - args.started:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
