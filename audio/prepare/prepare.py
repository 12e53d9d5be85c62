"""A sound made ready for a model: trimmed, equalised, levelled, and what was done to it in words.

The sample rate, the channels and the number of samples stay, and nothing is delayed. Memory does not grow with the
length: levelling reads the sound again for each of its rounds (see :mod:`.level_search`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..reading.source import Source, TrackSource
from ..reading.track import Track
from .filters import Counter, Filter, Loudness, Meter, af_text
from .level_search import LevelSearch
from .loudness import why_undefined
from .stages import DOUBLE, Stages, tone_filters
from .stretch import Stretch, Watched

Write = Callable[[Iterator[np.ndarray]], None]
"""Takes blocks float32 ``[C, n]``. Called once per round; each round replaces what the one before wrote."""


@dataclass(frozen=True)
class Prepared:
    """What was done to a sound.

    Attributes:
        name: what the sound is called.
        rate_hz, channels, samples: of the result.
        before: the loudness of the sound as it came, but trimmed.
        after: the loudness of the result.
        af_text: the filters as ffmpeg's command line takes them, "" for none.
        notes: what else to know, in plain words.
    """

    name: str
    rate_hz: int
    channels: int
    samples: int
    before: Loudness
    after: Loudness
    af_text: str
    notes: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        return self.samples / self.rate_hz

    def report(self) -> str:
        """What was done, as plain text of a few lines."""
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        lines = [
            f"{self.name}: {self.duration_s:.2f} s, {self.rate_hz} Hz, {channels}",
            f"before: {_words(self.before)}",
            f"after:  {_words(self.after)}",
            *(f"note: {note}" for note in self.notes),
            f'the same with ffmpeg: -af "{self.af_text}"' if self.af_text else "nothing was changed",
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """What was done, as a program reads it; levels that could not be measured are None."""
        return {
            "name": self.name,
            "rate_hz": self.rate_hz,
            "channels": self.channels,
            "samples": self.samples,
            "duration_s": self.duration_s,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "ffmpeg_af": self.af_text,
            "notes": list(self.notes),
        }


def _words(loudness: Loudness) -> str:
    level = "no loudness" if loudness.integrated_lufs is None else f"{loudness.integrated_lufs:.1f} LUFS"
    peak = f"{loudness.true_peak_db:.1f} dB" if loudness.true_peak else "none"
    width = f"range {loudness.range_lu:.1f} LU, " if loudness.range_lu else ""
    return f"{level}, {width}true peak {peak}"


def prepare(source: Source, stages: Stages, write: Write) -> Prepared:
    """Do what the stages say.

    Args:
        source: is read once, and once more for every round of levelling.
        stages: what to do, see :mod:`.stages`.
        write: is given the result of each round and keeps that of the last.

    Raises:
        LongTalkError: the sound is not usable, or the stretch to keep is not in it.
    """
    sound = Stretch(source, stages.start_s, stages.end_s)
    tone, notes = tone_filters(stages, source.rate_hz)
    before, toned, counted = Meter(), Meter(), Counter()
    original = counted.through(before.through(sound.blocks(), [], source.rate_hz, source.channels))
    write(toned.through(original, tone, source.rate_hz, source.channels))
    start, end = sound.samples
    if end is not None and start + counted.samples < end:
        notes.append(f"the sound ends before {stages.end_s:g} s and is kept up to its end")

    wanted = _possible(stages, toned.loudness, counted.samples / source.rate_hz, source.rate_hz, notes)
    search = LevelSearch(wanted, toned.loudness, source.rate_hz)
    filters, after = tone, toned.loudness
    for level in search.rounds():
        meter = Meter()
        filters = [*(tone or [DOUBLE]), *level.filters()]
        write(meter.through(sound.blocks(), filters, source.rate_hz, source.channels))
        after = search.found(level, meter.loudness)
    notes += search.notes()
    if after.true_peak > 1:
        notes.append(f"the true peak is {after.true_peak_db:.1f} dB above full scale, where most files clip")
    return Prepared(
        name=source.name,
        rate_hz=source.rate_hz,
        channels=source.channels,
        samples=counted.samples,
        before=before.loudness,
        after=after,
        af_text=af_text([*_trim(start, end), *filters]),
        notes=tuple(notes),
    )


def prepare_track(
    track: Track, stages: Stages, tell: Callable[[float], None] = lambda read_s: None
) -> tuple[Track, Track, Prepared]:
    """Do what the stages say with a sound in memory.

    Args:
        track: the sound.
        stages: what to do, see :mod:`.stages`.
        tell: is given the seconds that have been read, again from 0 in each round.

    Returns:
        The result; the sound as it came, trimmed alike, which is no copy; and what was done.
    """
    source = Watched(TrackSource(track), tell)
    start, end = Stretch(source, stages.start_s, stages.end_s).samples
    original = replace(track, waveform=track.waveform[:, start:end])
    result = torch.empty(original.waveform.shape)

    def write(blocks: Iterator[np.ndarray]) -> None:
        filled = 0
        for block in blocks:
            result[:, filled : filled + block.shape[1]] = torch.from_numpy(block)
            filled += block.shape[1]

    prepared = prepare(source, stages, write)
    return replace(track, waveform=result), original, prepared


def _possible(stages: Stages, toned: Loudness, duration_s: float, rate_hz: int, notes: list[str]) -> Stages:
    """The stages, without the loudness where the sound has none; a note then says why."""
    if stages.loudness_lufs is None and stages.range_lu is None:
        return stages
    notice = why_undefined(duration_s, rate_hz, toned.integrated_lufs)
    if notice is None:
        return stages
    notes.append(notice)
    return replace(stages, loudness_lufs=None, range_lu=None)


def _trim(start: int, end: int | None) -> list[Filter]:
    """The filters of ffmpeg that cut the stretch out."""
    options = [("start_sample", start)] if start else []
    options += [("end_sample", end)] if end is not None else []
    return [Filter("atrim", tuple(options)), Filter("asetpts", (("expr", "PTS-STARTPTS"),))] if options else []
