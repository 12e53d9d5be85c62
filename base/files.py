"""Files that are whole or not there: atomic writes, checksums, and what the disk's errors mean to a person."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from .errors import DiskError

PART_SUFFIX = ".part"
"""What an unfinished file's name ends with."""

# EFBIG: the file system (FAT32: 4 GB) or the process limits the size of a file. EDQUOT does not exist on Windows.
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, getattr(errno, "ETXTBSY", errno.EBUSY)}
# The name is taken by a folder, part of the path is a file, the folder is gone, the name is too long for the disk.
_NO_PLACE = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTEMPTY}
_BLOCK_BYTES = 1 << 20
_JSON_LIMIT_BYTES = 4_000_000


class DamagedFileError(Exception):
    """A file is there, but is not what was once written; the message says in which way."""


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the system can (Windows cannot, and need not)."""
    if os.name == "nt":
        return
    # Network drives and some FUSE file systems refuse this for folders. The file itself is already safe.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a name to write to; the file appears under ``path`` when the block ends well, on the disk and complete.

    When the block raises, nothing is left, and what was under ``path`` before is still there.

    Raises:
        LongTalkError: a full disk or a folder without permission.
    """
    part = path.with_name(path.name + PART_SUFFIX)
    with disk_errors(path):
        try:
            yield part
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, missing permissions and a missing place in the block into a LongTalkError about ``path``."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        if error.errno in _NO_SPACE:
            free = 0
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(path.parent).free
            raise DiskError(
                f"disk of {path.parent}",
                expected=f"room for {path.name}",
                actual=f"{error.strerror} ({free / 1e6:.1f} MB free)",
                action="Free space, or start ComfyUI with another --output-directory; a higher crf or the codec h265 "
                "also needs less",
            ) from error
        if error.errno in _NO_ACCESS | _NO_PLACE:
            raise DiskError(
                f"file {path}",
                expected="a file that may be written and replaced, in a folder that may be written to",
                actual=f"{type(error).__name__}: {error.strerror}",
                action="Close the program that has it open, or change the folder or its permissions",
            ) from error
        raise


def is_disk_error(error: BaseException) -> bool:
    """Whether :func:`disk_errors` explains this error."""
    return isinstance(error, OSError | av.FFmpegError) and error.errno in _NO_SPACE | _NO_ACCESS | _NO_PLACE


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _json_digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with a digest of itself, atomically.

    Raises:
        LongTalkError: a full disk or a folder without permission.
    """
    with atomic(path) as part:
        part.write_text(json.dumps({**content, "digest": _json_digest(content)}, indent=1, allow_nan=False), "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        FileNotFoundError
        DamagedFileError: anything else than what was written, however malicious.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_JSON_LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(f"{path.name} cannot be read ({error.strerror})") from error
    if len(raw) > _JSON_LIMIT_BYTES:
        raise DamagedFileError(f"{path.name} is larger than {_JSON_LIMIT_BYTES} bytes")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path.name} is not JSON ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path.name} does not hold an object")
    digest = content.pop("digest", None)
    try:
        good = digest == _json_digest(content)
    except (ValueError, RecursionError):
        good = False
    if not good:
        raise DamagedFileError(f"{path.name} is not as it was written")
    return content
