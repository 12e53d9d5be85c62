"""Folders of runs that somebody filled who means harm: links that lead out, pipes, devices, folders and foreign files
at the names that LongTalk reads and writes, and records signed as LongTalk signs them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longtalk.base.files import write_json

#: Of real time: nothing here takes a tenth of it, and what waits for a pipe waits for ever.
SECONDS = 60.0

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 3, 10**400, 1e308, 2**64, "", "..", "../../outside/file", "\x1b[2J", [], {}, [[]],
    "a" * 5000,
)  # fmt: skip


def snapshot(folder: Path) -> str:
    """A digest of all that lies in a folder: names, kinds, permissions, times and bytes; follows no link."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        told = [path.relative_to(folder), status.st_mode, status.st_size, status.st_mtime_ns]
        if stat.S_ISLNK(status.st_mode):
            told.append(os.readlink(path))
        digest.update(repr([str(each) for each in told]).encode())
        if stat.S_ISREG(status.st_mode):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def make_outside(folder: Path) -> Path:
    """What must not be touched: a file, a record, a folder with files whose names are LongTalk's."""
    outside = folder / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "file").write_bytes(b"precious" * 100)
    (outside / "manifest.json").write_text("{}")
    (outside / "deep" / "talk.mp4").write_bytes(b"precious")
    return outside


def in_time(call: Callable[[], Any], label: str) -> Any:
    """What a call gives or raises; fails when it takes longer than anything here may."""
    ended: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            ended.append((True, call()))
        except BaseException as error:
            ended.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert ended, f"{label}: hangs"
    well, result = ended[0]
    if not well:
        raise result
    return result


class Hostile:
    """One way to harm a run's folder, the same for the same number.

    Args:
        number: of the way.
        outside: the folder that links lead to.

    Attributes:
        done: what was done, in words.
    """

    def __init__(self, number: int, outside: Path) -> None:
        self._dice = random.Random(number)
        self._number = number
        self._outside = outside
        self.done: list[str] = []

    def harm(self, folder: Path) -> None:
        """Do it to one run's folder."""
        for _ in range(self._dice.choice((1, 1, 1, 2, 3, 6))):
            path = folder / self._dice.choice(self._names(folder))
            way = self._dice.choice(self._ways())
            way(path)
            self.done.append(f"{way.__name__} {path.name}")
        if self._dice.random() < 0.3:  # so that the video is joined anew, and not only given
            for path in folder.glob("talk_*.*"):
                self._clear(path)

    def __repr__(self) -> str:
        return f"{self._number}: {', '.join(self.done)}"

    def _ways(self) -> list[Callable[[Path], None]]:
        links = [
            self.link_to_file,
            self.link_to_folder,
            self.dead_link,
            self.loop,
            self.link_to_a_device,
            self.hard_link,
        ]
        others = [self.pipe, self.socket, self.folder, self.empty, self.noise, self.gone, self.sparse, self.another]
        return [*links, *links, *others, self.signed, self.signed, self.signed]

    def _names(self, folder: Path) -> list[str]:
        there = sorted(path.name for path in folder.iterdir())
        made = [
            "manifest.json",
            "talk_01234567_89abcdef.mp4",
            "talk_01234567_89abcdef.json",
            "talk_01234567_89abcdef.txt",
            "joined_01234567.mp4",
            "sound.mp4",
            "start_over.json",
            "lock",
            "owner.json",
        ]
        made += ["partial_1_of_2_windows.mp4", "window_00001_01234567.json", "window_99999_01234567.mp4"]
        return [*there, *there, *made, *(f"{name}.part" for name in {*there, *made}), "foreign.bin"]

    def _clear(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def _link(self, path: Path, target: Path | str) -> None:
        self._clear(path)
        path.symlink_to(target)

    def link_to_file(self, path: Path) -> None:
        self._link(path, self._outside / self._dice.choice(("file", "manifest.json", "deep/talk.mp4")))

    def link_to_folder(self, path: Path) -> None:
        self._link(path, self._outside / self._dice.choice(("", "deep")))

    def dead_link(self, path: Path) -> None:
        self._link(path, self._outside / f"new_{self._dice.randrange(10**6)}")

    def loop(self, path: Path) -> None:
        self._link(path, path.name)

    def link_to_a_device(self, path: Path) -> None:
        self._link(path, self._dice.choice(("/dev/zero", "/dev/null", "/dev/tty", "/dev/full")))

    def hard_link(self, path: Path) -> None:
        self._clear(path)
        os.link(self._outside / "file", path)

    def pipe(self, path: Path) -> None:
        self._clear(path)
        os.mkfifo(path)

    def socket(self, path: Path) -> None:
        self._clear(path)
        with socket.socket(socket.AF_UNIX) as made:
            try:
                made.bind(str(path))
            except OSError:  # the name of a socket may have 100 characters
                os.mkfifo(path)

    def folder(self, path: Path) -> None:
        self._clear(path)
        path.mkdir()
        if self._dice.random() < 0.5:
            (path / "precious.txt").write_text("precious")

    def empty(self, path: Path) -> None:
        self._clear(path)
        path.touch()

    def noise(self, path: Path) -> None:
        self._clear(path)
        path.write_bytes(self._dice.choice((b"{}", b"[" * 50_000, b"null", b"\xff" * 40, self._dice.randbytes(3000))))

    def gone(self, path: Path) -> None:
        self._clear(path)

    def sparse(self, path: Path) -> None:
        """A file that says it has a terabyte."""
        self._clear(path)
        with open(path, "wb") as file:
            file.truncate(1 << 40)

    def another(self, path: Path) -> None:
        """The content of another file of the run."""
        files = [each for each in path.parent.iterdir() if stat.S_ISREG(each.lstat().st_mode)]
        small = [each for each in files if each.lstat().st_size < 1 << 20]
        content = self._dice.choice(small).read_bytes() if small else b""
        self._clear(path)
        path.write_bytes(content)

    def signed(self, path: Path) -> None:
        """Other values in a record, under a good signature."""
        records = [
            each for each in path.parent.iterdir() if each.suffix == ".json" and stat.S_ISREG(each.lstat().st_mode)
        ]
        record = path if path in records else self._dice.choice(records) if records else None
        if record is None:
            return
        try:
            with open(record, "rb") as file:
                content = json.loads(file.read(1 << 20))
        except (ValueError, RecursionError):
            content = {}
        if not isinstance(content, dict):
            content = {}
        content.pop("digest", None)
        for _ in range(self._dice.randint(1, 3)):
            place = content
            while place:
                name = self._dice.choice(list(place))
                if isinstance(place[name], dict) and self._dice.random() < 0.7:
                    place = place[name]
                    continue
                place[name] = self._dice.choice(_VALUES)
                break
        write_json(record, content)
