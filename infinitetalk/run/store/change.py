"""What a person does with runs on the disk: copy a video out of one, and delete some. What is not LongTalk's stays."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....base.errors import LongTalkError, RunError, SettingError
from ....base.files import DamagedFileError, copy_file, disk_errors, new_file, remove, what_is
from ....base.words import count
from ..video.join import WrittenVideo, join
from .folder import RunFolder
from .names import FileKind, kind_of
from .overview import LEFT_ALONE, Overview, Problem
from .owner import free_again
from .verify import sound_damage
from .video_record import StoredVideo, remove_video

_REMOVED_WITH_WINDOWS = (FileKind.FRAMES, FileKind.CARRIES, FileKind.RECORDS, FileKind.SOUND)
#: What nobody deletes, not even by its name.
_NEVER_DELETED = (Problem.NOT_A_RUN, Problem.UNREADABLE)


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


def find_video(run: Overview, digits: str) -> StoredVideo:
    """The video of a run whose name begins with these digits.

    Raises:
        LongTalkError: there is none, or there are several.
    """
    found = [video for video in run.videos if video.name.startswith(digits)]
    if len(found) != 1:
        names = ", ".join(video.name for video in found or run.videos)
        raise RunError(
            f"video {digits!r:.40} of run {run.folder.name}",
            expected="the beginning of one video's name, as `runs inspect` shows it",
            actual=f"{'one of several' if found else 'none'} of {names}" if names else "a run without a video",
            action="Take the name from `runs inspect`",
        )
    return found[0]


def export(run: Overview, target: Path, video: StoredVideo | None = None) -> Exported:
    """Copy a video out, or join the good windows at the beginning; what lies at the target is replaced.

    Args:
        video: which; by default that which was asked for last, or else the windows.

    Raises:
        LongTalkError: the target lies inside the runs or has another format; there is nothing to export; the video
            that was named is damaged; the disk is full, or refuses the file.
    """
    target = target.absolute()
    check_target(run, target)
    notes = []
    chosen = video or next(iter(run.videos), None)
    damage = chosen.check() if chosen else ""
    if chosen and not damage:
        with new_file(target) as part:
            try:
                copy_file(chosen.path, part)
            except DamagedFileError as error:
                raise _changed(run, error) from error
        others = f" (of {len(run.videos)}: {chosen.name})" if len(run.videos) > 1 else ""
        return Exported(f"the finished video{others}", target.stat().st_size, ())
    if video:
        raise RunError(
            f"video {video.name}",
            expected="a video that is as it was written",
            actual=damage,
            action="Queue the workflow that made it again, or export another one",
        )
    if damage:
        notes.append(f"the video is damaged ({damage}), so the windows are joined again")
    written, windows, left_out = _join_windows(run, target)
    assert run.about is not None
    what = f"windows 1 to {windows} of {len(run.about.ends)}, {count(written.frames, 'frame')}"
    return Exported(what, written.bytes, (*notes, *left_out))


def _changed(run: Overview, error: DamagedFileError) -> LongTalkError:
    return RunError(
        f"run {run.folder.name}",
        expected="a finished video that stays as it is while it is copied",
        actual=str(error),
        action="Try again when nobody works on the run",
    )


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
            record.segment.check(path)
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


def check_target(run: Overview, target: Path) -> None:
    """Raise LongTalkError for a file that a run's video cannot be exported to: another format, or inside the runs."""
    target = target.absolute()
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


def check_deletable(run: Overview) -> None:
    """Raise LongTalkError for a run in use and for a folder that only has the name of a run."""
    if run.user:
        raise RunError(
            f"run {run.folder.name}",
            expected="a run that nobody is working on",
            actual=run.user,
            action=free_again(run.folder),
        )
    if run.problem in _NEVER_DELETED:
        raise RunError(
            f"folder {run.folder.path}",
            expected="a run that LongTalk made",
            actual=run.detail,
            action="Look into the folder, and delete it by hand if you do not need it",
        )


def why_left_alone(run: Overview) -> str | None:
    """Why a run is not deleted when it was not named, but is one of many; None where it is."""
    return run.state if run.user or run.problem in LEFT_ALONE else None


@dataclass(frozen=True)
class Deleted:
    """What a deletion came to.

    Attributes:
        bytes: how many are freed.
        left: the names of what is not LongTalk's; the folder stays for them.
    """

    bytes: int
    left: tuple[str, ...] = ()


def delete_run(folder: RunFolder) -> Deleted:
    """Remove what LongTalk made of a run, and the folder if nothing else is in it; links are removed, not followed.

    Raises:
        LongTalkError: somebody works on it, or the disk refuses.
    """
    lock = folder.lock_path
    size = _bytes(folder)
    with folder.owned():
        # Records before the files they vouch for: what is left of a deletion that is killed counts as never made.
        for path in sorted(folder.listed(), key=lambda path: path.suffix != ".json"):
            if path != lock and _is_ours(path):
                remove(path)
        left = tuple(path.name for path in folder.listed() if path != lock)
        # While the lock is held, so that nobody takes the run over in between. Windows keeps open files.
        unlocked = True
        try:
            _remove_folder(folder, bool(left))
        except PermissionError:
            unlocked = False
    if not unlocked:
        with disk_errors(lock):
            _remove_folder(folder, bool(left))
    return Deleted(size - _bytes(folder), left)


def _remove_folder(folder: RunFolder, keep: bool) -> None:
    folder.lock_path.unlink(missing_ok=True)
    if not keep:
        folder.path.rmdir()


def _is_ours(path: Path) -> bool:
    """Whether LongTalk may remove what lies there: its own name, and no folder, in which may be anything."""
    return kind_of(path.name) is not FileKind.OTHER and what_is(path) != "a folder"


def delete_windows(folder: RunFolder) -> Deleted:
    """Remove a run's windows and its sound; its videos stay.

    Raises:
        LongTalkError: somebody works on it, or the disk refuses.
    """
    size = _bytes(folder)
    with folder.owned():
        folder.discard_windows()
    return Deleted(size - _bytes(folder))


def delete_videos(folder: RunFolder, videos: Sequence[StoredVideo]) -> Deleted:
    """Remove videos of a run with their records and reports.

    Raises:
        LongTalkError: somebody works on it, or the disk refuses.
    """
    size = _bytes(folder)
    with folder.owned():
        for video in videos:
            remove_video(folder, video.name)
    return Deleted(size - _bytes(folder))


def _bytes(folder: RunFolder) -> int:
    with contextlib.suppress(OSError):
        return folder.bytes()
    return 0


def windows_bytes(run: Overview) -> int:
    """How many bytes :func:`delete_windows` would free."""
    return sum(use.bytes for use in run.use if use.kind in _REMOVED_WITH_WINDOWS)
