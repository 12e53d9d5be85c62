"""Where somebody speaks; Silero's own function over the whole waveform is the oracle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from longtalk.audio.reading.resample import resample, resample_blocks
from longtalk.audio.reading.track import Track
from longtalk.audio.voice import RATE_HZ, Segment, speech_segments


@dataclass(frozen=True)
class Pieces:
    """A sound that comes in blocks of an odd length."""

    waveform: torch.Tensor
    rate_hz: int
    block: int

    def blocks(self) -> Iterator[np.ndarray]:
        for block in self.waveform.split(self.block, dim=1):
            yield block.numpy()


@pytest.fixture(scope="module")
def speech(root: Path) -> Track:
    """Two sentences, 1.6 s of a faint hiss between them and 1 s behind; 48 kHz, two channels."""
    with av.open(str(root / "scripts" / "assets" / "speech.flac")) as container:
        decoded = [frame.to_ndarray() for frame in container.decode(audio=0)]
    spoken = torch.from_numpy(np.concatenate(decoded, axis=1)).float()
    spoken = spoken / spoken.abs().max()
    generator = torch.Generator().manual_seed(1)
    hiss = 1e-3 * torch.randn(1, 48000 * 13, generator=generator)
    hiss[:, 24000:144000] += spoken[:, :120000]
    hiss[:, 220800:460800] += spoken[:, 120000:360000]
    return Track(torch.cat([hiss, 0.5 * hiss]), 48000)


def oracle(samples: torch.Tensor, **settings: object) -> list[Segment]:
    threads = torch.get_num_threads()
    import silero_vad

    with torch.inference_mode():
        found = silero_vad.get_speech_timestamps(samples, silero_vad.load_silero_vad(), **settings)
    torch.set_num_threads(threads)
    return [Segment(each["start"] / RATE_HZ, each["end"] / RATE_HZ) for each in found]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"threshold": 0.2, "min_silence_duration_ms": 400},
        {"min_speech_duration_ms": 600, "speech_pad_ms": 200},
    ],
    ids=["defaults", "long pauses only", "long speech only"],
)
def test_blocks_of_any_length_give_what_silero_finds_in_the_whole(speech: Track, settings: dict) -> None:
    samples = resample(speech.waveform.mean(0, keepdim=True), 48000, RATE_HZ)
    expected = oracle(samples[0], **settings)
    assert len(expected) > 1
    for block in (RATE_HZ, 777):
        assert list(speech_segments(Pieces(samples, RATE_HZ, block), **settings)) == expected


def test_a_track_of_another_rate_is_converted_on_the_way(speech: Track) -> None:
    converted = list(resample_blocks([speech.waveform.mean(0).numpy()], 48000, RATE_HZ))
    samples = torch.from_numpy(np.concatenate(converted))
    found = speech_segments(speech)
    assert list(found) == oracle(samples)
    assert found == speech_segments(Pieces(speech.waveform, 48000, 50007))


def test_segments_lie_in_order_inside_the_sound(speech: Track) -> None:
    found = speech_segments(speech)
    assert all(before.end_s <= after.start_s for before, after in pairwise(found))
    assert all(each.start_s < each.end_s for each in found)
    assert found[0].start_s > 0.3
    assert found[-1].end_s < 10.5
    assert any(3.0 <= a.end_s < 3.4 and 4.4 < b.start_s <= 4.9 for a, b in pairwise(found))


def test_speech_to_the_end_ends_with_the_sound(speech: Track) -> None:
    cut = Track(speech.waveform[:, : 48000 * 7 + 1], 48000)
    assert speech_segments(cut)[-1].end_s == 7.0


@pytest.mark.parametrize("samples", [1, 511, 512, 513])
def test_a_sound_shorter_than_speech_has_none(samples: int) -> None:
    assert speech_segments(Pieces(torch.ones(2, samples), RATE_HZ, 100)) == ()


def test_torch_keeps_its_threads(speech: Track) -> None:
    """Also where silero_vad is imported for the first time, which sets one thread for the process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "silero_vad"]:
        del sys.modules[name]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        speech_segments(Track(speech.waveform[:, :4800], 48000))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_it_can_be_stopped(speech: Track) -> None:
    seconds = []

    def stop() -> None:
        seconds.append(1)
        if len(seconds) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        speech_segments(speech, check=stop)
    assert len(seconds) == 3
