"""The names of runs and of the files in them; every name is made here, and none is read from a file.

    <output>/longtalk/<run>/
        manifest.json                       what the run is: the digests of everything that decides its result
        sound.mp4                           the sound, encoded once
        window_00001_3fa9c1d2.mp4           a finished window's frames
        window_00001_3fa9c1d2.safetensors   what the next window continues from
        window_00001_3fa9c1d2.json          checksums of both; written last, so a window without it is not finished
        talk_9b04d1e6_5c77a0f2.mp4          the whole video of a take
        talk_9b04d1e6_5c77a0f2.json         its checksum; written last, so a video without it is not finished
        talk_9b04d1e6_5c77a0f2.txt          what was done
        partial_12_of_97_windows.mp4        what a cancelled run had
        start_over.json                     the windows here are those of an attempt that started over
        lock, owner.json                    who works on the run

The second half of a window's name, its key, depends on the run and on the seeds of its shot up to that window, so
windows made again with another seed lie beside the first ones.

The first half of a video's name tells its take (which windows it shows), the second its content: a name never means
other bytes. Nothing here deletes a whole video or replaces it, so who was handed one keeps what they were given.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from ....base.errors import DiskError, RunError
from ....base.files import PART_SUFFIX
from ..video.formats import CODECS, VideoFormat

RUNS_FOLDER = "longtalk"
"""The folder of all runs, in ComfyUI's output folder."""
NAME_LENGTH = 16
"""Hexadecimal digits in the name of a run."""
VIDEO_SUFFIXES = tuple(dict.fromkeys(VideoFormat(codec).suffix for codec in CODECS))
"""What the names of a run's video files may end with, depending on its codec."""

_NAME = re.compile(rf"[0-9a-f]{{{NAME_LENGTH}}}")
_HALF_LENGTH = 8
_HALF = rf"[0-9a-f]{{{_HALF_LENGTH}}}"
_VIDEO = rf"({'|'.join(map(re.escape, VIDEO_SUFFIXES))})"
_VIDEO_RECORD = re.compile(rf"talk_(?P<name>{_HALF}_{_HALF})\.json")
# Up to format 2 a run had one video, without a name of its own.
_TALK = rf"talk(_{_HALF}_{_HALF})?"
_WINDOW = rf"window_\d{{5,7}}_{_HALF}"


class FileKind(str, Enum):
    """What a file in a run's folder is for; in the order in which a person is told."""

    VIDEO = "video"
    PARTIAL = "video of a stopped run"
    SOUND = "sound"
    FRAMES = "windows: frames"
    CARRIES = "windows: what the next continues from"
    RECORDS = "windows: records"
    DESCRIPTION = "description"
    UNFINISHED = "unfinished"
    OTHER = "not from LongTalk"


_LOCK = "lock"
_WRITTEN = {
    FileKind.VIDEO: rf"{_TALK}{_VIDEO}",
    FileKind.PARTIAL: rf"partial_\d+_of_\d+_windows{_VIDEO}",
    FileKind.SOUND: rf"sound{_VIDEO}",
    FileKind.FRAMES: rf"{_WINDOW}{_VIDEO}",
    FileKind.CARRIES: rf"{_WINDOW}\.safetensors",
    FileKind.RECORDS: rf"{_WINDOW}\.json",
    FileKind.DESCRIPTION: rf"(manifest|{_TALK}|start_over|owner)\.json|({_TALK}|report)\.txt",
    FileKind.UNFINISHED: rf"joined_{_HALF}{_VIDEO}",
}
"""The names of all files that :func:`~....base.files.atomic` writes, each under its name with another end first."""
_KINDS = {kind: re.compile(names, re.ASCII) for kind, names in _WRITTEN.items()}
_WINDOW_KINDS = (FileKind.FRAMES, FileKind.CARRIES, FileKind.RECORDS)

#: No other program gives its files such names.
NAMES_OF_OURS_ALONE = (FileKind.PARTIAL, *_WINDOW_KINDS)


def take_digits(key: str) -> str:
    """The half of a video's name that tells its take; ``key`` is that of :func:`~.record.video_key`."""
    # That of a video with several shots is a list of keys, as long as the video has shots.
    return key if re.fullmatch(_HALF, key) else hashlib.sha256(key.encode()).hexdigest()[:_HALF_LENGTH]


def video_name(key: str, sha256: str) -> str:
    """The name of a take's video with this content, without what all names have in common.

    Args:
        key: what :func:`~.record.video_key` gives.
        sha256: of the file.
    """
    return f"{take_digits(key)}_{sha256[:_HALF_LENGTH]}"


def kind_of(name: str) -> FileKind:
    """What a file of a run is for, by its name."""
    if name == _LOCK:
        return FileKind.DESCRIPTION
    kind = _kind_written(name.removesuffix(PART_SUFFIX))
    return FileKind.UNFINISHED if kind is not FileKind.OTHER and name.endswith(PART_SUFFIX) else kind


def _kind_written(name: str) -> FileKind:
    return next((kind for kind, names in _KINDS.items() if names.fullmatch(name)), FileKind.OTHER)


def is_window_file(name: str) -> bool:
    """Whether a file belongs to a window, of whatever seed, also half written."""
    return _kind_written(name.removesuffix(PART_SUFFIX)) in _WINDOW_KINDS


class RunFiles:
    """Where the files of one run are.

    Args:
        root: the folder of all runs.
        name: 16 hexadecimal digits.
        suffix: one of :data:`VIDEO_SUFFIXES`, which the run's video files end with.

    Raises:
        LongTalkError: another name, or a link that leads out of ``root``.
    """

    def __init__(self, root: Path, name: str, suffix: str) -> None:
        self.path = run_path(root, name)
        self.suffix = suffix

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def sound_path(self) -> Path:
        return self.path / f"sound{self.suffix}"

    def joined_path(self, key: str) -> Path:
        """Where the video of a take is put together, before its content gives it its name."""
        return self.path / f"joined_{take_digits(key)}{self.suffix}"

    def video_path(self, name: str) -> Path:
        """A video; ``name`` is that of :func:`video_name`, here and in what follows."""
        return self.path / f"talk_{name}{self.suffix}"

    def video_record_path(self, name: str) -> Path:
        return self.path / f"talk_{name}.json"

    def report_path(self, name: str) -> Path:
        return self.path / f"talk_{name}.txt"

    def video_names(self) -> list[str]:
        """The names of all videos that have a record, the one that was asked for last first."""
        found = []
        for path in self.path.iterdir():
            match = _VIDEO_RECORD.fullmatch(path.name)
            if match:
                with contextlib.suppress(OSError):  # deleted since the folder was listed
                    found.append((path.lstat().st_mtime_ns, match["name"]))
        return [name for _, name in sorted(found, reverse=True)]

    @property
    def start_over_path(self) -> Path:
        return self.path / "start_over.json"

    @property
    def lock_path(self) -> Path:
        return self.path / _LOCK

    @property
    def owner_path(self) -> Path:
        return self.path / "owner.json"

    def partial_path(self, windows: int, total: int) -> Path:
        return self.path / f"partial_{windows}_of_{total}_windows{self.suffix}"

    def segment_path(self, window: int, key: str) -> Path:
        return self._window_path(window, key, self.suffix)

    def carry_path(self, window: int, key: str) -> Path:
        return self._window_path(window, key, ".safetensors")

    def record_path(self, window: int, key: str) -> Path:
        return self._window_path(window, key, ".json")

    def _window_path(self, window: int, key: str, suffix: str) -> Path:
        return self.path / f"window_{window:05d}_{key}{suffix}"

    def window_files(self) -> Iterator[tuple[int, str, Path]]:
        """Each window's record file: window, key, path; in no order."""
        for path in self.path.iterdir():
            if kind_of(path.name) is FileKind.RECORDS:
                _, window, key = path.stem.split("_")
                yield int(window), key, path


def run_path(root: Path, name: str) -> Path:
    """The folder of a run by its name.

    Raises:
        LongTalkError: a name that is not 16 hexadecimal digits, or a link that leads elsewhere.
    """
    if not _NAME.fullmatch(name):
        raise RunError(
            "run",
            expected=f"the name of a run, {NAME_LENGTH} hexadecimal digits",
            actual=repr(name[:80]),
            action="Take the name from the list of runs",
        )
    path = root / name
    if path.is_symlink():
        raise RunError(
            f"run {name}",
            expected="a folder",
            actual=f"a link to {os.readlink(path)}",
            action="Remove the link; runs stay inside the output folder",
        )
    return path


def run_names(root: Path) -> list[str]:
    """The names of all runs, newest first.

    Raises:
        LongTalkError: the folder cannot be listed.
    """
    try:
        paths = list(root.iterdir()) if os.path.isdir(root) else []
    except OSError as error:
        raise DiskError(
            f"folder {root}",
            expected="a folder of runs that can be listed",
            actual=error.strerror or str(error),
            action="Change its permissions, or check that the drive or the network share is connected",
        ) from error
    found = []
    for path in paths:
        if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # deleted since the folder was listed
                found.append((path.stat().st_mtime, path.name))
    return [name for _, name in sorted(found, reverse=True)]
