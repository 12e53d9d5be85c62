"""Who speaks when, in words, and what a run will do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...base.rates import FPS
from ...base.segment import Segment
from ...base.words import count, time_text
from .timing import Ending, Timing
from .windows import frames_for_duration

_LINES = 20
"""A list with more lines is shortened."""


def timing_report(timing: Timing) -> str:
    """The timing as plain text: the speech of each speaker, the pauses, the ending, the shots."""
    return "\n".join(_lines(timing))


def timing_notes(timing: Timing) -> list[str]:
    """The timing in few words, for the report of a run."""
    parts = [_silence(timing), _ending(timing)]
    return [f"timing: {part}" for part in parts if part]


def _lines(timing: Timing) -> Iterator[str]:
    end = time_text(timing.end_of_speech_s)
    yield f"Sound: {timing.duration_s:.2f} s, the last word ends at {end}"
    for name, segments in zip(timing.names, timing.speech, strict=True):
        spoken_s = sum(segment.duration_s for segment in segments)
        where = f", from {time_text(segments[0].start_s)} to {time_text(segments[-1].end_s)}" if segments else ""
        yield f"{name}: {spoken_s:.2f} s of speech in {count(len(segments), 'part')}{where}"
    yield f"Silence: {_silence(timing) or 'the model hears the sound as it is'}"
    for name, quiet in zip(timing.names, timing.quiet_each, strict=True):
        lines = [f"  {name}: {_span(pause, timing.duration_s)}" for pause in quiet]
        yield from lines[:_LINES]
        if len(lines) > _LINES:
            yield f"  ... {len(lines) - _LINES:,} more ..."
    yield f"Ending: {_ending(timing) or 'as the sound has it'}"
    yield f"Shots: {_shots(timing)}"


def _silence(timing: Timing) -> str:
    quiet = [pause for each in timing.quiet_each for pause in each]
    if not quiet:
        return ""
    silent_s = sum(min(pause.end_s, timing.duration_s) - pause.start_s for pause in quiet)
    return f"the model hears silence in {count(len(quiet), 'pause')}, {silent_s:.2f} s together"


def _ending(timing: Timing) -> str:
    if timing.rests_s >= timing.duration_s:
        return ""
    if timing.ending is Ending.REST:
        return f"rest, silence for the model from {time_text(timing.rests_s)} on"
    at_s = timing.sampled_frames(frames_for_duration(timing.duration_s), FPS) / FPS
    if at_s >= timing.duration_s:
        return ""
    if timing.ending is Ending.HOLD:
        return f"hold, the picture stands still from {time_text(at_s)} on"
    return f"cut, video and sound end at {time_text(at_s)}"


def _shots(timing: Timing) -> str:
    if not timing.shot_s:
        return "off"
    frames = timing.sampled_frames(frames_for_duration(timing.duration_s), FPS)
    starts = [time_text(start / FPS) for start in timing.shot_starts(frames, FPS)]
    if len(starts) > _LINES:
        starts[_LINES:] = [f"{len(starts) - _LINES:,} more"]
    cuts = f", cut at {', '.join(starts)}" if starts else ": no pause of all speakers where one could begin"
    return f"{len(timing.shot_starts(frames, FPS)) + 1:,} of {timing.shot_s:g} s or more{cuts}"


def _span(pause: Segment, duration_s: float) -> str:
    end_s = min(pause.end_s, duration_s)
    to = "the end" if math.isinf(pause.end_s) else time_text(end_s)
    return f"{time_text(pause.start_s)} to {to} ({end_s - pause.start_s:.2f} s)"
