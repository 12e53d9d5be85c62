"""Files that are whole or not there, and what the disk's errors mean to a person."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import av
import pytest

import longtalk
from longtalk.base import files
from longtalk.base.errors import DiskError, FileError, LongTalkError
from longtalk.base.files import (
    PART_SUFFIX,
    DamagedFileError,
    atomic,
    copy_file,
    disk_errors,
    is_disk_error,
    is_file,
    make_folder,
    open_file,
    read_json,
    remove,
    require_file,
    sha256_of,
    sync_folder,
    what_is,
    write_json,
)


def in_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(path: Path, data: bytes, error: BaseException | None = None) -> None:
    """Write ``data`` through :func:`atomic`, then raise ``error``."""
    with atomic(path) as part:
        part.write_bytes(data)
        if error is not None:
            raise error


def fail(path: Path, error: BaseException) -> None:
    with disk_errors(path):
        raise error


def is_folder(handle: int) -> bool:
    return stat.S_ISDIR(os.fstat(handle).st_mode)


# Atomic


@pytest.mark.parametrize("older", [None, b"older"])
def test_a_file_appears_when_it_is_complete(tmp_path: Path, older: bytes | None) -> None:
    path = tmp_path / "a.bin"
    if older is not None:
        path.write_bytes(older)
    with atomic(path) as part:
        assert part.parent == path.parent
        part.write_bytes(b"new")
        assert (path.read_bytes() if path.exists() else None) == older
    assert in_folder(tmp_path) == {"a.bin": b"new"}


@pytest.mark.parametrize("error", [RuntimeError("odd"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_what_goes_wrong_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"older")
    with pytest.raises(type(error)) as caught:
        write(path, b"half", error)
    assert caught.value is error
    # The same before anything was written.
    with pytest.raises(type(error)), atomic(path):
        raise error
    assert in_folder(tmp_path) == {"a.bin": b"older"}


def test_one_name_more_of_a_file_that_has_the_name_already(tmp_path: Path) -> None:
    """POSIX's rename does nothing between two names of one file: a window that is taken over once more after a kill."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    for _ in range(2):
        with atomic(target) as part:
            part.unlink()
            os.link(source, part)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}
    assert target.samefile(source)


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    events: list[tuple[str, bool]] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        events.append(("folder" if is_folder(handle) else "file", path.exists()))
        fsync(handle)

    def watched_replace(source: Path, target: Path) -> None:
        events.append(("replace", path.exists()))
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", watched_fsync)
    monkeypatch.setattr(files.os, "replace", watched_replace)
    write(path, b"new")
    assert events == [("file", False), ("replace", False), ("folder", True)]


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuses_folders(handle: int) -> None:
        if is_folder(handle):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", refuses_folders)
    handles = len(os.listdir("/dev/fd"))
    write(tmp_path / "a.bin", b"new")
    sync_folder(tmp_path / "not there")
    assert in_folder(tmp_path) == {"a.bin": b"new"}
    assert len(os.listdir("/dev/fd")) == handles


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from longtalk.base.files import atomic

    with atomic(Path(sys.argv[1])) as part:
        part.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_half_file_and_does_not_disturb_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"older")
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(longtalk.__path__[0]).parent)},
    )
    assert result.returncode == -9
    assert in_folder(tmp_path) == {"a.bin": b"older", "a.bin.part": b"half"}
    write(path, b"new")
    assert in_folder(tmp_path) == {"a.bin": b"new"}


# The disk's errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_real_full_disk(tmp_path: Path) -> None:
    def write_to_a_full_disk() -> None:
        with atomic(tmp_path / "a.bin") as part:
            part.write_bytes(b"half")
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(LongTalkError, match=r"disk of .*expected room for a\.bin, got No space left.*MB free"):
        write_to_a_full_disk()
    assert in_folder(tmp_path) == {}


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full"), OSError(errno.EFBIG, "too large"), av.error.FFmpegError(errno.ENOSPC, "full")],
    ids=repr,
)
def test_no_room_is_said(tmp_path: Path, error: Exception) -> None:
    assert is_disk_error(error)
    with pytest.raises(LongTalkError, match=r"disk of .*expected room for a\.bin, got (full|too large) \(\d") as caught:
        fail(tmp_path / "a.bin", error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENAMETOOLONG])
def test_no_permission_is_said(tmp_path: Path, code: int) -> None:
    error = OSError(code, "refused")
    assert is_disk_error(error)
    with pytest.raises(LongTalkError, match=r"file .*a\.bin: expected a file that may be written") as caught:
        fail(tmp_path / "a.bin", error)
    assert "refused" in caught.value.actual


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "broken"),
        OSError(errno.ESTALE, "broken"),
        OSError(errno.EMFILE, "broken"),
        OSError("broken"),
        av.error.OSError(errno.EIO, "broken"),
        av.error.UndefinedError(errno.ESTALE, "broken"),
    ],
    ids=repr,
)
def test_a_disk_that_does_not_work_is_said(tmp_path: Path, error: Exception) -> None:
    assert is_disk_error(error)
    (tmp_path / "a.bin").write_bytes(b"older")
    with pytest.raises(DiskError) as caught:
        write(tmp_path / "a.bin", b"half", error)
    assert str(caught.value) == (
        f"disk of {tmp_path}: expected one that works, for a.bin, got {type(error).__name__}: broken. Check that the "
        "drive or the network share is connected and sound, or use a folder on another one. [LT-DISK]"
    )
    assert caught.value.__cause__ is error
    assert in_folder(tmp_path) == {"a.bin": b"older"}


def test_a_folder_that_nobody_may_look_into_is_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: object, **_: object) -> None:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(files.os, "lstat", refused)
    monkeypatch.setattr(files.os, "stat", refused)
    with pytest.raises(
        DiskError, match=r"file .*a\.bin: expected a file that may be written.*got PermissionError: ref"
    ):
        fail(tmp_path / "a.bin", PermissionError(errno.EACCES, "refused"))


@pytest.mark.parametrize(
    "error",
    [
        av.error.InvalidDataError(1094995529, "no video"),
        av.error.ArgumentError(errno.EINVAL, "no such size"),
        av.error.MemoryError(errno.ENOMEM, "no memory"),
        ValueError("no number"),
        FileError("a", expected="b", actual="c", action="d"),
    ],
    ids=repr,
)
def test_other_errors_come_through(tmp_path: Path, error: Exception) -> None:
    assert not is_disk_error(error)
    with pytest.raises(type(error)) as caught:
        fail(tmp_path / "a.bin", error)
    assert caught.value is error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "folder: expected a place for a file, got a folder of this name. Look into it"),
        ("half", "half.part: expected a place for a file, got a folder of this name. Look into it"),
        ("file/a.bin", "file: expected a folder, or a link to one, got a file. Remove or rename it"),
        ("dead/a.bin", "dead: expected a folder, or a link to one, got a link that leads to none. Remove or rename it"),
        ("gone/a.bin", "got none; it was removed, or never made"),
        ("a" * 255, "expected a file that may be written and replaced"),
    ],
)
def test_what_is_in_the_way_is_said(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "half.part").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LongTalkError) as caught:
        write(tmp_path / name, b"new")
    assert words in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_made_or_what_is_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    for name in ("real", "link", "new/deep", "link/inner"):
        make_folder(tmp_path / name)
        assert (tmp_path / name).is_dir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    for name, found in (("file", "a file"), ("dead", "a link that leads to none"), ("dead/inner", "a link that leads")):
        with pytest.raises(LongTalkError, match=f"expected a folder, or a link to one, got {found}.*Remove or rename"):
            make_folder(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


# What is no file


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """A name for everything that is no file, by what it is; the link leads to ``outside/precious``."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    paths = {what: tmp_path / "inside" / what.split()[1] for what in ("a folder", "a link", "a pipe", "a socket")}
    (tmp_path / "inside").mkdir()
    paths["a folder"].mkdir()
    paths["a link"].symlink_to(outside / "precious")
    os.mkfifo(paths["a pipe"])
    before = os.getcwd()
    os.chdir(tmp_path / "inside")  # the name of a socket may have 100 characters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    os.chdir(before)
    return paths


@pytest.mark.timeout(30)
def test_nothing_but_files_is_read(odd: dict[str, Path]) -> None:
    for what, path in odd.items():
        assert what_is(path) == what
        assert not is_file(path)
        for read in (require_file, sha256_of, read_json, open_file, lambda path: copy_file(path, path.parent / "copy")):
            with pytest.raises(DamagedFileError, match=f"{path.name} is not a file, but {what}"):
                read(path)
    assert not (odd["a pipe"].parent / "copy").exists()
    assert what_is(Path("/dev/null")) == "a device"
    assert what_is(odd["a pipe"] / "x") is None


@pytest.mark.timeout(30)
def test_what_is_put_there_between_the_look_and_the_opening_is_not_read(
    odd: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "what_is", lambda path: "a file")
    for path in odd.values():
        with pytest.raises(DamagedFileError, match=f"{path.name} (is not a file|cannot be read)"):
            open_file(path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("suffix", ["", PART_SUFFIX])
def test_nothing_is_written_through_a_link_or_into_a_pipe(odd: dict[str, Path], suffix: str) -> None:
    outside = odd["a link"].parent.parent / "outside" / "precious"
    hard = odd["a link"].with_name("hard")
    os.link(outside, hard)
    for what, path in {**odd, "hard": hard}.items():
        if what == "a folder":
            continue
        target = path.parent / "target.bin"
        path.rename(path.parent / f"target.bin{suffix}")
        write(target, b"new")
        assert target.read_bytes() == b"new"
        assert is_file(target)
        target.unlink()
    assert outside.read_bytes() == b"precious"
    assert [path.name for path in odd["a link"].parent.iterdir()] == ["folder"]


def test_only_what_is_no_folder_is_removed(odd: dict[str, Path]) -> None:
    for what, path in odd.items():
        if what == "a folder":
            with pytest.raises(LongTalkError, match="got a folder of this name"):
                remove(path)
            continue
        remove(path)
        remove(path)
        assert what_is(path) is None
    assert (odd["a link"].parent.parent / "outside" / "precious").read_bytes() == b"precious"


def test_a_folder_without_permission(tmp_path: Path) -> None:
    # Root may write everywhere but here.
    folder = tmp_path if os.geteuid() else Path("/sys")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(LongTalkError, match=r"file .*a\.bin: .*may be written to, got (Permission|OS)Error"):
            write(folder / "a.bin", b"new")
    finally:
        tmp_path.chmod(0o700)


# Checksums and JSON


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_the_checksum_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a.bin").write_bytes(data)
    assert sha256_of(tmp_path / "a.bin") == hashlib.sha256(data).hexdigest()


CONTENT: dict[str, Any] = {
    "name": "ä\u2028\ud800",
    "numbers": [0, -1, 2**63, 0.1, 1e300, -0.0],
    "deep": {"b": None, "a": True, "": []},
}


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in ({}, CONTENT):
        write_json(path, content)
        assert read_json(path) == content
    assert in_folder(tmp_path).keys() == {"a.json"}


def test_json_that_cannot_be_written_leaves_the_older(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    for content in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, content)
    assert read_json(path) == {"a": 1}
    assert in_folder(tmp_path).keys() == {"a.json"}


def test_every_changed_value_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    whole = json.loads(path.read_bytes())
    for key in whole:
        for other in (None, 0, "x", {}, [[]]):
            path.write_text(json.dumps({**whole, key: other}))
            with pytest.raises(DamagedFileError):
                read_json(path)
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(DamagedFileError):
            read_json(path)
    path.write_text(json.dumps(whole))
    assert read_json(path) == CONTENT


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "gone.json")
    with pytest.raises(DamagedFileError, match="is not a file, but a folder"):
        read_json(tmp_path)
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "' + b"x" * 4_000_000 + b'"}')
    with pytest.raises(DamagedFileError, match="larger than"):
        read_json(path)
    for raw in (b"", b"{", b"[]", b"1", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 100_000 + b"}"):
        path.write_bytes(raw)
        with pytest.raises(DamagedFileError):
            read_json(path)
