"""The picture of a report: what is where it belongs, text that never overlaps, any sound and any width."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from longtalk.audio.reading.source import FileSource, TrackSource
from longtalk.audio.reading.track import Track
from longtalk.audio.report.analysis import Analysis, analyse
from longtalk.audio.report.findings import Finding, Kind, Severity, find
from longtalk.audio.report.picture import BAR, SEVERITIES, SPEECH, WAVE, draw_report
from longtalk.base.errors import LongTalkError
from longtalk.base.segment import Segment
from longtalk.benchmarks.spoiled_sounds import RATE_HZ, noise

LEFT, RIGHT = 170, 1430  # columns of the time line at width 1600

Texts = list[tuple[str, tuple[float, ...]]]


@pytest.fixture(scope="module")
def analysis(root: Path) -> Analysis:
    return analyse(FileSource(root / "scripts" / "assets" / "speech.flac"))


def measured(sound: np.ndarray, rate_hz: int = RATE_HZ) -> Analysis:
    return analyse(TrackSource(Track(torch.from_numpy(np.ascontiguousarray(sound, dtype=np.float32)), rate_hz)))


def columns_of(pixels: np.ndarray, rows: slice, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((pixels[rows] == colour).all(axis=2).any(axis=0))


def every_finding(spans: int = 1) -> list[Finding]:
    words = "so much of this that it fills more than one line of the picture, with 12.3 dB and a time, 1:23.45, besides"
    return [
        Finding(
            kind, severity, words, "Do something about it", tuple(Segment(k * 0.4, k * 0.4 + 0.3) for k in range(spans))
        )
        for kind, severity in zip(Kind, [*Severity] * 6, strict=False)
    ]


def hours(analysis: Analysis, count: float) -> Analysis:
    """The same measurements stretched over so many hours."""
    stretch = count * 3600 / analysis.duration_s
    return replace(
        analysis,
        samples=round(analysis.samples * stretch),
        speech=tuple(Segment(each.start_s * stretch, each.end_s * stretch) for each in analysis.speech),
        levels=replace(analysis.levels, envelope_s=analysis.levels.envelope_s * stretch),
        spectra=replace(analysis.spectra, column_s=analysis.spectra.column_s * stretch),
    )


def test_speech_lies_where_it_is_heard(analysis: Analysis) -> None:
    pixels = draw_report(analysis, [])
    assert pixels.dtype == np.uint8
    expected = np.zeros(1600, bool)
    for segment in analysis.speech:
        start, end = (LEFT + time / analysis.duration_s * (RIGHT - LEFT) for time in (segment.start_s, segment.end_s))
        expected[round(start) : round(end)] = True
    found = np.zeros(1600, bool)
    found[columns_of(pixels, slice(135, 140), SPEECH)] = True
    found[RIGHT:] = False  # the legend
    assert (found != expected).sum() <= 2 * len(analysis.speech) + 5 * 2  # and the guides of the time axis


def test_the_wave_is_as_high_as_the_sound() -> None:
    """Half a second of nothing, half of 0.3, half of 0.6, on an axis that ends at 1."""
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    tone = np.sin(2 * np.pi * 300 * t)
    pixels = draw_report(measured(np.concatenate([0 * tone, 0.3 * tone, 0.6 * tone])[None]), [])
    wave = (pixels[130:340, LEFT:RIGHT] != 255).any(axis=2)
    heights = [wave[:, column : column + 10].any(axis=1).sum() / 210 for column in (700, 1100)]
    assert heights == pytest.approx([0.3, 0.6], abs=0.03)
    assert wave[:, 100].sum() <= 4


def test_marks_stand_at_their_times(analysis: Analysis) -> None:
    spans = (Segment(0.0, 2.0), Segment(6.0, 7.0))
    findings = [
        Finding(Kind.HEAD, Severity.NOTE, "2 s", "Trim it now", spans[:1]),
        Finding(Kind.CLIPPED, Severity.WARNING, "3 times", "Record it again", spans[1:]),
    ]
    pixels = draw_report(analysis, findings)
    for finding in findings:
        found = columns_of(pixels, slice(344, 350), SEVERITIES[finding.severity])
        times = (found[[0, -1]] - LEFT) / (RIGHT - LEFT) * analysis.duration_s
        assert times == pytest.approx([finding.spans[0].start_s, finding.spans[0].end_s], abs=0.02)


def test_every_number_that_has_room_is_written(analysis: Analysis, text_boxes: Texts) -> None:
    """Whatever the order of the findings is."""
    later = Finding(Kind.TAIL, Severity.NOTE, "1", "Trim it now", (Segment(8.0, 9.0),))
    sooner = Finding(Kind.PAUSE, Severity.NOTE, "2", "Shorten them now", (Segment(1.0, 2.0), Segment(4.0, 4.1)))
    draw_report(analysis, [later, sooner])
    marks = sorted((box[0], text) for text, box in text_boxes if 345 < box[1] < 380 and box[0] > LEFT)
    assert [text for _, text in marks] == ["2", "2", "1"]


def test_a_tone_is_bright_at_its_pitch() -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    for hz in (500, 4000):
        pixels = draw_report(measured(0.5 * np.sin(2 * np.pi * hz * t)[None]), [])
        column = pixels[392:732, 800].astype(int)
        brightest = 392 + int((column[:, 0] + column[:, 1]).argmax())
        low, pitch, high = 2595 * np.log10(1 + np.array([50, hz, 8000]) / 700)
        assert brightest == pytest.approx(732 - (pitch - low) / (high - low) * 340, abs=4)


def test_a_tone_is_as_bright_in_a_small_picture() -> None:
    t = np.arange(10 * RATE_HZ) / RATE_HZ
    found = measured(0.5 * np.sin(2 * np.pi * 1000 * t)[None])
    brightest = []
    for width in (400, 1600):
        pixels = draw_report(found, [], width=width).astype(int)
        rows, columns = (slice(round(a * width / 1600), round(b * width / 1600)) for a, b in ((392, 732), (200, 1400)))
        brightest.append(pixels[rows, columns].sum(axis=2).max(axis=0).mean())
    assert brightest[0] == pytest.approx(brightest[1], rel=0.03)


def test_bars_are_as_high_as_their_bands(analysis: Analysis) -> None:
    bands = (-10.0, -20.0, -30.0, -40.0, -90.0)
    pixels = draw_report(replace(analysis, bands_dbfs=bands), [])
    bars = (pixels == BAR).all(axis=2)
    for place, level in enumerate(bands):
        rows = np.flatnonzero(bars[:, LEFT + 130 * place + 20])
        height = (rows.max() - rows.min() + 1) / 280 * 40 if len(rows) else 0.0
        assert height == pytest.approx(max(40 + level + 10, 0), abs=1.2)


@pytest.mark.parametrize("width", [400, 500, 1600, 3200])
@pytest.mark.parametrize("length", ["clip", "hour", "day"])
def test_no_text_covers_another(analysis: Analysis, text_boxes: Texts, width: int, length: str) -> None:
    sound = {"clip": analysis, "hour": hours(analysis, 1), "day": hours(analysis, 30)}[length]
    named = replace(sound, name="a recording with a long name, take 3 (final).wav")
    pixels = draw_report(named, every_finding(20), width=width)
    assert pixels.shape[1] == width
    for text, box in text_boxes:
        assert 0 <= box[0] < box[2] <= width, text
        assert 0 <= box[1] < box[3] <= pixels.shape[0], text
    for (one, first), (other, second) in combinations(text_boxes, 2):
        apart = first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
        assert apart, (one, other)


def test_a_very_long_name_is_shortened(analysis: Analysis, text_boxes: Texts) -> None:
    draw_report(replace(analysis, name="n" * 400), [])
    title, box = text_boxes[0]
    assert box[2] <= 1600
    assert "..." in title
    assert "0:09.91" in title


def test_everything_scales_with_the_width(analysis: Analysis) -> None:
    base = draw_report(analysis, every_finding())
    for width in (400, 800, 3200):
        pixels = draw_report(analysis, every_finding(), width=width)
        assert pixels.shape[0] == pytest.approx(base.shape[0] * width / 1600, abs=3)


def test_the_same_input_gives_the_same_picture(analysis: Analysis) -> None:
    findings = find(analysis)
    assert (draw_report(analysis, findings) == draw_report(analysis, findings)).all()


@pytest.mark.parametrize("width", [399, 8001, 500.5, True, "wide"])
def test_widths_that_are_refused(analysis: Analysis, width: object) -> None:
    with pytest.raises(LongTalkError, match="width"):
        draw_report(analysis, [], width=width)


@pytest.mark.filterwarnings("error:.*encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("sound", "rate_hz"),
    [
        pytest.param(np.zeros((1, 48_000)), 48_000, id="silence"),
        pytest.param(noise(2000, 0)[None] * 0.1, 48_000, id="a moment"),
        pytest.param(noise(48_000, 0)[None] * 100, 48_000, id="far over full scale"),
        pytest.param(noise(48_000, 0)[None] * 1e-6, 48_000, id="faint"),
        pytest.param(noise(3000, 0)[None] * 0.1, 1000, id="a low rate"),
    ],
)
def test_odd_sounds_are_drawn(sound: np.ndarray, rate_hz: int, text_boxes: Texts) -> None:
    analysis = measured(sound, rate_hz)
    pixels = draw_report(analysis, find(analysis))
    assert pixels.shape[1] == 1600
    assert len(text_boxes) > 20
    assert not any("nan" in text or "inf" in text for text, _ in text_boxes)


def test_colours_of_waves_and_marks_stay_apart() -> None:
    shades = [WAVE, SPEECH, BAR, *SEVERITIES.values()]
    for one, other in combinations(shades, 2):
        assert np.abs(np.array(one) - other).sum() > 60
