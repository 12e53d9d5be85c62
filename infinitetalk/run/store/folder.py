"""A run on disk: what each finished window left, whether that is still as it was written, and what is thrown away.

The files have the names of :mod:`.names`, and every file appears under its name complete or not at all. Only JSON and
safetensors are read, never pickle.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from ....base.errors import RunError
from ....base.files import DamagedFileError, atomic, disk_errors, read_json, write_json
from ..video.join import WrittenVideo
from .manifest import FORMAT, ManifestFile
from .names import NAME_LENGTH, RunFiles, run_names, run_path
from .owner import owned, user_of
from .record import FileSum, WindowRecord
from .video_record import finished_video, recorded_video, write_video_record

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT", "NAME_LENGTH", "Finished", "RunFolder", "run_names", "run_path"]


@dataclass(frozen=True)
class Finished:
    """The windows of a run, or of a shot, that can be used as they are.

    Attributes:
        records: the first ones, without a gap.
        damage: why the next one cannot be used, if it was there; None when it was simply never made.
    """

    records: tuple[WindowRecord, ...]
    damage: str | None


class RunFolder(RunFiles):
    """The files of one run, read and written; see :class:`~.names.RunFiles` for the arguments."""

    def create(self) -> None:
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Make the folder and hold the run while the block runs, see :func:`~.owner.owned`."""
        self.create()
        with owned(self):
            yield

    def in_use(self) -> str | None:
        """See :func:`~.owner.user_of`."""
        return user_of(self)

    # The windows.

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
            raise RunError(
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

    # What describes the whole run.

    @property
    def manifest(self) -> ManifestFile:
        return ManifestFile(self.manifest_path)

    def write_manifest(self, parts: Mapping[str, str], about: Mapping[str, Any]) -> None:
        """Describe the run, see :meth:`~.manifest.ManifestFile.write`; the sound file must be there."""
        self.manifest.write(parts, about, FileSum.of(self.sound_path))

    def read_manifest(self) -> dict[str, Any] | None:
        """See :meth:`~.manifest.ManifestFile.read_if_good`."""
        return self.manifest.read_if_good()

    def is_sound(self, expected: Any) -> bool:
        """Whether the sound file is the one that a manifest's entry ``sound`` describes."""
        try:
            FileSum.from_json(expected).check(self.sound_path)
        except DamagedFileError:
            return False
        return True

    def record_video(self, video: WrittenVideo, key: str) -> None:
        """See :func:`~.video_record.write_video_record`."""
        write_video_record(self, video, key)

    def finished_video(self, key: str) -> WrittenVideo | None:
        """See :func:`~.video_record.finished_video`."""
        return finished_video(self, key)

    def recorded_video(self) -> tuple[str, FileSum] | None:
        """See :func:`~.video_record.recorded_video`."""
        return recorded_video(self)

    def write_report(self, text: str) -> None:
        """Keep the report on all windows beside the video, for a person."""
        with atomic(self.report_path) as part:
            part.write_text(text + "\n", "utf-8")

    def bytes(self) -> int:
        """How many bytes the run takes on the disk."""
        total = 0
        for path in self.path.iterdir():
            with contextlib.suppress(OSError):
                total += path.lstat().st_size
        return total

    # What is thrown away; files that are not LongTalk's stay.

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
            for path in (self.sound_path, *self.all_window_files()):
                path.unlink(missing_ok=True)

    def discard_video(self) -> None:
        """Remove the joined video and its record."""
        with disk_errors(self.path):
            for path in (self.video_record_path, self.video_path):
                path.unlink(missing_ok=True)

    def discard_partials(self) -> None:
        """Remove the videos that cancelled runs left to watch."""
        with disk_errors(self.path):
            for path in self.partial_files():
                path.unlink(missing_ok=True)
