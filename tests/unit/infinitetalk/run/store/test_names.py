"""Which files of a run's folder are LongTalk's, by their names: only those may be deleted."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from made_runs import NAME, make_run
from run_commands import call

from longtalk.infinitetalk.run.store.names import VIDEO_SUFFIXES, FileKind, RunFiles, is_window_file, kind_of

KEY = "0123abcd"
VIDEO = "01234567_89abcdef"

NOT_OURS = (
    "report.docx.part",
    "sound.wav.part",
    "sound.part",
    "lock.part",
    "start_over.txt.part",
    "manifest.json.part.part",
    "window_notes.txt.part",
    f"window_00003_{KEY}.txt.part",
    f"window_00003_{KEY}.json.bak",
    f"window_3_{KEY}.mp4",
    f"window_00003_{KEY.upper()}.mp4",
    f"window_\u0660\u0660\u0660\u0660\u0663_{KEY}.mp4",
    f"window_\u0660\u0660\u0660\u0660\u0663_{KEY}.json",
    f"window_\uff10\uff10\uff10\uff10\uff13_{KEY}.safetensors.part",
    "partial_\u0661_of_\u0662_windows.mp4",
    "partial_1_of_2_windows.avi.part",
    "partial_holidays.mp4.part",
    "joined_holidays.mp4.part",
    f"joined_{KEY}.txt.part",
    f"talk_{VIDEO}.docx.part",
    "talk_to_mum.mp4",
    "manifest.json\n",
)


def all_of_ours(suffix: str) -> list[Path]:
    """A path of each kind that a run's files are given."""
    files = RunFiles(Path("runs"), NAME, suffix)
    return [
        files.manifest_path,
        files.sound_path,
        files.start_over_path,
        files.owner_path,
        files.joined_path(KEY),
        files.video_path(VIDEO),
        files.video_record_path(VIDEO),
        files.report_path(VIDEO),
        files.partial_path(12, 97),
        *(
            path(window, KEY)
            for window in (1, 99999, 100000, 9999999)
            for path in (files.segment_path, files.carry_path, files.record_path)
        ),
    ]


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_every_name_that_is_given_is_known_and_half_written_too(suffix: str) -> None:
    for path in all_of_ours(suffix):
        assert kind_of(path.name) is not FileKind.OTHER, path
        assert kind_of(f"{path.name}.part") is FileKind.UNFINISHED
        is_window = path.name.startswith("window_")
        assert is_window_file(path.name) == is_window_file(f"{path.name}.part") == is_window, path
        assert kind_of(f"{path.name}.part.part") is kind_of(f"my {path.name}") is FileKind.OTHER
    assert kind_of("lock") is FileKind.DESCRIPTION


@pytest.mark.parametrize("name", NOT_OURS)
def test_names_that_only_look_like_ours(name: str) -> None:
    assert kind_of(name) is FileKind.OTHER
    assert not is_window_file(name)


def test_files_with_such_names_are_named_and_stay(tmp_path: Path) -> None:
    folder, _, _ = make_run(tmp_path / "longtalk", finish=True)
    for name in NOT_OURS:
        (folder.path / name).write_text("mine")
    assert {int(window) for window, _, _ in folder.window_files()} == {1, 2, 3}
    folder.discard_partials()
    assert call(tmp_path, "delete", NAME, "--windows-only", "--yes")[0] == 0
    assert {path.name for path in folder.path.iterdir()} > set(NOT_OURS)
    code, out, errors = call(tmp_path, "delete", NAME, "--yes")
    assert code == 0
    assert {path.name for path in folder.path.iterdir()} == set(NOT_OURS)
    assert "window_notes.txt.part" in out + errors


def test_a_folder_with_a_lock_and_somebody_elses_unfinished_files_is_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "longtalk" / NAME
    folder.mkdir(parents=True)
    for name in ("lock", "report.docx.part"):
        (folder / name).write_text("")
    assert "nothing in it is certainly from LongTalk" in call(tmp_path, "delete", NAME, "--yes")[2]
    (folder / "report.docx.part").rename(folder / "sound.mp4.part")
    assert call(tmp_path, "delete", NAME, "--yes")[0] == 0
    assert not folder.exists()


def test_a_folder_of_runs_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "longtalk").mkdir()

    def gone(path: Path) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "iterdir", gone)
    code, _, errors = call(tmp_path, "list")
    assert code == 1
    assert "a folder of runs that can be listed, got Stale file handle" in errors
    assert errors.rstrip().endswith("[LT-DISK]")
