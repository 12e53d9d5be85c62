"""The speech in the plan's picture: a row per speaker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...base.canvas import INK, Colour
from ...base.segment import Segment
from ...base.waves import GRID, draw_envelope, envelope
from ..plan.windows import Plan
from .plan_canvas import PlanCanvas

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
    """Draw a row per speaker, over the seams of the video (in a long plan, the ticks) and the audio that is left out.

    The extremes are drawn pale, the RMS in full colour: over an hour the extremes alone would be a solid block. Where a
    shot begins the line is black.

    Args:
        canvas: what to draw on.
        plan, tracks, rate_hz: see :func:`~.plan_picture.draw_plan`.
        names: what the tracks are called.
        ticks: the columns of the ticks on the time axis.
        quiet: where the model hears silence, for each track.
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
        for number in plan.shot_starts[1:]:
            x = strip.x(plan.window(number).start)
            canvas.box(x - px(1), top, x + px(3), bottom, INK)
        canvas.row_label((top + bottom) / 2, names[speaker])
