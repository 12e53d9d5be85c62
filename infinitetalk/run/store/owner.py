"""Who works on a run: one process at a time, which holds the run's lock and leaves a note that says who it is.

Where the system has locks, it gives the run free when its holder dies, however it dies. On a drive without them (some
network and FUSE drives) filelock keeps the name of the holder in the lock file instead. There nobody can tell whether a
holder on another machine still lives, so it is the user who says so, by deleting that file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from ....base.errors import DiskError, LongTalkError, RunError
from ....base.files import DamagedFileError, atomic, disk_errors, is_file, open_file, remove, what_is
from ....base.words import printable
from .names import RunFiles

logger = logging.getLogger(__name__)

_OWNER_LIMIT_BYTES = 4096


@contextlib.contextmanager
def owned(files: RunFiles) -> Iterator[None]:
    """Hold the run while the block runs. Where the system has locks it releases the run when the process dies.

    Raises:
        LongTalkError: another process, or another run of this one, holds it.
    """
    _check_lock(files)
    lock = FileLock(str(files.lock_path), timeout=0)
    try:
        _acquire(lock)
    except Timeout as error:
        raise _held(files, lock) from error
    except (OSError, NotImplementedError) as error:
        with disk_errors(files.lock_path):
            if isinstance(error, OSError):
                raise
        raise DiskError(
            f"folder {files.path}",
            expected="a file system with locks",
            actual=str(error),
            action="Use an output folder on a local disk",
        ) from error
    owner = files.owner_path
    try:
        left = _owner(owner)
        if left:
            logger.info("run %s: taken over from %s, which ended without finishing it", files.name, left)
        text = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with atomic(owner) as part:
            part.write_text(json.dumps(text), "utf-8")
        yield
    finally:
        with contextlib.suppress(OSError, LongTalkError):
            remove(owner)
        lock.release()


def user_of(files: RunFiles) -> str | None:
    """Who is working on the run, in words; None when nobody is. Leaves no trace on the disk."""
    # A run that is held has both files, and only a lock that is there can be tried without making one.
    if not all(is_file(path) for path in (files.lock_path, files.owner_path)):
        return None
    lock = FileLock(str(files.lock_path), timeout=0)
    try:
        _acquire(lock)
    except Timeout:
        return _owner(files.owner_path) or "another process"
    except (OSError, NotImplementedError):  # owned() tells why the lock cannot be had
        return None
    lock.release()
    return None


def free_again(files: RunFiles) -> str:
    """What to do about a run that somebody holds, as a sentence without the final period."""
    # A lock of the system is empty; one that filelock made for want of it names its holder.
    try:
        with open_file(files.lock_path) as file:
            named = bool(file.read(1))
    except (OSError, DamagedFileError):
        named = False
    waiting = "Wait for it to end, or cancel it in ComfyUI"
    return f"{waiting}. {_by_hand(files)}" if named else waiting


def _by_hand(files: RunFiles) -> str:
    return (
        f"If it is gone (a container that was restarted, say), delete the file {files.lock_path}: "
        "this drive has no locks that go with their holder"
    )


def _acquire(lock: Any) -> None:
    with warnings.catch_warnings():  # filelock tells of a drive without locks; free_again does
        warnings.simplefilter("ignore")
        lock.acquire()


def _check_lock(files: RunFiles) -> None:
    """Raise LongTalkError for a lock that is no file: opening it would lead elsewhere, or wait."""
    found = what_is(files.lock_path)
    if found is not None and not is_file(files.lock_path):
        raise RunError(
            f"run {files.name}",
            expected="its lock to be a file",
            actual=f"{found} in its place",
            action=f"Remove {files.lock_path}, then queue the workflow again",
        )


def _held(files: RunFiles, lock: Any) -> LongTalkError:
    action = "Wait for it to end, or change the seed to make another video"
    if isinstance(lock, SoftFileLock):
        action = f"{action}. {_by_hand(files)}"
    return RunError(
        f"run {files.name}",
        expected="a run that nobody else is working on",
        actual=_owner(files.owner_path) or "another process holding it",
        action=action,
    )


def _owner(path: Path) -> str | None:
    """Who holds, or held, the run, in words, from the note that the owner left."""
    try:
        with open_file(path) as file:
            found = json.loads(file.read(_OWNER_LIMIT_BYTES))
        host, since = printable(str(found["host"])[:80]), printable(str(found["since"])[:30])
        return f"process {int(found['process'])} on {host}, since {since}"
    except (OSError, DamagedFileError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
