"""Files that are whole or not there: atomic writes, checksums, and what the disk's errors mean to a person.

A folder may have come from somebody else, unpacked or shared: at any name in it may lie a link that leads elsewhere, a
pipe that never ends, a device or a folder. So whoever reads or writes a file of ours goes through this module, which
reads nothing but files, follows no link, and writes to files alone that it created itself.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av

from .errors import DiskError, LongTalkError

PART_SUFFIX = ".part"
"""What an unfinished file's name ends with."""

# EFBIG: the file system (FAT32: 4 GB) or the process limits the size of a file. EDQUOT does not exist on Windows.
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, getattr(errno, "ETXTBSY", errno.EBUSY)}
# The name is taken by a folder, part of the path is a file, the folder is gone, the name is too long for the disk.
_NO_PLACE = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTEMPTY}
# A bad sector, a drive that was pulled out, a network share that is gone. ESTALE does not exist on Windows.
_NO_DISK = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT, getattr(errno, "ESTALE", errno.EIO)}
_BLOCK_BYTES = 1 << 20
# Windows has neither of the first two, and needs the last one.
_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)
_FILE = _KINDS[0][1]
_UNSEEN = "something that cannot be looked at"
_JSON_LIMIT_BYTES = 4_000_000


class DamagedFileError(Exception):
    """A file is there, but is not what was once written; the message says in which way."""


def what_is(path: Path) -> str | None:
    """What lies under a name, in words: "a file", "a folder", "a link", "a pipe"; None where nothing does."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return _UNSEEN
    return next((words for applies, words in _KINDS if applies(mode)), "a device")


def is_file(path: Path) -> bool:
    """Whether a file lies under a name; a link to one is none."""
    return what_is(path) == _FILE


def require_file(path: Path) -> int:
    """The size of a file; nothing that leads elsewhere (a link) or never ends (a pipe) counts as one.

    Raises:
        DamagedFileError: it is no file, or there is none.
    """
    try:
        found = path.lstat()
    except OSError as error:
        raise DamagedFileError(f"{path.name} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        raise DamagedFileError(f"{path.name} is not a file, but {what_is(path) or 'gone'}")
    return found.st_size


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes; never waits, and opens nothing that a link leads to.

    Raises:
        FileNotFoundError
        DamagedFileError: something else than a file lies there, or it cannot be read.
    """
    if what_is(path) not in (None, _FILE):  # before it is opened: a tape, say, would be wound back
        require_file(path)
    try:
        handle = os.open(path, os.O_RDONLY | _CAREFULLY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(f"{path.name} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # put there since the look
        os.close(handle)
        raise DamagedFileError(f"{path.name} is not a file")
    return os.fdopen(handle, "rb")


def create_file(path: Path) -> None:
    """Make an empty file that nobody else has; what lay there, a link say, is taken away, not written to.

    Raises:
        OSError: a folder lies there, or the disk refuses.
    """
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFULLY, 0o666))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes to a new file.

    Raises:
        DamagedFileError: the source is no file, or there is none.
        OSError: the disk refuses.
    """
    require_file(source)
    create_file(target)
    with open_file(source) as file, open(target, "r+b") as new:
        shutil.copyfileobj(file, new, _BLOCK_BYTES)


def remove(path: Path) -> None:
    """Take away a file, or a link, pipe or the like in its place; nothing happens where nothing is.

    Raises:
        LongTalkError: a folder lies there, or the disk refuses.
    """
    with disk_errors(path):
        path.unlink(missing_ok=True)


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

    When the block raises, nothing is left, and what was under ``path`` before is still there. Under the name that is
    given lies an empty file, made for this. A link under ``path`` is replaced, not followed.

    Raises:
        LongTalkError: a full disk, a folder without permission, or something in the way.
    """
    part = path.with_name(path.name + PART_SUFFIX)
    with disk_errors(path):
        try:
            create_file(part)
            yield part
            handle = os.open(part, os.O_RDWR | _CAREFULLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(part, path)
            # Where both names are links to one file already, POSIX leaves both.
            part.unlink(missing_ok=True)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; the file appears under ``path`` when it is complete, and its folder is made.

    Raises:
        LongTalkError: the disk is full, or refuses the file.
    """
    make_folder(path.parent)
    with atomic(path) as part:
        yield part


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn whatever a disk refuses in the block into a LongTalkError about ``path``; see :func:`is_disk_error`."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        if not is_disk_error(error):
            raise
        raise _refusal(path, error) from error


def is_disk_error(error: BaseException) -> bool:
    """Whether an error is a disk's: every one of the system, and those of FFmpeg with the number of such a one.

    FFmpeg's own, and those of what it computes (EINVAL, ENOMEM), are not. In older PyAV some errors of the system are
    no OSError, but still have its number.
    """
    of_ffmpeg = isinstance(error, av.FFmpegError) and error.errno in _NO_SPACE | _NO_ACCESS | _NO_PLACE | _NO_DISK
    return isinstance(error, OSError) or of_ffmpeg


def _refusal(path: Path, error: OSError | av.FFmpegError) -> LongTalkError:
    """What the disk refused, and what to do about it."""
    words = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        free = 0
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
        return DiskError(
            f"disk of {path.parent}",
            expected=f"room for {path.name}",
            actual=f"{words} ({free / 1e6:.1f} MB free)",
            action="Free space, or start ComfyUI with another --output-directory; a higher crf or the codec h265 "
            "also needs less",
        )
    if error.errno not in _NO_ACCESS | _NO_PLACE:
        return DiskError(
            f"disk of {path.parent}",
            expected=f"one that works, for {path.name}",
            actual=f"{type(error).__name__}: {words}",
            action="Check that the drive or the network share is connected and sound, or use a folder on another one",
        )
    return _in_the_way(path) or DiskError(
        f"file {path}",
        expected="a file that may be written and replaced, in a folder that may be written to",
        actual=f"{type(error).__name__}: {words}",
        action="Close the program that has it open, or change the folder or its permissions",
    )


def make_folder(path: Path) -> None:
    """Make a folder, and those that it lies in.

    Raises:
        LongTalkError: something else has the name of one of them, or the disk refuses.
    """
    with disk_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            in_the_way = _no_folder(path)
            if in_the_way is not None:
                raise in_the_way from None
            raise


def _no_folder(folder: Path) -> LongTalkError | None:
    """What lies in the place of a folder."""
    found = what_is(folder)
    if found in (None, _UNSEEN) or os.path.isdir(folder):  # pathlib raises where the disk is gone
        return None
    return DiskError(
        f"folder {folder}",
        expected="a folder, or a link to one",
        actual="a link that leads to none" if found == "a link" else found,
        action="Remove or rename it; LongTalk makes the folder itself",
    )


def _in_the_way(path: Path) -> LongTalkError | None:
    """What keeps a file from being made or removed at a place, if that can be seen."""
    for folder in reversed(path.parents):
        if what_is(folder) is None:
            return DiskError(
                f"file {path}",
                expected=f"a folder {folder}",
                actual="none; it was removed, or never made",
                action="Leave the folder where it is while it is used, then try again",
            )
        in_the_way = _no_folder(folder)
        if in_the_way is not None:
            return in_the_way
    for name in (path, path.with_name(path.name + PART_SUFFIX)):
        found = what_is(name)
        if found not in (None, _FILE, _UNSEEN):
            return DiskError(
                f"file {name}",
                expected="a place for a file",
                actual=f"{found} of this name",
                action="Look into it, and remove or rename it",
            )
    return None


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes; see :func:`open_file` for the errors."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _json_digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with a digest of itself, atomically.

    Raises:
        LongTalkError: see :func:`atomic`.
    """
    text = json.dumps({**content, "digest": _json_digest(content)}, indent=1, allow_nan=False)
    with atomic(path) as part:
        part.write_text(text, "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        FileNotFoundError
        DamagedFileError: anything else than what was written, however malicious.
    """
    with open_file(path) as file:
        try:
            raw = file.read(_JSON_LIMIT_BYTES + 1)
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
