"""Reads every file of a run that has a checksum, and says which are not as they were written."""

from __future__ import annotations

from ....base.files import DamagedFileError
from ....base.words import count
from .overview import Overview
from .record import WindowRecord


def verify(run: Overview) -> tuple[int, list[str]]:
    """Read every file that has a checksum; how many there are, and in words which are not as they were written."""
    folder, windows = run.folder, run.windows
    checks = [(f"window {record.window} ({record.key})", record) for record in windows.records]
    damage = [] if run.problem is None else [f"the run: {run.detail}"]
    damage += windows.damage
    checked = 1 + len(windows.records) + len(windows.damage)  # the JSON files, which were read with the overview
    for what, record in checks:
        for path, sum_ in (
            (folder.segment_path(record.window, record.key), record.segment),
            (folder.carry_path(record.window, record.key), record.carry),
        ):
            checked += 1
            try:
                sum_.check(path)
            except DamagedFileError as error:
                damage.append(f"{what}: {error}")
        damage += _wrong_length(run, record)
    sound = sound_damage(run)
    if sound is not None:
        checked += 1
        damage += [f"sound: {sound}"] if sound else []
    for video in run.videos:
        checked += 2  # the video and the file with its checksum
        found = video.check()
        damage += [f"video: {found}"] if found else []
    return checked, damage


def _wrong_length(run: Overview, record: WindowRecord) -> list[str]:
    about = run.about
    if about is None:
        return []
    start, end = about.frames_of(record.window) if record.window <= len(about.ends) else (0, 0)
    due = end - start
    if record.frames == due:
        return []
    return [f"window {record.window} ({record.key}): {count(record.frames, 'frame')} where the plan has {due}"]


def sound_damage(run: Overview) -> str | None:
    """What is wrong with the sound: "" for nothing, None when there is no sound to look at."""
    if run.manifest is None or (run.finished and not run.windows.current):
        return None
    try:
        run.manifest.sound.check(run.folder.sound_path)
    except DamagedFileError as error:
        return str(error)
    return ""
