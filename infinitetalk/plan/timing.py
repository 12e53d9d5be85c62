"""When each speaker speaks, and what follows from it: where the model hears silence, how the video ends, its shots.

Stretches are seconds of the sound, half-open; the frame rate of the video decides which frames they are. No torch:
other rooms make features and samples of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ...base.errors import LinkError, SettingError, SoundError
from ...base.rates import FRAME_SLACK
from ...base.segment import Segment
from ...base.values import check_choice, check_flag, check_number, shown

BEFORE_S = AFTER_S = 0.15
"""How much the model still hears before and after speech: lips open before a word sounds, and close after it."""
TAIL_S = 0.6
"""How much later than the last word the picture is held or cut: by then the mouth is closed."""

PAUSE_MIN_S, PAUSE_MAX_S = 0.4, 60.0
SHOT_MIN_S, SHOT_MAX_S = 2.0, 3600.0

_SAME_S = 0.04
"""Two lengths of the same sound may differ by this much, for example after a change of its sample rate."""


class Ending(str, Enum):
    """What happens after the last word."""

    AS_HEARD = "as heard"
    """The model hears the sound as it is."""
    REST = "rest"
    """The model hears silence to the end."""
    HOLD = "hold"
    """A little after the last word the picture stands still to the end, which costs nothing."""
    CUT = "cut"
    """A little after the last word the video and its sound end."""


@dataclass(frozen=True)
class Timing:
    """Who speaks when, and what a run shall do about it.

    Attributes:
        names: what the speakers are called.
        speech: where each speaker speaks, sorted, no two stretches overlap; at least one speaker speaks.
        duration_s: length of the sound.
        gate: whether the model hears silence in a speaker's pauses.
        pause_s: a silence of this length or shorter is no pause.
        ending: what happens after the last word of all.
        shot_s: the length of the shortest shot; 0 makes the video one shot.
    """

    names: tuple[str, ...]
    speech: tuple[tuple[Segment, ...], ...]
    duration_s: float
    gate: bool = True
    pause_s: float = 0.6
    ending: Ending = Ending.AS_HEARD
    shot_s: float = 0.0

    @property
    def end_of_speech_s(self) -> float:
        """Where the last word of all ends."""
        return max(segments[-1].end_s for segments in self.speech if segments)

    @property
    def rests_s(self) -> float:
        """The time from which on the model hears nobody; infinity for :attr:`Ending.AS_HEARD`."""
        return math.inf if self.ending is Ending.AS_HEARD else self.end_of_speech_s + AFTER_S

    def quiet(self, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """Where the model hears silence from somebody who speaks in these segments."""
        found = [
            Segment(
                pause.start_s + AFTER_S if pause.start_s > 0.0 else 0.0,
                math.inf if pause.end_s >= self.duration_s else pause.end_s - BEFORE_S,
            )
            for pause in (self._pauses(segments) if self.gate else ())
        ]
        if self.rests_s < self.duration_s:
            found.append(Segment(self.rests_s, math.inf))
        return merged(found)

    @property
    def quiet_each(self) -> tuple[tuple[Segment, ...], ...]:
        """:meth:`quiet` for each speaker."""
        return tuple(self.quiet(segments) for segments in self.speech)

    @property
    def quiet_all(self) -> tuple[Segment, ...]:
        """:meth:`quiet` for a sound that all speakers are in: where nobody speaks."""
        return self.quiet(self.together)

    @property
    def together(self) -> tuple[Segment, ...]:
        """Where anybody speaks."""
        return merged(segment for segments in self.speech for segment in segments)

    def sampled_frames(self, frames: int, fps: int) -> int:
        """How many of the frames that the sound needs have to be made."""
        if self.ending not in (Ending.HOLD, Ending.CUT):
            return frames
        return min(frames, math.ceil((self.end_of_speech_s + TAIL_S) * fps - FRAME_SLACK))

    def shot_starts(self, frames: int, fps: int) -> tuple[int, ...]:
        """The first frame of each shot after the first, in so many frames.

        Each lies in the middle of a pause of all speakers, and no shot, the last one included, is shorter than
        :attr:`shot_s`. Of the pauses that come within as long again the longest is taken, else the next one.
        """
        least = math.ceil(self.shot_s * fps - FRAME_SLACK)
        if not least:
            return ()
        places = list(self._places(fps))
        starts: list[int] = []
        begin = 0
        while True:
            near = [(frame, pause) for frame, pause in places if begin + least <= frame <= frames - least]
            soon = [(frame, pause) for frame, pause in near if frame <= begin + 2 * least]
            if not near:
                return tuple(starts)
            begin, _ = max(soon, key=lambda place: place[1].duration_s) if soon else near[0]
            starts.append(begin)

    def _pauses(self, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """The silences longer than ``pause_s``, with those before the first word and after the last one."""
        edges = [0.0, *(time for each in segments for time in (each.start_s, each.end_s)), self.duration_s]
        gaps = (Segment(start_s, end_s) for start_s, end_s in zip(edges[::2], edges[1::2], strict=True))
        return tuple(gap for gap in gaps if gap.duration_s > self.pause_s)

    def _places(self, fps: int) -> Iterator[tuple[int, Segment]]:
        """The frames between the words of all speakers where a shot may begin, and the pauses they are in."""
        together = self.together
        for pause in self._pauses(together):
            if together[0].start_s < pause.start_s and pause.end_s < together[-1].end_s:
                frame = round((pause.start_s + pause.end_s) / 2 * fps)
                if pause.start_s <= frame / fps < pause.end_s:
                    yield frame, pause


def merged(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """The time that lies in any of these segments; sorted, no two of them touch."""
    found: list[Segment] = []
    for segment in sorted(segments, key=lambda each: each.start_s):
        if found and segment.start_s <= found[-1].end_s:
            found[-1] = Segment(found[-1].start_s, max(found[-1].end_s, segment.end_s))
        else:
            found.append(segment)
    return tuple(found)


def make_timing(
    names: Sequence[str],
    speech: Sequence[Sequence[Segment]],
    duration_s: float,
    *,
    gate: bool = True,
    pause_s: float = 0.6,
    ending: Ending | str = Ending.AS_HEARD,
    shot_s: float = 0.0,
) -> Timing:
    """Make a timing of what a node was given.

    Raises:
        LongTalkError: a setting is out of range, or nobody speaks.
    """
    gate = check_flag(gate, "silence_gate")
    pause_s = check_number(pause_s, "pause_seconds", PAUSE_MIN_S, PAUSE_MAX_S)
    ending = Ending(check_choice(ending, "ending", [each.value for each in Ending]))
    shot_s = check_number(shot_s, "shots", 0.0, SHOT_MAX_S)
    if 0.0 < shot_s < SHOT_MIN_S:
        raise SettingError(
            "shots",
            expected=f"0 for none, or the shortest shot in seconds, {SHOT_MIN_S:g} or more",
            actual=shown(shot_s),
            action="Use 8, or more: a shot begins with the reference picture",
        )
    if not any(speech):
        raise SoundError(
            "speech",
            expected="somebody who speaks",
            actual=f"none found in {duration_s:.2f} s of sound",
            action="Lower the threshold; for songs, and for sounds that are no speech, leave this node out",
        )
    return Timing(tuple(names), tuple(tuple(each) for each in speech), duration_s, gate, pause_s, ending, shot_s)


def check_sound(timing: Timing, durations_s: Sequence[float], *, mixed: bool = False) -> None:
    """Refuse a timing that was made from another sound.

    Args:
        timing: the timing that was connected.
        durations_s: of the speakers' tracks that the run hears.
        mixed: whether all speakers may be in one track.

    Raises:
        LongTalkError
    """
    longest_s = max(durations_s)
    if abs(longest_s - timing.duration_s) > _SAME_S:
        actual = f"one made from {timing.duration_s:.2f} s"
    elif len(durations_s) != len(timing.speech) and not mixed:
        actual = f"one made for {len(timing.speech)} speaker(s)"
    else:
        return
    raise LinkError(
        "timing",
        expected=f"one made from the same sound, {longest_s:.2f} s of {len(durations_s)} speaker(s)",
        actual=actual,
        action="Connect the same audio or speakers to Silence and Shots (LongTalk) and here",
    )
