"""A sound drawn over the columns of a picture: how loud it is at each of them."""

from __future__ import annotations

import itertools

import numpy as np

from .canvas import Canvas, Colour

GRID: Colour = (222, 222, 222)


def draw_envelope(canvas: Canvas, rows: tuple[int, int], left: int, found: np.ndarray, colour: Colour) -> None:
    """Draw a sound: the extremes pale, the RMS in full colour.

    Args:
        canvas: what to draw on.
        rows: the rows [top, bottom) that the sound may fill.
        left: the first column.
        found: lowest sample, highest sample and RMS per column, [3, C], where 1 reaches the edge of the rows.
        colour: the colour of the RMS.
    """
    (top, bottom), px = rows, canvas.px
    middle, half = (top + bottom) / 2, (bottom - top) / 2 - px(1)
    row = np.arange(top, bottom)[:, None] + 0.5
    low, high, rms = found * half
    # A column that holds a sample or two reaches for its neighbour, so that the line does not break up.
    low[1:], high[1:] = np.minimum(low[1:], high[:-1]), np.maximum(high[1:], low[:-1])
    columns = slice(left, left + found.shape[1])
    for under, over, shade in ((low, high, _pale(colour)), (np.maximum(low, -rms), np.minimum(high, rms), colour)):
        inked = (row > middle - over - px(1)) & (row < middle - under + px(1))
        canvas.pixels[top:bottom, columns][inked] = shade


def envelope(samples: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The lowest sample, the highest sample and the RMS of each chunk of a sound. The samples are not copied.

    Args:
        samples: ``[N]``; NaN and infinite samples count as 0.
        edges: int ``[C + 1]``, ascending; chunk i is samples [edges[i], edges[i + 1]). A chunk without a sample takes
            the one at its start.

    Returns:
        float64 ``[3, C]``, or fewer columns: chunks that begin past the last sample are dropped.
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
