"""Pictures to write, videos made of them the way a run does, and ffmpeg's own program to read them back with."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import torch

from longtalk.infinitetalk.run.video.formats import VideoFormat
from longtalk.infinitetalk.run.video.join import WrittenVideo, join
from longtalk.infinitetalk.run.video.segment import to_bytes, write_segment
from longtalk.infinitetalk.run.video.soundtrack import Soundtrack, write_sound

WIDTH, HEIGHT = 64, 48
# ffmpeg's default conversion to RGB rounds chroma roughly; these flags make it a fair oracle.
EXACT_RGB = ["-sws_flags", "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"]


def ffmpeg(*args: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *args, "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def decoded(path: Path, *before_input: str, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """All frames as ffmpeg shows them, uint8 RGB [F, H, W, 3]."""
    args = [*EXACT_RGB, "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-f", "rawvideo"]
    data = ffmpeg(*before_input, "-i", str(path), "-map", "0:v", *args)
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def raw_by_ffmpeg(path: Path) -> bytes:
    """All frames as ffmpeg's decoder gives them, without any conversion."""
    return ffmpeg("-i", str(path), "-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo")


def raw_by_pyav(path: Path) -> list[bytes]:
    """Each frame as PyAV's decoder gives it, converted only where that is exact (NumPy has no layout for bgr0)."""
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24" if frame.format.name == "bgr0" else None).tobytes()
            for frame in container.decode(video=0)
        ]


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


def grainy(frames: int) -> np.ndarray:
    """:func:`smooth` with three bits of grain, so that no frame is predicted without a rest; uint8 [F, H, W, 3]."""
    return to_bytes(smooth(frames)) ^ np.random.default_rng(frames).integers(0, 8, (frames, HEIGHT, WIDTH, 3), np.uint8)


def tone(seconds: float, rate_hz: int = 16000) -> Soundtrack:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return Soundtrack((0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None], rate_hz)


def write_segments(folder: Path, pieces: Sequence[torch.Tensor | np.ndarray], video: VideoFormat) -> list[Path]:
    """One segment of each piece, float or uint8 [F, H, W, 3], in a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, piece in enumerate(pieces):
        path = folder / f"window_{index}{video.suffix}"
        write_segment(path, piece if isinstance(piece, np.ndarray) else to_bytes(piece), video)
        paths.append(path)
    return paths


def make_video(
    folder: Path,
    *pieces: torch.Tensor | np.ndarray,
    codec: str = "h264",
    crf: int = 18,
    soundtrack: Soundtrack | None = None,
) -> WrittenVideo:
    """``talk.mp4`` (or what the codec's suffix is) in ``folder``, of a segment per piece and the sound."""
    video = VideoFormat(codec, crf)
    segments = write_segments(folder / "windows", pieces, video)
    sound = None
    if soundtrack is not None:
        sound = folder / "windows" / f"sound{video.suffix}"
        write_sound(sound, soundtrack, video, frames=sum(len(piece) for piece in pieces))
    return join(folder / f"talk{video.suffix}", segments, sound, video)
