"""Pictures to write, and ffmpeg's own program to read them back with."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch

from longtalk.infinitetalk.run.writer import THREAD_NAME, Soundtrack, VideoFormat, VideoWriter

WIDTH, HEIGHT = 64, 48
# ffmpeg's default conversion to RGB rounds chroma roughly; these flags make it a fair oracle.
EXACT_RGB = ["-sws_flags", "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"]


def ffmpeg(*args: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *args, "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def decoded(path: Path, *before_input: str, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """All frames as ffmpeg shows them, uint8 RGB [F, H, W, 3]."""
    args = [
        "-i",
        str(path),
        "-map",
        "0:v",
        *EXACT_RGB,
        "-pix_fmt",
        "rgb24",
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
    ]
    return np.frombuffer(ffmpeg(*before_input, *args), np.uint8).reshape(-1, height, width, 3)


def smooth(frames: int, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    """A slowly moving gradient in soft colours, float32 [F, H, W, 3]."""
    t = torch.arange(frames).reshape(-1, 1, 1) / 25
    y = torch.linspace(0, 1, height).reshape(1, -1, 1)
    x = torch.linspace(0, 1, width).reshape(1, 1, -1)
    red = 0.5 + 0.4 * torch.sin(3 * x + 2 * t + 0 * y)
    green = 0.5 + 0.3 * torch.cos(2 * y + t + 0 * x)
    blue = 0.3 + 0.4 * x * y + 0.1 * torch.sin(t)
    return torch.stack((red, green, blue.expand_as(red)), dim=-1)


def noise(frames: int, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(frames))


def tone(seconds: float, rate_hz: int = 16000) -> Soundtrack:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return Soundtrack((0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None], rate_hz)


def writer(folder: Path, codec: str = "h264", **options: object) -> VideoWriter:
    video = VideoFormat(codec)
    return VideoWriter(folder / f"talk{video.suffix}", width=WIDTH, height=HEIGHT, video=video, **options)  # type: ignore[arg-type]


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
