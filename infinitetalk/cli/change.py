"""Changes what is on the disk: copies a video out of a run, and deletes runs."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...base.errors import RunError, SettingError
from ...base.files import DamagedFileError, disk_errors
from ...base.words import count
from ..run.store.chains import check_file
from ..run.store.folder import RunFolder
from ..run.store.names import FileKind
from ..run.store.overview import Overview, Problem
from ..run.video.join import WrittenVideo, join
from .arguments import check_new_file, new_file
from .describe import sound_damage, video_damage

_REMOVED_WITH_WINDOWS = (FileKind.FRAMES, FileKind.CARRIES, FileKind.RECORDS, FileKind.SOUND)


@dataclass(frozen=True)
class Exported:
    """A video outside the runs.

    Attributes:
        what: what the video is, in words.
        bytes: the size of the file.
        notes: what was left out, in words.
    """

    what: str
    bytes: int
    notes: tuple[str, ...]


def export(run: Overview, target: Path, *, force: bool) -> Exported:
    """Copy the whole video out, or join the good windows at the beginning.

    Raises:
        LongTalkError: the target is taken, lies inside the runs or has another format; there is nothing to export; the
            disk is full, or refuses the file.
    """
    target = target.absolute()
    _check_target(run, target, force)
    notes = []
    damage = video_damage(run)
    if damage == "":
        with new_file(target) as part:
            shutil.copyfile(run.folder.video_path, part)
        return Exported("the finished video", target.stat().st_size, ())
    if damage is not None:
        notes.append(f"the video is damaged ({damage}), so the windows are joined again")
    written, windows, left_out = _join_windows(run, target)
    assert run.about is not None
    what = f"windows 1 to {windows} of {len(run.about.ends)}, {count(written.frames, 'frame')}"
    return Exported(what, written.bytes, (*notes, *left_out))


def _join_windows(run: Overview, target: Path) -> tuple[WrittenVideo, int, list[str]]:
    """Join the good windows at the beginning; what was written, how many windows that is, and what was left out."""
    about, folder = run.about, run.folder
    if about is None:
        raise RunError(
            f"run {folder.name}",
            expected="a finished video, or a manifest that tells how to join its windows",
            actual=run.problem.value if run.problem else run.state,
            action="Queue the same workflow again; it writes the manifest anew and keeps the windows that are good",
        )
    notes = []
    segments = []
    for record in run.windows.current[: len(about.ends)]:
        path = folder.segment_path(record.window, record.key)
        try:
            check_file(path, record.segment)
        except DamagedFileError as error:
            notes.append(f"window {record.window} and what follows are left out: {error}")
            break
        segments.append(path)
    if not segments:
        raise RunError(
            f"run {folder.name}",
            expected="a finished video, or at least one finished window",
            actual=notes[0] if notes else "none",
            action="Queue the same workflow again, or export another run",
        )
    sound: Path | None = folder.sound_path
    damage = sound_damage(run)
    if damage:
        notes.append(f"the sound is left out: {damage}")
        sound = None
    return join(target, segments, sound, about.video, fps=about.fps), len(segments), notes


def _check_target(run: Overview, target: Path, force: bool) -> None:
    codec = run.about.codec if run.about else "this run"
    if target.suffix.lower() != run.folder.suffix:
        raise SettingError(
            f"file {target}",
            expected=f"a name that ends in {run.folder.suffix}, as {codec} needs",
            actual=target.name,
            action="Change the name's end; nothing is encoded again",
        )
    if run.folder.path.parent.resolve() in target.resolve().parents:
        raise SettingError(
            f"file {target}",
            expected="a place outside the folder of all runs",
            actual=f"one inside {run.folder.path.parent}",
            action="Name another place",
        )
    check_new_file(target, force)


def check_deletable(run: Overview) -> None:
    """Raise LongTalkError for a run in use and for a folder that only has the name of a run."""
    if run.user:
        raise RunError(
            f"run {run.folder.name}",
            expected="a run that nobody is working on",
            actual=run.user,
            action="Wait for it to end, or cancel it in ComfyUI",
        )
    if run.problem in (Problem.NOT_A_RUN, Problem.UNREADABLE):
        raise RunError(
            f"folder {run.folder.path}",
            expected="a run that LongTalk made",
            actual=run.detail,
            action="Look into the folder, and delete it by hand if you do not need it",
        )


def delete_run(folder: RunFolder) -> int:
    """Remove a run's folder with everything in it; links are removed, not followed. Returns how many bytes are freed.

    Raises:
        LongTalkError: somebody works on it, or the disk refuses.
    """
    lock = folder.lock_path
    size = _bytes(folder)
    with folder.owned(), disk_errors(folder.path):
        # Records before the files they vouch for: what is left of a deletion that is killed counts as never made.
        for path in sorted(folder.path.iterdir(), key=lambda path: path.suffix != ".json"):
            if path != lock:
                _remove(path)
        # While the lock is held, so that nobody takes the run over in between. Windows keeps open files.
        unlocked = True
        try:
            lock.unlink(missing_ok=True)
            folder.path.rmdir()
        except PermissionError:
            unlocked = False
    if not unlocked:
        with disk_errors(folder.path):
            lock.unlink(missing_ok=True)
            folder.path.rmdir()
    return size


def delete_windows(folder: RunFolder) -> int:
    """Remove a run's windows and its sound; its videos stay. Returns how many bytes are freed.

    Raises:
        LongTalkError: somebody works on it, or the disk refuses.
    """
    size = _bytes(folder)
    with folder.owned():
        folder.discard_windows()
    return size - _bytes(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _bytes(folder: RunFolder) -> int:
    with contextlib.suppress(OSError):
        return folder.bytes()
    return 0


def windows_bytes(run: Overview) -> int:
    """How many bytes :func:`delete_windows` would free."""
    return sum(use.bytes for use in run.use if use.kind in _REMOVED_WITH_WINDOWS)
