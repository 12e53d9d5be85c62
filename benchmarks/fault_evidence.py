"""What a killed run left on the disk and in the server's log, and whether that is what it should be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av

from longtalk.base.files import PART_SUFFIX, DamagedFileError, sha256_of
from longtalk.infinitetalk.run.store.folder import RunFolder, run_names

SUFFIX = ".mp4"
PHASES = ("loading, speech", "first window", "further windows", "joining", "after the end")
"""Where a run can be when it is killed, by what is on the disk."""

# What host/events.py logs when a window has been sampled and decoded.
_RENDERED = re.compile(r"window (\d+) of (\d+), .*frames \d+ to \d+ done")
# How ComfyUI's log begins the report on a node that raised.
_NODE_FAILED = "!!! Exception during processing !!!"


@dataclass(frozen=True)
class FileState:
    """A file as it is now; made again, even with the same bytes, it is another."""

    name: str
    sha256: str
    inode: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        stat = path.stat()
        return cls(path.name, sha256_of(path), stat.st_ino, stat.st_mtime_ns)


@dataclass(frozen=True)
class OnDisk:
    """What the folder of all runs holds.

    Attributes:
        runs: names of the runs; one, or none yet.
        windows: record, segment and carry of each finished window, by its number from 1.
        not_whole: records that are there although a file is not what they say; a kill must never leave that.
        described, finished: whether the manifest, and the record of the joined video, are there.
        parts: files that were being written.
        begun_again: an attempt that started over has not come to its end.
        owned: somebody is noted as working on it.
        reported: the report for a person is there.
    """

    runs: tuple[str, ...]
    windows: dict[int, tuple[FileState, FileState, FileState]]
    not_whole: tuple[str, ...]
    described: bool
    finished: bool
    parts: tuple[str, ...]
    begun_again: bool
    owned: bool
    reported: bool

    @classmethod
    def read(cls, root: Path) -> OnDisk:
        windows = {}
        not_whole = []
        runs = run_names(root)
        folders = [RunFolder(root, name, SUFFIX) for name in runs]
        for folder in folders:
            for window, key, record in folder.window_files():
                try:
                    folder.read_record(window, key)
                except (DamagedFileError, OSError) as damage:
                    not_whole.append(f"{record.name}: {damage}")
                    continue
                segment, carry = folder.segment_path(window, key), folder.carry_path(window, key)
                windows[window] = (FileState.of(record), FileState.of(segment), FileState.of(carry))
        return cls(
            runs=tuple(runs),
            windows=windows,
            not_whole=tuple(not_whole),
            described=any(folder.manifest_path.exists() for folder in folders),
            finished=any(folder.video_names() for folder in folders),
            parts=tuple(
                path.name
                for folder in folders
                for pattern in (f"*{PART_SUFFIX}", "joined_*")
                for path in folder.path.glob(pattern)
            ),
            begun_again=any(folder.start_over_path.exists() for folder in folders),
            owned=any((folder.path / "owner.json").exists() for folder in folders),
            reported=all(folder.report_path(name).exists() for folder in folders for name in folder.video_names()),
        )

    def phase(self, total: int) -> str:
        """Which of :data:`PHASES` a run of ``total`` windows was killed in."""
        if self.finished:
            return PHASES[4]
        if len(self.windows) == total:
            return PHASES[3]
        if self.windows:
            return PHASES[2]
        return PHASES[1] if self.described else PHASES[0]

    def left_over(self) -> list[str]:
        """What should not be in the folder of a finished run, or is missing there."""
        found = [f"{name} left over" for name in self.parts]
        if self.owned:
            found.append("owner.json left over")
        if self.begun_again:
            found.append("start_over.json left over")
        if not self.reported:
            found.append("report missing")
        return found


@dataclass(frozen=True)
class Decoded:
    """A video as it plays: the digest of all its pictures and of its sound, and how much there is of both."""

    frames: int
    pictures: str
    samples: int
    sound: str

    @classmethod
    def of(cls, path: Path) -> Decoded:
        pictures, sound = hashlib.sha256(), hashlib.sha256()
        frames = samples = 0
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                pictures.update(f"{frames} {frame.time} {frame.format.name}".encode())
                pictures.update(frame.to_ndarray().tobytes())
                frames += 1
        with av.open(str(path)) as container:
            for block in container.decode(audio=0):
                sound.update(block.to_ndarray().tobytes())
                samples += block.samples
        return cls(frames, pictures.hexdigest(), samples, sound.hexdigest())


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run gave: the video, and of each window the digests of its segment and its carry."""

    video: Decoded
    windows: dict[int, tuple[str, str]]

    @classmethod
    def of(cls, video: Decoded, on_disk: OnDisk) -> Reference:
        return cls(video, _digests(on_disk))

    def other_windows(self, on_disk: OnDisk) -> list[str]:
        """The windows whose files are others, in words. The same carry tells that the encoder made the difference."""
        found = _digests(on_disk)
        return [
            f"window {window} is encoded differently"
            + ("" if found[window][1] == carry else " and continues differently")
            for window, (segment, carry) in self.windows.items()
            if window in found and found[window] != (segment, carry)
        ]


def _digests(on_disk: OnDisk) -> dict[int, tuple[str, str]]:
    return {window: (segment.sha256, carry.sha256) for window, (_, segment, carry) in on_disk.windows.items()}


@dataclass(frozen=True)
class Attempt:
    """One try at a run, until it was killed or ended.

    Attributes:
        rendered: windows that were sampled and decoded, in order, from the log.
        at_kill: what was on the disk when it had been killed; None for the last one, which ended.
        kill_s: when it was killed, after it had been submitted.
    """

    rendered: tuple[int, ...]
    at_kill: OnDisk | None = None
    kill_s: float | None = None

    @property
    def not_kept(self) -> tuple[int, ...]:
        """Windows that were rendered, but not finished when it was killed: they must be made once more."""
        if self.at_kill is None:
            return ()
        return tuple(window for window in self.rendered if window not in self.at_kill.windows)


def rendered_windows(log: str) -> tuple[int, ...]:
    """The windows that a server's log says have been rendered."""
    return tuple(int(found[1]) for found in _RENDERED.finditer(log))


def failures(log: str) -> list[str]:
    """The errors that a server's log tells of."""
    return [line.split(_NODE_FAILED, 1)[1].strip() for line in log.splitlines() if _NODE_FAILED in line]


@dataclass
class Verdict:
    """What one killed and resumed run showed.

    Attributes:
        run: its number, from 1.
        kills: moment, phase and half-written files of each.
        lost: finished windows that were made again or changed.
        differs: whether the video is another one than the reference, or missing.
        others: the windows that are not the reference's, in words.
        made_twice: by kill, the windows that were rendered in vain.
        left_over, problems: in words.
        kind: what is special about the run.
    """

    run: int
    kills: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    differs: bool = False
    others: list[str] = field(default_factory=list)
    made_twice: list[int] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    kind: str = "plain"

    def __str__(self) -> str:
        kills = ", then ".join(
            f"{kill_s:.1f} s ({', '.join([phase, *(f'{part} there' for part in parts)])})"
            for kill_s, phase, parts in self.kills
        )
        wrong = [f"LOST windows {self.lost}"] if self.lost else []
        wrong += ["the video DIFFERS", *self.others] if self.differs else []
        wrong += [f"{count} windows MADE TWICE" for count in self.made_twice if count > 1]
        wrong += [*self.left_over, *self.problems]
        return f"run {self.run:3d} ({self.kind}): killed at {kills}: {'; '.join(wrong) or 'good'}"


def judge(
    run: int, attempts: Sequence[Attempt], end: OnDisk, videos: Sequence[Decoded], reference: Reference, total: int
) -> Verdict:
    """Compare what each kill left with what is there at the end.

    Args:
        attempts: all but the last one were killed.
        end: the folder after the last one.
        videos: what it gave, each as decoded: the run's own file and the one that Save Video copied.
        total: number of windows.
    """
    verdict = Verdict(run, differs=not videos or any(video != reference.video for video in videos))
    verdict.others = reference.other_windows(end)
    for number, attempt in enumerate(attempts):
        if attempt.at_kill is None:
            continue
        kept = attempt.at_kill
        later = {window for after in attempts[number + 1 :] for window in after.rendered}
        gone = [window for window, files in kept.windows.items() if end.windows.get(window) != files or window in later]
        verdict.lost += [window for window in gone if window not in verdict.lost]
        verdict.kills.append((attempt.kill_s or 0.0, kept.phase(total), kept.parts))
        verdict.made_twice.append(len(attempt.not_kept))
        verdict.problems += [f"not whole after a kill: {record}" for record in kept.not_whole]
    rendered = sum(len(attempt.rendered) for attempt in attempts)
    if rendered != total + sum(verdict.made_twice):
        verdict.problems.append(f"{rendered} windows were rendered in all, {sum(verdict.made_twice)} of {total} twice")
    if sorted(end.windows) != list(range(1, total + 1)) or end.not_whole:
        verdict.problems.append(f"windows at the end: {sorted(end.windows)} of {total}, not whole: {end.not_whole}")
    if len(end.runs) != 1:
        verdict.problems.append(f"{len(end.runs)} runs instead of one: {', '.join(end.runs)}")
    verdict.left_over = end.left_over()
    return verdict
