"""A prompt schedule for a song: a line for each section, at the start of a window."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ...base.energy import Energy
from ...base.words import time_text

SUBJECT = "a singer"
SINGING = {
    Energy.CALM: "singing softly, small gestures",
    Energy.STEADY: "singing, moving with the beat",
    Energy.STRONG: "singing with full voice, big gestures",
}
"""What the singer does in a section of this energy."""


def song_schedule(sections: Sequence[tuple[float, Energy]], starts: Sequence[Fraction], subject: str = SUBJECT) -> str:
    """The text of a schedule for a song.

    Args:
        sections: where each section begins, in seconds, and its energy; the first begins at 0.
        starts: where the windows start, in seconds, ascending from 0. Each section begins at the nearest start; of
            several sections at one start the last wins, as the others are shorter than a window.
        subject: the words for the person, with which each line begins.

    Returns:
        Lines as Prompt Schedule (LongTalk) reads them. Neighbours with the same text are one line.
    """
    at: dict[Fraction, Energy] = {}
    for start_s, energy in sections:
        at[min(starts, key=lambda start: abs(start - Fraction(start_s)))] = energy
    lines: list[tuple[Fraction, Energy]] = []
    for start in sorted(at):
        if not lines or lines[-1][1] != at[start]:
            lines.append((start, at[start]))
    return "".join(f"{time_text(start)}: {subject}, {SINGING[energy]}\n" for start, energy in lines)
