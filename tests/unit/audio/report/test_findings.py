"""What is said about a sound: the right things about a spoiled one, nothing about a good one, and what to do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtalk.audio.prepare.filters import Loudness
from longtalk.audio.reading.source import FileSource, TrackSource
from longtalk.audio.reading.track import Track
from longtalk.audio.report.analysis import Analysis, analyse
from longtalk.audio.report.findings import (
    BOOM_DB,
    DULL_DB,
    LOUD_LUFS,
    MUSHY_DB,
    NARROW_HZ,
    NOISE_DB,
    QUIET_LUFS,
    Finding,
    Kind,
    Severity,
    find,
)
from longtalk.audio.report.spectrum import AVERAGE_DB
from longtalk.audio.report.text import report_json, report_text
from longtalk.base.segment import Segment
from longtalk.benchmarks.spoiled_sounds import RATE_HZ, Case, beside, cases, clipped, gain, padded, paused


@pytest.fixture(scope="module")
def speech(root: Path) -> np.ndarray:
    """The demo's speech, ``[1, N]`` at 48 kHz."""
    return np.concatenate(list(FileSource(root / "scripts" / "assets" / "speech.flac").blocks()), axis=1)


def measured(sound: np.ndarray) -> Analysis:
    return analyse(TrackSource(Track(torch.from_numpy(np.ascontiguousarray(sound, dtype=np.float32)), RATE_HZ)))


@pytest.fixture(scope="module")
def good(speech: np.ndarray) -> Analysis:
    return measured(speech)


def one(analysis: Analysis, kind: Kind) -> Finding:
    (found,) = (finding for finding in find(analysis) if finding.kind is kind)
    return found


def kinds(analysis: Analysis) -> set[Kind]:
    return {finding.kind for finding in find(analysis)}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_finds_what_is_wrong_and_nothing_else(speech: np.ndarray, case: Case) -> None:
    found = find(measured(case.make(speech[:, : 6 * RATE_HZ])))
    assert case.expected <= {finding.kind for finding in found}
    assert {finding.kind for finding in found} <= case.expected | case.allowed
    for finding in found:
        assert re.search(r"\d", finding.found), finding
        assert len(finding.action.split()) > 2
        assert not finding.action.endswith(".")
        assert all(span.end_s > span.start_s for span in finding.spans)


# ---------------------------------------------------------------- on both sides of each limit


def with_bands(good: Analysis, *levels: float) -> Analysis:
    return replace(good, bands_dbfs=levels)


def with_loudness(good: Analysis, lufs: float | None) -> Analysis:
    return replace(good, loudness=Loudness(lufs, 3.0, -40.0, 0.5))


def test_the_average_of_speech_is_good(good: Analysis) -> None:
    assert kinds(with_bands(good, *AVERAGE_DB)) == set()


def test_dull_in_two_steps(good: Analysis) -> None:
    for below_db, severity in (
        (DULL_DB - 0.1, None),
        (DULL_DB + 0.1, Severity.NOTE),
        (MUSHY_DB + 0.1, Severity.WARNING),
    ):
        found = find(with_bands(good, -30.0, -20.0, -25.0, -30.0, -20.0 - below_db))
        assert [(each.kind, each.severity) for each in found] == ([(Kind.DULL, severity)] if severity else [])
    assert "24 dB below the loudest band (300 to 800 Hz)" in found[0].found
    assert "Audio Prepare (LongTalk)" in found[0].action


@pytest.mark.parametrize(("change", "expected"), [(-0.1, set()), (0.1, {Kind.BOOM})])
def test_boom(good: Analysis, change: float, expected: set[Kind]) -> None:
    assert kinds(with_bands(good, -20.0 + BOOM_DB + change, -20.0, -25.0, -25.0, -25.0)) == expected


@pytest.mark.parametrize(
    ("lufs", "expected"),
    [
        (QUIET_LUFS - 0.1, {Kind.QUIET}),
        (QUIET_LUFS + 0.1, set()),
        (LOUD_LUFS - 0.1, set()),
        (LOUD_LUFS + 0.1, {Kind.LOUD}),
        (None, {Kind.QUIET}),
    ],
)
def test_loudness(good: Analysis, lufs: float | None, expected: set[Kind]) -> None:
    assert kinds(with_loudness(good, lufs)) == expected


@pytest.mark.parametrize(("ratio_db", "expected"), [(NOISE_DB - 0.1, {Kind.NOISE}), (NOISE_DB + 0.1, set())])
def test_noise(good: Analysis, ratio_db: float, expected: set[Kind]) -> None:
    noise = replace(good.noise, noise_dbfs=good.noise.speech_dbfs - ratio_db)
    assert kinds(replace(good, noise=noise)) == expected
    assert kinds(replace(good, noise=replace(noise, noise_dbfs=None))) == set()


@pytest.mark.parametrize(("hz", "expected"), [(NARROW_HZ - 100, {Kind.NARROW}), (NARROW_HZ, set())])
def test_bandwidth(good: Analysis, hz: float, expected: set[Kind]) -> None:
    assert kinds(replace(good, bandwidth_hz=hz)) == expected


# ---------------------------------------------------------------- where, and in which words


def test_spans_of_silence(speech: np.ndarray) -> None:
    found = measured(padded(3, 4)(paused(5)(speech)))
    length_s = found.duration_s
    assert one(found, Kind.HEAD).spans == (Segment(0.0, found.speech[0].start_s),)
    assert found.speech[0].start_s == pytest.approx(3.0, abs=0.15)
    assert one(found, Kind.TAIL).spans == (Segment(found.speech[-1].end_s, length_s),)
    pause = one(found, Kind.PAUSE)
    assert pause.spans[0].duration_s == pytest.approx(5.0, abs=0.8)
    assert f"1 pause longer than a window of 3.24 s, the longest {pause.spans[0].duration_s:.1f} s" in pause.found
    assert [finding.severity for finding in find(found)] == [Severity.NOTE] * 3


def test_spans_of_channels_that_cancel_out(speech: np.ndarray) -> None:
    def right(sound: np.ndarray) -> np.ndarray:
        other = sound.copy()
        other[:, 2 * RATE_HZ : 4 * RATE_HZ] *= -1
        other[:, 6 * RATE_HZ : 7 * RATE_HZ] *= -1
        return other

    found = one(measured(beside(right)(speech)), Kind.CANCELLED)
    assert found.spans == (Segment(2.0, 4.0), Segment(6.0, 7.0))
    assert found.severity is Severity.WARNING
    assert "in 3 seconds" in found.found
    whole = one(measured(beside(lambda sound: -sound)(speech)), Kind.CANCELLED)
    assert whole.severity is Severity.ERROR
    assert whole.spans[0].end_s == pytest.approx(speech.shape[1] / RATE_HZ)


def test_words_of_clipping(speech: np.ndarray) -> None:
    analysis = measured(clipped(12, -6)(speech))
    found = one(analysis, Kind.CLIPPED)
    assert f"cut off {analysis.clipping.runs:,} times at -6.0 dBFS" in found.found
    assert [span.start_s for span in found.spans] == list(analysis.clipping.times_s)


def test_words_of_channels(speech: np.ndarray) -> None:
    dead = one(measured(beside(lambda sound: sound * 0)(speech)), Kind.DEAD_CHANNEL)
    assert dead.severity is Severity.WARNING
    assert "channel 2 of 2 silent" in dead.found
    assert "6 dB quieter" in dead.found
    surround = np.concatenate([speech, speech, speech * 0, speech * 0, speech, speech])
    dead = one(measured(surround), Kind.DEAD_CHANNEL)
    assert dead.severity is Severity.NOTE
    assert "channels 3, 4 of 6 silent" in dead.found


def test_silence_is_told_alone() -> None:
    (found,) = find(measured(np.full((2, RATE_HZ), 5e-5)))
    assert (found.kind, found.severity) == (Kind.SILENT, Severity.ERROR)
    assert "1.00 s with a peak of -86 dBFS" in found.found


def test_what_follows_is_not_told_again(speech: np.ndarray, good: Analysis) -> None:
    assert kinds(replace(with_bands(good, -20.0, -20.0, -30.0, -40.0, -90.0), bandwidth_hz=3400.0)) == {Kind.NARROW}
    quiet = replace(with_bands(good, 0.0, -20.0, -40.0, -40.0, -40.0), speech=())
    assert kinds(quiet) == {Kind.NO_SPEECH}


# ---------------------------------------------------------------- the report


def test_report_of_a_good_sound(good: Analysis) -> None:
    lines = report_text(good, find(good)).splitlines()
    assert lines[:3] == ["audio, 0:09.91, 48000 Hz mono", "", "Findings: none"]
    assert "loudness         -23.0 LUFS" in lines
    assert "4000 to 8000 Hz   -15.8 dB (-17.9)" in lines


def test_report_of_a_spoiled_sound(speech: np.ndarray) -> None:
    analysis = measured(padded(3, 0)(gain(-25)(speech)))
    findings = find(analysis)
    text = report_text(analysis, findings)
    assert "2 findings:" in text
    for number, finding in enumerate(findings, 1):
        assert f"{number}. {finding.severity.value}: {finding.kind.value}: {finding.found}" in text
        assert f"   {finding.action}." in text
    assert "(0:00.00 to 0:03." in text


def test_many_spans_are_told_in_short(good: Analysis) -> None:
    spans = tuple(Segment(float(start), start + 0.5) for start in range(9))
    text = report_text(good, [Finding(Kind.PAUSE, Severity.NOTE, "9 pauses", "Do this or that", spans)])
    assert text.count(" to 0:0") == 5
    assert "and more)" in text


def test_json_holds_all_of_it(speech: np.ndarray) -> None:
    analysis = measured(beside(lambda sound: sound * 0)(clipped(6)(speech)))
    findings = find(analysis)
    told = report_json(analysis, findings)
    assert told["duration_s"] == analysis.duration_s
    assert told["integrated_lufs"] == analysis.loudness.integrated_lufs
    assert told["clipping"]["runs"] == analysis.clipping.runs
    assert [channel["peak"] for channel in told["channels"]] == [1.0, 0.0]
    assert [band["dbfs"] for band in told["bands"]] == list(analysis.bands_dbfs)
    assert told["speech"] == [{"start_s": each.start_s, "end_s": each.end_s} for each in analysis.speech]
    assert [finding["kind"] for finding in told["findings"]] == ["dead channel", "clipping"]
    assert told["findings"][1]["spans"][0]["start_s"] == analysis.clipping.times_s[0]
