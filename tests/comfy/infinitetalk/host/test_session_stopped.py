"""What stops a run is what is raised, whatever else goes wrong then; what there is to watch is not lost."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from watched import forwards_of, frames_hash, sound_seconds

from longtalk.base.errors import DiskError

Run = Callable[..., tuple[Path, str]]


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Presses cancel."""
    import comfy.model_management

    yield comfy.model_management.interrupt_current_processing
    comfy.model_management.interrupt_current_processing(False)


@pytest.fixture
def interrupted(interrupt: Callable[[], None]) -> type[BaseException]:
    import comfy.model_management

    return comfy.model_management.InterruptProcessingException


def folder_in(output: Path) -> Path:
    [folder] = (output / "longtalk").iterdir()
    return folder


def partials(output: Path) -> list[str]:
    return sorted(path.name for path in folder_in(output).glob("partial_*"))


def stop_behind(parts: SimpleNamespace, windows: int, interrupt: Callable[[], None]) -> Any:
    """Cancels a run of two steps each in the window behind the first ``windows``."""
    return forwards_of(parts, lambda count: interrupt() if count == 2 * windows + 1 else None)


@pytest.fixture
def third_window_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background has a fault of ours when it writes the third window."""
    from longtalk.infinitetalk.run.store import recorder

    real = recorder.write_segment

    def write(path: Path, *args: Any, **kwargs: Any) -> None:
        if "window_00003" in path.name:
            raise ValueError("a fault of ours")
        real(path, *args, **kwargs)

    monkeypatch.setattr(recorder, "write_segment", write)


@pytest.mark.usefixtures("third_window_fails")
def test_a_fault_in_the_background_is_raised_and_leaves_what_there_is(run: Run, output_folder: Path) -> None:
    with pytest.raises(ValueError, match="a fault of ours"):
        run()
    assert partials(output_folder) == ["partial_2_of_4_windows.mp4"]


@pytest.mark.usefixtures("third_window_fails")
def test_a_cancel_stays_a_cancel_where_the_window_before_it_cannot_be_written(
    run: Run,
    parts: SimpleNamespace,
    output_folder: Path,
    interrupt: Callable[[], None],
    interrupted: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with stop_behind(parts, 3, interrupt), caplog.at_level("WARNING"), pytest.raises(interrupted):
        run()
    assert "what was being written could not be kept: a fault of ours" in caplog.text
    assert partials(output_folder) == ["partial_2_of_4_windows.mp4"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_breaks_is_said_with_what_is_kept(
    run: Run, output_folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from longtalk.infinitetalk.run.video import segment

    real = segment.open_output

    def broken(path: Path, *args: Any, **kwargs: Any) -> Any:
        if "window_00003" in path.name:
            raise OSError(number, os.strerror(number))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(segment, "open_output", broken)
    with pytest.raises(DiskError) as caught:
        run()
    assert "expected one that works, for window_00003_" in str(caught.value)
    assert f"got OSError: {os.strerror(number)}. Check that the drive or the network share is" in str(caught.value)
    assert "2 of 4 windows are kept" in str(caught.value)
    assert partials(output_folder) == ["partial_2_of_4_windows.mp4"]


def test_without_a_sound_what_there_is_is_left_without_it(
    run: Run,
    parts: SimpleNamespace,
    output_folder: Path,
    interrupt: Callable[[], None],
    interrupted: type[BaseException],
) -> None:
    with stop_behind(parts, 2, interrupt), pytest.raises(interrupted):
        run()
    folder = folder_in(output_folder)
    (folder / "partial_1_of_4_windows.mp4").write_bytes(b"of an earlier attempt")
    with av.open(str(folder / "partial_2_of_4_windows.mp4")) as whole:
        assert len(whole.streams.audio) == 1
    frames = frames_hash(folder / "partial_2_of_4_windows.mp4")
    (folder / "sound.mp4").unlink()
    (folder / "sound.mp4").mkdir()
    words = r"got a folder of this name.*2 of 4 windows are kept.*What there is, without the sound: .*partial_2_of_4"
    with pytest.raises(DiskError, match=words):
        run()
    assert partials(output_folder) == ["partial_2_of_4_windows.mp4"]
    assert frames_hash(folder / "partial_2_of_4_windows.mp4") == frames
    with av.open(str(folder / "partial_2_of_4_windows.mp4")) as silent:
        assert len(silent.streams.audio) == 0
    (folder / "sound.mp4").rmdir()
    assert sound_seconds(run()[0]) == pytest.approx(37 / 25, abs=0.06)


def test_on_a_full_disk_the_older_partial_video_stays(
    run: Run,
    parts: SimpleNamespace,
    output_folder: Path,
    file_limit: Callable[[int], None],
    interrupt: Callable[[], None],
    interrupted: type[BaseException],
) -> None:
    with stop_behind(parts, 2, interrupt), pytest.raises(interrupted):
        run()
    partial = folder_in(output_folder) / "partial_2_of_4_windows.mp4"
    older = partial.rename(partial.with_name("partial_1_of_4_windows.mp4"))
    content = older.read_bytes()
    (partial.parent / "sound.mp4").unlink()
    with forwards_of(parts, lambda count: file_limit(2000)), pytest.raises(DiskError, match="2 of 4 windows are kept"):
        run()
    file_limit(resource.RLIM_INFINITY)
    assert partials(output_folder) == [older.name]
    assert older.read_bytes() == content


def test_a_cancel_is_heard_while_the_sound_of_finished_windows_is_written(
    run: Run,
    parts: SimpleNamespace,
    output_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[], None],
    interrupted: type[BaseException],
) -> None:
    from longtalk.infinitetalk.host import description

    run()
    folder = folder_in(output_folder)
    for path in (*folder.glob("talk_*"), folder / "sound.mp4"):
        path.unlink()
    real = description.write_sound

    def cancelled(*args: Any, **kwargs: Any) -> None:
        interrupt()
        real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(description, "write_sound", cancelled)
        with pytest.raises(interrupted):
            run()
    assert not list(folder.glob("sound*"))
    with forwards_of(parts) as forwards:
        path, _ = run()
    assert forwards == []
    assert sound_seconds(path) == pytest.approx(37 / 25, abs=0.06)
