"""What a killed run left on the disk and in the server's log, and whether that is what it should be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import av

from longtalk.base.files import PART_SUFFIX, DamagedFileError, sha256_of
from longtalk.infinitetalk.run.store.folder import RunFolder, run_names

SUFFIX = ".mp4"
PHASES = ("loading, speech", "first window", "further windows", "joining", "after the end")
"""Where a run can be when it is killed, by what is on the disk."""

# What host/events.py logs when a window has been sampled and decoded.
_RENDERED = re.compile(r"window (\d+) of \d+, .*frames \d+ to \d+ done \(([0-9a-f]{8})\)")
# How ComfyUI's log begins the report on a node that raised.
_NODE_FAILED = "!!! Exception during processing !!!"


class Place(NamedTuple):
    """A window of a run, by its number from 1 and its key: one that is made again with another seed has another key."""

    window: int
    key: str

    def __str__(self) -> str:
        return f"{self.window} ({self.key})"


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
        windows: record, segment and carry of each finished window.
        videos: the videos that have a record, by name.
        not_whole: records that are there although a file is not what they say; a kill must never leave that.
        described: whether the manifest is there.
        parts: files that were being written.
        begun_again: an attempt that started over has not come to its end.
        owned: somebody is noted as working on it.
        reported: the report for a person is there.
    """

    runs: tuple[str, ...]
    windows: dict[Place, tuple[FileState, FileState, FileState]]
    videos: dict[str, FileState]
    not_whole: tuple[str, ...]
    described: bool
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
                windows[Place(window, key)] = (FileState.of(record), FileState.of(segment), FileState.of(carry))
        return cls(
            runs=tuple(runs),
            windows=windows,
            videos={name: FileState.of(folder.video_path(name)) for folder in folders for name in folder.video_names()},
            not_whole=tuple(not_whole),
            described=any(folder.manifest_path.exists() for folder in folders),
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

    def made_since(self, before: OnDisk) -> dict[Place, tuple[FileState, FileState, FileState]]:
        """The windows that were not there before, or were other files."""
        return {place: files for place, files in self.windows.items() if before.windows.get(place) != files}

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
class Given:
    """What a run gave.

    Attributes:
        own: the videos in its folder, each with the half of its name that tells its take; in order.
        saved: what Save Video copied of each take that was asked for.
    """

    own: tuple[tuple[str, Decoded], ...]
    saved: tuple[Decoded, ...]

    @property
    def is_plausible(self) -> bool:
        """Whether the takes are different videos, and what was saved is among them."""
        own = [video for _, video in self.own]
        return len(set(own)) == len(own) and len(set(self.saved)) == len(self.saved) and set(self.saved) <= set(own)


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run gave.

    Attributes:
        given: its videos.
        windows: the digests of each window's segment and carry.
        made: how many of them were not there before it.
        rendered: those that were sampled and decoded, in order.
        took_s: how long it took.
    """

    given: Given
    windows: dict[Place, tuple[str, str]]
    made: int
    rendered: tuple[Place, ...]
    took_s: float

    @classmethod
    def of(cls, given: Given, before: OnDisk, on_disk: OnDisk, rendered: tuple[Place, ...], took_s: float) -> Reference:
        return cls(given, _digests(on_disk), len(on_disk.made_since(before)), rendered, took_s)

    def other_windows(self, on_disk: OnDisk) -> list[str]:
        """The windows whose files are others, in words. The same carry tells that the encoder made the difference."""
        found = _digests(on_disk)
        return [
            f"window {place} is encoded differently"
            + ("" if found[place][1] == carry else " and continues differently")
            for place, (segment, carry) in self.windows.items()
            if place in found and found[place] != (segment, carry)
        ]


def _digests(on_disk: OnDisk) -> dict[Place, tuple[str, str]]:
    return {place: (segment.sha256, carry.sha256) for place, (_, segment, carry) in on_disk.windows.items()}


@dataclass(frozen=True)
class Attempt:
    """One try at a run, until it was killed or ended.

    Attributes:
        rendered: windows that were sampled and decoded, in order, from the log.
        at_kill: what was on the disk when it had been killed; None for the last one, which ended.
        kill_s: when it was killed, after it had been submitted.
    """

    rendered: tuple[Place, ...]
    at_kill: OnDisk | None = None
    kill_s: float | None = None

    @property
    def not_kept(self) -> tuple[Place, ...]:
        """Windows that were rendered, but not finished when it was killed: they must be made once more."""
        if self.at_kill is None:
            return ()
        return tuple(place for place in self.rendered if place not in self.at_kill.windows)


def rendered_windows(log: str) -> tuple[Place, ...]:
    """The windows that a server's log says have been rendered."""
    return tuple(Place(int(found[1]), found[2]) for found in _RENDERED.finditer(log))


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
        differs: whether a video is another one than the reference's, or missing.
        others: the windows that are not the reference's, in words.
        made_twice: by kill, the windows that were rendered in vain.
        left_over, problems: in words.
        kind: what is special about the run.
    """

    run: int
    kills: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)
    lost: list[Place] = field(default_factory=list)
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
        wrong = [f"LOST windows {', '.join(map(str, self.lost))}"] if self.lost else []
        wrong += ["a video DIFFERS", *self.others] if self.differs else []
        wrong += [f"{count} windows MADE TWICE" for count in self.made_twice if count > 1]
        wrong += [*self.left_over, *self.problems]
        return f"run {self.run:3d} ({self.kind}): killed at {kills}: {'; '.join(wrong) or 'good'}"


@dataclass(frozen=True)
class Story:
    """All that was seen of one run.

    Attributes:
        before: what was on the disk when the first attempt began.
        attempts: all but the last one were killed.
        end: what was on the disk after the last one.
        given: what the run gave; None when the last attempt failed.
        starts_over: whether it was asked to make anew what was there before.
    """

    before: OnDisk
    attempts: Sequence[Attempt]
    end: OnDisk
    given: Given | None
    starts_over: bool = False

    def phase(self, at_kill: OnDisk, reference: Reference) -> str:
        """Which of :data:`PHASES` it was killed in."""
        made = len(at_kill.made_since(self.before))
        if made == reference.made:
            is_whole = len(at_kill.videos) == len(reference.given.own) and not at_kill.begun_again
            return PHASES[4] if is_whole else PHASES[3]
        if made:
            return PHASES[2]
        return PHASES[1] if at_kill.begun_again or (at_kill.described and not self.starts_over) else PHASES[0]


def judge(run: int, kind: str, story: Story, reference: Reference) -> Verdict:
    """Compare what each kill left with what is there at the end, and that with the reference."""
    end = story.end
    verdict = Verdict(run, differs=story.given != reference.given, others=reference.other_windows(end), kind=kind)
    for number, attempt in enumerate(story.attempts):
        if attempt.at_kill is None:
            continue
        at_kill = attempt.at_kill
        kept = at_kill.made_since(story.before) if story.starts_over else at_kill.windows
        later = {place for after in story.attempts[number + 1 :] for place in after.rendered}
        gone = [place for place, files in kept.items() if end.windows.get(place) != files or place in later]
        verdict.lost += [place for place in gone if place not in verdict.lost]
        verdict.kills.append((attempt.kill_s or 0.0, story.phase(at_kill, reference), at_kill.parts))
        verdict.made_twice.append(len(attempt.not_kept))
        verdict.problems += [f"not whole after a kill: {record}" for record in at_kill.not_whole]
        verdict.problems += [
            f"the video {name} is gone or another file"
            for name, file in at_kill.videos.items()
            if end.videos.get(name) != file
        ]
    rendered = sorted(place for attempt in story.attempts for place in attempt.rendered)
    twice = [place for attempt in story.attempts for place in attempt.not_kept]
    if rendered != sorted([*reference.rendered, *twice]):
        verdict.problems.append(
            f"rendered: {', '.join(map(str, rendered))}; expected {', '.join(map(str, sorted(reference.rendered)))}"
            f" and once more {', '.join(map(str, twice)) or 'none'}"
        )
    if end.windows.keys() != reference.windows.keys() or end.not_whole:
        verdict.problems.append(
            f"windows at the end: {', '.join(map(str, sorted(end.windows)))}; expected "
            f"{', '.join(map(str, sorted(reference.windows)))}; not whole: {', '.join(end.not_whole) or 'none'}"
        )
    if len(end.runs) != 1:
        verdict.problems.append(f"{len(end.runs)} runs instead of one: {', '.join(end.runs)}")
    verdict.left_over = end.left_over()
    return verdict
