"""Songs: tempo and beats of a made song, where its parts begin, and the schedule on the windows' grid."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from run_commands import command
from sound_files import write

from longtalk.audio.reading.source import FileSource
from longtalk.audio.song import Section, Song, analyse_song
from longtalk.base.energy import Energy
from longtalk.infinitetalk.plan.schedule import resolve_schedule, windows_of
from longtalk.infinitetalk.plan.schedule_text import parse_schedule
from longtalk.infinitetalk.plan.song_text import SINGING, song_schedule
from longtalk.infinitetalk.plan.windows import plan_windows

RATE_HZ = 44100
BPM = 100.0
#: Seconds and level of each part; other notes in every second one.
PARTS = ((24.0, 0.1), (24.0, 0.8), (24.0, 0.35))


def part(seconds: float, level: float, notes: tuple[float, ...]) -> np.ndarray:
    """A drum on each beat over a chord."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    since = t % (60 / BPM)
    drum = np.exp(-30 * since) * np.sin(2 * np.pi * 70 * since)
    hiss = np.exp(-60 * since) * np.random.default_rng(0).standard_normal(len(t))
    chord = sum(0.15 * np.sin(2 * np.pi * hz * t) for hz in notes)
    return (level * (0.6 * drum + 0.2 * hiss + chord)).astype(np.float32)


@pytest.fixture(scope="module")
def song_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chords = ((220.0, 277.2, 329.6), (392.0, 493.9, 587.3), (220.0, 277.2, 329.6))
    made = np.concatenate([part(*length, notes) for length, notes in zip(PARTS, chords, strict=True)])
    return write(tmp_path_factory.mktemp("song") / "song.wav", np.stack([made, made]), RATE_HZ)


@pytest.fixture(scope="module")
def song(song_file: Path) -> Song:
    return analyse_song(FileSource(song_file))


def test_tempo_and_beats(song: Song) -> None:
    assert song.tempo_bpm == pytest.approx(BPM, rel=0.03)
    assert song.duration_s == pytest.approx(72.0, abs=0.01)
    beats = np.array(song.beats_s)
    off = np.abs(beats - np.round(beats * BPM / 60) * 60 / BPM)
    assert len(beats) == pytest.approx(72 * BPM / 60, abs=4)
    assert np.quantile(off, 0.9) < 0.06  # a hop is 23 ms


def test_sections_begin_where_the_parts_do(song: Song) -> None:
    assert song.sections[0].start_s == 0
    assert song.sections[-1].end_s == song.duration_s
    assert all(a.end_s == b.start_s for a, b in zip(song.sections, song.sections[1:], strict=False))
    starts_s = [section.start_s for section in song.sections]
    for border_s in (24.0, 48.0):
        assert min(abs(start_s - border_s) for start_s in starts_s) < 60 / BPM + 0.05
    heard = {at_s: next(s.energy for s in song.sections if s.start_s <= at_s < s.end_s) for at_s in (12.0, 36.0, 60.0)}
    assert heard == {12.0: "calm", 36.0: "strong", 60.0: "steady"}


@pytest.mark.parametrize(("level_db", "energy"), [(0, "strong"), (-2, "strong"), (-2.1, "steady"), (-8.1, "calm")])
def test_energy(level_db: float, energy: str) -> None:
    assert Section(0.0, 1.0, level_db).energy == energy


def test_the_schedule_lies_on_the_windows() -> None:
    plan = plan_windows(72 * 25)
    starts, total = windows_of(plan)
    text = song_schedule(
        [(0.0, Energy.CALM), (23.9, Energy.STRONG), (47.0, Energy.STRONG), (60.3, Energy.STEADY)], starts, "a man"
    )
    schedule = parse_schedule(text)
    assert [entry.text for entry in schedule.entries] == [
        f"a man, {SINGING['calm']}",
        f"a man, {SINGING['strong']}",
        f"a man, {SINGING['steady']}",
    ]
    assert all(entry.start in starts for entry in schedule.entries)
    assert abs(schedule.entries[1].start - Fraction("23.9")) <= Fraction(72, 25) / 2
    assert not schedule.notes
    assert not resolve_schedule(schedule, starts, total).notes


def test_a_section_shorter_than_a_window_gives_way() -> None:
    starts = [Fraction(0), Fraction(3), Fraction(6)]
    text = song_schedule([(0.0, Energy.CALM), (2.9, Energy.STRONG), (3.2, Energy.STEADY)], starts)
    assert [entry.start for entry in parse_schedule(text).entries] == [0, 3]
    assert SINGING[Energy.STRONG] not in text


def test_the_command(song: Song, song_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "schedule.txt"
    code, said, errors = command("song", song_file, "--schedule", target, "--subject", "a woman in red")
    assert (code, errors) == (0, "")
    assert f"{song.tempo_bpm:.1f} beats per minute" in said
    assert target.read_text() in said
    assert "0:00.00: a woman in red, singing softly" in target.read_text()
    code, said, _ = command("song", song_file, "--json", "--ltx")
    found = json.loads(said)
    assert code == 0
    assert found["beats_s"] == list(song.beats_s)
    assert [section["energy"] for section in found["sections"]] == [section.energy for section in song.sections]
    # With windows of 19.88 s there are few places where a prompt can change.
    assert len(parse_schedule(found["schedule"]).entries) <= 4


@pytest.mark.parametrize(
    ("samples", "words"),
    [(np.zeros((1, 5 * RATE_HZ), np.float32), "silence"), (np.ones((1, 9999)) / 2, "at least 4 s")],
)
def test_what_is_no_song(tmp_path: Path, samples: np.ndarray, words: str) -> None:
    code, _, errors = command("song", write(tmp_path / "no.wav", samples, RATE_HZ))
    assert code == 1
    assert errors.startswith("error: ")
    assert words in errors


def test_without_librosa_it_says_what_to_install(song_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    code, _, errors = command("song", song_file)
    assert code == 1
    assert "pip install librosa" in errors
