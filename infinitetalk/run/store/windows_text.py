"""A finished run in words: per window its seed, time, colour drift and seam."""

from __future__ import annotations

from collections.abc import Container, Sequence

from ...plan.plan_text import plan_report
from ...plan.windows import Plan
from ..window_stats import WindowStats, begins_shot, jumps
from .record import WindowRecord

LEGEND = (
    "drift: colour distance to the reference image (CIE76; 2 is barely seen, 10 is another colour). "
    "seam: change at the window's first frame over the change between its frames; 1 is seamless, shot is a cut."
)


def windows_report(
    plan: Plan, records: Sequence[WindowRecord], made: Container[tuple[int, str]], *, whole: bool = False
) -> str:
    """The table of the plan, with what each window became.

    Args:
        plan: the windows.
        records: of all windows, in order.
        made: window and key of those that this session made; the others were there before.
        whole: see :func:`~...plan.plan_text.plan_report`.
    """
    texts = [_text(record, kept=(record.window, record.key) not in made) for record in records]
    heading = f"{'seed':>20}  {'took':>8}  {'drift':>5}  {'seam':>5}"
    return "\n".join([plan_report(plan, [heading, *texts], whole=whole), LEGEND])


def marks_of(record: WindowRecord, stats: WindowStats | None) -> list[str]:
    """What is special about a window, in words."""
    level = record.fallbacks.get("memory_level")
    marks = {
        "JUMP": stats is not None and jumps(stats),
        "retake": record.retake != 0,
        "plain attention": record.fallbacks.get("plain_attention") is True,
        f"memory level {level}": type(level) is int and 0 < level < 10,
    }
    return [mark for mark, applies in marks.items() if applies]


def _text(record: WindowRecord, kept: bool) -> str:
    stats = WindowStats.from_json(record.stats)
    ratio = stats.seam_ratio
    marks = [*(["kept"] if kept else []), *marks_of(record, stats)]
    seam = "shot" if begins_shot(record.window, stats) else "-" if ratio is None else f"{ratio:.1f}"
    line = f"{record.seed:>20}  {record.render_s:>6.1f} s  {stats.drift:>5.1f}  {seam:>5}"
    return f"{line}  {', '.join(marks)}".rstrip()
