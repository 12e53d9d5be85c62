"""Sound files as they come from outside, written and read by ffmpeg's own command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np


def ffmpeg(*arguments: object, data: bytes = b"") -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout


def write(path: Path, sound: np.ndarray, rate_hz: int, *options: object) -> Path:
    """``[C, N]`` into a file; its name and the options say which kind."""
    raw = ["-f", "f32le", "-ar", rate_hz, "-ac", sound.shape[0], "-i", "-"]
    ffmpeg(*raw, *options, path, data=np.ascontiguousarray(sound.T, dtype="<f4").tobytes())
    return path


def write_video(path: Path, *sounds: Path, seconds: float = 1.0) -> Path:
    """A small picture with these sounds, each a stream of its own."""
    inputs = [part for sound in sounds for part in ("-i", sound)]
    maps = [part for index in range(len(sounds) + 1) for part in ("-map", index)]
    ffmpeg("-f", "lavfi", "-i", f"testsrc=s=32x32:r=25:d={seconds}", *inputs, *maps, "-c:a", "copy", path)
    return path


def read(path: Path, channels: int, *options: object) -> np.ndarray:
    """The first sound of a file, ``[C, N]``."""
    data = ffmpeg("-i", path, "-map", "0:a:0", *options, "-f", "f32le", "-")
    return np.frombuffer(data, "<f4").reshape(-1, channels).T


def voice(rate_hz: int, seconds: float, channels: int = 1, level: float = 0.5) -> np.ndarray:
    """Gliding tones, another in each channel, float32 ``[C, N]``."""
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    tones = [np.sin(2 * np.pi * (150 + 90 * channel + 40 * t) * t) for channel in range(channels)]
    return (level * np.stack(tones)).astype(np.float32)


def drums(rate_hz: int, seconds: float) -> np.ndarray:
    """Two channels of bass drum, snare and a held chord, with sharp peaks, float32 ``[2, N]``."""
    rng = np.random.default_rng(0)
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    since = t % 0.5
    kick = 0.8 * np.exp(-12 * since) * np.sin(2 * np.pi * 55 * since)
    snare = 0.5 * np.exp(-40 * np.abs(since - 0.25)) * (since >= 0.25) * rng.standard_normal(len(t))
    chord = sum(0.15 * np.sin(2 * np.pi * hz * t) for hz in (220, 277, 330))
    left = 0.5 * (kick + snare + chord)
    return np.stack([left, 0.9 * np.roll(left, 30)]).astype(np.float32)
