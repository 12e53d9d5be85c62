"""A run on disk: what each finished window left, whether that is still as it was written, and what is thrown away.

The files have the names of :mod:`.names`, and every file appears under its name complete or not at all. Only JSON and
safetensors are read, never pickle. Every file is opened and made by :mod:`....base.files`, so that nothing leads out of
the folder, whoever filled it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from ....base.errors import RunError
from ....base.files import (
    DamagedFileError,
    atomic,
    copy_file,
    disk_errors,
    is_file,
    make_folder,
    open_file,
    read_json,
    remove,
    what_is,
    write_json,
)
from ..video.join import WrittenVideo
from .manifest import FORMAT, Manifest, OtherFormatError, read_manifest, write_manifest
from .names import NAME_LENGTH, FileKind, RunFiles, is_window_file, kind_of, run_names, run_path
from .owner import owned, user_of
from .record import FileSum, WindowRecord
from .video_record import finished_video, keep_video, note_shown

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

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
        """Make the folder; see :func:`~....base.files.make_folder` for the errors."""
        make_folder(self.path)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Make the folder and hold the run while the block runs, see :func:`~.owner.owned`.

        What a process that was killed left half written is cleaned away first.
        """
        self.create()
        with owned(self):
            for path in self.listed():
                if kind_of(path.name) is FileKind.UNFINISHED and what_is(path) != "a folder":
                    remove(path)
            yield

    def listed(self) -> list[Path]:
        """All that lies in the folder, in the order of the names; raises LongTalkError where it cannot be listed."""
        with disk_errors(self.manifest_path):
            return sorted(self.path.iterdir())

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
        from safetensors.torch import load  # as in write_carry

        path = self.carry_path(window, key)
        try:
            with open_file(path) as file:
                return load(file.read())
        except (SafetensorError, DamagedFileError, OSError, ValueError) as error:
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
                part.unlink()
                try:
                    os.link(source, part, follow_symlinks=False)
                except (OSError, NotImplementedError):
                    copy_file(source, part)
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
                missing = any(is_file(path) for path in later)
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

    def check_format(self) -> None:
        """Refuse the folder of a run that another version of LongTalk made; nothing in it is changed.

        Raises:
            LongTalkError: it is one.
        """
        with contextlib.suppress(FileNotFoundError, DamagedFileError):
            try:
                read_manifest(self.manifest_path)
            except OtherFormatError as other:
                raise RunError(
                    f"run {self.name}",
                    expected="a folder that this version of LongTalk made",
                    actual=str(other),
                    action=f"Move {self.path} away, or delete it, then queue the workflow again",
                ) from other

    def manifest(self) -> Manifest | None:
        """What the run is; None where that is not known: this version has no manifest that it can use."""
        try:
            return read_manifest(self.manifest_path)
        except (FileNotFoundError, OtherFormatError):
            return None
        except DamagedFileError as damage:
            logger.warning("run %s: %s", self.name, damage)
            return None

    def write_manifest(self, manifest: Manifest) -> None:
        """See :func:`~.manifest.write_manifest`."""
        write_manifest(self.manifest_path, manifest)

    def is_sound(self, expected: FileSum) -> bool:
        """Whether the sound file is the one that a manifest describes."""
        try:
            expected.check(self.sound_path)
        except DamagedFileError:
            return False
        return True

    def keep_video(self, joined: WrittenVideo, key: str) -> WrittenVideo:
        """See :func:`~.video_record.keep_video`."""
        return keep_video(self, joined, key)

    def finished_video(self, key: str) -> WrittenVideo | None:
        """See :func:`~.video_record.finished_video`."""
        return finished_video(self, key)

    def note_shown(self, video: WrittenVideo) -> None:
        """See :func:`~.video_record.note_shown`."""
        note_shown(video)

    def report_beside(self, video: WrittenVideo) -> Path:
        """Where the report on a video of this run lies."""
        return video.path.with_suffix(".txt")

    def write_report(self, video: WrittenVideo, text: str) -> None:
        """Keep the report on all windows beside the video, for a person."""
        with atomic(self.report_beside(video)) as part:
            part.write_text(text + "\n", "utf-8")

    def bytes(self) -> int:
        """How many bytes the run takes on the disk; as far as it can be listed."""
        total = 0
        with contextlib.suppress(OSError):
            for path in self.path.iterdir():
                with contextlib.suppress(OSError):
                    total += path.lstat().st_size
        return total

    # What is thrown away; files that are not LongTalk's stay.

    def discard_from(self, window: int, keys: Sequence[str], last: int | None = None) -> None:
        """Take window ``window`` and those after it, up to ``last``, out of the run: what is made anew there may differ
        in a bit."""
        for number in range(window, (len(keys) if last is None else last) + 1):
            for path in (self.record_path, self.carry_path, self.segment_path):
                remove(path(number, keys[number - 1]))

    def discard_windows(self) -> None:
        """Remove all windows of all seeds, and the sound; the videos and the manifest stay.

        The records go first: what is left when this is stopped half way counts as never made.
        """
        files = [path for path in self.listed() if is_window_file(path.name)]
        for path in (*sorted(files, key=lambda path: path.suffix != ".json"), self.sound_path):
            remove(path)

    def discard_partials(self, but: Path | None = None) -> None:
        """Remove what cancelled runs left to watch, also half written, and videos that were not given their names.

        Args:
            but: this one stays.
        """
        for path in self.listed():
            ours = kind_of(path.name) in (FileKind.PARTIAL, FileKind.UNFINISHED)
            if ours and path.name.startswith(("partial_", "joined_")) and path != but:
                remove(path)
