"""What a run on disk is, read without trust: whatever its files hold, there is an answer and no exception."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from ....base.errors import LongTalkError
from ....base.files import PART_SUFFIX, DamagedFileError, read_json
from ....base.words import clock
from ..video.formats import CODECS, VideoFormat
from .chains import Windows, read_windows, require_file, shown_key
from .folder import FORMAT, RunFolder, run_names, run_path
from .record import FRAMES_LIMIT

DAMAGED = "damaged manifest"
NO_MANIFEST = "no manifest"
OTHER_VERSION = "made by another version"
NOT_A_RUN = "not a run"
UNREADABLE = "cannot be read"

_SIZE_LIMIT = 1 << 16
_FPS_LIMIT = 1001
_SUFFIXES = tuple(dict.fromkeys(VideoFormat(codec).suffix for codec in CODECS))
_VIDEO = rf"({'|'.join(map(re.escape, _SUFFIXES))})"
#: What each file of a run is for, by its name; in the order in which a person is told.
_KINDS = (
    ("video", re.compile(rf"talk{_VIDEO}")),
    ("video of a stopped run", re.compile(rf"partial_\d+_of_\d+_windows{_VIDEO}")),
    ("sound", re.compile(rf"sound{_VIDEO}")),
    ("windows: frames", re.compile(rf"window_\d+_[0-9a-f]{{8}}{_VIDEO}")),
    ("windows: what the next continues from", re.compile(r"window_\d+_[0-9a-f]{8}\.safetensors")),
    ("windows: records", re.compile(r"window_\d+_[0-9a-f]{8}\.json")),
    ("description", re.compile(r"manifest\.json|talk\.json|report\.txt|owner\.json|lock")),
    ("unfinished", re.compile(rf"(talk|sound|window_\w+|partial_\w+|manifest|report)\.\w+{re.escape(PART_SUFFIX)}")),
)
_NAMES_OTHERS_TAKE = ("description", "unfinished")
OTHER_FILES = "not from LongTalk"


@dataclass(frozen=True)
class About:
    """What the manifest tells a person about the run."""

    created: str
    width: int
    height: int
    codec: str
    crf: int
    fps: int
    frames: int
    seed: int
    steps: int
    ends: tuple[int, ...]
    """Per window, the frame behind its last one."""
    shots: tuple[int, ...] = (1,)
    """The windows that begin a shot, counted from 1."""

    @classmethod
    def from_json(cls, content: Any) -> About:
        """Raise DamagedFileError unless it is what a session writes; further entries are passed over."""
        if not isinstance(content, dict):
            raise DamagedFileError("the manifest does not describe the run")
        numbers = {
            "width": _whole(content, "width", 1, _SIZE_LIMIT),
            "height": _whole(content, "height", 1, _SIZE_LIMIT),
            "crf": _whole(content, "crf", 1, 52),
            "fps": _whole(content, "fps", 1, _FPS_LIMIT),
            "frames": _whole(content, "frames", 1, FRAMES_LIMIT),
            "seed": _whole(content, "seed", 0, 1 << 64),
            "steps": _whole(content, "steps", 1, 1 << 31),
        }
        created, codec, ends = content.get("created"), content.get("codec"), content.get("ends")
        if not isinstance(created, str) or not isinstance(codec, str) or codec not in CODECS:
            raise DamagedFileError("the manifest has no codec that LongTalk knows, or no date")
        if not isinstance(ends, list) or not ends or any(type(end) is not int for end in ends):
            raise DamagedFileError("the manifest does not say where the windows end")
        if ends[-1] != numbers["frames"] or any(a >= b for a, b in zip([0, *ends], ends, strict=False)):
            raise DamagedFileError("the manifest's windows do not fill the video")
        shots = content.get("shots", [1])
        if not isinstance(shots, list) or shots[:1] != [1] or any(type(window) is not int for window in shots):
            raise DamagedFileError("the manifest does not say where the shots begin")
        if shots[-1] > len(ends) or any(a >= b for a, b in pairwise(shots)):
            raise DamagedFileError("the manifest's shots are not among its windows")
        return cls(created=created[:40], codec=codec, ends=tuple(ends), shots=tuple(shots), **numbers)

    @property
    def video(self) -> VideoFormat:
        return VideoFormat(self.codec, self.crf)

    def start_of(self, window: int) -> int:
        """The first frame of a window, which is counted from 1."""
        return self.ends[window - 2] if window > 1 else 0

    def shot_of(self, window: int) -> range:
        """The windows of the shot that a window is in."""
        edges = [*self.shots, len(self.ends) + 1]
        return next((range(*edge) for edge in pairwise(edges) if window in range(*edge)), range(window, window + 1))


def _whole(content: dict[str, Any], name: str, least: int, limit: int) -> int:
    number = content.get(name)
    if type(number) is not int or not least <= number < limit:
        raise DamagedFileError(f"the manifest's {name} is no number that can be")
    return number


@dataclass(frozen=True)
class FileUse:
    """How many files of a kind there are, and what they take."""

    kind: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Overview:
    """A run as it is on the disk now.

    Attributes:
        folder: its files; the suffix is that of its codec.
        about: what the manifest tells; None with a problem.
        sound: the manifest's entry for the sound, as it is there.
        problem: what is wrong with the whole run, one of this module's texts; None when nothing is.
        detail: the same in more words.
        user: who is working on it, None when nobody is.
        finished: whether the whole video is there, in the size that was noted.
        windows: what is there of the windows.
        use: what its files take.
    """

    folder: RunFolder
    about: About | None
    sound: Any
    problem: str | None
    detail: str
    user: str | None
    finished: bool
    windows: Windows
    use: tuple[FileUse, ...]

    @property
    def state(self) -> str:
        if self.user:
            return f"in use by {self.user}"
        return self.problem or ("finished" if self.finished else "unfinished")

    @cached_property
    def bytes(self) -> int:
        return sum(use.bytes for use in self.use)

    @property
    def length(self) -> str:
        return clock(self.about.frames, self.about.fps) if self.about else "-"

    @property
    def windows_text(self) -> str:
        """Finished windows of how many there will be."""
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
            "problem": self.problem,
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
        LongTalkError: no name of a run, none of this name, or a link.
    """
    path = run_path(root, name)
    # A junction of Windows is no symbolic link, but leads elsewhere all the same.
    if not path.is_dir() or path.resolve().parent != root.resolve():
        raise LongTalkError(
            f"run {name}",
            expected=f"a folder of this name in {root}",
            actual="a link or a file" if os.path.lexists(path) else "none",
            action="Take the name from `runs list`, or name ComfyUI's output folder with --output",
        )
    return path


def overviews(root: Path) -> list[Overview]:
    """All runs, newest first."""
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
    folder = RunFolder(root, name, _SUFFIXES[0])
    try:
        use = _file_use(folder.path)
        about, sound, problem, detail = _read_manifest(folder, use)
        suffix = about.video.suffix if about else _suffix_there(folder.path)
        folder = RunFolder(root, name, suffix)
        windows = read_windows(folder)
    except OSError as error:
        return Overview(folder, None, None, UNREADABLE, str(error), None, False, Windows((), ()), ())
    finished = shown_key(folder) is not None
    return Overview(folder, about, sound, problem, detail, folder.in_use(), finished, windows, use)


def _read_manifest(folder: RunFolder, use: tuple[FileUse, ...]) -> tuple[About | None, Any, str | None, str]:
    """What it tells, its entry for the sound, what is wrong with it, and that in more words."""
    if not os.path.lexists(folder.manifest_path):
        kinds = {entry.kind for entry in use}
        if OTHER_FILES in kinds and not kinds - {OTHER_FILES, *_NAMES_OTHERS_TAKE}:
            return None, None, NOT_A_RUN, "nothing in it is from LongTalk"
        return None, None, NO_MANIFEST, "the run was stopped as it began, or the file was removed"
    try:
        require_file(folder.manifest_path)
        manifest = read_json(folder.manifest_path)
        if manifest.get("format") != FORMAT:
            return None, None, OTHER_VERSION, f"its format is {manifest.get('format')!s:.20}, not {FORMAT}"
        return About.from_json(manifest.get("about")), manifest.get("sound"), None, ""
    except (DamagedFileError, OSError, RecursionError) as error:
        return None, None, DAMAGED, str(error)


def _suffix_there(path: Path) -> str:
    """The suffix of the run's videos, when the manifest does not tell."""
    names = [file.name for file in path.iterdir()]
    for suffix in _SUFFIXES:
        if any(name == f"talk{suffix}" or (name.startswith("window_") and name.endswith(suffix)) for name in names):
            return suffix
    return _SUFFIXES[0]


def _file_use(path: Path) -> tuple[FileUse, ...]:
    found: dict[str, tuple[int, int]] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except OSError:
                size = 0
            kind = next((kind for kind, name in _KINDS if name.fullmatch(entry.name)), OTHER_FILES)
            files, total = found.get(kind, (0, 0))
            found[kind] = (files + 1, total + size)
    order = [*(kind for kind, _ in _KINDS), OTHER_FILES]
    return tuple(FileUse(kind, *found[kind]) for kind in order if kind in found)
