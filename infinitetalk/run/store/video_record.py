"""The record of a run's finished video, ``talk.json``: which windows the video shows, its numbers, and its checksum."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ....base.files import DamagedFileError, read_json, write_json
from ..video.join import WrittenVideo
from .names import RunFiles
from .record import FileSum

logger = logging.getLogger(__name__)

COUNT_LIMIT = 1 << 53
"""Bytes, frames or pixels that no video has."""


def write_video_record(files: RunFiles, video: WrittenVideo, key: str) -> None:
    """Note that the joined video is complete; ``key`` is that of :func:`~.record.video_key`."""
    content = {**asdict(video), "key": key, "sum": asdict(FileSum.of(video.path))}
    write_json(files.video_record_path, {name: item for name, item in content.items() if name != "path"})


def finished_video(files: RunFiles, key: str) -> WrittenVideo | None:
    """The joined video of this key; None when there is none, or when the file is not as it was written."""
    try:
        content = read_json(files.video_record_path)
        FileSum.from_json(content.pop("sum")).check(files.video_path)
        if content.pop("key") != key:
            return None
        return _written(files.video_path, content)
    except FileNotFoundError:
        return None
    except (DamagedFileError, OSError, KeyError) as damage:
        logger.warning("run %s: the video is joined again: %s", files.name, damage)
        return None


def recorded_video(files: RunFiles) -> tuple[str, FileSum] | None:
    """The key and the checksum of the joined video, as its record has them; None when no video was joined.

    Raises:
        DamagedFileError: the record is damaged.
    """
    try:
        content = read_json(files.video_record_path)
    except FileNotFoundError:
        return None
    if not isinstance(content.get("key"), str):
        raise DamagedFileError(f"{files.video_record_path.name} names no window")
    return content["key"], FileSum.from_json(content.get("sum"))


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
