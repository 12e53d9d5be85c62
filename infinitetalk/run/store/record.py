"""What a finished window leaves on the disk beside its frames: the record that vouches for its files, and its key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ....base.errors import RunError
from ....base.files import DamagedFileError, require_file, sha256_of
from ..seeds import SEED_LIMIT
from ..window_stats import WindowStats

FRAMES_LIMIT = 1 << 31
"""So many frames (years at 25 fps), or seconds of rendering, nothing has."""

_KEY_LENGTH = 8
_JOINED = "."


@dataclass(frozen=True)
class FileSum:
    """A file's size and SHA-256."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileSum:
        """Of a file that was just written.

        Raises:
            LongTalkError: it is gone, or something else lies in its place.
        """
        try:
            return cls(require_file(path), sha256_of(path))
        except (DamagedFileError, OSError) as error:
            raise RunError(
                f"file {path}",
                expected="the file that was just written",
                actual=str(error),
                action="Leave the folder as it is while LongTalk works, and queue the same workflow again",
            ) from error

    @classmethod
    def from_json(cls, content: Any) -> FileSum:
        """Raise DamagedFileError unless it is a size and a digest."""
        if (
            not isinstance(content, dict)
            or content.keys() != {field.name for field in fields(cls)}
            or type(content["bytes"]) is not int
            or not isinstance(content["sha256"], str)
        ):
            raise DamagedFileError("a file's checksum is missing from its record")
        return cls(**content)

    def check(self, path: Path) -> None:
        """Raise DamagedFileError when the file is missing, is not this one, or is no file: a link to it, say."""
        try:
            size = require_file(path)
            if size != self.bytes:
                raise DamagedFileError(f"{path.name} has {size} bytes instead of {self.bytes}")
            if sha256_of(path) != self.sha256:
                raise DamagedFileError(f"{path.name} is not as it was written")
        except OSError as error:
            raise DamagedFileError(f"{path.name} cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class WindowRecord:
    """A finished window, as its JSON file holds it.

    Attributes:
        window: counted from 1.
        key: 8 hexadecimal digits, from the run and all seeds of its shot up to this window.
        seed: of this window's noise.
        frames: how many it adds to the video.
        segment, carry: the checksums of its two files.
        render_s: how long it took to render.
        fallbacks: how it was made, see :class:`~..loop.Fallbacks`.
        stats: how it looks, see :class:`~..window_checks.WindowStats`.
        retake: the last of the windows that were made again together with this one, between windows that stay; 0 for a
            window that was not.
    """

    window: int
    key: str
    seed: int
    frames: int
    segment: FileSum
    carry: FileSum
    render_s: float
    fallbacks: dict[str, Any]
    stats: dict[str, Any]
    retake: int = 0

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WindowRecord:
        """Raise DamagedFileError unless every field has its type."""
        kinds: dict[str, Any] = {
            "window": int, "key": str, "seed": int, "frames": int, "segment": dict, "carry": dict,
            "render_s": (int, float), "fallbacks": dict, "stats": dict, "retake": int,
        }  # fmt: skip
        if content.keys() != kinds.keys() or any(not isinstance(content[name], kinds[name]) for name in kinds):
            raise DamagedFileError("the window's record has other fields than expected")
        return cls(**{**content, **{name: FileSum.from_json(content[name]) for name in ("segment", "carry")}})

    def check_numbers(self) -> None:
        """Raise DamagedFileError for numbers that no window has, however well the record is signed."""
        whole = (self.window, self.seed, self.frames, self.retake)
        try:
            seconds = float(self.render_s)
        except OverflowError:
            seconds = math.inf
        if (
            any(isinstance(number, bool) for number in (*whole, self.render_s))
            or not 0 <= self.seed < SEED_LIMIT
            or not 0 < self.frames < FRAMES_LIMIT
            or (self.retake != 0 and not self.window <= self.retake < FRAMES_LIMIT)
            or not 0 <= seconds < FRAMES_LIMIT
        ):
            raise DamagedFileError("its record has numbers that no window can have")

    def check_whole(self) -> None:
        """Raise DamagedFileError also for measurements that no window has."""
        self.check_numbers()
        try:
            WindowStats.from_json(self.stats)
        except (ValueError, RecursionError) as error:
            raise DamagedFileError(str(error)) from error


def window_digest(before: str, seed: int, retake: int = 0) -> str:
    """The digest of a window, with which its key begins.

    Args:
        before: the digest of the window before it, or what :func:`digest_before_shot` gives.
        seed: of the window's noise.
        retake: see :class:`WindowRecord`.
    """
    return hashlib.sha256(f"{before}:{seed}{f':retake {retake}' if retake else ''}".encode()).hexdigest()


def digest_before_shot(name: str, window: int) -> str:
    """What stands for the digest before a window (from 1) that begins a shot: the run and the place, no seed."""
    return name if window == 1 else f"{name}:shot {window}"


def window_keys(
    identity: str,
    seeds: Sequence[int],
    retaken: Mapping[int, int] | None = None,
    shots: Collection[int] = (),
) -> tuple[str, ...]:
    """The key of each window: a digest of the run and of the seeds up to that window, from its shot's first on.

    Args:
        identity: the name of the run.
        seeds: of all windows.
        shots: the windows that begin a shot, counted from 1.
        retaken: for each window (from 1) that is made again between windows that stay, the last one made with it.
    """
    keys = []
    digest = identity
    for window, seed in enumerate(seeds, start=1):
        if window in shots:
            digest = digest_before_shot(identity, window)
        digest = window_digest(digest, seed, (retaken or {}).get(window, 0))
        keys.append(digest[:_KEY_LENGTH])
    return tuple(keys)


def video_key(keys: Sequence[str], shots: Collection[int] = ()) -> str:
    """What tells a run's videos apart: the key of the last window of each shot.

    Args:
        keys: of all windows.
        shots: the windows that begin a shot, counted from 1.
    """
    begins = [window for window in range(2, len(keys) + 1) if window in shots]
    return _JOINED.join([*(keys[begin - 2] for begin in begins), keys[-1]])


def keys_shown(noted: str) -> tuple[str, ...]:
    """The keys that :func:`video_key` joined."""
    return tuple(noted.split(_JOINED))
