"""Where in a sound somebody speaks: Silero VAD, a small recurrent network that runs on the CPU.

A sound is heard block by block and only the network's answers are kept, 31 numbers per second. So an hour takes no more
memory than a minute; on one core it takes about a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch

from ..base.rates import SPEECH_HZ
from ..base.segment import Segment
from .reading.resample import resample_blocks
from .reading.track import Track
from .tracks import SILENCE_PEAK

__all__ = ["CHUNK", "RATE_HZ", "Segment", "leveled_speech", "speech_segments"]

RATE_HZ = SPEECH_HZ
"""What the network hears."""

CHUNK = 512
"""How many samples the network hears for each answer (Silero VAD at 16 kHz)."""

_PEAK = 0.5
"""The peak that quiet tracks are brought to; at 0.01 a tenth of the speech is overheard, at 0.001 over half."""
_WORD_MS = 100
"""The shortest word, a "yes"; a click is shorter."""


class Blocks(Protocol):
    """A sound that is read piece by piece."""

    @property
    def rate_hz(self) -> int: ...

    def blocks(self) -> Iterator[np.ndarray]:
        """The pieces in order, float32 ``[C, N]``, about a second each."""
        ...


def speech_segments(
    sound: Track | Blocks,
    *,
    threshold: float = 0.5,
    min_speech_duration_ms: int = 250,
    min_silence_duration_ms: int = 100,
    speech_pad_ms: int = 30,
    gain: float = 1.0,
    check: Callable[[], None] = lambda: None,
) -> tuple[Segment, ...]:
    """Where somebody speaks; sorted, and no two overlap.

    Args:
        sound: what is heard; the network gets the mean of its channels.
        threshold: the probability from which on a chunk of 32 ms counts as speech.
        min_speech_duration_ms: shorter speech is left out.
        min_silence_duration_ms: shorter pauses belong to the speech around them.
        speech_pad_ms: added to speech on both sides, as far as there is room.
        gain: the factor by which the samples are multiplied; with a peak below about 0.03 speech is overheard.
        check: called about once per second of sound; may raise to stop.
    """
    with _one_thread(), torch.inference_mode():
        import silero_vad

        samples = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal samples
            for block in _mono_blocks(sound):
                check()
                samples += len(block)
                yield block * np.float32(gain)

        rate_hz = sound.sample_rate if isinstance(sound, Track) else sound.rate_hz
        model = silero_vad.load_silero_vad()  # a new one: it carries what it heard from chunk to chunk
        chances = [float(model(chunk, RATE_HZ)) for chunk in _chunks(resample_blocks(counted(), rate_hz, RATE_HZ))]
        found = silero_vad.get_speech_timestamps_from_probs(
            chances,
            sampling_rate=RATE_HZ,
            threshold=threshold,
            min_speech_duration_ms=min_speech_duration_ms,
            min_silence_duration_ms=min_silence_duration_ms,
            speech_pad_ms=speech_pad_ms,
            audio_length_samples=samples * RATE_HZ // rate_hz,
        )
    return tuple(Segment(each["start"] / RATE_HZ, each["end"] / RATE_HZ) for each in found)


def leveled_speech(
    track: Track, threshold: float = 0.5, check: Callable[[], None] = lambda: None
) -> tuple[Segment, ...]:
    """Where somebody speaks in a track, short words included, however quiet the track is.

    Args:
        track: what is heard; a track whose peak is below half of full scale is heard as loud as that.
        threshold, check: see :func:`speech_segments`.
    """
    gain = leveling(track.peak)
    return speech_segments(track, threshold=threshold, min_speech_duration_ms=_WORD_MS, gain=gain, check=check)


def leveling(peak: float) -> float:
    """The factor that brings a quiet sound with this peak to half of full scale; 1 for silence and louder sounds."""
    return max(1.0, _PEAK / peak) if peak >= SILENCE_PEAK else 1.0


def _mono_blocks(sound: Track | Blocks) -> Iterator[np.ndarray]:
    """The mean of a sound's channels ``[N]``, piece by piece."""
    if isinstance(sound, Track):
        for piece in sound.waveform.split(sound.sample_rate, dim=1):
            yield piece.mean(dim=0).numpy()
    else:
        for block in sound.blocks():
            yield block.mean(axis=0)


def _chunks(blocks: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
    """The same sound in pieces of CHUNK samples; the last piece is filled up with zeros."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        joined = np.concatenate([rest, block])
        whole = len(joined) // CHUNK * CHUNK
        yield from torch.from_numpy(joined[:whole]).view(-1, CHUNK)
        rest = joined[whole:]
    if len(rest):
        yield torch.from_numpy(np.pad(rest, (0, CHUNK - len(rest))))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch work with one thread while the block runs, and afterwards with as many as before.

    The network is so small that a second thread slows it down. Importing silero_vad sets one thread for the whole
    process and leaves it so.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
