"""What a run on disk is, read without trust: whatever its files hold, there is an answer and no exception."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from ....base.errors import LongTalkError, RunError
from ....base.files import DamagedFileError
from ....base.words import clock
from .chains import Windows, read_windows, require_file, shown_key
from .folder import RunFolder
from .manifest import About, OtherFormatError
from .names import VIDEO_SUFFIXES, FileKind, kind_of, run_names, run_path


class Problem(str, Enum):
    """What is wrong with a whole run, in words."""

    DAMAGED = "damaged manifest"
    NO_MANIFEST = "no manifest"
    OTHER_VERSION = "made by another version"
    NOT_A_RUN = "not a run"
    UNREADABLE = "cannot be read"


#: Files of these kinds may lie in a folder that LongTalk did not make: other programs take the same names.
_NAMES_OTHERS_TAKE = (FileKind.DESCRIPTION, FileKind.UNFINISHED)


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
        about: what the manifest tells; None with a problem.
        sound: the manifest's entry for the sound, unchecked.
        problem: what is wrong with the whole run; None when nothing is.
        detail: the problem in more words.
        user: who is working on the run; None when nobody is.
        finished: whether the whole video is there, in the size that was noted.
        windows: which windows are there.
        use: how many bytes the run's files take.
    """

    folder: RunFolder
    about: About | None
    sound: Any
    problem: Problem | None
    detail: str
    user: str | None
    finished: bool
    windows: Windows
    use: tuple[FileUse, ...]

    @property
    def state(self) -> str:
        if self.user:
            return f"in use by {self.user}"
        if self.problem:
            return self.problem.value
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
        use = _file_use(folder.path)
        about, sound, problem, detail = _read_manifest(folder, use)
        suffix = about.video.suffix if about else _suffix_there(folder.path)
        folder = RunFolder(root, name, suffix)
        windows = read_windows(folder)
    except OSError as error:
        return Overview(folder, None, None, Problem.UNREADABLE, str(error), None, False, Windows((), ()), ())
    finished = shown_key(folder) is not None
    return Overview(folder, about, sound, problem, detail, folder.in_use(), finished, windows, use)


def _read_manifest(folder: RunFolder, use: tuple[FileUse, ...]) -> tuple[About | None, Any, Problem | None, str]:
    """What the manifest tells, its entry for the sound, what is wrong with the run, and that in more words."""
    if not os.path.lexists(folder.manifest_path):
        kinds = {entry.kind for entry in use}
        if FileKind.OTHER in kinds and not kinds - {FileKind.OTHER, *_NAMES_OTHERS_TAKE}:
            return None, None, Problem.NOT_A_RUN, "nothing in it is from LongTalk"
        return None, None, Problem.NO_MANIFEST, "the run was stopped as it began, or the file was removed"
    try:
        require_file(folder.manifest_path)
        manifest = folder.manifest.read()
        return About.from_json(manifest.get("about")), manifest.get("sound"), None, ""
    except OtherFormatError as error:
        return None, None, Problem.OTHER_VERSION, str(error)
    except (DamagedFileError, OSError, RecursionError) as error:
        return None, None, Problem.DAMAGED, str(error)


def _suffix_there(path: Path) -> str:
    """The suffix of the run's videos, when the manifest does not tell."""
    names = [file.name for file in path.iterdir()]
    for suffix in VIDEO_SUFFIXES:
        if any(name == f"talk{suffix}" or (name.startswith("window_") and name.endswith(suffix)) for name in names):
            return suffix
    return VIDEO_SUFFIXES[0]


def _file_use(path: Path) -> tuple[FileUse, ...]:
    found: dict[FileKind, tuple[int, int]] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except OSError:
                size = 0
            kind = kind_of(entry.name)
            files, total = found.get(kind, (0, 0))
            found[kind] = (files + 1, total + size)
    return tuple(FileUse(kind, *found[kind]) for kind in FileKind if kind in found)
