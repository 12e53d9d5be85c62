"""Sound files of speech at 16 kHz, mono."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch

from longtalk.audio.reading.source import FileSource
from longtalk.audio.reading.track import Track, mono
from longtalk.metrics.opening import RATE_HZ


def decode(path: Path) -> torch.Tensor:
    """Mono samples ``[N]`` at 16 kHz, float32, of any file with sound."""
    source = FileSource(path)
    whole = torch.from_numpy(np.concatenate(list(source.blocks()), axis=1))
    return mono(Track(whole, source.rate_hz, source.name), RATE_HZ)


def encode(path: Path, samples: torch.Tensor, bit_rate: int = 40_000) -> None:
    """As Opus."""
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE_HZ)
        stream.bit_rate, stream.layout = bit_rate, "mono"
        pcm = (samples.clamp(-1, 1) * 32767).round().to(torch.int16).numpy()[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    part.replace(path)
