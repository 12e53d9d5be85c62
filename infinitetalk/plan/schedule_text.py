"""A prompt schedule as text: one line for each stretch of time and the prompt that holds there.

    # minutes:seconds, hours:minutes:seconds or plain seconds
    0:00-0:08.5: a woman in a red coat, talking calmly
    0:08.5: a woman in a red coat, laughing          (until the next line's start)
    0:20+: a woman in a red coat, waving             (to the end)

Times are fractions of a second, never floats. What is odd about a schedule becomes a note with its line number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ...base.errors import LongTalkError, TextError
from ...base.times import parse_time
from ...base.values import shown
from ...base.words import time_text

MAX_LINES = 1000
"""The most lines, which is one for every 3.6 s of an hour. Each line is compared with all above it."""

_DASHES = "-\u2013\u2014"
"""A hyphen, and the dashes that word processors make of one."""

_TIME = r"[0-9]{1,9}(?::[0-9]{1,9}){0,2}(?:\.[0-9]{1,9})?(?!:?[0-9])"
"""A time, which ends where the digits do: 1:30 is never taken for second 1 and a text that begins with 30."""
_ENTRY = re.compile(
    rf"(?P<start>{_TIME})\s*(?:(?P<open>\+)|[{_DASHES}]\s*(?P<end>{_TIME}))?\s*:(?P<text>.*)", re.DOTALL
)
_CLOCK = re.compile(r"[0-9]+:[0-9]")
_SUBJECT_END = re.compile(r"[,.;:]")

_FORMS = "'start-end: text', 'start+: text' or 'start: text' with times such as 1:05, 1:05.5, 1:02:03 or 65"


@dataclass(frozen=True)
class Note:
    """Something the user should know about one line, or about the schedule as a whole."""

    line: int | None
    """The line of the text, counted from 1; None when the note is about the whole schedule."""
    text: str

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


@dataclass(frozen=True)
class Entry:
    """One line of a schedule. It asks for [start, end); other lines may take some of that from it."""

    line: int
    """The line of the text, counted from 1."""
    start: Fraction
    """Where it begins, in seconds."""
    end: Fraction | None
    """Where it ends, in seconds; None for the end of the video."""
    text: str

    def label(self, words: int = 6) -> str:
        """The line's number and its first words, up to 12 letters for each."""
        begin = " ".join(self.text[: 12 * words].split(" ")[:words])
        return f"line {self.line}: {begin}" + (" ..." if len(begin) < len(self.text) else "")


@dataclass(frozen=True)
class Stretch:
    """A stretch of time [start, end) and the entry that holds in it."""

    start: Fraction
    end: Fraction | None
    """None for the end of the video."""
    entry: int
    """The index of the entry in the schedule."""


@dataclass(frozen=True)
class Schedule:
    """A schedule as it was written, before anything is known about the video."""

    entries: tuple[Entry, ...]
    """The entries in the order of their lines."""
    stretches: tuple[Stretch, ...]
    """Which entry holds when: they tile [0, end of the video) in order, and neighbours have different entries."""
    notes: tuple[Note, ...]
    """What is odd: gaps, overlaps, covered entries, changing subjects."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Every distinct text once, in the order in which they come first."""
        return tuple(dict.fromkeys(entry.text for entry in self.entries))


def parse_schedule(text: str) -> Schedule:
    """Read a schedule.

    Blank lines and lines that begin with # are skipped. A single line without a time is one prompt for the whole
    video. Where lines overlap, the last one of the text wins; in a gap the entry before it goes on, and the first
    entry also holds before its start. Both are noted.

    Raises:
        LongTalkError: no entry at all, or a line that cannot be read; the message names the line.
    """
    if not isinstance(text, str):
        raise TextError(
            "schedule", expected="text", actual=shown(text), action="Write the schedule into the node's field"
        )
    lines = [(number, line.strip()) for number, line in enumerate(re.split("\r\n|\r|\n", text), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines or len(lines) > MAX_LINES:
        raise TextError(
            "schedule",
            expected="at least one line with a prompt" if not lines else f"at most {MAX_LINES:,} lines",
            actual="none" if not lines else f"{len(lines):,}",
            action=f"Write {_FORMS}",
        )
    if len(lines) == 1 and not _ENTRY.match(lines[0][1]) and not _CLOCK.match(lines[0][1]):
        entries = [Entry(lines[0][0], Fraction(0), None, lines[0][1])]
    else:
        entries = _until_the_next([_entry(number, line) for number, line in lines])
    pieces = _pieces(entries)
    notes = [*_overlaps(entries), *_covered(entries, pieces), *_gaps(entries, pieces), *_subjects(entries)]
    return Schedule(tuple(entries), tuple(_filled(pieces)), tuple(sorted(notes, key=lambda note: note.line or 0)))


def words_without_subject(entries: Sequence[Entry]) -> list[str]:
    """What tells the entries apart: their texts, without the subject where all have the same and more words."""
    texts = [entry.text for entry in entries]
    rests = [_SUBJECT_END.split(text, maxsplit=1)[1:] for text in texts]
    alike = len({_subject(text) for text in texts}) == 1
    if len(entries) > 1 and alike and all(rest and rest[0].strip() for rest in rests):
        return [rest[0].strip() for rest in rests]
    return texts


# ---------------------------------------------------------------- lines


def _entry(number: int, line: str) -> tuple[Entry, bool]:
    """The entry of a line, and whether it ends where the next one starts, which only the other lines tell."""
    found = _ENTRY.fullmatch(line)
    if found is None:
        action = f"Write {_FORMS}; begin a comment with #"
        if _CLOCK.match(line):
            action += ". Where a text begins with a number, put a space after the colon"
        raise _refused(number, _FORMS, shown(line), action)
    text = " ".join(found["text"].split())
    if not text:
        raise _refused(number, "a text after the time", "none", "Write what is seen there, or remove the line")
    start = _seconds(number, found["start"])
    if found["open"]:
        return Entry(number, start, None, text), False
    if found["end"] is None:
        return Entry(number, start, None, text), True
    end = _seconds(number, found["end"])
    if end <= start:
        raise _refused(
            number, "an end after the start", f"{found['start']} to {found['end']}", "Exchange the two times"
        )
    return Entry(number, start, end, text), False


def _seconds(number: int, written: str) -> Fraction:
    """Read a time of a line exactly; what is wrong with it is told with the number of the line."""
    try:
        return parse_time(written)
    except LongTalkError as error:
        raise _refused(
            number,
            "minutes and seconds of two digits below 60, as in 1:05",
            written,
            "Correct the time. Where a text begins with a number, put a space after the colon before it",
        ) from error


def _refused(number: int, expected: str, actual: str, action: str) -> LongTalkError:
    return TextError(f"schedule, line {number}", expected=expected, actual=actual, action=action)


def _until_the_next(found: Sequence[tuple[Entry, bool]]) -> list[Entry]:
    """Give each `start: text` its end: the nearest later start of any line, or the end of the video."""
    starts = sorted({entry.start for entry, _ in found})
    after: dict[Fraction, Fraction | None] = dict(itertools.zip_longest(starts, starts[1:]))
    return [replace(entry, end=after[entry.start]) if waits else entry for entry, waits in found]


# ---------------------------------------------------------------- who holds when


def _pieces(entries: Sequence[Entry]) -> list[tuple[Fraction, Fraction | None, int | None]]:
    """Which entry holds when, as (start, end, entry) over all time from 0.

    The last line of the text wins; the entry is None where no line holds.
    """
    times = sorted({Fraction(0), *(entry.start for entry in entries), *(e.end for e in entries if e.end is not None)})
    pieces: list[tuple[Fraction, Fraction | None, int | None]] = []
    owners: list[int | None] = [None] * len(times)
    at = {time: place for place, time in enumerate(times)}
    # From the last line back, each takes what no later line has; `free` skips what is taken.
    free = list(range(len(times) + 1))
    for index in range(len(entries) - 1, -1, -1):
        end = entries[index].end
        stop = len(times) if end is None else at[end]
        place = _first_free(free, at[entries[index].start])
        while place < stop:
            owners[place] = index
            free[place] = place + 1
            place = _first_free(free, place)
    for time, end, owner in itertools.zip_longest(times, times[1:], owners):
        if pieces and pieces[-1][2] == owner:
            pieces[-1] = (pieces[-1][0], end, owner)
        else:
            pieces.append((time, end, owner))
    return pieces


def _first_free(free: list[int], place: int) -> int:
    """The first place from this one on that no line has; shortens the way for the next search."""
    while free[place] != place:
        free[place] = free[free[place]]
        place = free[place]
    return place


def _filled(pieces: Sequence[tuple[Fraction, Fraction | None, int | None]]) -> list[Stretch]:
    """The pieces without gaps: in a gap the entry before it goes on, and the first entry begins at 0."""
    stretches: list[Stretch] = []
    first = next(owner for _, _, owner in pieces if owner is not None)
    for start, end, owner in pieces:
        holder = owner if owner is not None else stretches[-1].entry if stretches else first
        if stretches and stretches[-1].entry == holder:
            stretches[-1] = Stretch(stretches[-1].start, end, holder)
        else:
            stretches.append(Stretch(start, end, holder))
    return stretches


# ---------------------------------------------------------------- notes


def _overlaps(entries: Sequence[Entry]) -> Iterator[Note]:
    """Notes on lines that take time from lines above them."""
    for place, entry in enumerate(entries):
        taken = [(other, *common) for other in entries[:place] if (common := _common(entry, other)) is not None]
        if taken:
            until = [end for _, _, end in taken]
            last = time_text(max(end for end in until if end is not None)) if None not in until else "the end"
            named = [str(other.line) for other, _, _ in taken]
            which = f"lines {', '.join(named[:8])}" + (f" and {len(named) - 8} more" if len(named) > 8 else "")
            which = f"line {named[0]}" if len(named) == 1 else which
            first = time_text(min(start for _, start, _ in taken))
            yield Note(entry.line, f"overlaps {which} between {first} and {last}; line {entry.line} wins")


def _common(one: Entry, other: Entry) -> tuple[Fraction, Fraction | None] | None:
    """The time [start, end) that both entries ask for; None where they share none."""
    start = max(one.start, other.start)
    end = min((end for end in (one.end, other.end) if end is not None), default=None)
    return (start, end) if end is None or start < end else None


def _covered(
    entries: Sequence[Entry], pieces: Sequence[tuple[Fraction, Fraction | None, int | None]]
) -> Iterator[Note]:
    seen = {owner for _, _, owner in pieces}
    for index, entry in enumerate(entries):
        if index not in seen:
            yield Note(entry.line, "dropped: the lines below it cover all of its time")


def _gaps(entries: Sequence[Entry], pieces: Sequence[tuple[Fraction, Fraction | None, int | None]]) -> Iterator[Note]:
    """Notes on gaps within the schedule. A gap at its end depends on the video's length, see resolve_schedule."""
    for place, (start, end, owner) in enumerate(pieces):
        if owner is not None or end is None:
            continue
        before = pieces[place - 1][2] if place else None
        holder = entries[before if before is not None else pieces[place + 1][2] or 0]
        what = "its prompt goes on" if place else "its prompt already holds from the start"
        yield Note(holder.line, f"no line covers {time_text(start)} to {time_text(end)}; {what}")


def _subjects(entries: Sequence[Entry]) -> Iterator[Note]:
    """A note where the subject changes, which is the words up to the first comma, full stop, semicolon or colon."""
    first = min(entries, key=lambda entry: entry.start)
    subject = _subject(first.text)
    for entry in entries:
        other = _subject(entry.text)
        if other != subject:
            yield Note(
                entry.line,
                f"the subject (the words before the first comma) is {shown(other)}, in line {first.line} it is "
                f"{shown(subject)}; the person may change. Use the same words in every line",
            )


def _subject(text: str) -> str:
    return " ".join(_SUBJECT_END.split(text, maxsplit=1)[0].casefold().split())
