"""Who works on a run: one process at a time, which holds the run's lock and leaves a note that says who it is."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ....base.errors import DiskError, RunError
from ....base.files import disk_errors
from .names import RunFiles

logger = logging.getLogger(__name__)

_OWNER_LIMIT_BYTES = 4096


@contextlib.contextmanager
def owned(files: RunFiles) -> Iterator[None]:
    """Hold the run while the block runs. The system releases the run when the process dies, however it dies.

    Raises:
        LongTalkError: another process, or another run of this one, holds it.
    """
    lock = FileLock(str(files.lock_path), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(
            f"run {files.name}",
            expected="a run that nobody else is working on",
            actual=_owner(files.owner_path) or "another process holding it",
            action="Wait for it to end, or change the seed to make another video",
        ) from error
    except (OSError, NotImplementedError) as error:
        with disk_errors(files.path):
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
        with disk_errors(owner):
            owner.write_text(json.dumps(text), "utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def user_of(files: RunFiles) -> str | None:
    """Who is working on the run, in words; None when nobody is. Leaves no trace on the disk."""
    lock, owner = files.lock_path, files.owner_path
    # A run that is held has both files, and only a lock that is there can be tried without making one.
    if not all(path.is_file() and not path.is_symlink() for path in (lock, owner)):
        return None
    try:
        with FileLock(str(lock), timeout=0):
            return None
    except Timeout:
        return _owner(owner) or "another process"
    except (OSError, NotImplementedError):  # owned() tells why the lock cannot be had
        return None


def _owner(path: Path) -> str | None:
    """Who holds, or held, the run, in words, from the note that the owner left."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_OWNER_LIMIT_BYTES))
        return f"process {int(found['process'])} on {str(found['host'])[:80]}, since {str(found['since'])[:30]}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
