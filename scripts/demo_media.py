"""What a media file really holds, found by decoding all of it with PyAV."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av


@dataclass(frozen=True)
class Video:
    frames: int  # counted by decoding
    fps: Fraction
    width: int
    height: int
    codec: str
    sound: Sound | None

    @property
    def duration_s(self) -> float:
        return float(self.frames / self.fps)


@dataclass(frozen=True)
class Sound:
    codec: str
    rate_hz: int
    channels: int
    samples: int  # counted by decoding
    duration_s: float  # as the container gives it: without what a codec pads


def read_video(path: Path) -> Video:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        sound = read_sound(path) if container.streams.audio else None
        context = stream.codec_context
        assert stream.average_rate is not None
        return Video(frames, stream.average_rate, context.width, context.height, context.name, sound)


def read_sound(path: Path) -> Sound:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        duration_s = samples / stream.rate
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        return Sound(stream.codec_context.name, stream.rate, stream.codec_context.channels, samples, duration_s)


def read_picture(path: Path) -> tuple[int, int]:
    """(width, height) of a picture that decodes."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.width, frame.height
