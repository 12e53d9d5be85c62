"""Runs that start over, and what becomes of a finished video: nothing is thrown away twice, and nothing too early."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watched import forwards_of, frames_hash

from longtalk.base.errors import LongTalkError

STEPS = 2
WINDOWS = 4

Run = Callable[..., tuple[Path, str]]


@pytest.fixture
def stopped(parts: SimpleNamespace, run: Run) -> Iterator[Callable[..., None]]:
    """Runs the sampler and cancels it at a step, counted from 1."""
    import comfy.model_management

    interrupted = comfy.model_management.InterruptProcessingException

    def stop(at: int, **changes: Any) -> None:
        def cancel(count: int) -> None:
            if count == at:
                comfy.model_management.interrupt_current_processing()

        with forwards_of(parts, cancel), pytest.raises(interrupted):
            run(**changes)

    yield stop
    comfy.model_management.interrupt_current_processing(False)


def test_start_over_counts_once(parts: SimpleNamespace, run: Run, stopped: Callable[..., None]) -> None:
    video, _ = run()
    expected = frames_hash(video)
    folder = video.parent
    for window in (2, 4):  # stopped in it: the windows before it are made
        stopped(STEPS * (2 if window == 4 else 1) + 1, resume="start over")
        assert len(list(folder.glob("window_*.json"))) == window - 1
        assert frames_hash(video) == expected, "the earlier video stays"
        assert len(list(folder.glob("partial_*"))) == 1
    with forwards_of(parts) as forwards:
        path, report = run(resume="start over")
    assert (len(forwards), path) == (STEPS, video)
    assert "windows 1 to 3 were finished before and kept" in report
    assert frames_hash(video) == expected
    assert not list(folder.glob("partial_*"))
    assert not (folder / "start_over.json").exists()
    with forwards_of(parts) as forwards:
        run(resume="start over")
    assert len(forwards) == WINDOWS * STEPS, "whoever asks again starts over again"


def test_the_finished_video_is_given_when_nobody_asks_to_start_over_any_more(
    parts: SimpleNamespace, run: Run, stopped: Callable[..., None]
) -> None:
    video, _ = run()
    expected = frames_hash(video)
    stopped(3, resume="start over")
    with forwards_of(parts) as forwards:
        path, report = run()
    assert (forwards, frames_hash(path)) == ([], expected)
    assert "finished before" in report
    with forwards_of(parts) as forwards:
        run(resume="start over")
    assert len(forwards) == (WINDOWS - 1) * STEPS, "the attempt goes on"


def test_a_run_that_never_finished_goes_on_where_it_started_over(
    parts: SimpleNamespace, run: Run, stopped: Callable[..., None]
) -> None:
    stopped(6)
    stopped(4, resume="start over")
    with forwards_of(parts) as forwards:
        path, _ = run()
    assert len(forwards) == (WINDOWS - 1) * STEPS
    assert not (path.parent / "start_over.json").exists()


def test_another_take_that_starts_over_is_another_attempt(
    parts: SimpleNamespace, run: Run, stopped: Callable[..., None]
) -> None:
    stopped(6, resume="start over")
    with forwards_of(parts) as forwards:
        run(resume="start over", rerender_from="2:70")
    assert len(forwards) == WINDOWS * STEPS


def test_a_partial_video_beside_a_finished_one_is_removed(run: Run) -> None:
    video, _ = run()
    (video.parent / "partial_2_of_4_windows.mp4").write_bytes(b"of a run that was killed before it removed it")
    (video.parent / f"joined_{video.stem[5:13]}.mp4.part").write_bytes(b"half")
    run()
    assert not [
        path.name for path in video.parent.iterdir() if path.name.startswith("partial") or path.suffix == ".part"
    ]


@pytest.mark.parametrize("name", ["{video}.txt", "partial_2_of_4_windows.mp4"])
def test_a_finished_run_does_not_fail_for_what_is_beside_the_video(run: Run, name: str) -> None:
    video, _ = run()
    expected = frames_hash(video)
    name = name.format(video=video.stem)
    (video.parent / name).unlink(missing_ok=True)
    (video.parent / name).mkdir()
    path, report = run()
    assert frames_hash(path) == expected
    assert "could not be " in report
    assert name in report
    assert (video.parent / name).is_dir()


@pytest.mark.parametrize("found", ["a file", "a link that leads to none"])
def test_a_file_in_the_place_of_all_runs_is_said(run: Run, output_folder: Path, found: str) -> None:
    root = output_folder / "longtalk"
    root.write_text("not ours") if found == "a file" else root.symlink_to(output_folder / "nowhere")
    with pytest.raises(LongTalkError, match=rf"folder .*longtalk: .*got {found}\. Remove or rename it"):
        run()
    assert root.is_file() == (found == "a file")
    assert os.path.lexists(root)
    assert not (output_folder / "nowhere").exists()


def test_a_folder_that_is_removed_before_the_report_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from longtalk.infinitetalk.host import session

    made = session.Session._join

    def join(self: Any, records: Any) -> Any:
        video = made(self, records)
        shutil.rmtree(self.folder.path)
        return video

    monkeypatch.setattr(session.Session, "_join", join)
    with pytest.raises(LongTalkError, match=r"its folder to stay as it is while the video is made, got .* gone"):
        run()


@pytest.mark.parametrize("number", [1, 99])
def test_a_run_of_another_format_is_left_alone(run: Run, number: int) -> None:
    from longtalk.base.files import read_json, write_json

    video, _ = run()
    write_json(video.parent / "manifest.json", {**read_json(video.parent / "manifest.json"), "format": number})
    before = {path.name: path.read_bytes() for path in video.parent.iterdir()}
    for changes in ({}, {"resume": "start over"}, {"finished_runs": "video only"}):
        with pytest.raises(LongTalkError, match=f"its format is {number}, that of .*Move .* away, or delete it"):
            run(**changes)
        assert {path.name: path.read_bytes() for path in video.parent.iterdir()} == before
