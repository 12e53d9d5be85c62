"""The report of a sound as a picture: waveform with the speech in it, spectrogram, energy per band, figures, findings.

Findings have numbers, which stand on the time axis where the findings apply. Marks have the colours of Okabe and Ito
(2008), the spectrogram has viridis (Smith and van der Walt, 2015); colour-blind readers can tell both apart.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ...base.canvas import FAINT, PAPER, TITLE, Canvas, Colour
from ...base.strip import BASE_WIDTH, Strip, scaled, ticks
from ...base.values import check_whole
from ...base.waves import GRID, draw_envelope
from .analysis import Analysis
from .findings import Finding, Severity
from .spectrum import AVERAGE_DB, BANDS_HZ, PICTURE_HZ, decibels, mel
from .text import figures, heading

MIN_WIDTH, MAX_WIDTH = 400, 8000

SEVERITIES: dict[Severity, Colour] = {
    Severity.ERROR: (213, 94, 0),  # vermillion
    Severity.WARNING: (230, 159, 0),  # orange
    Severity.NOTE: (86, 180, 233),  # sky blue
}
WAVE: Colour = (0, 114, 178)  # blue
SPEECH: Colour = (205, 236, 226)  # bluish green, pale
BAR: Colour = (0, 158, 115)  # bluish green
AVERAGE: Colour = (0, 0, 0)

_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ]
)
_COLOURS_DB = 70
"""How far the darkest colour of the spectrogram lies below its lightest, that of the loudest spot."""
_BARS_DB = 40
"""How far the foot of the bars lies below the loudest band."""
_HERTZ = (100, 500, 1000, 2000, 4000, 8000)
_TICKS_PER_SECOND = 100

_LEFT, _RIGHT = 170, 170  # columns beside the time line, at width 1600
_WAVE_HEIGHT, _MARK_HEIGHT, _SPECTRUM_HEIGHT, _BARS_HEIGHT, _LINE_HEIGHT = 210, 44, 340, 280, 42
_LINE_LETTERS = 108
_MOST_FINDINGS = 10


def draw_report(analysis: Analysis, findings: Sequence[Finding], *, width: int = BASE_WIDTH) -> np.ndarray:
    """Draw what was measured and found.

    Args:
        analysis: what was measured of the sound.
        findings: what is wrong with it.
        width: pixels, 400 to 8000; everything scales with it.

    Returns:
        uint8 [H, W, 3], RGB. The same input gives the same picture.

    Raises:
        LongTalkError: the width is out of range.
    """
    check_whole(width, "width of the report's picture", MIN_WIDTH, MAX_WIDTH)
    listed = _lines(findings)
    wave_top = 130
    marks_top = wave_top + _WAVE_HEIGHT
    spectrum_top = marks_top + _MARK_HEIGHT + 8
    axis_top = spectrum_top + _SPECTRUM_HEIGHT
    bars_top = axis_top + 120
    list_top = bars_top + _BARS_HEIGHT + 90
    canvas = Canvas(width, scaled(list_top + len(listed) * _LINE_HEIGHT + 24, width), scaled(_LEFT, width))
    px = canvas.px
    strip = Strip(0, max(1, math.ceil(analysis.duration_s * _TICKS_PER_SECOND)), px(_LEFT), width - px(_RIGHT))
    _draw_title(canvas, analysis)
    marks = ticks(strip, px(150), _TICKS_PER_SECOND)
    _draw_wave(canvas, analysis, strip, (px(wave_top), px(marks_top)), [x for x, _ in marks])
    _draw_marks(canvas, findings, strip, px(marks_top), px(marks_top + _MARK_HEIGHT))
    _draw_spectrogram(canvas, analysis, strip, (px(spectrum_top), px(axis_top)))
    canvas.time_axis(strip.left, strip.right, px(axis_top), marks)
    _draw_bands(canvas, analysis, px(bars_top), px(bars_top + _BARS_HEIGHT))
    _draw_figures(canvas, analysis, px(bars_top) - px(6))
    for place, (number, colour, words) in enumerate(listed):
        y = px(list_top + (place + 0.5) * _LINE_HEIGHT)
        if number:
            _badge(canvas, px(42), y, number, colour)
        canvas.text(px(76), y, words, anchor="lm")
    return canvas.finish()


def _lines(findings: Sequence[Finding]) -> list[tuple[str, Colour, str]]:
    """Number, colour and words of each line below the picture."""
    if not findings:
        return [("", PAPER, "no findings")]
    lines = []
    for number, finding in enumerate(findings[:_MOST_FINDINGS], 1):
        words = f"{finding.kind.value}: {finding.found}"
        pieces = textwrap.wrap(words, _LINE_LETTERS)
        lines.append((str(number), SEVERITIES[finding.severity], pieces[0]))
        lines += [("", PAPER, piece) for piece in pieces[1:]]
    if len(findings) > _MOST_FINDINGS:
        lines.append(("", PAPER, f"and {len(findings) - _MOST_FINDINGS} more in the report"))
    return lines


def _draw_title(canvas: Canvas, analysis: Analysis) -> None:
    px = canvas.px
    name, *others = heading(analysis)
    about = "".join(f"   |   {other}" for other in others)
    room = canvas.width - px(48) - canvas.text_width(about, TITLE)
    canvas.text(px(24), px(16), canvas.shortened(name, room, TITLE) + about, size=TITLE)
    shown = [f"{name} {value}" for name, value in figures(analysis) if name in ("loudness", "true peak", "speech")]
    canvas.text(px(24), px(76), "   |   ".join(shown), FAINT)


def _badge(canvas: Canvas, x: int, y: int, number: str, colour: Colour) -> None:
    half = canvas.px(16)
    canvas.box(x - half, y - half, x + half, y + half, colour)
    canvas.text(x, y, number, anchor="mm")


def _draw_wave(canvas: Canvas, analysis: Analysis, strip: Strip, rows: tuple[int, int], guides: Sequence[int]) -> None:
    """Draw the speech as the ground and the waveform over it."""
    (top, bottom), px = rows, canvas.px
    for segment in analysis.speech:
        canvas.box(_x(strip, segment.start_s), top, _x(strip, segment.end_s), bottom, SPEECH)
    for x in guides:
        canvas.box(x, top, x + px(2), bottom, GRID)
    envelope = analysis.levels.envelope
    width = strip.right - strip.left
    spread = [_spread(envelope[:, row], analysis.levels.envelope_s, analysis.duration_s, width, how)
              for row, how in enumerate((np.minimum, np.maximum, np.add))]  # fmt: skip
    scale = _scale(analysis.levels.peak)
    low, high, square = spread
    found = np.clip(np.stack([low, high, np.sqrt(square)]) / scale, -1, 1)
    draw_envelope(canvas, rows, strip.left, found, WAVE)
    middle = (top + bottom) // 2
    canvas.box(strip.left, middle, strip.right, middle + 1, FAINT)
    for part, y in ((1, top), (0, middle), (-1, bottom)):
        canvas.text(strip.left - px(10), y, f"{part * scale:g}", FAINT, anchor="rm")
    canvas.row_label(middle, "level", FAINT)
    canvas.box(strip.right + px(16), top, strip.right + px(44), top + px(28), SPEECH)
    canvas.text(strip.right + px(54), top + px(14), "speech", FAINT, anchor="lm")


def _scale(peak: float) -> float:
    """The end of the waveform's axis: 1 is full scale; larger for a sound that passes it, smaller for a quiet one."""
    if peak <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(peak))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= peak * 0.999)


def _draw_marks(canvas: Canvas, findings: Sequence[Finding], strip: Strip, top: int, bottom: int) -> None:
    """Mark where findings apply: a bar for each, and its number where there is room."""
    free = strip.left - canvas.px(40)
    numbered = [(span, str(number), finding) for number, finding in enumerate(findings, 1) for span in finding.spans]
    for span, number, finding in sorted(numbered, key=lambda each: each[0].start_s + each[0].end_s):
        colour = SEVERITIES[finding.severity]
        left, right = _x(strip, span.start_s), _x(strip, span.end_s)
        canvas.box(left, top + canvas.px(4), max(right, left + canvas.px(3)), top + canvas.px(10), colour)
        middle = max((left + right) // 2, strip.left + canvas.px(16))
        if middle - canvas.px(16) > free:
            _badge(canvas, middle, (top + bottom) // 2 + canvas.px(5), number, colour)
            free = middle + canvas.px(20)


def _draw_spectrogram(canvas: Canvas, analysis: Analysis, strip: Strip, rows: tuple[int, int]) -> None:
    (top, bottom), px = rows, canvas.px
    width, height = strip.right - strip.left, bottom - top
    power = analysis.spectra.spectrogram
    spread = np.stack([_spread(row, analysis.spectra.column_s, analysis.duration_s, width, np.add) for row in power.T])
    level = decibels(spread)[::-1]  # high pitch on top
    loudest = math.ceil(float(level.max()) / 10) * 10
    smooth = np.asarray(Image.fromarray(level.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    canvas.pixels[top:bottom, strip.left : strip.right] = _colours((smooth - loudest) / _COLOURS_DB + 1)
    for hz in _HERTZ:
        low, high = (float(mel(edge)) for edge in PICTURE_HZ)
        y = round(bottom - (float(mel(hz)) - low) / (high - low) * height)
        canvas.box(strip.left - px(8), max(y - 1, top), strip.left, max(y - 1, top) + px(2), FAINT)
        canvas.text(strip.left - px(14), y, f"{hz / 1000:g}k" if hz >= 1000 else str(hz), FAINT, anchor="rm")
    canvas.row_label((top + bottom) / 2, "Hz", FAINT)
    left = strip.right + px(16)
    canvas.pixels[top:bottom, left : left + px(28)] = _colours(np.linspace(1, 0, height))[:, None]
    for below in range(0, _COLOURS_DB + 1, 20):
        y = top + round(below / _COLOURS_DB * height)
        canvas.text(left + px(38), y, f"{loudest - below}", FAINT, anchor="lm")
    canvas.text(left + px(38), bottom, "dBFS", FAINT, anchor="lm")


def _draw_bands(canvas: Canvas, analysis: Analysis, top: int, bottom: int) -> None:
    """Draw the energy of each band relative to the loudest, and a line where the average of speech lies."""
    px = canvas.px
    left, each = px(_LEFT), px(130)
    height = bottom - top
    loudest = max(analysis.bands_dbfs)
    for below in range(0, _BARS_DB + 1, 10):
        y = top + round(below / _BARS_DB * height)
        canvas.box(left, y, left + 5 * each, y + px(2), GRID)
        canvas.text(left - px(10), y, f"-{below}" if below else "0", FAINT, anchor="rm")
    for place, ((low, high), level, average) in enumerate(zip(BANDS_HZ, analysis.bands_dbfs, AVERAGE_DB, strict=True)):
        x = left + place * each
        y = top + round(min(loudest - level, _BARS_DB) / _BARS_DB * height)
        canvas.box(x + px(14), y, x + each - px(14), bottom, BAR)
        mark = top + round(-average / _BARS_DB * height)
        canvas.box(x + px(6), mark - px(2), x + each - px(6), mark + px(2), AVERAGE)
        words = "-".join(f"{edge / 1000:g}k" if edge >= 1000 else str(edge) for edge in (low, high))
        canvas.text(x + each / 2, bottom + px(10), words, FAINT, anchor="ma")
    canvas.row_label((top + bottom) / 2, "dB", FAINT)
    canvas.text(left, bottom + px(46), "energy per band in Hz; lines: average speech", FAINT)


def _draw_figures(canvas: Canvas, analysis: Analysis, top: int) -> None:
    px = canvas.px
    for place, (name, value) in enumerate(figures(analysis)):
        y = top + px(38) * place
        canvas.text(px(900), y, name, FAINT)
        canvas.text(px(1150), y, value)


def _x(strip: Strip, time_s: float) -> int:
    return min(strip.left + round(time_s * _TICKS_PER_SECOND * strip.columns_per_frame), strip.right)


def _spread(
    values: np.ndarray, each_s: float, duration_s: float, width: int, how: Callable[..., np.ndarray]
) -> np.ndarray:
    """Columns of the analysis as columns of the picture: ``[n]`` -> ``[width]``; ``np.add`` takes the mean."""
    edges = np.arange(width + 1) * (duration_s / width / each_s)
    starts = np.minimum(edges[:-1].astype(int), len(values) - 1)
    merged = np.asarray(how.reduceat(values, starts), dtype=np.float64)  # type: ignore[attr-defined]
    if how is np.add:
        merged /= np.maximum(np.diff([*starts, len(values)]), 1)
    return merged


def _colours(parts: np.ndarray) -> np.ndarray:
    """The colours of viridis for values from 0 to 1: ``[...]`` -> uint8 ``[..., 3]``."""
    anchors = np.linspace(0, 1, len(_VIRIDIS))
    return np.stack([np.interp(parts, anchors, shade) for shade in _VIRIDIS.T], axis=-1).round().astype(np.uint8)
