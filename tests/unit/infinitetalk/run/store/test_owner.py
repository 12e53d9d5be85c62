"""Who holds a run: on drives with locks and without, and where the lock is no lock."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import make_run
from run_commands import call

from longtalk.base.errors import DiskError, LongTalkError

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drive has no flock, as some network and FUSE drives."""

    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_run_is_held_and_given_free(tmp_path: Path) -> None:
    folder, _, _ = make_run(tmp_path, windows=1)
    with folder.owned():
        assert folder.in_use() is not None
        with (
            pytest.raises(LongTalkError, match="nobody else is working on, got process") as caught,
            folder.owned(),
        ):
            raise AssertionError("entered a run twice")
        assert f"If it is gone (a container that was restarted, say), delete the file {folder.lock_path}" in str(
            caught.value
        )
    assert folder.in_use() is None
    with folder.owned():
        pass


@pytest.mark.usefixtures("no_locks")
def test_a_dead_holder_on_this_machine_is_followed(tmp_path: Path) -> None:
    folder, _, _ = make_run(tmp_path, windows=1)
    killed = """
import errno, fcntl, os, sys
from pathlib import Path
from longtalk.infinitetalk.run.store.folder import RunFolder
def flock(*_): raise OSError(errno.ENOSYS, "no")
fcntl.flock = flock
with RunFolder(Path(sys.argv[1]), sys.argv[2], ".mp4").owned(): os._exit(9)
"""
    subprocess.run([sys.executable, "-c", killed, str(tmp_path), folder.name], timeout=60, check=False)
    assert folder.lock_path.read_bytes()
    assert folder.owner_path.exists()
    with folder.owned():
        pass


@pytest.mark.usefixtures("no_locks")
def test_a_dead_holder_on_another_machine_is_named_with_the_file_to_delete(tmp_path: Path) -> None:
    """Nobody here can tell that it is dead: a container that was restarted has another name."""
    output = tmp_path / "output"
    folder, _, _ = make_run(output / "longtalk", windows=1)
    folder.lock_path.write_text("1\n3f9d1c2b7a60\n")
    folder.owner_path.write_text('{"process": 1, "host": "3f9d1c2b7a60", "since": "2026-01-02 03:04:05"}')
    words = f"delete the file {folder.lock_path}: this drive has no locks that go with their holder"
    with pytest.raises(LongTalkError, match="got process 1 on 3f9d1c2b7a60, since 2026") as caught, folder.owned():
        raise AssertionError("entered a run in use")
    assert words in str(caught.value)
    assert words in call(output, "delete", folder.name, "--yes")[2]
    folder.lock_path.unlink()
    with folder.owned():
        pass


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["link", "dead link", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_said(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "output"
    folder, _, _ = make_run(output / "longtalk", windows=1)
    outside = tmp_path / "outside"
    outside.write_text("precious")
    match kind:
        case "link":
            folder.lock_path.symlink_to(outside)
        case "dead link":
            folder.lock_path.symlink_to(tmp_path / "nowhere")
        case "pipe":
            os.mkfifo(folder.lock_path)
        case "folder":
            folder.lock_path.mkdir()
    what = f"a {kind.split()[-1]} in its place"
    words = f"run {folder.name}: expected its lock to be a file, got {what}. Remove {folder.lock_path}"
    with pytest.raises(LongTalkError, match=words), folder.owned():
        raise AssertionError("held without a lock")
    assert folder.in_use() is None
    assert words in call(output, "delete", folder.name, "--yes")[2]
    assert outside.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_note_of_the_owner_that_a_terminal_would_obey_is_shown_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _, _ = make_run(tmp_path, windows=1)
    note = json.dumps({"process": 1, "host": "a\nb\x1b[31m", "since": "now\r\u202eLongTalk: fine"})
    words = r"process 1 on a\nb\x1b[31m, since now\r\u202eLongTalk: fine"
    folder.owner_path.write_text(note)
    with caplog.at_level("INFO"), folder.owned():
        assert words in caplog.text
        folder.owner_path.write_text(note)
        assert folder.in_use() == words
        with pytest.raises(LongTalkError) as caught, folder.owned():
            raise AssertionError("entered a run in use")
    assert caught.value.actual == words


def test_a_lock_that_the_disk_cannot_give_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _, _ = make_run(tmp_path, windows=1)

    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DiskError, match="expected one that works, for lock, got OSError: Input"), folder.owned():
        raise AssertionError("held without a lock")


@pytest.mark.timeout(30)
def test_a_note_of_the_owner_is_not_written_through_a_link(tmp_path: Path) -> None:
    folder, _, _ = make_run(tmp_path / "runs", windows=1)
    outside = tmp_path / "outside"
    outside.write_text("precious")
    folder.owner_path.symlink_to(outside)
    with folder.owned():
        assert folder.in_use() is not None
    os.mkfifo(folder.owner_path)
    with folder.owned():
        assert folder.in_use() is not None
    assert outside.read_text() == "precious"


def test_what_a_killed_process_left_half_written_is_cleaned(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, windows=1)
    parts = [
        "joined_01234567.mp4",
        *(f"talk_01234567_89abcdef{suffix}" for suffix in (".json", ".txt")),
        "manifest.json",
        "owner.json",
        "start_over.json",
        "sound.mp4",
    ]
    parts += [f"window_00002_{keys[1]}{suffix}" for suffix in (".mp4", ".json", ".safetensors")]
    for name in parts:
        (folder.path / f"{name}.part").write_bytes(b"half")
    (folder.path / "mine.part").write_bytes(b"not ours")
    with folder.owned():
        assert [path.name for path in folder.path.glob("*.part")] == ["mine.part"]
