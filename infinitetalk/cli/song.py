"""``song``: tempo, beats and sections of a song, and a prompt schedule for it."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...base.files import new_file
from ...base.words import time_text
from ..plan.song_text import SUBJECT
from .arguments import add_force, add_json, add_windows, check_new_file, windows
from .terminal import Progress, say, say_json, table

if TYPE_CHECKING:
    from ...audio.song import Song


def add_parser(commands: Any) -> None:
    """Add ``song`` to the command line."""
    parser = commands.add_parser(
        "song",
        help="tempo, beats and sections of a song, with a prompt schedule",
        description="Finds tempo, beats and sections of a song, and writes a prompt schedule whose times are starts of "
        "windows. SONG is any sound or video file that ffmpeg reads. Needs the package librosa.",
    )
    parser.add_argument("song", type=Path, metavar="SONG")
    parser.add_argument("--subject", default=SUBJECT, metavar="TEXT", help=f"who sings; {SUBJECT!r} by default")
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="write the schedule into a new file")
    add_windows(parser)
    add_force(parser)
    add_json(parser)
    parser.set_defaults(run=_song)


def _song(chosen: argparse.Namespace) -> int:
    from ...audio.prepare.stretch import Watched
    from ...audio.reading.source import FileSource
    from ...audio.song import analyse_song
    from ..plan.schedule import windows_of
    from ..plan.song_text import song_schedule

    if chosen.schedule is not None:
        check_new_file(chosen.schedule, chosen.force)
    source = FileSource(chosen.song)
    with Progress(source.name, source.duration_s) as progress:
        song = analyse_song(Watched(source, progress.tell))
    starts, _ = windows_of(windows(chosen, Fraction(song.duration_s)))
    text = song_schedule([(section.start_s, section.energy) for section in song.sections], starts, chosen.subject)
    if chosen.schedule is not None:
        with new_file(chosen.schedule) as part:
            part.write_text(text, encoding="utf-8")
    if chosen.json:
        say_json(_content(song, text))
        return 0
    _say(song)
    for line in text.splitlines():
        say(line)
    if chosen.schedule is not None:
        say(f"written: {chosen.schedule}")
    return 0


def _say(song: Song) -> None:
    tempo = f"{song.tempo_bpm:.1f} beats per minute, {len(song.beats_s)} beats" if song.beats_s else "no beat found"
    say(f"{song.duration_s:.2f} s, {tempo}")
    rows = [["section", "from", "to", "level", "energy"]]
    for number, section in enumerate(song.sections, 1):
        times = (time_text(Fraction(time_s)) for time_s in (section.start_s, section.end_s))
        rows.append([str(number), *times, f"{section.level_db:+.1f} dB", section.energy.value])
    for line in table(rows, right=(0, 1, 2, 3)):
        say(line)
    say()


def _content(song: Song, schedule: str) -> dict[str, Any]:
    return {
        "duration_s": song.duration_s,
        "tempo_bpm": song.tempo_bpm,
        "beats_s": list(song.beats_s),
        "sections": [
            {
                "start_s": section.start_s,
                "end_s": section.end_s,
                "level_db": section.level_db,
                "energy": section.energy.value,
            }
            for section in song.sections
        ],
        "schedule": schedule,
    }
