"""Runs that were stopped go on: after a cancel, an error, harm to any file; and end as if nothing had happened."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import pytest
import torch
from comfy_runs import sampler_settings
from watched import calls_of, forwards_of, frames_hash, out_of_memory, raising, sound_seconds, talk_in

from longtalk.base.errors import DiskError, TooBigError

STEPS = 2
WINDOWS = 4
FRAMES = 37  # 13 + 3 * 8


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


@pytest.fixture
def small(parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> dict[str, Any]:
    """Four windows of 13 frames at 48x32, two steps each."""
    return sampler_settings(
        parts,
        portrait,
        audio=make_audio(FRAMES / 25),
        width=48,
        height=32,
        steps=STEPS,
        window_frames=13,
        motion_frames=5,
    )


Run = Callable[..., tuple[Path, str]]


@pytest.fixture
def run(nodes: ModuleType, small: dict[str, Any]) -> Run:
    """Runs the sampler; the video's path and the report."""

    def go(**changes: Any) -> tuple[Path, str]:
        with torch.inference_mode():  # as ComfyUI runs nodes
            video, _, report = nodes.LongTalkSampler.execute(**{**small, **changes}).result
        return Path(video.get_stream_source()), report

    return go


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run that nothing happened to; made by the first test that needs it."""
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture
def finished(run: Run, undisturbed: Path, output_folder: Path) -> Path:
    """A finished run's folder, in this test's own output folder."""
    if not (undisturbed / "longtalk").exists():
        run()
        shutil.move(output_folder / "longtalk", undisturbed / "longtalk")
    shutil.copytree(undisturbed / "longtalk", output_folder / "longtalk")
    return run_folder(output_folder)


@pytest.fixture
def expected(finished: Path) -> tuple[int, str]:
    """Number and digest of the frames that every run must end with. The finished run is out of the way."""
    frames = frames_hash(talk_in(finished))
    assert frames[0] == FRAMES
    shutil.rmtree(finished.parent)
    return frames


def run_folder(output: Path) -> Path:
    [folder] = (output / "longtalk").iterdir()
    return folder


def finished_windows(output: Path) -> list[int]:
    return sorted(int(path.name.split("_")[1]) for path in run_folder(output).glob("window_*.json"))


def interrupt() -> None:
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()


@pytest.fixture
def interrupted() -> Iterator[type[BaseException]]:
    import comfy.model_management

    yield comfy.model_management.InterruptProcessingException
    comfy.model_management.interrupt_current_processing(False)


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_cancel_leaves_what_is_finished_to_watch_and_the_next_run_goes_on(
    run: Run,
    parts: SimpleNamespace,
    expected: tuple[int, str],
    output_folder: Path,
    interrupted: type[BaseException],
    at: int,
) -> None:
    def cancel(count: int) -> None:
        if count == at:
            interrupt()

    with forwards_of(parts, cancel) as forwards, pytest.raises(interrupted):
        run()
    assert len(forwards) == at
    done = (at - 1) // STEPS
    assert finished_windows(output_folder) == list(range(1, done + 1))
    partials = list(run_folder(output_folder).glob("partial_*"))
    if done:
        [partial] = partials
        assert partial.name == f"partial_{done}_of_{WINDOWS}_windows.mp4"
        frames = 13 + 8 * (done - 1)
        assert frames_hash(partial)[0] == frames
        assert abs(sound_seconds(partial) - frames / 25) < 0.06
    else:
        assert partials == []

    with forwards_of(parts) as forwards:
        path, report = run()
    assert len(forwards) == (WINDOWS - done) * STEPS
    assert frames_hash(path) == expected
    assert abs(sound_seconds(path) - FRAMES / 25) < 0.04
    assert not list(run_folder(output_folder).glob("partial_*"))
    assert not list(run_folder(output_folder).glob("*.part"))
    assert ("finished before and kept" in report) == bool(done)


def test_a_finished_run_is_not_made_twice(run: Run, parts: SimpleNamespace, finished: Path) -> None:
    before = frames_hash(talk_in(finished))
    with forwards_of(parts) as forwards:
        path, report = run()
    assert forwards == []
    assert path == talk_in(finished)
    assert frames_hash(path) == before
    assert "finished before" in report
    assert report.count(" kept") >= WINDOWS  # each window's line
    with forwards_of(parts) as forwards:
        run(resume="start over")
    assert len(forwards) == WINDOWS * STEPS


def test_takes_and_attempts_leave_each_others_videos(
    run: Run, parts: SimpleNamespace, finished: Path, interrupted: type[BaseException]
) -> None:
    first = talk_in(finished)
    expected = frames_hash(first)
    state = first.stat().st_ino, first.stat().st_mtime_ns
    again, report = run(rerender_from="4:7")
    assert again != first
    assert again.with_suffix(".txt").read_text() != first.with_suffix(".txt").read_text()
    assert str(again.with_suffix(".txt").read_text()).count("4:7") == report.count("4:7")
    with forwards_of(parts) as forwards:
        assert run()[0] == first
        assert run(rerender_from="4:7")[0] == again
    assert forwards == []

    # Started over and stopped, then gone on with: what was handed out is the same file all the time.
    with forwards_of(parts, lambda count: interrupt() if count == 4 else None), pytest.raises(interrupted):
        run(resume="start over")
    assert frames_hash(first) == expected
    with forwards_of(parts) as forwards:
        assert run(resume="start over")[0] == first
    assert len(forwards) == (WINDOWS - 1) * STEPS
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == state


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


FILES = {
    "segment": "window_{:05d}_*.mp4",
    "carry": "window_{:05d}_*.safetensors",
    "record": "window_{:05d}_*.json",
}


@pytest.mark.matrix(strength=2)
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("window", [1, 3, 4])
@pytest.mark.parametrize("file", FILES)
def test_harm_to_a_windows_file_is_made_good(
    run: Run, parts: SimpleNamespace, finished: Path, file: str, window: int, harm: Callable[[Path], None]
) -> None:
    """The harmed window and what follows are made again, nothing else; the result is the same."""
    expected = frames_hash(talk_in(finished))
    talk_in(finished).unlink()  # else the joined video would simply be used
    [path] = finished.glob(FILES[file].format(window))
    harm(path)
    with forwards_of(parts) as forwards:
        video, report = run()
    assert len(forwards) == (WINDOWS + 1 - window) * STEPS
    assert frames_hash(video) == expected
    assert abs(sound_seconds(video) - FRAMES / 25) < 0.04
    # The last window's missing record cannot be told from one that was never written.
    if not (window == WINDOWS and file == "record" and harm is Path.unlink):
        assert f"window {window}" in report
        assert "made again" in report


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", ["manifest.json", "sound.mp4", "talk_*.mp4", "talk_*.json", "talk_*.txt", "lock"])
def test_harm_to_the_runs_other_files_is_made_good_without_rendering(
    run: Run, parts: SimpleNamespace, finished: Path, name: str, harm: Callable[[Path], None]
) -> None:
    expected = frames_hash(talk_in(finished))
    if name == "sound.mp4":
        talk_in(finished).unlink()
    if name != "lock" or harm is Path.unlink:  # it is empty
        [path] = finished.glob(name)
        harm(path)
    with forwards_of(parts) as forwards:
        video, _ = run()
    assert forwards == []
    assert frames_hash(video) == expected
    assert abs(sound_seconds(video) - FRAMES / 25) < 0.04


def test_a_run_killed_between_its_video_and_its_report_gets_the_report(
    run: Run, parts: SimpleNamespace, finished: Path
) -> None:
    report = talk_in(finished, ".txt")
    expected = report.read_text()
    part = report.rename(finished / f"{report.name}.part")
    with forwards_of(parts) as forwards:
        run()
    assert forwards == []
    assert not part.exists()
    found = report.read_text()
    windows = [line for line in expected.splitlines() if line.startswith("     ")]
    assert len(windows) == WINDOWS
    assert [line for line in found.splitlines() if line.startswith("     ")] == [f"{line}  kept" for line in windows]


def test_harm_to_an_unfinished_run_is_made_good(
    run: Run, parts: SimpleNamespace, expected: tuple[int, str], output_folder: Path, interrupted: type[BaseException]
) -> None:
    with forwards_of(parts, lambda count: interrupt() if count == 6 else None), pytest.raises(interrupted):
        run()
    folder = run_folder(output_folder)
    flip(folder / "manifest.json")
    truncate(folder / "sound.mp4")
    with forwards_of(parts) as forwards:
        video, _ = run()
    assert len(forwards) == 2 * STEPS
    assert frames_hash(video) == expected
    assert abs(sound_seconds(video) - FRAMES / 25) < 0.04


def test_what_no_longer_fits_the_run_is_made_again(
    run: Run, parts: SimpleNamespace, expected: tuple[int, str], output_folder: Path, interrupted: type[BaseException]
) -> None:
    """A carry of another shape, signed correctly: damage, not a crash inside the model."""
    from longtalk.infinitetalk.run.store.folder import RunFolder

    with forwards_of(parts, lambda count: interrupt() if count == 6 else None), pytest.raises(interrupted):
        run()
    path = run_folder(output_folder)
    folder = RunFolder(path.parent, path.name, ".mp4")
    [(window, key, _)] = [entry for entry in folder.window_files() if entry[0] == 2]
    record = folder.read_record(window, key)
    carry = folder.read_carry(window, key)
    for wrong in (
        {**carry, "motion": torch.zeros(1, 16, 1, 4, 6)},
        {**carry, "last_frame": torch.zeros(2, 2, 3, dtype=torch.uint8)},
        {"motion": carry["motion"]},
        {"last_frame": carry["last_frame"]},
    ):
        from dataclasses import replace

        folder.commit(replace(record, carry=folder.write_carry(window, key, wrong)))
        with forwards_of(parts, lambda count: interrupt() if count == 2 else None) as seen, pytest.raises(interrupted):
            run()
        assert len(seen) == 2
        assert finished_windows(output_folder) == [1]
        folder.write_carry(window, key, carry)
    video, _ = run()
    assert frames_hash(video) == expected


def test_some_windows_made_again_with_a_new_seed(run: Run, parts: SimpleNamespace, finished: Path) -> None:
    def frames(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]

    first = frames(talk_in(finished))
    with forwards_of(parts) as forwards:
        path, report = run(rerender_from="3:1000")
    assert len(forwards) == 2 * STEPS
    assert "3:1000" in report
    again = frames(path)
    assert again[: 13 + 8] == first[: 13 + 8]
    assert all(one != other for one, other in zip(again[13 + 8 :], first[13 + 8 :], strict=True))
    with forwards_of(parts) as forwards:
        path, _ = run(rerender_from="3:1000, 4:5")
    assert len(forwards) == STEPS
    assert frames(path)[: 13 + 16] == again[: 13 + 16]
    assert frames(path)[13 + 16 :] != again[13 + 16 :]
    # The first version is still there.
    with forwards_of(parts) as forwards:
        assert frames(run()[0]) == first
    assert forwards == []


def test_a_killed_rerender_goes_on_too(
    run: Run, parts: SimpleNamespace, finished: Path, interrupted: type[BaseException]
) -> None:
    with forwards_of(parts, lambda count: interrupt() if count == 4 else None), pytest.raises(interrupted):
        run(rerender_from="2:70")
    with forwards_of(parts) as forwards:
        run(rerender_from="2:70")
    assert len(forwards) == 2 * STEPS


def test_video_only_leaves_the_video(run: Run, parts: SimpleNamespace, finished: Path, output_folder: Path) -> None:
    expected = frames_hash(talk_in(finished))
    path, report = run(finished_runs="video only")
    assert "only the video kept" in report
    assert sorted(file.name for file in run_folder(output_folder).iterdir() if file.name != "lock") == [
        "manifest.json",
        *sorted(talk_in(finished, suffix).name for suffix in (".json", ".mp4", ".txt")),
    ]
    assert frames_hash(path) == expected
    with forwards_of(parts) as forwards:
        assert frames_hash(run()[0]) == expected
    assert forwards == []


def test_the_report_tells_where_each_second_is_and_how_it_went(run: Run, output_folder: Path) -> None:
    _, report = run(steps=1)
    for words in ("0:00.52 - 0:00.84", "drift", "seam", "estimate", "run "):
        assert words in report, report
    assert str(run_folder(output_folder)) in report
    kept = talk_in(run_folder(output_folder), ".txt").read_text()
    assert "0:00.52 - 0:00.84" in kept


def test_another_seed_is_another_run_and_the_user_is_told(
    run: Run, parts: SimpleNamespace, output_folder: Path, interrupted: type[BaseException]
) -> None:
    with forwards_of(parts, lambda count: interrupt() if count == 6 else None), pytest.raises(interrupted):
        run()
    name = run_folder(output_folder).name
    _, report = run(seed=44)
    assert f"the unfinished run {name} (2 windows) differs in: seed (3 there)" in report


def test_images_of_a_resumed_run_are_all_there(
    nodes: ModuleType, small: dict[str, Any], parts: SimpleNamespace, interrupted: type[BaseException]
) -> None:
    lossless = {**small, "codec": "ffv1", "return_images": True}
    with forwards_of(parts, lambda count: interrupt() if count == 6 else None), pytest.raises(interrupted):
        nodes.LongTalkSampler.execute(**lossless)
    video, images, report = nodes.LongTalkSampler.execute(**lossless).result
    with av.open(video.get_stream_source()) as container:
        decoded = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert len(decoded) == FRAMES
    assert torch.equal((images * 255 + 0.5).to(torch.uint8), torch.stack(decoded))
    assert "read from their files" in report


# Memory.

STAGES: dict[str, tuple[Callable[[SimpleNamespace], Any], str]] = {
    "speech": (lambda parts: parts.audio_encoder.model.encoder.layers[0].attention.q_proj, "forward"),
    "sampling": (lambda parts: parts.model.model.diffusion_model, "forward"),
    "decode": (lambda parts: parts.vae.first_stage_model, "decode"),
    "encode": (lambda parts: parts.vae.first_stage_model, "encode"),
}
EVERY = {"sampling": STEPS, "decode": 1, "encode": 1}


@pytest.mark.matrix(strength=2)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("stage", ["sampling", "decode", "encode"])
def test_running_out_of_memory_costs_time_only(
    run: Run, parts: SimpleNamespace, output_folder: Path, stage: str, at: int, times: int
) -> None:
    """Once, or as often as core's own fallback to tiles and one more; at the first call and in the middle."""
    owner, name = STAGES[stage]
    first = (at - 1) * EVERY[stage] + 1
    failing = raising(out_of_memory, lambda count: first <= count < first + times)
    with calls_of(owner(parts), name, failing) as calls:
        path, _ = run()
    assert len(calls) > first
    assert frames_hash(path)[0] == FRAMES
    assert finished_windows(output_folder) == [1, 2, 3, 4]


@pytest.mark.parametrize("stage", ["sampling", "decode", "encode"])
def test_too_little_memory_stops_the_run_and_keeps_its_windows(
    run: Run, parts: SimpleNamespace, expected: tuple[int, str], output_folder: Path, stage: str
) -> None:
    owner, name = STAGES[stage]
    # From the second window on; "encode" is called for the reference and for each window's end.
    allowed = {"sampling": STEPS, "decode": 1, "encode": 2}[stage]
    with (
        calls_of(owner(parts), name, raising(out_of_memory, lambda count: count > allowed)) as calls,
        pytest.raises(TooBigError, match=r"memory in window 2.*queue the same workflow again.*\[LT-MEMORY\]$"),
    ):
        run()
    assert len(calls) < allowed + 40  # an end, not an endless retry
    assert finished_windows(output_folder) == [1]
    assert frames_hash(next(run_folder(output_folder).glob("partial_1_of_4_windows.mp4")))[0] == 13
    with forwards_of(parts) as forwards:
        path, _ = run()
    assert len(forwards) == 3 * STEPS
    assert frames_hash(path) == expected


@pytest.mark.parametrize(("stage", "words"), [("encode", "the reference image"), ("speech", "the speech features")])
def test_too_little_memory_before_the_first_window_is_a_clear_error(
    run: Run, parts: SimpleNamespace, stage: str, words: str
) -> None:
    owner, name = STAGES[stage]
    with (
        calls_of(owner(parts), name, raising(out_of_memory, lambda count: True)),
        pytest.raises(TooBigError, match=f"memory for {words}"),
    ):
        run()
    with calls_of(owner(parts), name, raising(out_of_memory, lambda count: count == 1)):
        path, _ = run()
    assert frames_hash(path)[0] == FRAMES


# A full disk: the system itself refuses to write files beyond a size.


def test_a_full_disk_stops_the_run_and_it_goes_on_when_there_is_room(
    run: Run, parts: SimpleNamespace, expected: tuple[int, str], output_folder: Path, file_limit: Callable[[int], None]
) -> None:
    with (
        forwards_of(parts, lambda count: file_limit(2000) if count == 2 * STEPS + 1 else None) as forwards,
        pytest.raises(DiskError, match=r"disk of .*room for .*Free space.*[12] of 4 windows are kept.*\[LT-DISK\]$"),
    ):
        run()
    file_limit(resource.RLIM_INFINITY)
    assert len(forwards) < WINDOWS * STEPS
    # The second window may still have been on its way to the disk.
    done = len(finished_windows(output_folder))
    assert finished_windows(output_folder) == [1, 2][:done] != []
    assert not list(run_folder(output_folder).glob("*.part"))
    with forwards_of(parts) as forwards:
        path, _ = run()
    assert len(forwards) == (WINDOWS - done) * STEPS
    assert frames_hash(path) == expected
