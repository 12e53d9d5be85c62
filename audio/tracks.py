"""Several speakers laid out on one timeline, and the sound for the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import ceil, floor, log10

import torch

from ..base.errors import LinkError, SettingError, SoundError
from ..base.rates import FPS
from ..base.values import check_member, check_number
from .prepare.loudness import normalize_loudness
from .reading.resample import resample, resampler
from .reading.track import Track, mono, track_from_audio

__all__ = ["Arrangement", "Track", "TrackMode", "arrange", "mono", "normalize_loudness", "track_from_audio"]

SILENCE_PEAK = 1e-4
"""-80 dBFS, three steps of 16-bit sound: dither and the hum of an open input lie below, no speech does."""
MAX_START_S = 3600.0
"""The longest silence before a track: the length of the longest videos that are tested."""
_PER_SECOND = 10**6
"""Starts are exact to the microsecond, which is finer than a sample: 0.3 as a binary fraction is a sample too early."""


class TrackMode(str, Enum):
    """How the tracks of several speakers lie on the timeline."""

    PARA = "para"
    """All tracks start at 0, each after its own silence."""
    ADD = "add"
    """The tracks follow one another, each after its own pause."""


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Speakers on one timeline.

    Attributes:
        tracks: one per speaker, each at its own sample rate, all equally long; zeros where a speaker is silent.
        mix: the sound for the video.
        notes: what was changed, in plain words.
    """

    tracks: tuple[Track, ...]
    mix: Track
    notes: tuple[str, ...]


def _labels(tracks: Sequence[Track]) -> list[str]:
    names = [track.name for track in tracks]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {number}" for number, name in enumerate(names, start=1)]


def _common_samples(duration_s: Fraction, rate_hz: int) -> int:
    """How many samples at ``rate_hz`` cover ``duration_s`` without reaching into one more video frame.

    Rounding up is not enough: 1 s is 25 frames, but at a rate that 25 does not divide, 1 s rounded up to whole samples
    reaches past them.
    """
    frames = ceil(duration_s * FPS)
    return min(ceil(duration_s * rate_hz), floor(Fraction(frames, FPS) * rate_hz))


def checked_starts(starts_s: Sequence[float] | None, labels: Sequence[str]) -> list[Fraction]:
    """The silence before each track, in exact seconds.

    Raises:
        LongTalkError: there is not one start per track, or a start is out of range.
    """
    if starts_s is None:
        return [Fraction(0)] * len(labels)
    if len(starts_s) != len(labels):
        raise SettingError(
            "starts of the tracks",
            expected=f"one per track, {len(labels)}",
            actual=str(len(starts_s)),
            action="Give every track a start, 0 where it has none",
        )
    found = [
        check_number(start_s, f"start of {label}", 0.0, MAX_START_S)
        for start_s, label in zip(starts_s, labels, strict=True)
    ]
    return [Fraction(round(start_s * _PER_SECOND), _PER_SECOND) for start_s in found]


def timeline(silences_s: Sequence[Fraction], lengths_s: Sequence[Fraction], mode: TrackMode) -> list[Fraction]:
    """When each track starts."""
    starts_s = []
    before_s = Fraction(0)
    for silence_s, length_s in zip(silences_s, lengths_s, strict=True):
        starts_s.append(before_s + silence_s)
        if mode is TrackMode.ADD:
            before_s = starts_s[-1] + length_s
    return starts_s


def _placed(waveform: torch.Tensor, start: int, length: int) -> torch.Tensor:
    """A sound ``[C, N]`` put at sample ``start`` into ``length`` samples of silence; itself when it fills them."""
    if start == 0 and waveform.shape[1] == length:
        return waveform
    out = torch.zeros(waveform.shape[0], length)
    out[:, start : start + waveform.shape[1]] = waveform
    return out


def _mix(
    tracks: Sequence[Track], labels: Sequence[str], starts_s: Sequence[Fraction], duration_s: Fraction, notes: list[str]
) -> Track:
    """The sum of all tracks, at the highest of their sample rates and with the most channels of any."""
    rate_hz = max(track.sample_rate for track in tracks)
    channels = max(track.channels for track in tracks)
    mixed = torch.zeros(channels, _common_samples(duration_s, rate_hz))
    for track, label, start_s in zip(tracks, labels, starts_s, strict=True):
        used = resampler(track.sample_rate, rate_hz)
        if used is not None:
            # Without the reason: notes are part of a run's name, and it may name a path. The encoder's note gives it.
            notes.append(f"mix: {label} resampled from {track.sample_rate} to {rate_hz} Hz with {used.value}")
        sound = resample(track.waveform, track.sample_rate, rate_hz)
        start = floor(start_s * rate_hz)
        sound = sound[:, : mixed.shape[1] - start]  # resampling rounds up, the timeline does not
        end = start + sound.shape[1]
        if track.channels == 1:
            mixed[:, start:end] += sound
        else:
            mixed[: track.channels, start:end] += sound
        if track.channels < channels:
            how = "copied to all" if track.channels == 1 else f"put on the first {track.channels} of"
            notes.append(f"mix: {label} {how} {channels} channels")
    mix = Track(mixed, rate_hz, "mix")
    if mix.peak > 1.0:
        notes.append(f"mix: scaled down by {20 * log10(mix.peak):.1f} dB, its peak was {mix.peak:.2f}")
        mixed /= mix.peak
    return mix


def arrange(
    tracks: Sequence[Track], mode: TrackMode | str = TrackMode.PARA, starts_s: Sequence[float] | None = None
) -> Arrangement:
    """Lay speakers out on one timeline and make the sound for the video.

    Positions are exact fractions of a second, so tracks of different rates do not drift. All arranged tracks and
    the mix cover the same number of video frames; in samples they differ by less than one.

    Args:
        tracks: one or more.
        mode: ``para``: all start at 0, shorter ones are padded with silence; ``add``: each starts when the one
            before it ends.
        starts_s: silence before each track in seconds, 0 to 3600, taken to the microsecond: after 0 in ``para``,
            after the end of the track before in ``add``.

    Returns:
        The arrangement. The mix of one track is that track, with its silence. The mix of several has the highest rate
        and the most channels; it is scaled down only if its peak passes 1.

    Raises:
        LongTalkError: no track, an unknown mode, a start out of range, or nothing but silence.
    """
    mode = check_member(mode, "audio mode", TrackMode)
    if not tracks:
        raise LinkError("audio", expected="at least one track", actual="none", action="Connect an audio")
    labels = _labels(tracks)
    silences_s = checked_starts(starts_s, labels)
    peaks = [track.peak for track in tracks]
    if max(peaks) < SILENCE_PEAK:
        found = ", ".join(
            f"{label} {track.duration_s:.2f} s with peak {peak:.2g}"
            for label, track, peak in zip(labels, tracks, peaks, strict=True)
        )
        raise SoundError(
            "audio",
            expected=f"speech with a peak above {SILENCE_PEAK:g} (-80 dBFS)",
            actual=f"silence ({found})",
            action="Check the clip and its volume",
        )
    notes = []
    for label, peak in zip(labels, peaks, strict=True):
        if peak < SILENCE_PEAK:
            notes.append(f"{label} is silent throughout (peak {peak:.2g})")
        if peak > 1.0:
            notes.append(f"{label} peaks at {peak:.2f}, above full scale (1.0); left as it is")
    if len(tracks) == 1 and not silences_s[0]:
        return Arrangement((tracks[0],), tracks[0], tuple(notes))

    lengths_s = [Fraction(track.samples, track.sample_rate) for track in tracks]
    begin_s = timeline(silences_s, lengths_s, mode)
    duration_s = max(start_s + length_s for start_s, length_s in zip(begin_s, lengths_s, strict=True))
    arranged = []
    for track, label, start_s, length_s in zip(tracks, labels, begin_s, lengths_s, strict=True):
        # Rounded down, a track starts less than one sample early and always ends inside.
        start = floor(start_s * track.sample_rate)
        waveform = _placed(track.waveform, start, _common_samples(duration_s, track.sample_rate))
        arranged.append(Track(waveform, track.sample_rate, track.name))
        if mode is TrackMode.ADD or start_s:
            notes.append(f"{label} speaks from {float(start_s):.2f} to {float(start_s + length_s):.2f} s")
        elif length_s < duration_s:
            padding_s = float(duration_s - length_s)
            notes.append(f"{label} padded with {padding_s:.2f} s of silence to {float(duration_s):.2f} s")
    mix = arranged[0] if len(arranged) == 1 else _mix(tracks, labels, begin_s, duration_s, notes)
    return Arrangement(tuple(arranged), mix, tuple(notes))
