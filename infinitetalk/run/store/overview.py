"""What a run on disk is, read without trust: whatever its files hold, there is an answer and no exception."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ....base.errors import LongTalkError, RunError
from ....base.files import DamagedFileError, is_file
from ....base.words import clock
from .chains import Windows, read_windows
from .folder import RunFolder
from .manifest import About, Manifest, OtherFormatError, read_manifest
from .names import NAMES_OF_OURS_ALONE, VIDEO_SUFFIXES, FileKind, kind_of, run_names, run_path
from .video_record import StoredVideo, read_videos


class Problem(str, Enum):
    """What is wrong with a whole run, in words."""

    DAMAGED = "damaged manifest"
    NO_MANIFEST = "no manifest"
    OLDER_FORMAT = "of an older format"
    NEWER_FORMAT = "of a newer format"
    NOT_A_RUN = "not a run"
    UNREADABLE = "cannot be read"


#: Whoever describes runs instead of naming them ("all of them") does not mean folders with these problems.
LEFT_ALONE = (Problem.NOT_A_RUN, Problem.UNREADABLE, Problem.OLDER_FORMAT, Problem.NEWER_FORMAT)


class _Entry(NamedTuple):
    """Something in a run's folder; what is no file is not from LongTalk, whatever its name."""

    name: str
    kind: FileKind
    bytes: int


@dataclass(frozen=True)
class FileUse:
    """How many files of a kind there are, and how many bytes they take."""

    kind: FileKind
    files: int
    bytes: int


@dataclass(frozen=True)
class Overview:
    """A run as it is on the disk now.

    Attributes:
        folder: the run's files; their suffix is that of its codec.
        manifest: None with a problem.
        problem: what is wrong with the whole run; None when nothing is.
        detail: the problem in more words.
        user: who is working on the run; None when nobody is.
        videos: those of all takes, the one that was asked for last first.
        windows: which windows are there.
        use: how many bytes the run's files take.
        foreign: the names in the folder that are not LongTalk's, in order.
        starting_over: whether its windows are those of an attempt that started over and has not come to its end.
    """

    folder: RunFolder
    manifest: Manifest | None
    problem: Problem | None
    detail: str
    user: str | None
    videos: tuple[StoredVideo, ...]
    windows: Windows
    use: tuple[FileUse, ...]
    foreign: tuple[str, ...] = ()
    starting_over: bool = False

    @property
    def about(self) -> About | None:
        """What the manifest tells; None with a problem."""
        return self.manifest.about if self.manifest else None

    @property
    def shown(self) -> StoredVideo | None:
        """The video that was asked for last, of those that have the size that was noted."""
        return next((video for video in self.videos if not video.damage), None)

    @property
    def finished(self) -> bool:
        """Whether a whole video is there, in the size that was noted."""
        return self.shown is not None

    @property
    def state(self) -> str:
        if self.user:
            return f"in use by {self.user}"
        if self.problem:
            return self.problem.value
        if self.finished and self.starting_over:
            return "finished, begun again"
        return "finished" if self.finished else "unfinished"

    @cached_property
    def bytes(self) -> int:
        return sum(use.bytes for use in self.use)

    @property
    def length(self) -> str:
        return clock(self.about.frames, self.about.fps) if self.about else "-"

    @property
    def windows_text(self) -> str:
        """How many windows are finished, of how many there will be."""
        done = len(self.windows.current)
        if self.finished and not done:
            return "video only"
        return f"{done} of {len(self.about.ends) if self.about else '?'}"

    def to_json(self) -> dict[str, Any]:
        about = self.about
        return {
            "name": self.folder.name,
            "folder": str(self.folder.path),
            "state": self.state,
            "finished": self.finished,
            "starting_over": self.starting_over,
            "in_use_by": self.user,
            "problem": self.problem and self.problem.value,
            "created": about and about.created,
            "width": about and about.width,
            "height": about and about.height,
            "codec": about and about.codec,
            "crf": about and about.crf,
            "fps": about and about.fps,
            "frames": about and about.frames,
            "seed": about and about.seed,
            "steps": about and about.steps,
            "windows": about and len(about.ends),
            "windows_finished": len(self.windows.current),
            "videos": len(self.videos),
            "bytes": self.bytes,
        }


def find_run(root: Path, name: str) -> Path:
    """The folder of a run that is there.

    Raises:
        LongTalkError: it is no name of a run, there is no run of this name, or the folder is a link.
    """
    path = run_path(root, name)
    # A junction of Windows is no symbolic link, but leads elsewhere all the same.
    if not path.is_dir() or path.resolve().parent != root.resolve():
        raise RunError(
            f"run {name}",
            expected=f"a folder of this name in {root}",
            actual="a link or a file" if os.path.lexists(path) else "none",
            action="Take the name from `runs list`, or name ComfyUI's output folder with --output",
        )
    return path


def overviews(root: Path) -> list[Overview]:
    """All runs of a folder, newest first."""
    found = []
    for name in run_names(root):
        try:
            found.append(overview(root, name))
        except LongTalkError:
            continue  # a junction, or deleted since the folder was listed
    return found


def overview(root: Path, name: str) -> Overview:
    """Read a run.

    Raises:
        LongTalkError: see :func:`find_run`.
    """
    find_run(root, name)
    folder = RunFolder(root, name, VIDEO_SUFFIXES[0])
    try:
        entries = _entries(folder.path)
        manifest, problem, detail = _read_manifest(folder, entries)
        suffix = manifest.about.video.suffix if manifest else _suffix_there(entries)
        folder = RunFolder(root, name, suffix)
        windows = read_windows(folder)
        videos = read_videos(folder)
    except OSError as error:
        return Overview(folder, None, Problem.UNREADABLE, str(error), None, (), Windows((), ()), ())
    return Overview(
        folder=folder,
        manifest=manifest,
        problem=problem,
        detail=detail,
        user=folder.in_use(),
        videos=videos,
        windows=windows,
        use=_file_use(entries),
        foreign=tuple(sorted(name for name, kind, _ in entries if kind is FileKind.OTHER)),
        starting_over=is_file(folder.start_over_path),
    )


def _read_manifest(folder: RunFolder, entries: Sequence[_Entry]) -> tuple[Manifest | None, Problem | None, str]:
    """What the run is, what is wrong with it, and that in more words."""
    try:
        return read_manifest(folder.manifest_path), None, ""
    except OtherFormatError as error:
        return None, Problem.OLDER_FORMAT if error.older else Problem.NEWER_FORMAT, str(error)
    except FileNotFoundError:
        problem, detail = Problem.NO_MANIFEST, "the run was stopped as it began, or the file was removed"
    except (DamagedFileError, OSError, RecursionError) as error:
        problem, detail = Problem.DAMAGED, str(error)
    if _is_ours(folder, entries):
        return None, problem, detail
    return None, Problem.NOT_A_RUN, "nothing in it is certainly from LongTalk"


def _is_ours(folder: RunFolder, entries: Sequence[_Entry]) -> bool:
    """Whether LongTalk made a folder whose manifest does not say so; other programs take names like report.txt too."""
    if any(kind in NAMES_OF_OURS_ALONE for _, kind, _ in entries):
        return True
    with contextlib.suppress(OSError, RecursionError):
        if any(video.record is not None for video in read_videos(folder)):
            return True
    # A run that was stopped as it began has its lock, and perhaps the sound.
    names = {name for name, _, _ in entries}
    begun = all(kind_of(name) in (FileKind.SOUND, FileKind.UNFINISHED) for name in names - {"lock", "owner.json"})
    return not names or ("lock" in names and begun)


def _suffix_there(entries: Sequence[_Entry]) -> str:
    """The suffix of the run's videos, when the manifest does not tell."""
    named = [name for name, kind, _ in entries if kind in (FileKind.VIDEO, FileKind.FRAMES)]
    return next(
        (suffix for suffix in VIDEO_SUFFIXES if any(name.endswith(suffix) for name in named)), VIDEO_SUFFIXES[0]
    )


def _entries(path: Path) -> list[_Entry]:
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                found.append(_Entry(entry.name, kind_of(entry.name), 0))
                continue
            kind = kind_of(entry.name) if stat.S_ISREG(status.st_mode) else FileKind.OTHER
            found.append(_Entry(entry.name, kind, status.st_size))
    return found


def _file_use(entries: Sequence[_Entry]) -> tuple[FileUse, ...]:
    found: dict[FileKind, tuple[int, int]] = {}
    for _, kind, size in entries:
        files, total = found.get(kind, (0, 0))
        found[kind] = (files + 1, total + size)
    return tuple(FileUse(kind, *found[kind]) for kind in FileKind if kind in found)
