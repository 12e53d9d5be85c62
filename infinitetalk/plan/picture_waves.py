"""The speech in the plan's picture: a row per speaker."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .picture_canvas import INK, Canvas, Colour, PlanCanvas
from .timing import Segment
from .windows import Plan

GRID: Colour = (222, 222, 222)
SEAM: Colour = (160, 160, 160)
LEFT_OUT: Colour = (200, 200, 200)
QUIET: Colour = (250, 236, 200)  # Okabe and Ito's orange, very pale
SPEAKERS: tuple[Colour, ...] = ((0, 114, 178), (0, 158, 115), (204, 121, 167), (0, 0, 0))


def draw_waves(
    canvas: PlanCanvas,
    plan: Plan,
    tracks: Sequence[np.ndarray],
    rate_hz: int,
    names: Sequence[str],
    ticks: Sequence[int],
    quiet: Sequence[Sequence[Segment]] = (),
) -> None:
    """A row per speaker, over the seams of the video (in a long plan: the ticks) and the audio left out.

    The extremes are drawn pale, the RMS in full colour: over an hour the extremes alone would be a solid block. Where a
    shot begins the line is black.

    Args:
        canvas: what to draw on.
        plan, tracks, rate_hz: see :func:`~.picture.draw_plan`.
        names: one per track.
        ticks: columns of the time axis' ticks.
        quiet: per track where the model hears silence.
    """
    layout, strip, px = canvas.layout, canvas.layout.strip, canvas.px
    columns = strip.right - strip.left
    samples_per_column = (strip.end - strip.start) * rate_hz / plan.fps / columns
    edges = np.floor(np.arange(columns + 1) * samples_per_column).astype(np.int64)
    envelopes = [envelope(track, edges) for track in tracks]
    peak = max((float(np.abs(found).max(initial=0.0)) for found in envelopes), default=0.0) or 1.0
    if layout.overview is None:
        guides, grey = [strip.x(window.output[0]) for window in plan.windows[1:]], SEAM
    else:
        guides, grey = list(ticks), GRID
    for speaker, ((top, bottom), found) in enumerate(zip(layout.waves, envelopes, strict=True)):
        canvas.hatch(strip.x(plan.frames), top, strip.x(plan.requested_frames), bottom, LEFT_OUT)
        for pause in quiet[speaker] if quiet else ():
            left, right = (strip.x(round(min(time * plan.fps, plan.frames))) for time in (pause.start_s, pause.end_s))
            canvas.box(left, top, right, bottom, QUIET)
        for x in guides:
            canvas.box(x, top, x + px(2), bottom, grey)
        colour = SPEAKERS[speaker % len(SPEAKERS)]
        draw_envelope(canvas, (top, bottom), strip.left, found / peak, colour)
        for index in plan.shot_starts[1:]:
            x = strip.x(plan.windows[index].start)
            canvas.box(x - px(1), top, x + px(3), bottom, INK)
        canvas.row_label((top + bottom) / 2, names[speaker])


def draw_envelope(canvas: Canvas, rows: tuple[int, int], left: int, found: np.ndarray, colour: Colour) -> None:
    """The extremes pale, the RMS in full colour.

    Args:
        canvas: what to draw on.
        rows: [top, bottom).
        left: the first column.
        found: lowest sample, highest sample and RMS per column, [3, C], where 1 reaches the edge of the rows.
        colour: of the RMS.
    """
    (top, bottom), px = rows, canvas.px
    middle, half = (top + bottom) / 2, (bottom - top) / 2 - px(1)
    row = np.arange(top, bottom)[:, None] + 0.5
    low, high, rms = found * half
    # where a column holds a sample or two, reach for its neighbour, so that the line does not break up
    low[1:], high[1:] = np.minimum(low[1:], high[:-1]), np.maximum(high[1:], low[:-1])
    columns = slice(left, left + found.shape[1])
    for under, over, shade in ((low, high, _pale(colour)), (np.maximum(low, -rms), np.minimum(high, rms), colour)):
        inked = (row > middle - over - px(1)) & (row < middle - under + px(1))
        canvas.pixels[top:bottom, columns][inked] = shade


def envelope(samples: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Lowest sample, highest sample and RMS in each [edges[i], edges[i+1]), without copying the samples.

    edges: int [C+1], ascending. A chunk without a sample takes the one at its start. Chunks that begin past the
    last sample are dropped, so float64 [3, C or fewer] comes back. NaN and infinite samples count as 0.
    """
    starts = edges[:-1][edges[:-1] < len(samples)]
    if not len(starts):
        return np.zeros((3, 0))
    heard = samples[: max(int(edges[len(starts)]), int(starts[-1]) + 1)]
    chunks = [slice(start, max(end, start + 1)) for start, end in itertools.pairwise([*starts.tolist(), len(heard)])]
    found = np.empty((3, len(chunks)))
    with np.errstate(invalid="ignore"):  # what NaN and infinity spoil is mended below
        found[0], found[1] = np.minimum.reduceat(heard, starts), np.maximum.reduceat(heard, starts)
        found[2] = [_rms(heard[chunk].astype(np.float64)) for chunk in chunks]
    for column in np.flatnonzero(~np.isfinite(found).all(axis=0)):
        clean = np.nan_to_num(heard[chunks[column]].astype(np.float64), posinf=0.0, neginf=0.0)
        found[:, column] = clean.min(), clean.max(), _rms(clean)
    return found


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))  # not np.dot: its threads cost more than the sum


def _pale(colour: Colour) -> Colour:
    red, green, blue = (255 - (255 - part) * 2 // 5 for part in colour)
    return red, green, blue
