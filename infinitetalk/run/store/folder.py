"""A run on disk: what each finished window left, whether it is still as it was, and who is working on it.

    <output>/longtalk/<run>/
        manifest.json                       what the run is: the digests of everything that decides its result
        sound.mp4                           the sound, encoded once
        window_00001_3fa9c1d2.mp4           a finished window's frames
        window_00001_3fa9c1d2.safetensors   what the next window continues from
        window_00001_3fa9c1d2.json          checksums of both; written last, so a window without it is not finished
        talk.mp4, talk.json, report.txt     the whole video, its checksum, and what was done
        partial_12_of_97_windows.mp4        what a cancelled run had

Every file appears under its name complete or not at all. File names are made here, never read from a file. The second
half of a window's name, its key, depends on the run and on the seeds of its shot up to that window, so windows made
again with another seed lie beside the first ones. Only JSON and safetensors are read, never pickle.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ....base.errors import LongTalkError
from ....base.files import DamagedFileError, atomic, disk_errors, read_json, write_json
from ..video.join import WrittenVideo
from .record import FileSum, WindowRecord

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of a run's files. 2: a window's record says what it was made again with (``retake``)."""
NAME_LENGTH = 16
COUNT_LIMIT = 1 << 53
"""Bytes, frames or pixels that no video has."""
_NAME = re.compile(rf"[0-9a-f]{{{NAME_LENGTH}}}")
_WINDOW_FILE = re.compile(r"window_(\d{5,7})_([0-9a-f]{8})\.(json|safetensors|mp4|mkv|mov)(\.part)?")
_OWNER_LIMIT_BYTES = 4096


@dataclass(frozen=True)
class Finished:
    """The windows of a run, or of a shot, that can be used as they are.

    Attributes:
        records: the first ones, without a gap.
        damage: why the next one cannot be used, if it was there; None when it was simply never made.
    """

    records: tuple[WindowRecord, ...]
    damage: str | None


class RunFolder:
    """The files of one run.

    Args:
        root: the folder of all runs.
        name: 16 hexadecimal digits.
        suffix: of the video files, ``.mp4``, ``.mkv`` or ``.mov``.

    Raises:
        LongTalkError: another name, or a link that leads out of ``root``.
    """

    def __init__(self, root: Path, name: str, suffix: str) -> None:
        self.path = run_path(root, name)
        self.suffix = suffix

    @property
    def name(self) -> str:
        return self.path.name

    def create(self) -> None:
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    # Names.

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def sound_path(self) -> Path:
        return self.path / f"sound{self.suffix}"

    @property
    def video_path(self) -> Path:
        return self.path / f"talk{self.suffix}"

    @property
    def video_record_path(self) -> Path:
        return self.path / "talk.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.txt"

    def partial_path(self, windows: int, total: int) -> Path:
        return self.path / f"partial_{windows}_of_{total}_windows{self.suffix}"

    def _window_path(self, window: int, key: str, suffix: str) -> Path:
        return self.path / f"window_{window:05d}_{key}{suffix}"

    def segment_path(self, window: int, key: str) -> Path:
        return self._window_path(window, key, self.suffix)

    def carry_path(self, window: int, key: str) -> Path:
        return self._window_path(window, key, ".safetensors")

    def record_path(self, window: int, key: str) -> Path:
        return self._window_path(window, key, ".json")

    # Windows.

    def write_carry(self, window: int, key: str, tensors: Mapping[str, torch.Tensor]) -> FileSum:
        """Store what the next window continues from, bit for bit."""
        from safetensors.torch import save  # brings torch, which takes seconds that a list of runs need not wait for

        path = self.carry_path(window, key)
        own = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
        with atomic(path) as part:
            part.write_bytes(save(own))
        return FileSum.of(path)

    def read_carry(self, window: int, key: str) -> dict[str, torch.Tensor]:
        """What :meth:`write_carry` stored.

        Raises:
            LongTalkError: the file cannot be read (it was checked before).
        """
        from safetensors.torch import load_file  # as in write_carry

        path = self.carry_path(window, key)
        try:
            return load_file(str(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise LongTalkError(
                f"file {path}",
                expected=f"the tensors window {window} ended with",
                actual=str(error),
                action="Queue the workflow again; if this comes back, delete the file",
            ) from error

    def commit(self, record: WindowRecord) -> None:
        """Make a window count; both its files are on the disk already."""
        write_json(self.record_path(record.window, record.key), asdict(record))

    def adopt(self, record: WindowRecord, key: str) -> WindowRecord:
        """A finished window under another key too: its files are linked, or copied where the disk cannot link."""
        pairs = [
            (path(record.window, record.key), path(record.window, key)) for path in (self.segment_path, self.carry_path)
        ]
        for source, target in pairs:
            with atomic(target) as part:
                part.unlink(missing_ok=True)
                try:
                    os.link(source, part)
                except OSError:
                    shutil.copyfile(source, part)
        adopted = replace(record, key=key)
        self.commit(adopted)
        return adopted

    def read_record(self, window: int, key: str) -> WindowRecord:
        """The record of a window whose files are as they were written.

        Raises:
            FileNotFoundError: the window was never finished.
            DamagedFileError: one of its files is missing or altered.
        """
        record = self.read_record_unchecked(window, key)
        record.check_whole()
        record.segment.check(self.segment_path(window, key))
        record.carry.check(self.carry_path(window, key))
        return record

    def read_record_unchecked(self, window: int, key: str) -> WindowRecord:
        """As :meth:`read_record`, without reading the two large files."""
        record = WindowRecord.from_json(read_json(self.record_path(window, key)))
        if (record.window, record.key) != (window, key):
            raise DamagedFileError(f"the record of window {window} belongs to another window")
        return record

    def finished(self, keys: Sequence[str], first: int = 1, last: int | None = None) -> Finished:
        """The windows from ``first`` on that are whole, read and checked one by one.

        Args:
            keys: of all windows.
            first, last: of a shot, counted from 1; all windows by default.
        """
        last = len(keys) if last is None else last
        records: list[WindowRecord] = []
        for window in range(first, last + 1):
            key = keys[window - 1]
            try:
                records.append(self.read_record(window, key))
            except FileNotFoundError:
                later = (self.record_path(number, keys[number - 1]) for number in range(window + 1, last + 1))
                missing = any(path.exists() for path in later)
                return Finished(tuple(records), f"the record of window {window} is missing" if missing else None)
            except DamagedFileError as damage:
                return Finished(tuple(records), f"window {window}: {damage}")
        return Finished(tuple(records), None)

    def records(self, keys: Sequence[str]) -> tuple[WindowRecord, ...]:
        """The records of all windows, without a look at their files; none when one is missing."""
        try:
            records = [self.read_record_unchecked(window, key) for window, key in enumerate(keys, start=1)]
            for record in records:
                record.check_whole()
        except (FileNotFoundError, DamagedFileError):
            return ()
        return tuple(records)

    def discard_from(self, window: int, keys: Sequence[str], last: int | None = None) -> None:
        """Take window ``window`` and those after it, up to ``last``, out of the run: what is made anew there may differ
        in a bit."""
        with disk_errors(self.path):
            for number in range(window, (len(keys) if last is None else last) + 1):
                for path in (self.record_path, self.carry_path, self.segment_path):
                    path(number, keys[number - 1]).unlink(missing_ok=True)

    def discard_windows(self) -> None:
        """Remove all windows of all seeds, and the sound; the video and the manifest stay."""
        with disk_errors(self.path):
            for path in sorted(self.path.iterdir()):
                if _WINDOW_FILE.fullmatch(path.name) or path == self.sound_path:
                    path.unlink(missing_ok=True)

    def discard_video(self) -> None:
        """Remove the joined video."""
        with disk_errors(self.path):
            for path in (self.video_record_path, self.video_path):
                path.unlink(missing_ok=True)

    def discard_partials(self) -> None:
        """Remove what cancelled runs left to watch."""
        with disk_errors(self.path):
            for path in self.path.glob(f"partial_*_of_*_windows{self.suffix}*"):
                path.unlink(missing_ok=True)

    def window_files(self) -> Iterator[tuple[int, str, Path]]:
        """Each window's record file: window, key, path; in no order."""
        for path in self.path.iterdir():
            match = _WINDOW_FILE.fullmatch(path.name)
            if match and match[3] == "json" and not match[4]:
                yield int(match[1]), match[2], path

    # The whole.

    def write_manifest(self, parts: Mapping[str, str], about: Mapping[str, Any]) -> None:
        """Describe the run; the sound file must be there.

        Args:
            parts: digests of what decides the result, by name.
            about: what a person wants to know: size, codec, length, seed.
        """
        sound = asdict(FileSum.of(self.sound_path))
        write_json(self.manifest_path, {"format": FORMAT, "parts": dict(parts), "about": dict(about), "sound": sound})

    def read_manifest(self) -> dict[str, Any] | None:
        """The manifest, or None when there is none or it is damaged (it is then written anew)."""
        try:
            manifest = read_json(self.manifest_path)
        except FileNotFoundError:
            return None
        except (DamagedFileError, OSError) as damage:
            logger.warning("run %s: %s", self.name, damage)
            return None
        return manifest if manifest.get("format") == FORMAT else None

    def is_sound(self, expected: Any) -> bool:
        """Whether the sound file is the one a manifest's ``sound`` describes."""
        try:
            FileSum.from_json(expected).check(self.sound_path)
        except DamagedFileError:
            return False
        return True

    def record_video(self, video: WrittenVideo, key: str) -> None:
        """Note that the joined video is complete; ``key`` is that of :func:`~.record.video_key`."""
        content = {**asdict(video), "key": key, "sum": asdict(FileSum.of(video.path))}
        write_json(self.video_record_path, {name: item for name, item in content.items() if name != "path"})

    def finished_video(self, key: str) -> WrittenVideo | None:
        """The joined video of this key; None when there is none or it is not as it was."""
        try:
            content = read_json(self.video_record_path)
            FileSum.from_json(content.pop("sum")).check(self.video_path)
            if content.pop("key") != key:
                return None
            return _written(self.video_path, content)
        except FileNotFoundError:
            return None
        except (DamagedFileError, OSError, KeyError) as damage:
            logger.warning("run %s: the video is joined again: %s", self.name, damage)
            return None

    def recorded_video(self) -> tuple[str, FileSum] | None:
        """The key and the sum of the joined video, as noted; None when it was never joined.

        Raises:
            DamagedFileError: the note is damaged.
        """
        try:
            content = read_json(self.video_record_path)
        except FileNotFoundError:
            return None
        if not isinstance(content.get("key"), str):
            raise DamagedFileError(f"{self.video_record_path.name} names no window")
        return content["key"], FileSum.from_json(content.get("sum"))

    def write_report(self, text: str) -> None:
        """Keep the report on all windows beside the video, for a person."""
        with atomic(self.report_path) as part:
            part.write_text(text + "\n", "utf-8")

    def bytes(self) -> int:
        """What the run takes on the disk."""
        total = 0
        for path in self.path.iterdir():
            with contextlib.suppress(OSError):
                total += path.lstat().st_size
        return total

    # Who works on it.

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the run while the block runs. The system gives it free when the process dies, however it dies.

        Raises:
            LongTalkError: another process, or another run of this one, holds it.
        """
        self.create()
        lock = FileLock(str(self.path / "lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise LongTalkError(
                f"run {self.name}",
                expected="a run that nobody else is working on",
                actual=self._owner() or "another process holding it",
                action="Wait for it to end, or change the seed to make another video",
            ) from error
        except (OSError, NotImplementedError) as error:
            with disk_errors(self.path):
                if isinstance(error, OSError):
                    raise
            raise LongTalkError(
                f"folder {self.path}",
                expected="a file system with locks",
                actual=str(error),
                action="Use an output folder on a local disk",
            ) from error
        owner = self.path / "owner.json"
        try:
            left = self._owner()
            if left:
                logger.info("run %s: taken over from %s, which ended without finishing it", self.name, left)
            text = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            with disk_errors(owner):
                owner.write_text(json.dumps(text), "utf-8")
            yield
        finally:
            with contextlib.suppress(OSError):
                owner.unlink(missing_ok=True)
            lock.release()

    def in_use(self) -> str | None:
        """Who is working on the run, in words; None when nobody is. Leaves no trace on the disk."""
        lock = self.path / "lock"
        # A run that is held has both files, and only a lock that is there can be tried without making one.
        if not all(path.is_file() and not path.is_symlink() for path in (lock, self.path / "owner.json")):
            return None
        try:
            with FileLock(str(lock), timeout=0):
                return None
        except Timeout:
            return self._owner() or "another process"
        except (OSError, NotImplementedError):  # owned() tells why the lock cannot be had
            return None

    def _owner(self) -> str | None:
        """Who holds, or held, the run, in words."""
        try:
            with open(self.path / "owner.json", "rb") as file:
                found = json.loads(file.read(_OWNER_LIMIT_BYTES))
            return f"process {int(found['process'])} on {str(found['host'])[:80]}, since {str(found['since'])[:30]}"
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None


def _written(path: Path, content: Mapping[str, Any]) -> WrittenVideo:
    """Raise DamagedFileError unless these are numbers and names that a video can have."""
    counts = ("frames", "width", "height", "bytes")
    names = {"video_codec": (str,), "audio_codec": (str, type(None))}
    if (
        content.keys() != {*counts, *names, "duration_s"}
        or any(type(content[name]) is not int or not 0 < content[name] < COUNT_LIMIT for name in counts)
        or any(not isinstance(content[name], kinds) for name, kinds in names.items())
        or type(content["duration_s"]) is not float
    ):
        raise DamagedFileError("the record of the video has other fields than expected")
    return WrittenVideo(path=path, **content)


def run_path(root: Path, name: str) -> Path:
    """The folder of a run by its name.

    Raises:
        LongTalkError: a name that is not 16 hexadecimal digits, or a link that leads elsewhere.
    """
    if not _NAME.fullmatch(name):
        raise LongTalkError(
            "run",
            expected=f"the name of a run, {NAME_LENGTH} hexadecimal digits",
            actual=repr(name[:80]),
            action="Take the name from the list of runs",
        )
    path = root / name
    if path.is_symlink():
        raise LongTalkError(
            f"run {name}",
            expected="a folder",
            actual=f"a link to {os.readlink(path)}",
            action="Remove the link; runs stay inside the output folder",
        )
    return path


def run_names(root: Path) -> list[str]:
    """The names of all runs, newest first."""
    found = []
    for path in root.iterdir() if root.is_dir() else ():
        if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # deleted since the folder was listed
                found.append((path.stat().st_mtime, path.name))
    return [name for _, name in sorted(found, reverse=True)]
