"""A prompt schedule for a song: a line for each section, at the start of a window."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from .schedule_text import time_text

SUBJECT = "a singer"
SINGING = {
    "calm": "singing softly, small gestures",
    "steady": "singing, moving with the beat",
    "strong": "singing with full voice, big gestures",
}
"""By a section's energy."""


def song_schedule(sections: Sequence[tuple[float, str]], starts: Sequence[Fraction], subject: str = SUBJECT) -> str:
    """The text of a schedule.

    Args:
        sections: where each begins, in seconds, and its energy; the first begins at 0.
        starts: of the windows, in seconds, ascending; the first is 0. Each section begins at the nearest one; of
            sections at one start the last wins, as the others are shorter than a window.
        subject: words for the person, with which each line begins.

    Returns:
        Lines as Prompt Schedule (LongTalk) reads them. Neighbours with the same text are one line.
    """
    at: dict[Fraction, str] = {}
    for start_s, energy in sections:
        at[min(starts, key=lambda start: abs(start - Fraction(start_s)))] = energy
    lines: list[tuple[Fraction, str]] = []
    for start in sorted(at):
        if not lines or lines[-1][1] != at[start]:
            lines.append((start, at[start]))
    return "".join(f"{time_text(start)}: {subject}, {SINGING[energy]}\n" for start, energy in lines)
