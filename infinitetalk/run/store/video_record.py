"""The videos of a run and their records: which windows a video shows, its numbers, and its checksum.

A take has one video, which is made when it is not there. It has several where ``start over`` made other bytes: once the
new one is whole, the older ones stay, as somebody may hold them, but are not handed out again (``superseded``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ....base.files import DamagedFileError, disk_errors, read_json, remove, require_file, sync_folder, write_json
from ..video.join import WrittenVideo
from .names import RunFiles, take_digits, video_name
from .record import FileSum

logger = logging.getLogger(__name__)

COUNT_LIMIT = 1 << 53
"""Bytes, frames or pixels that no video has."""


@dataclass(frozen=True)
class VideoRecord:
    """What is noted of a video.

    Attributes:
        key: of its take, see :func:`~.record.video_key`.
        sum: the checksum of its file.
        superseded: whether another video of this take was made since.
        numbers: the fields of a :class:`~..video.join.WrittenVideo` but for its path, unchecked.
    """

    key: str
    sum: FileSum
    superseded: bool
    numbers: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**self.numbers, "key": self.key, "sum": asdict(self.sum), "superseded": self.superseded}

    @classmethod
    def read(cls, files: RunFiles, name: str) -> VideoRecord:
        """The record of the video of this name.

        Raises:
            DamagedFileError: it cannot be read, or does not belong to a video of this name.
        """
        path = files.video_record_path(name)
        try:
            content = read_json(path)
        except FileNotFoundError as error:  # deleted since the look at it
            raise DamagedFileError(f"{path.name} cannot be read ({error.strerror})") from error
        key, superseded, sum_ = content.pop("key", None), content.pop("superseded", None), content.pop("sum", None)
        if not isinstance(key, str) or not isinstance(superseded, bool):
            raise DamagedFileError(f"{path.name} names no window")
        record = cls(key, FileSum.from_json(sum_), superseded, content)
        if video_name(key, record.sum.sha256) != name:
            raise DamagedFileError(f"{path.name} belongs to another video")
        return record

    def written(self, path: Path) -> WrittenVideo:
        """The video at ``path``; raise DamagedFileError unless its numbers and names are what a video can have."""
        content = self.numbers
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


@dataclass(frozen=True)
class StoredVideo:
    """A video of a run, read without trust.

    Attributes:
        name: see :func:`~.names.video_name`.
        path: of the file.
        record: None where it is damaged.
        damage: why the video cannot be used, in words; "" where record and size are as noted.
    """

    name: str
    path: Path
    record: VideoRecord | None
    damage: str

    def check(self) -> str:
        """As ``damage``, after reading the whole file."""
        if self.damage or self.record is None:
            return self.damage
        try:
            self.record.sum.check(self.path)
        except (DamagedFileError, OSError) as damage:
            return str(damage)
        return ""


def read_videos(files: RunFiles) -> tuple[StoredVideo, ...]:
    """All videos of a run, the one that was asked for last first. Never raises because of what is in a file.

    Raises:
        OSError: the folder cannot be listed.
    """
    return tuple(_stored(files, name) for name in files.video_names())


def shown_key(files: RunFiles) -> str | None:
    """The key of the video that was asked for last; None without a video of the size that was noted."""
    try:
        return next((video.record.key for video in read_videos(files) if video.record and not video.damage), None)
    except OSError:
        return None


def finished_video(files: RunFiles, key: str) -> WrittenVideo | None:
    """The whole video of this key; None when there is none, or when its file is not as it was written."""
    with disk_errors(files.manifest_path):
        names = files.video_names()
    for name in names:
        if not name.startswith(take_digits(key)):
            continue
        path = files.video_path(name)
        try:
            record = VideoRecord.read(files, name)
            if record.key == key and not record.superseded:
                record.sum.check(path)
                return record.written(path)
        except (DamagedFileError, OSError) as damage:
            logger.warning("run %s: the video is joined again: %s", files.name, damage)
    return None


def keep_video(files: RunFiles, joined: WrittenVideo, key: str) -> WrittenVideo:
    """Give a joined video the name of its content, and note that it is complete.

    A whole video of the same content stays the file that it is. Others of this take stay, too, while they are whole;
    they are superseded.

    Args:
        joined: the file, in the run's folder.
        key: of the take, see :func:`~.record.video_key`.
    """
    sum_ = FileSum.of(joined.path)
    name = video_name(key, sum_.sha256)
    path = files.video_path(name)
    with disk_errors(path):
        try:
            sum_.check(path)
            remove(joined.path)
        except DamagedFileError:
            os.replace(joined.path, path)
            sync_folder(path.parent)
    video = replace(joined, path=path)
    numbers = {field: value for field, value in asdict(video).items() if field != "path"}
    write_json(files.video_record_path(name), VideoRecord(key, sum_, False, numbers).to_json())
    # Behind the new record: who is killed here has two videos to choose from, of which the newer one comes first.
    with disk_errors(files.manifest_path):
        others = read_videos(files)
    for other in others:
        if other.name != name and other.record is not None and other.record.key == key:
            if other.check():
                remove_video(files, other.name)
            elif not other.record.superseded:
                _supersede(files.video_record_path(other.name), other.record)
    return video


def remove_video(files: RunFiles, name: str) -> None:
    """Remove a video, its record and its report; the record first, so that what is left does not count."""
    paths = (files.video_record_path(name), files.video_path(name), files.report_path(name))
    for path in paths:
        remove(path)


def note_shown(video: WrittenVideo) -> None:
    """Of a run's videos this one was asked for last: it is the one that is exported and described."""
    _set_asked(video.path.with_suffix(".json"), time.time_ns())


def _supersede(path: Path, record: VideoRecord) -> None:
    with disk_errors(path):
        asked_ns = path.lstat().st_mtime_ns
    write_json(path, replace(record, superseded=True).to_json())
    _set_asked(path, asked_ns)


def _set_asked(record: Path, when_ns: int) -> None:
    """Note when a video was asked for: the order of its record among those of the run's other videos."""
    with contextlib.suppress(OSError):  # nothing but that order depends on it
        follow = os.utime not in os.supports_follow_symlinks
        os.utime(record, ns=(when_ns, when_ns), follow_symlinks=follow)


def _stored(files: RunFiles, name: str) -> StoredVideo:
    path = files.video_path(name)
    record = None
    try:
        record = VideoRecord.read(files, name)
        found = require_file(path)
        damage = "" if found == record.sum.bytes else f"{path.name} has {found} bytes instead of {record.sum.bytes}"
    except (DamagedFileError, OSError) as error:
        damage = str(error)
    return StoredVideo(name, path, record, damage)
