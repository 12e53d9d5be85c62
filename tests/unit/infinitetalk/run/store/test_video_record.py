"""The videos of a run's takes: each has a file that nothing changes, and one of them is handed out for a take."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import damage, finish_run, make_run, video_of

from longtalk.base.errors import DiskError
from longtalk.infinitetalk.run.store.names import FileKind, kind_of
from longtalk.infinitetalk.run.store.record import video_key
from longtalk.infinitetalk.run.store.video_record import VideoRecord, read_videos, shown_key
from longtalk.infinitetalk.run.video.formats import VideoFormat


def state(path: Path) -> tuple[bytes, int, int]:
    """What changes when a file is written again, also with the same bytes."""
    return path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns


def test_each_take_has_a_file_of_its_own(tmp_path: Path) -> None:
    folder, _, first = make_run(tmp_path, finish=True)
    before = state(video_of(folder))
    _, _, again = make_run(tmp_path, rerender="3:77", finish=True)
    videos = [folder.finished_video(keys[-1]) for keys in (first, again)]
    assert all(videos)
    assert videos[0].path != videos[1].path
    assert state(videos[0].path) == before
    assert [video.path for video in read_videos(folder)] == [videos[1].path, videos[0].path]
    assert shown_key(folder) == again[-1]
    folder.note_shown(videos[0])
    assert shown_key(folder) == first[-1], "the one that was asked for last"
    assert folder.bytes() >= sum(video.bytes for video in videos)


def test_a_video_of_the_same_bytes_stays_the_file_it_is(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    before = state(video_of(folder))
    finish_run(folder, keys, VideoFormat())
    assert state(video_of(folder)) == before
    assert len(folder.video_names()) == 1
    assert not list(folder.path.glob("joined_*"))


def test_a_video_that_comes_out_otherwise_leaves_the_one_that_was_handed_out(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    old = video_of(folder)
    before = state(old)
    new = finish_run(folder, keys, VideoFormat(), sound=False)
    assert new.path != old
    assert state(old) == before
    assert folder.finished_video(keys[-1]) == new
    assert [(video.path, video.record.superseded) for video in read_videos(folder)] == [
        (new.path, False),
        (old, True),
    ]
    assert all(video.check() == "" for video in read_videos(folder))
    new.path.unlink()
    assert folder.finished_video(keys[-1]) is None, "not the old one"
    # The first bytes once more: it is handed out again, under its name.
    assert finish_run(folder, keys, VideoFormat()).path == old
    assert state(old) == before
    assert folder.finished_video(keys[-1]).path == old


@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_video_is_made_again_under_its_name(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    path = video_of(folder)
    content = path.read_bytes()
    harm(path)
    assert folder.finished_video(keys[-1]) is None
    assert finish_run(folder, keys, VideoFormat()).path == path
    assert path.read_bytes() == content


def test_a_damaged_video_goes_when_other_bytes_take_its_place(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    make_run(tmp_path, rerender="3:77", finish=True)
    [lost] = [video.path for video in read_videos(folder) if video.record.key == keys[-1]]
    damage(lost)
    finish_run(folder, keys, VideoFormat(), sound=False)
    assert not lost.exists()
    assert not lost.with_suffix(".json").exists()
    assert [video.check() for video in read_videos(folder)] == ["", ""], "that of the other take is left alone"


def test_many_shots_make_no_longer_name(tmp_path: Path) -> None:
    folder, plan, keys = make_run(tmp_path, frames=(20, 20, 20), finish=True)
    key = video_key(keys, plan.shot_starts)
    assert key.count(".") == 2
    assert len(video_of(folder).name) == len("talk_01234567_01234567.mp4")
    assert folder.finished_video(key) is not None
    assert folder.finished_video(keys[-1]) is None
    assert shown_key(folder) == key


def test_a_record_vouches_for_no_other_video(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    name = folder.video_names()[0]
    taken = f"{name[:8]}_00000000"
    for path in (folder.video_path, folder.video_record_path):
        shutil.copy(path(name), path(taken))
    folder.video_record_path(name).unlink()
    assert folder.finished_video(keys[-1]) is None
    [found] = read_videos(folder)
    assert found.damage == f"talk_{taken}.json belongs to another video"


def test_links_and_pipes_are_no_videos(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    path = video_of(folder)
    moved = path.rename(tmp_path / "elsewhere.mp4")
    path.symlink_to(moved)
    assert folder.finished_video(keys[-1]) is None
    assert [video.damage for video in read_videos(folder)] == [f"{path.name} is not a file, but a link"]
    assert finish_run(folder, keys, VideoFormat()).path == path
    assert not path.is_symlink()
    assert moved.exists()
    record = path.with_suffix(".json")
    record.unlink()
    os.mkfifo(record)
    assert folder.finished_video(keys[-1]) is None
    assert [video.damage for video in read_videos(folder)] == [f"{record.name} is not a file, but a pipe"]
    finish_run(folder, keys, VideoFormat(), sound=False)
    assert folder.finished_video(keys[-1]) is not None


def test_a_share_that_goes_away_while_a_video_gets_its_name_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, keys = make_run(tmp_path)

    def gone(path: Path) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "iterdir", gone)
    said = "expected one that works, for manifest.json, got OSError: Stale file handle"
    with pytest.raises(DiskError, match=said):
        finish_run(folder, keys, VideoFormat())
    with pytest.raises(DiskError, match=said):
        folder.discard_partials()


def test_a_video_of_a_killed_join_is_cleared_away(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path)
    left = folder.joined_path(keys[-1])
    left.write_bytes(b"half")
    assert kind_of(left.name) is FileKind.UNFINISHED
    folder.discard_partials()
    assert not left.exists()


@pytest.mark.parametrize("name", ["talk", "talk_01234567_89abcdef"])
def test_what_a_videos_files_are_for(name: str) -> None:
    """Runs of older formats have names without digits."""
    assert kind_of(f"{name}.mkv") is FileKind.VIDEO
    assert kind_of(f"{name}.json") is FileKind.DESCRIPTION
    assert kind_of(f"{name}.json.part") is FileKind.UNFINISHED
    assert kind_of(f"{name}x.mkv") is FileKind.OTHER


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    record = VideoRecord.read(folder, folder.video_names()[0])
    assert (record.key, record.superseded) == (keys[-1], False)
    assert record.written(video_of(folder)) == folder.finished_video(keys[-1])


def test_what_only_begins_like_a_video_of_a_stopped_run_stays(tmp_path: Path) -> None:
    folder, _, _ = make_run(tmp_path)
    theirs = [folder.path / name for name in ("joined_by_me.mp4", "partial_talk.mp4", "joined_0123456.mp4")]
    ours = [folder.path / name for name in ("joined_01234567.mp4", "partial_2_of_3_windows.mp4")]
    for path in [*theirs, *ours]:
        path.write_bytes(b"a video")
    folder.discard_partials()
    assert [path.exists() for path in [*theirs, *ours]] == [True] * 3 + [False] * 2
