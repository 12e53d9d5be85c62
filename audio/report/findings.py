"""What is wrong with a sound for a talking video, and what to do about it.

Where a limit has no source beside it, it lies between good recordings and spoiled ones: ``benchmarks.findings`` makes
both and counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

import numpy as np

from ...base.rates import FPS, WINDOW_FRAMES
from ...base.segment import Segment
from ...base.words import clock_s, count
from ..prepare.loudness import BLOCK_S
from ..tracks import SILENCE_PEAK
from .analysis import Analysis
from .spectrum import BANDS_HZ, decibels

SHORT_S = 1.0
EDGE_S = 1.5
"""A longer silence at the beginning or the end is told."""
PAUSE_S = WINDOW_FRAMES / FPS
"""The length of a window of WAN: in a longer pause lies a window without any speech to go by."""
DULL_DB = 20.0
"""How far sibilance may lie below the loudest band; in speech it is 17.9 dB on average (spectrum.AVERAGE_DB)."""
MUSHY_DB = 24.0
"""From here on, dull sound is more than a note: every fourth good recording passes 20 dB."""
BOOM_DB = 11.0
"""How far the band of fundamental and boom may lie above that of the vowels; in speech it is -1.5 dB on average, and up
to 9 for low voices close to the microphone."""
NOISE_DB = 20.0
"""Speech-to-noise ratio, p90/p5. Continuous clean speech has 24 at least: it never falls silent, and its own quiet
sounds are taken for noise. Noise 15 dB below the speech, up to 8 kHz, is measured as 18 to 21."""
QUIET_LUFS, LOUD_LUFS = -32.0, -9.0
"""A quieter sound is 16 LU below what LTX is prepared to; a louder one than the second has been limited hard."""
NARROW_HZ = 6600.0
"""Where a sound ends below this, half of the sibilance is missing. A telephone ends at 3.4 kHz, a recording with a rate
of 11 kHz at 5.5 (brought to a higher rate it may fade out up to 6.5). A recording at 16 kHz may end at 6.8."""
OFFSET = 0.01
CLIPPED_RUNS = 3
OVER = 10 ** (1 / 20)
"""1 dB above full scale: a lossy format adds less than that to a sound that fills the scale."""
DEAD_DB = 50.0
"""A channel so far below the loudest one is crosstalk."""
CANCELLED = 0.1
"""Power of the sum of the channels, as part of the sum of their powers: 10 dB are lost when they are added."""
_CANCELLED_SECONDS = 2


class Severity(str, Enum):
    ERROR = "error"
    """A run would be refused, or have nothing to speak."""
    WARNING = "warning"
    """It will be seen in the video."""
    NOTE = "note"
    """Worth knowing."""


class Kind(str, Enum):
    """What can be found, in the order in which it is told."""

    SILENT = "silent"
    CANCELLED = "channels cancel out"
    NO_SPEECH = "no speech"
    SHORT = "too short"
    DEAD_CHANNEL = "dead channel"
    CLIPPED = "clipping"
    OVER = "over full scale"
    NOISE = "noise"
    NARROW = "narrow band"
    DULL = "dull sibilance"
    BOOM = "boom"
    QUIET = "too quiet"
    LOUD = "too loud"
    OFFSET = "DC offset"
    HEAD = "silent head"
    TAIL = "silent tail"
    PAUSE = "long pause"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a sound.

    Attributes:
        found: what was found, with numbers.
        action: what to do, a sentence without its period.
        spans: the stretches of the sound it was found in; empty for the whole sound.
    """

    kind: Kind
    severity: Severity
    found: str
    action: str
    spans: tuple[Segment, ...] = ()


def find(analysis: Analysis) -> tuple[Finding, ...]:
    """Everything that is wrong, in the order of the kinds; empty for a good recording.

    What follows from another finding is not told: nothing else of a silent sound, and not that a telephone is dull.
    """
    if analysis.levels.peak < SILENCE_PEAK:
        return (_silent(analysis),)
    found = [finding for each in _ALL for finding in each(analysis)]
    kinds = {finding.kind for finding in found}
    hidden = {kind for cause, kind in _FOLLOWS if cause in kinds}
    return tuple(finding for finding in found if finding.kind not in hidden)


def _silent(analysis: Analysis) -> Finding:
    return Finding(
        Kind.SILENT,
        Severity.ERROR,
        f"nothing but silence: {analysis.duration_s:.2f} s with a peak of {analysis.peak_dbfs:.0f} dBFS",
        "Check the clip, its volume and the node before this one",
    )


def _cancelled(analysis: Analysis) -> Iterator[Finding]:
    cancelled = analysis.levels.together < CANCELLED  # NaN, in silence, is not
    seconds = int(cancelled.sum())
    if seconds < min(_CANCELLED_SECONDS, len(cancelled)):
        return
    lost_db = -float(decibels(analysis.levels.together_whole / 2))
    yield Finding(
        Kind.CANCELLED,
        Severity.ERROR if analysis.levels.together_whole < CANCELLED else Severity.WARNING,
        f"the channels cancel each other out in {count(seconds, 'second')}: their mean, which the models hear, is "
        f"{lost_db:.0f} dB quieter than the channels",
        "One channel is inverted: invert it back, or use one channel alone",
        _seconds_as_spans(cancelled, analysis.duration_s),
    )


def _no_speech(analysis: Analysis) -> Iterator[Finding]:
    if not analysis.speech:
        yield Finding(
            Kind.NO_SPEECH,
            Severity.ERROR,
            f"no speech in {analysis.duration_s:.2f} s",
            "Check that this is the right sound; if it is singing under music, use Vocals (LongTalk) first",
        )


def _short(analysis: Analysis) -> Iterator[Finding]:
    if analysis.duration_s < SHORT_S:
        unmeasured = f"; below {BLOCK_S} s its loudness cannot be measured" if analysis.duration_s < BLOCK_S else ""
        yield Finding(
            Kind.SHORT,
            Severity.WARNING,
            f"{analysis.duration_s:.2f} s is less than {SHORT_S:.0f} s{unmeasured}",
            "Check that nothing was cut off",
        )


def _dead_channel(analysis: Analysis) -> Iterator[Finding]:
    powers = [channel.sound_power for channel in analysis.levels.channels]
    dead = [number for number, power in enumerate(powers, 1) if power < max(powers) * 10 ** (-DEAD_DB / 10)]
    if dead:
        those = "channel" if len(dead) == 1 else "channels"
        yield Finding(
            Kind.DEAD_CHANNEL,
            Severity.WARNING if analysis.channels == 2 else Severity.NOTE,
            f"{those} {', '.join(map(str, dead))} of {analysis.channels} silent; the mean of the channels, which the "
            f"models hear, is {20 * math.log10(analysis.channels / (analysis.channels - len(dead))):.0f} dB quieter",
            "Make it mono from the channels that sound; otherwise the video speaks on one side only",
        )


def _clipped(analysis: Analysis) -> Iterator[Finding]:
    clipping = analysis.clipping
    if clipping.runs >= CLIPPED_RUNS:
        yield Finding(
            Kind.CLIPPED,
            Severity.WARNING,
            f"cut off {clipping.runs:,} times at {float(decibels(clipping.ceiling**2)):.1f} dBFS, "
            f"{clipping.samples:,} samples in all",
            "Record again with less gain, or take the file from before it was made louder; turning it down now does "
            "not help, ffmpeg's adeclip filter helps a little",
            tuple(Segment(time_s, min(time_s + 1, analysis.duration_s)) for time_s in clipping.times_s),
        )


def _over(analysis: Analysis) -> Iterator[Finding]:
    if analysis.levels.peak > OVER:
        yield Finding(
            Kind.OVER,
            Severity.WARNING,
            f"its peak is {analysis.peak_dbfs:.1f} dB above full scale, where players and formats of whole numbers cut "
            "it off",
            f"Turn it down by {analysis.peak_dbfs + 1:.0f} dB before it is written or converted",
        )


def _noise(analysis: Analysis) -> Iterator[Finding]:
    ratio_db = analysis.noise.ratio_db
    if analysis.speech and ratio_db is not None and ratio_db < NOISE_DB:
        yield Finding(
            Kind.NOISE,
            Severity.WARNING,
            f"speech is only {ratio_db:.0f} dB above what sounds in its pauses: noise, music or echo "
            f"({analysis.noise.speech_dbfs:.0f} and {analysis.noise.noise_dbfs:.0f} dBFS)",
            "Use Vocals (LongTalk), and its voice for the mouth; or reduce the noise; or record closer",
        )


def _narrow(analysis: Analysis) -> Iterator[Finding]:
    if analysis.bandwidth_hz < NARROW_HZ:
        padded = analysis.rate_hz > 2.5 * analysis.bandwidth_hz
        yield Finding(
            Kind.NARROW,
            Severity.WARNING,
            f"nothing above {analysis.bandwidth_hz / 1000:.1f} kHz, where the models hear up to 8 kHz"
            + (f"; its {analysis.rate_hz} Hz promise more than there is" if padded else ""),
            "Look for the recording this was made from; no equalizer brings back what is missing, and s, f and t will "
            "look alike",
        )


def _dull(analysis: Analysis) -> Iterator[Finding]:
    bands = analysis.bands_dbfs
    below_db = max(bands) - bands[4]
    if below_db > DULL_DB:
        yield Finding(
            Kind.DULL,
            Severity.WARNING if below_db > MUSHY_DB else Severity.NOTE,
            f"4 to 8 kHz lie {below_db:.0f} dB below the loudest band ({_band(int(np.argmax(bands)))}), more than "
            f"{DULL_DB:.0f}: consonants will look mushy",
            "Use Audio Prepare (LongTalk) with the preset LTX, which lifts 3 and 6.5 kHz",
        )


def _boom(analysis: Analysis) -> Iterator[Finding]:
    above_db = analysis.bands_dbfs[0] - analysis.bands_dbfs[1]
    if above_db > BOOM_DB:
        yield Finding(
            Kind.BOOM,
            Severity.WARNING,
            f"{_band(0)} lie {above_db:.0f} dB above {_band(1)}, more than {BOOM_DB:.0f}: rumble, hum or a microphone "
            "too close",
            "Use Audio Prepare (LongTalk) with the preset LTX, which cuts below 80 Hz and around 200 and 400 Hz",
        )


def _loudness(analysis: Analysis) -> Iterator[Finding]:
    lufs = analysis.loudness.integrated_lufs
    if analysis.duration_s < BLOCK_S:
        return
    if lufs is None or lufs < QUIET_LUFS:
        level = "below -70 LUFS" if lufs is None else f"{lufs:.1f} LUFS"
        yield Finding(
            Kind.QUIET,
            Severity.WARNING,
            f"{level}, speech usually has -23 to -14",
            "Use Audio Prepare (LongTalk): its preset LTX brings it to -16 LUFS, InfiniteTalk to -23 (where "
            "normalize_loudness does the same for the encoder)",
        )
    elif lufs > LOUD_LUFS:
        yield Finding(
            Kind.LOUD,
            Severity.WARNING,
            f"{lufs:.1f} LUFS, speech usually has -23 to -14",
            "Use Audio Prepare (LongTalk) with the preset of the model, which brings it to the loudness that one knows",
        )


def _offset(analysis: Analysis) -> Iterator[Finding]:
    offset = max((channel.offset for channel in analysis.levels.channels), key=abs)
    if abs(offset) > OFFSET:
        yield Finding(
            Kind.OFFSET,
            Severity.NOTE,
            f"the samples lie {offset:+.3f} off zero, {100 * abs(offset):.1f} % of full scale",
            "Use Audio Prepare (LongTalk) with the preset LTX, whose high-pass filter removes it",
        )


def _silences(analysis: Analysis) -> Iterator[Finding]:
    if not analysis.speech:
        return
    head = Segment(0.0, analysis.speech[0].start_s)
    tail = Segment(analysis.speech[-1].end_s, analysis.duration_s)
    if head.duration_s > EDGE_S:
        yield Finding(
            Kind.HEAD,
            Severity.NOTE,
            f"{head.duration_s:.1f} s before the first word",
            "Trim it with Audio Prepare (LongTalk), unless the face is meant to wait",
            (head,),
        )
    if tail.duration_s > EDGE_S:
        yield Finding(
            Kind.TAIL,
            Severity.NOTE,
            f"{tail.duration_s:.1f} s after the last word",
            "Trim it with Audio Prepare (LongTalk), or choose an ending in Silence and Shots (LongTalk)",
            (tail,),
        )
    pauses = [each for each in analysis.silences if each not in (head, tail) and each.duration_s > PAUSE_S]
    if pauses:
        longest = max(pauses, key=lambda pause: pause.duration_s)
        yield Finding(
            Kind.PAUSE,
            Severity.NOTE,
            f"{count(len(pauses), 'pause')} longer than a window of {PAUSE_S:.2f} s, the longest "
            f"{longest.duration_s:.1f} s at {clock_s(longest.start_s)}",
            "Use Silence and Shots (LongTalk), which lets the mouth rest there; or Prompt Schedule (LongTalk), with a "
            "prompt of their own",
            tuple(pauses),
        )


_ALL = (
    _cancelled,
    _no_speech,
    _short,
    _dead_channel,
    _clipped,
    _over,
    _noise,
    _narrow,
    _dull,
    _boom,
    _loudness,
    _offset,
    _silences,
)

_FOLLOWS = (
    (Kind.CANCELLED, Kind.NO_SPEECH),
    (Kind.CANCELLED, Kind.NOISE),
    (Kind.NO_SPEECH, Kind.DULL),
    (Kind.NO_SPEECH, Kind.BOOM),
    (Kind.NARROW, Kind.DULL),
)
"""Pairs of a cause and its effect: where the cause was found, the effect is not told."""


def _band(index: int) -> str:
    low, high = BANDS_HZ[index]
    return f"{low} to {high} Hz"


def _seconds_as_spans(marked: np.ndarray, duration_s: float) -> tuple[Segment, ...]:
    """The stretches of marked seconds."""
    runs = [(mark, list(run)) for mark, run in groupby(range(len(marked)), lambda second: bool(marked[second]))]
    return tuple(Segment(float(run[0]), min(run[-1] + 1.0, duration_s)) for mark, run in runs if mark)
