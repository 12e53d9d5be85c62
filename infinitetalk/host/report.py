"""What a run did, in words, for the person who started it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...base.words import clock_text
from ..plan.plan_text import plan_report
from ..run.store.folder import RunFolder, run_names
from ..run.store.record import WindowRecord
from ..run.store.windows_text import windows_report
from ..run.video.join import WrittenVideo
from .run import Keep, Run


@dataclass
class Course:
    """What one attempt at a run did so far.

    Attributes:
        notes: what was changed or left out of the inputs, what was kept, what the run will take.
        began: when, by time.perf_counter.
        waited_s: seconds of waiting for the disk.
        made: windows that this attempt rendered, by number and key.
        attention: tables of the kernels that were measured.
    """

    notes: list[str]
    began: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0
    made: set[tuple[int, str]] = field(default_factory=set)
    attention: list[str] = field(default_factory=list)


def run_report(
    run: Run, folder: RunFolder, course: Course, video: WrittenVideo, records: Sequence[WindowRecord], *, whole: bool
) -> str:
    """What was done, in words.

    Args:
        run, folder, course: of this attempt.
        video: that was made.
        records: of its windows.
        whole: list every window of a long run; otherwise its middle is left out.
    """
    plan = run.plan
    changes = [text.strip() for text in (run.rerender_from, run.retake) if text.strip()]
    again = f" (made again: {', '.join(changes)})" if changes else ""
    lines = [
        f"{video.frames} frames, {video.frames / plan.fps:.2f} s, {video.width}x{video.height}, "
        f"{video.video_codec}, sound {video.audio_codec or 'none'}, {video.bytes / 1e6:.1f} MB",
        _took(course, [record for record in records if (record.window, record.key) in course.made]),
        f"seed {getattr(run.noise, 'seed', 'none')} plus the window's index{again}, {run.settings()}",
        _disk_use(folder, run.keep),
    ]
    if run.video.container != "mp4":
        lines.append(f"saved as {video.path} (Save Video writes mp4, which cannot hold {run.video.codec})")
    lines += [f"note: {note}" for note in course.notes]
    table = windows_report(plan, records, course.made, whole=whole) if records else plan_report(plan)
    prompts = [run.prompts.report(whole=whole)] if run.prompts else []
    return "\n".join([*lines, "", table, *("\n" + text for text in (*prompts, *course.attention))])


def _took(course: Course, made: Sequence[WindowRecord]) -> str:
    took = f"took {clock_text(time.perf_counter() - course.began)}"
    if made:
        render_s = sum(record.render_s for record in made)
        took += (
            f": {render_s:.1f} s rendering, {course.waited_s:.1f} s waiting for the disk, "
            f"{render_s / len(made):.2f} s per window"
        )
    return took


def _disk_use(folder: RunFolder, keep: Keep) -> str:
    root = folder.path.parent
    total = sum(RunFolder(root, name, folder.suffix).bytes() for name in run_names(root))
    policy = "windows kept, to make some again" if keep is Keep.ALL else "only the video kept"
    return (
        f"run {folder.name}: {folder.bytes() / 1e6:.1f} MB in {folder.path} ({policy}); all runs {total / 1e6:.1f} MB"
    )
