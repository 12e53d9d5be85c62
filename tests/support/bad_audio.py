"""AUDIO that no node can use, as it was seen in the wild, and what the message has to say about it."""

from __future__ import annotations

import math
from typing import Any

import torch


def sound(samples: int = 32000, rate: int = 16000, channels: int = 1, value: float = 0.3) -> dict[str, Any]:
    """A tone of its own in each channel."""
    time = torch.arange(samples) / rate
    tones = [torch.sin(2 * torch.pi * (200 + 300 * channel) * time) for channel in range(channels)]
    return {"waveform": value * torch.stack(tones)[None], "sample_rate": rate}


def lazily_broken() -> Any:
    class Video(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise ValueError("no audio stream found")

    return Video()


BAD = {
    "a video without sound": (None, ("nothing (a video without sound gives no audio)",)),
    "a video that has no stream": (lazily_broken(), ("no audio stream found", "video without sound")),
    "an empty track": (sound(0), ("an empty track",)),
    "one sample": (sound(1), ("at least 0.04 s", "1 samples")),
    "NaN": (sound(value=math.nan), ("finite samples", "32000 NaN", "0.000 s")),
    "infinite": (sound(value=math.inf), ("finite samples",)),
    "16-bit numbers as float": (sound(value=32767.0), ("a peak of 327",)),
    "two clips": ({"waveform": torch.zeros(2, 1, 16000), "sample_rate": 16000}, ("a batch of 2",)),
    "no rate at all": ({"waveform": torch.zeros(1, 1, 16000)}, ("an AUDIO with a waveform and a sample rate",)),
    "a rate of 0": (sound() | {"sample_rate": 0}, ("sample rate of audio",)),
    "a file name": ("speech.wav", ("type str",)),
}
