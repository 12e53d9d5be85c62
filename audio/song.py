"""Songs: tempo, beats, and sections with how strong each is. Needs librosa, the optional extra ``songs``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.energy import Energy
from ..base.errors import InstallError, SoundError
from .prepare.filters import Filter, through
from .reading.source import Source

RATE_HZ = 22050
"""librosa's own sample rate; beats and harmony need no higher one."""
MAX_S = 1800.0
"""The longest song, half an hour: the analysis holds the whole sound in memory."""
MIN_S = 4.0
"""The shortest song: a few beats."""
SECTION_S = 20.0
"""A song is cut into one section for so many seconds at first: verses and choruses take 15 to 30 s."""
MIN_SECTION_S = 6.0
"""A shorter section joins the neighbour that sounds more like it."""
_HOP = 512
_MOST_SECTIONS = 40


@dataclass(frozen=True)
class Section:
    """A part of a song, ``[start_s, end_s)``.

    Attributes:
        level_db: its RMS relative to that of the loudest section, 0 or less.
        energy: how strong it is.
    """

    start_s: float
    end_s: float
    level_db: float

    @property
    def energy(self) -> Energy:
        return Energy.of(self.level_db)


@dataclass(frozen=True)
class Song:
    """What was heard in a song.

    Attributes:
        duration_s: length of the song.
        tempo_bpm: beats per minute; 0 where there is no beat.
        beats_s: times of the beats.
        sections: its parts in order; they tile ``[0, duration_s)``.
    """

    duration_s: float
    tempo_bpm: float
    beats_s: tuple[float, ...]
    sections: tuple[Section, ...]


def analyse_song(source: Source) -> Song:
    """Find the tempo, the beats and the sections of a song.

    Tempo and beats are librosa's (dynamic programming over onset strength, Ellis 2007). Sections are stretches of
    beats that sound alike: agglomerative clustering of timbre (MFCC) and harmony (chroma), as in librosa's gallery,
    so their borders lie on beats.

    Raises:
        LongTalkError: librosa is not installed; a sound that is too short, too long or silent.
    """
    librosa = _librosa()
    samples = np.concatenate([np.zeros(0, np.float32), *_bounded(_mono(source), source.name)])
    duration_s = len(samples) / RATE_HZ
    if duration_s < MIN_S or not samples.any():
        raise SoundError(
            source.name,
            expected=f"a song of at least {MIN_S:g} s",
            actual=f"{duration_s:.2f} s" if duration_s < MIN_S else "silence",
            action="Choose another file",
        )
    onsets = librosa.onset.onset_strength(y=samples, sr=RATE_HZ, hop_length=_HOP)
    # Untrimmed: trimming would take away the beats of a quiet beginning, not only those before the first note.
    tempo, beats = librosa.beat.beat_track(onset_envelope=onsets, sr=RATE_HZ, hop_length=_HOP, trim=False)
    beats_s = librosa.frames_to_time(beats, sr=RATE_HZ, hop_length=_HOP)
    edges_s = _borders(librosa, samples, beats, duration_s)
    return Song(
        duration_s=duration_s,
        tempo_bpm=float(np.atleast_1d(tempo)[0]) if len(beats) > 1 else 0.0,
        beats_s=tuple(float(time_s) for time_s in beats_s),
        sections=_sections(samples, edges_s),
    )


def _librosa() -> Any:
    try:
        import librosa
    except ImportError as error:
        raise InstallError(
            "songs",
            expected="the Python package librosa",
            actual=f"not usable ({error})",
            action="Install it: python -m pip install librosa, with the Python that runs this command",
        ) from error
    return librosa


def _mono(source: Source) -> Iterator[np.ndarray]:
    mixed = (block.mean(axis=0, keepdims=True) for block in source.blocks())
    slower = Filter("aresample", (("sample_rate", str(RATE_HZ)),))
    for block in through(mixed, [slower], source.rate_hz, channels=1):
        yield block[0]


def _bounded(blocks: Iterable[np.ndarray], name: str) -> Iterator[np.ndarray]:
    heard = 0
    for block in blocks:
        heard += len(block)
        if heard > MAX_S * RATE_HZ:
            raise SoundError(
                name,
                expected=f"a song of at most {MAX_S / 60:g} minutes",
                actual="more",
                action="Cut it into songs, for example with prepare --preset off --start --end",
            )
        yield block


def _borders(librosa: Any, samples: np.ndarray, beats: np.ndarray, duration_s: float) -> list[float]:
    """Times where sections begin and end, 0 and the end of the sound among them."""
    wanted = min(round(duration_s / SECTION_S), _MOST_SECTIONS)
    if wanted < 2 or len(beats) < 2 * wanted:
        return [0.0, duration_s]
    chroma = librosa.feature.chroma_stft(y=samples, sr=RATE_HZ, hop_length=_HOP)
    timbre = librosa.feature.mfcc(y=samples, sr=RATE_HZ, hop_length=_HOP, n_mfcc=13)
    per_beat = [librosa.util.sync(each, beats, aggregate=np.median) for each in (chroma, timbre)]
    # Timbre and harmony have equal weight, whatever their units.
    features = np.concatenate([(each - each.mean()) / (each.std() + 1e-6) for each in per_beat])
    edges = librosa.util.fix_frames(beats, x_min=0, x_max=len(samples) // _HOP + 1)
    first = librosa.segment.agglomerative(features, wanted)
    starts_s = librosa.frames_to_time(edges[first], sr=RATE_HZ, hop_length=_HOP)
    found = [0.0, *(float(start_s) for start_s in starts_s if 0 < start_s < duration_s), duration_s]
    levels_db = [section.level_db for section in _sections(samples, found)]
    while len(found) > 2:
        shortest = min(range(len(found) - 1), key=lambda at: found[at + 1] - found[at])
        if found[shortest + 1] - found[shortest] >= MIN_SECTION_S:
            break
        before, after = (
            abs(levels_db[shortest] - levels_db[at]) if 0 <= at < len(levels_db) else np.inf
            for at in (shortest - 1, shortest + 1)
        )
        del found[shortest if before <= after else shortest + 1]
        levels_db = [section.level_db for section in _sections(samples, found)]
    return found


def _sections(samples: np.ndarray, edges_s: list[float]) -> tuple[Section, ...]:
    cuts = [round(edge_s * RATE_HZ) for edge_s in edges_s]
    powers = [
        float(np.mean(np.square(samples[start:end], dtype=np.float64))) + 1e-12
        for start, end in itertools.pairwise(cuts)
    ]
    loudest = max(powers)
    return tuple(
        Section(start_s, end_s, 10.0 * float(np.log10(power / loudest)))
        for (start_s, end_s), power in zip(itertools.pairwise(edges_s), powers, strict=True)
    )
