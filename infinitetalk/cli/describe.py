"""Describes one run in full: its files, its windows, what is damaged, and how to make a second of it again."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...base.errors import RunError, SettingError
from ...base.rates import FPS, FRAME_SLACK
from ...base.words import clock, count
from ..run.seeds import base_of
from ..run.store.chains import Chain
from ..run.store.manifest import About
from ..run.store.overview import Overview
from ..run.store.record import video_key
from ..run.store.video_record import StoredVideo
from ..run.store.windows_text import LEGEND, marks_of
from ..run.window_stats import WindowStats, begins_shot
from .terminal import megabytes, table

_PLACEHOLDER = "SEED"


@dataclass(frozen=True)
class Moment:
    """The window that holds a second of the video.

    Attributes:
        second: the second that was asked for.
        window: the number of the window, counted from 1.
        frames: the window's frames ``[start, end)``.
        seed: the seed that a ``rerender_from`` would have to name to get the same window; None when it is not there.
        rerender_from: the setting that makes the window again, with a placeholder for the new seed.
        last: the last window that is made again then, at the end of a shot; None for all windows up to the end.
        note: what else to know, "" for nothing.
        fps: of the video.
    """

    second: float
    window: int
    frames: tuple[int, int]
    seed: int | None
    rerender_from: str
    last: int | None
    note: str
    fps: int

    def text(self) -> Iterator[str]:
        start, end = self.frames
        times = f"{clock(start, self.fps)} - {clock(end, self.fps)}"
        yield f"second {self.second:g} is in window {self.window} ({times}); to make it again:"
        yield f"rerender_from: {self.rerender_from}"
        other = "a number" if self.seed is None else f"a number other than {self.seed}"
        after = "all after it" if self.last is None else f"those after it in its shot, up to {self.last},"
        yield f"Put {other} in the place of {_PLACEHOLDER}; window {self.window} and {after} are made again."
        if self.note:
            yield self.note


def moment(run: Overview, second: float) -> Moment:
    """Find the window of a second of the video, whether it is made or not.

    Raises:
        LongTalkError: the manifest does not tell where the windows are, or the video is shorter.
    """
    about = run.about
    if about is None:
        raise RunError(
            f"run {run.folder.name}",
            expected="a manifest that tells where its windows are",
            actual=run.problem.value if run.problem else run.state,
            action="Queue the same workflow again; it writes the manifest anew",
        )
    length_s = about.frames / about.fps
    if not 0 <= second < length_s:
        raise SettingError(
            "second",
            expected=f"0 to below {length_s:g}, the length of the video",
            actual=f"{second:g}",
            action="Take the second from the player's clock",
        )
    frame = math.floor(second * about.fps + FRAME_SLACK)
    window = next(number for number, end in enumerate(about.ends, start=1) if frame < end)
    chain = run.windows.current
    shot = about.shot_of(window)
    others = [entry for entry in rerender_entries(chain, about) if entry[0] < window or entry[0] not in shot]
    entries = sorted([*others, (window, _PLACEHOLDER)], key=lambda entry: entry[0])
    seed, note = None, ""
    if window <= len(chain):
        seed = base_of(chain[window - 1].seed, window)
    elif run.finished and not chain:
        note = "The windows of this run were not kept, so those before it are made again too."
    else:
        note = f"Window {window} is not made yet; the run has windows 1 to {len(chain)}."
        if not chain:
            note = "No window of this run is made yet."
    return Moment(
        second=second,
        window=window,
        frames=about.frames_of(window),
        seed=seed,
        rerender_from=", ".join(f"{number}:{base}" for number, base in entries),
        last=shot[-1] if shot[-1] < len(about.ends) else None,
        note=note,
        fps=about.fps,
    )


def rerender_entries(chain: Chain, about: About) -> list[tuple[int, int]]:
    """The pairs of ``rerender_from`` that gave a chain its seeds, which is :func:`~..run.seeds.window_seeds` backwards.

    Retaken windows have seeds of their own and change nothing after them.
    """
    entries = []
    base = about.seed
    for record in chain:
        if record.window in about.shots:
            base = about.seed
        own = base_of(record.seed, record.window)
        if own != base and not record.retake:
            base = own
            entries.append((record.window, base))
    return entries


def _rerender_text(chain: Chain, about: About) -> str:
    entries = ", ".join(f"{window}:{seed}" for window, seed in rerender_entries(chain, about))
    return f"rerender_from: {entries}" if entries else "an empty rerender_from"


def lines(run: Overview) -> Iterator[str]:
    """The whole description as lines for a person, without what is damaged."""
    about = run.about
    yield f"run {run.folder.name}: {run.state}"
    if run.detail:
        yield f"  {run.detail}"
    if about:
        made = f"{about.width}x{about.height}, {about.codec} crf {about.crf}"
        yield f"made {about.created}: {made}, seed {about.seed}, {count(about.steps, 'step')}"
        frames = f"{count(about.frames, 'frame')} at {about.fps} fps"
        yield f"{clock(about.frames, about.fps)} ({frames}), windows: {run.windows_text}"
    yield f"folder {run.folder.path}: {megabytes(run.bytes)}"
    if run.foreign:
        yield f"not from LongTalk, and never touched: {', '.join(run.foreign)}"
    yield ""
    rows = [["files", "", "disk"], *([use.kind.value, str(use.files), megabytes(use.bytes)] for use in run.use)]
    yield from table(rows, right=(1, 2))
    if run.videos:
        yield ""
        yield from _video_table(run)
    chain = run.windows.current
    if chain:
        yield ""
        yield from _window_table(run, chain)
        if about:
            yield f"these windows are made with {_rerender_text(chain, about)}"
    for other in run.windows.chains[1:]:
        yield _other_chain(run, other)


def _video_table(run: Overview) -> Iterator[str]:
    rows = [["video", "made", "disk", "", "made with"]]
    for video in run.videos:
        made, size = "-", "-"
        with contextlib.suppress(OSError, OverflowError, ValueError):  # a time that no calendar has
            found = video.path.lstat()
            made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.st_mtime))
            size = megabytes(found.st_size)
        chain = _chain_of(run, video)
        rows.append(
            [
                video.name,
                made,
                size,
                _standing(run, video),
                _rerender_text(chain, run.about) if chain and run.about else "-",
            ]
        )
    yield from table(rows, right=(2,))


def _standing(run: Overview, video: StoredVideo) -> str:
    if video.damage:
        return "damaged"
    marks = ["asked for last"] if video is run.shown else []
    if video.record and video.record.superseded:
        marks.append("made again since")
    return ", ".join(marks)


def _chain_of(run: Overview, video: StoredVideo) -> Chain | None:
    """The windows that a video shows; None where they are not kept."""
    if video.record is None or run.about is None:
        return None
    for chain in run.windows.chains:
        keys = [record.key for record in chain]
        if len(keys) == len(run.about.ends) and video_key(keys, run.about.shots) == video.record.key:
            return chain
    return None


def _other_chain(run: Overview, chain: Chain) -> str:
    shared = _shared(chain, run.windows.current)
    made = f"windows {shared + 1} to {len(chain)}" if len(chain) > shared + 1 else f"window {shared + 1}"
    how = f"; {_rerender_text(chain, run.about)} gives them" if run.about else ""
    return f"also there: {made} made with another seed{how}"


def _shared(chain: Chain, other: Chain) -> int:
    """How many windows at their beginning two chains have in common."""
    same = 0
    for ours, theirs in zip(chain, other, strict=False):
        if ours.key != theirs.key:
            break
        same += 1
    return same


def _window_table(run: Overview, chain: Chain) -> Iterator[str]:
    heading = ["window", "time", "seed", "took", "drift", "seam", ""]
    rows = [heading]
    fps = run.about.fps if run.about else FPS
    for looked in _looks(run, chain):
        rows.append(
            [
                str(looked["window"]),
                f"{clock(looked['start'], fps)} - {clock(looked['end'], fps)}",
                str(looked["seed"]),
                f"{looked['render_s']:.1f} s",
                "-" if looked["drift"] is None else f"{looked['drift']:.1f}",
                "shot" if looked["begins_shot"] else "-" if looked["seam"] is None else f"{looked['seam']:.1f}",
                ", ".join(looked["marks"]),
            ]
        )
    yield from table(rows, right=(0, 2, 3, 4, 5))
    yield LEGEND


def _looks(run: Overview, chain: Chain) -> Iterator[dict[str, Any]]:
    """What the record of each window tells about it; None for a measurement that is damaged."""
    start = 0
    for record in chain:
        if run.about and record.window <= len(run.about.ends):
            start, end = run.about.frames_of(record.window)
        else:
            end = start + record.frames
        drift = seam = stats = None
        with contextlib.suppress(ValueError, RecursionError):
            stats = WindowStats.from_json(record.stats)
            drift = stats.drift
            seam = stats.seam_ratio if math.isfinite(stats.seam_ratio or 0.0) else None
        marks = marks_of(record, stats) if stats else ["measurements damaged", *marks_of(record, None)]
        yield {
            "window": record.window, "key": record.key, "seed": record.seed, "start": start, "end": end,
            "render_s": float(record.render_s), "drift": drift, "seam": seam, "marks": marks,
            "begins_shot": stats is not None and begins_shot(record.window, stats),
        }  # fmt: skip
        start = end


def to_json(run: Overview, at: Moment | None, damage: Sequence[str] | None) -> dict[str, Any]:
    """The whole description for a program; times are in frames."""
    chain = run.windows.current
    return {
        **run.to_json(),
        "detail": run.detail,
        "files": [{"kind": use.kind.value, "files": use.files, "bytes": use.bytes} for use in run.use],
        "video_list": [
            {
                "name": video.name,
                "file": str(video.path),
                "bytes": video.record and video.record.sum.bytes,
                "shown": video is run.shown,
                "superseded": video.record and video.record.superseded,
                "damage": video.damage,
            }
            for video in run.videos
        ],
        "window_list": list(_looks(run, chain)) if chain else [],
        "rerender_from": rerender_entries(chain, run.about) if run.about else None,
        "other_chains": [
            {
                "first_own_window": _shared(other, chain) + 1,
                "windows": len(other),
                "rerender_from": rerender_entries(other, run.about) if run.about else None,
            }
            for other in run.windows.chains[1:]
        ],
        "foreign": list(run.foreign),
        "damaged_records": list(run.windows.damage),
        "at": at and asdict(at),
        "damage": None if damage is None else list(damage),
    }
