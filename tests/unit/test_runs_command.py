"""The command line for runs, on runs that the recorder and the joiner really wrote."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtalk.infinitetalk.cli.runs import main, output_folder
from longtalk.infinitetalk.errors import LongTalkError
from longtalk.infinitetalk.plan.windows import FPS, plan_windows
from longtalk.infinitetalk.run.chains import current_chain, read_windows
from longtalk.infinitetalk.run.checks import look_of, measure
from longtalk.infinitetalk.run.files import write_json
from longtalk.infinitetalk.run.formats import VideoFormat
from longtalk.infinitetalk.run.join import join
from longtalk.infinitetalk.run.loop import Fallbacks, MadeWindow
from longtalk.infinitetalk.run.recorder import Recorder
from longtalk.infinitetalk.run.run_folder import RunFolder, window_keys
from longtalk.infinitetalk.run.seeds import parse_rerender, window_seeds
from longtalk.infinitetalk.run.soundtrack import Soundtrack, write_sound

WIDTH, HEIGHT = 64, 48
PLAN = plan_windows(60, 21, 5)  # windows of 21, 16, 12 and 11 new frames
FRAMES = [window.output[1] - window.output[0] for window in PLAN.windows]
NAME = "0123456789abcdef"
OTHER = "fedcba9876543210"
SEED = 100


def picture(window: int, frames: int) -> torch.Tensor:
    t = torch.arange(frames).reshape(-1, 1, 1) / 25 + window
    ramp = torch.linspace(0, 1, WIDTH).reshape(1, 1, -1) * torch.ones(frames, HEIGHT, 1)
    return torch.stack([0.5 + 0.4 * torch.sin(3 * ramp + t + channel) for channel in range(3)], -1)


def record(folder: RunFolder, video: VideoFormat, first: int, last: int, rerender: str = "") -> tuple[str, ...]:
    """Write windows ``first`` to ``last`` as a session does; the keys of all windows."""
    seeds = window_seeds(SEED, len(PLAN.windows), parse_rerender(rerender, len(PLAN.windows)))
    keys = window_keys(folder.name, seeds)
    recorder = Recorder(folder, video, keys, seeds)
    for window in PLAN.windows[first - 1 : last]:
        frames = picture(window.index, window.output[1] - window.output[0])
        last_frame = (frames[-1] * 255).to(torch.uint8)
        stats = measure(frames, look_of(frames[:1]), last_frame if window.index else None)
        carry = {"motion": frames[-5:]}
        recorder.put(MadeWindow(window, last_frame, carry, Fallbacks(memory_level=1), stats, 2.5), frames)
    recorder.wait()
    return keys


def make_run(root: Path, name: str = NAME, *, windows: int = 4, codec: str = "h264", finish: bool = True) -> RunFolder:
    """A run with its first windows, and the whole video when all are there."""
    video = VideoFormat(codec)
    folder = RunFolder(root, name, video.suffix)
    folder.create()
    wave = np.sin(np.arange(PLAN.frames * 16000 // FPS) / 16000 * 2 * np.pi * 440).astype(np.float32)
    write_sound(folder.sound_path, Soundtrack(0.3 * wave[None], 16000), video, frames=PLAN.frames)
    about = {
        "created": "2026-11-21 08:00:00", "width": WIDTH, "height": HEIGHT, "codec": codec, "crf": 18, "fps": FPS,
        "frames": PLAN.frames, "seed": SEED, "steps": 4, "ends": [window.output[1] for window in PLAN.windows],
    }  # fmt: skip
    folder.write_manifest({"seed": "0"}, about)
    keys = record(folder, video, 1, windows)
    if finish and windows == len(PLAN.windows):
        finish_run(folder, keys)
    return folder


def finish_run(folder: RunFolder, keys: tuple[str, ...]) -> None:
    segments = [folder.segment_path(window, key) for window, key in enumerate(keys, start=1)]
    codec = json.loads(folder.manifest_path.read_bytes())["about"]["codec"]
    written = join(folder.video_path, segments, folder.sound_path, VideoFormat(codec), fps=FPS)
    folder.record_video(written, keys[-1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a finished run (NAME) and an older one of which two windows are made (OTHER)."""
    output = tmp_path_factory.mktemp("made")
    unfinished = make_run(output / "longtalk", OTHER, windows=2)
    make_run(output / "longtalk")
    os.utime(unfinished.path, (1, 1))
    return output


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "longtalk", tmp_path / "output" / "longtalk")
    return tmp_path / "output"


@pytest.fixture
def finished(output: Path) -> RunFolder:
    return RunFolder(output / "longtalk", NAME, ".mp4")


@pytest.fixture
def unfinished(output: Path) -> RunFolder:
    return RunFolder(output / "longtalk", OTHER, ".mp4")


Run = Callable[..., tuple[int, str, str]]


def call(output: Path, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of ``runs ...``; checks that a terminal can show every character."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(["runs", *map(str, arguments), "--output", str(output)])
    text = out.getvalue() + errors.getvalue()
    assert all(character == "\n" or character.isprintable() for character in text), repr(text)
    assert "Traceback" not in text
    return code, out.getvalue(), errors.getvalue()


@pytest.fixture
def runs(output: Path) -> Run:
    return lambda *arguments: call(output, *arguments)


def decoded(path: Path) -> tuple[int, float]:
    """Frames, and seconds of sound."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    with av.open(str(path)) as container:
        sound = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    return frames, sound


def size(folder: RunFolder) -> str:
    return f"{folder.bytes() / 1e6:.1f} MB"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[int]:
    """Another process works on the run; its number."""
    code = (
        "import sys; from pathlib import Path; from longtalk.infinitetalk.run.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1]), sys.argv[2], '.mp4').owned(): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(folder.path.parent), folder.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.communicate("\n")


# list


def test_list(runs: Run, finished: RunFolder, unfinished: RunFolder) -> None:
    code, out, errors = runs("list")
    sizes = [folder.bytes() for folder in (finished, unfinished)]
    assert (code, errors) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "run made size codec length windows disk state",
        f"{NAME} 2026-11-21 08:00:00 64x48 h264 0:02.40 4 of 4 {size(finished)} finished",
        f"{OTHER} 2026-11-21 08:00:00 64x48 h264 0:02.40 2 of 4 {size(unfinished)} unfinished",
        f"2 runs in {finished.path.parent}, {sum(sizes) / 1e6:.1f} MB",
    ]
    listed = json.loads(runs("list", "--json")[1])
    assert [(run["name"], run["finished"], run["windows_finished"], run["windows"]) for run in listed] == [
        (NAME, True, 4, 4),
        (OTHER, False, 2, 4),
    ]
    assert [run["bytes"] for run in listed] == sizes


def test_a_list_of_nothing(tmp_path: Path) -> None:
    assert call(tmp_path, "list") == (0, f"no runs in {tmp_path / 'longtalk'}\n", "")
    assert call(tmp_path, "list", "--json")[1] == "[]\n"
    code, out, errors = call(tmp_path / "none", "list")
    assert (code, out) == (1, "")
    assert errors == (
        f"error: output folder: expected a folder, got {tmp_path / 'none'}, which is none. "
        "Name ComfyUI's output folder with --output.\n"
    )


def states(output: Path) -> dict[str, str]:
    return {run["name"]: run["state"] for run in json.loads(call(output, "list", "--json")[1])}


def test_states(runs: Run, output: Path, finished: RunFolder, unfinished: RunFolder) -> None:
    finished.discard_windows()
    damage(unfinished.manifest_path)
    names = ["a" * 16, "b" * 16, "c" * 16, "d" * 16]
    folders = [finished.path.parent / name for name in names]
    for folder in folders[:2]:
        folder.mkdir()
    (folders[0] / "holiday.jpg").write_bytes(b"not ours")
    folders[2].symlink_to(finished.path)
    folders[3].write_text("a file")
    (finished.path.parent / "notes").mkdir()
    before = unfinished.path.stat().st_mtime_ns
    assert states(output) == {
        NAME: "finished", OTHER: "damaged manifest", names[0]: "not a run", names[1]: "no manifest",
    }  # fmt: skip
    assert unfinished.path.stat().st_mtime_ns == before
    rows = {line.split()[0]: line for line in runs("list")[1].splitlines()}
    assert "  video only  " in rows[NAME]
    assert "  2 of ?  " in rows[OTHER]
    with held(unfinished) as process:
        assert states(output)[OTHER].startswith(f"in use by process {process} on ")
    assert states(output)[OTHER] == "damaged manifest"
    # A process that was killed leaves its name, but not its lock.
    (unfinished.path / "owner.json").write_text('{"process": 1, "host": "a", "since": "b"}')
    assert states(output)[OTHER] == "damaged manifest"


def test_a_video_of_another_size_is_none(output: Path, finished: RunFolder) -> None:
    with open(finished.video_path, "ab") as file:
        file.write(b"x")
    assert states(output)[NAME] == "unfinished"


# Chains


def test_two_chains(runs: Run, finished: RunFolder) -> None:
    video = VideoFormat()
    first = [record_.key for record_ in current_chain(finished)]
    keys = record(finished, video, 3, 3, "3:7")
    chains = read_windows(finished).chains
    assert [[record_.key for record_ in chain] for chain in chains] == [first, list(keys[:3])]
    assert current_chain(finished) == list(chains[0]), "the whole video shows the first chain"
    _, out, _ = runs("inspect", NAME)
    assert "these windows are made with an empty rerender_from\n" in out
    assert "also there: window 3 made with another seed; rerender_from: 3:7 gives them\n" in out
    finished.discard_video()
    assert [record_.key for record_ in current_chain(finished)] == list(keys[:3]), "the one worked on last"
    for window, key in enumerate(keys[:3], start=1):
        os.utime(finished.record_path(window, key), (1, 1))
    assert [record_.key for record_ in current_chain(finished)] == first
    record(finished, video, 4, 4, "3:7")
    finish_run(finished, keys)
    os.utime(finished.record_path(4, keys[3]), (1, 1))
    assert [record_.seed for record_ in current_chain(finished)] == [100, 101, 9, 10]
    _, out, _ = runs("inspect", NAME, "--at", "2.3")
    assert "these windows are made with rerender_from: 3:7\n" in out
    assert "also there: windows 3 to 4 made with another seed; an empty rerender_from gives them\n" in out
    assert "\nrerender_from: 3:7, 4:SEED\nPut a number other than 7 in the place of SEED;" in out
    assert "\nrerender_from: 2:SEED\n" in runs("inspect", NAME, "--at", "1")[1], "3:7 lies in what is made again"
    assert json.loads(runs("inspect", NAME, "--json")[1])["rerender_from"] == [[3, 7]]
    assert runs("inspect", NAME, "--verify")[0] == 0


def test_a_record_under_another_windows_name_is_in_no_chain(runs: Run, unfinished: RunFolder) -> None:
    record_ = current_chain(unfinished)[1]
    record(unfinished, VideoFormat(), 3, 3)
    forged = "00000000"
    content = json.loads(unfinished.record_path(2, record_.key).read_bytes())
    del content["digest"]
    write_json(unfinished.record_path(3, forged), {**content, "window": 3, "key": forged})
    shutil.copy(unfinished.record_path(2, record_.key), unfinished.record_path(2, forged))
    shutil.copy(unfinished.record_path(2, record_.key), unfinished.path / f"window_000004_{forged}.json")
    assert [found.window for found in current_chain(unfinished)] == [1, 2, 3]
    unfinished.record_path(2, record_.key).unlink()
    assert [found.window for found in current_chain(unfinished)] == [1]
    code, out, _ = runs("inspect", OTHER, "--verify")
    assert code == 1
    assert "window 4" not in out
    assert f"damaged: window 2 ({forged}): the record of window 2 belongs to another window\n" in out
    assert f"damaged: window 3 ({forged}): its key does not follow from the windows before it\n" in out
    # Of another run: the name is in every key.
    shutil.copytree(unfinished.path, unfinished.path.parent / ("9" * 16))
    assert current_chain(RunFolder(unfinished.path.parent, "9" * 16, ".mp4")) == []


# inspect


def test_inspect(runs: Run, finished: RunFolder) -> None:
    code, out, errors = runs("inspect", NAME, "--at", "1:00")
    assert (code, out) == (1, "")
    assert errors == (
        "error: second: expected 0 to below 2.4, the length of the video, got 60. "
        "Take the second from the player's clock.\n"
    )
    code, out, errors = runs("inspect", NAME, "--at", "0.84", "--verify")
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert lines[:5] == [
        f"run {NAME}: finished",
        "made 2026-11-21 08:00:00: 64x48, h264 crf 18, seed 100, 4 steps",
        "0:02.40 (60 frames at 25 fps), windows: 4 of 4",
        f"folder {finished.path}: {size(finished)}",
        "",
    ]
    assert [line.split("  ")[0] for line in lines[5:12]] == [
        "files", "video", "sound", "windows: frames", "windows: what the next continues from", "windows: records",
        "description",
    ]  # fmt: skip
    assert lines[13].split() == ["window", "time", "seed", "took", "drift", "seam"]
    assert lines[14].split()[:7] == ["1", "0:00.00", "-", "0:00.84", "100", "2.5", "s"]
    assert [line.split()[4] for line in lines[14:18]] == ["100", "101", "102", "103"]
    assert lines[14].endswith("memory level 1")
    assert lines[-6:] == [
        "",
        "second 0.84 is in window 2 (0:00.84 - 0:01.48); to make it again:",
        "rerender_from: 2:SEED",
        "Put a number other than 100 in the place of SEED; window 2 and all after it are made again.",
        "",
        "verified: 16 files, all as they were written",
    ]
    found = json.loads(runs("inspect", NAME, "--json", "--at", "0")[1])
    assert found["at"]["rerender_from"] == "1:SEED"
    assert [window["end"] for window in found["window_list"]] == list(itertools.accumulate(FRAMES))
    assert found["damage"] is None


def test_seconds_of_windows_that_are_not_there(runs: Run, finished: RunFolder) -> None:
    assert runs("inspect", OTHER, "--at", "2")[1].endswith(
        "rerender_from: 4:SEED\n"
        "Put a number in the place of SEED; window 4 and all after it are made again.\n"
        "Window 4 is not made yet; the run has windows 1 to 2.\n"
    )
    finished.discard_windows()
    assert runs("inspect", NAME, "--at", "2")[1].endswith(
        "The windows of this run were not kept, so those before it are made again too.\n"
    )
    assert runs("inspect", NAME, "--verify")[1].endswith("\nverified: 3 files, all as they were written\n")
    damage(finished.manifest_path)
    assert runs("inspect", NAME, "--at", "2")[2] == (
        f"error: run {NAME}: expected a manifest that tells where its windows are, got damaged manifest. "
        "Queue the same workflow again; it writes the manifest anew.\n"
    )


def test_a_second_that_floats_miss(runs: Run, unfinished: RunFolder) -> None:
    apply(unfinished.manifest_path, {"about.ends": [29, 60]})
    assert 1.16 * FPS < 29
    for second, window in (("1.15", 1), ("1.16", 2), ("0:1.16", 2)):
        assert f" is in window {window} (" in runs("inspect", OTHER, "--at", second)[1]


def test_verify_names_what_is_damaged(runs: Run, finished: RunFolder) -> None:
    chain = current_chain(finished)
    damage(finished.segment_path(1, chain[0].key))
    finished.carry_path(2, chain[1].key).unlink()
    finished.record_path(4, chain[3].key).write_text("{")
    segment = finished.segment_path(3, chain[2].key)
    segment.rename(finished.path / "elsewhere.mp4")
    segment.symlink_to(finished.path / "elsewhere.mp4")
    damage(finished.sound_path)
    damage(finished.video_path)
    assert runs("inspect", NAME)[1].splitlines()[-2:] == [
        "",
        f"damaged: window 4 ({chain[3].key}): window_00004_{chain[3].key}.json is not JSON (JSONDecodeError)",
    ]
    code, out, _ = runs("inspect", NAME, "--verify")
    assert code == 1
    assert out.split("\n\n")[-1].splitlines() == [
        f"damaged: window 4 ({chain[3].key}): window_00004_{chain[3].key}.json is not JSON (JSONDecodeError)",
        f"damaged: window 1 ({chain[0].key}): window_00001_{chain[0].key}.mp4 is not as it was written",
        f"damaged: window 2 ({chain[1].key}): window_00002_{chain[1].key}.safetensors cannot be read "
        "(No such file or directory)",
        f"damaged: window 3 ({chain[2].key}): window_00003_{chain[2].key}.mp4 is not a file",
        "damaged: sound: sound.mp4 is not as it was written",
        "damaged: video: talk.mp4 is not as it was written",
    ]
    assert json.loads(runs("inspect", NAME, "--verify", "--json")[1])["damage"][-1] == (
        "video: talk.mp4 is not as it was written"
    )


@pytest.mark.parametrize("name", ["..", "../longtalk", "x" * 300, "\x1b[31m", NAME[:-1], NAME.upper()])
@pytest.mark.parametrize("command", ["inspect", "export", "delete"])
def test_only_names_of_runs_are_taken(runs: Run, command: str, name: str, tmp_path: Path) -> None:
    more = {"export": ["--to", tmp_path / "a.mp4"], "delete": ["--yes"]}.get(command, [])
    code, _, errors = runs(command, name, *more)
    assert code == 1
    assert errors.startswith("error: run: expected the name of a run, 16 hexadecimal digits, got ")
    assert errors.endswith(". Take the name from the list of runs.\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("command", ["inspect", "export", "delete"])
def test_links_and_missing_runs_are_refused(runs: Run, output: Path, command: str, tmp_path: Path) -> None:
    root = output / "longtalk"
    outside = tmp_path / ("c" * 16)
    shutil.move(root / NAME, outside)
    (root / NAME).symlink_to(outside)
    more = {"export": ["--to", tmp_path / "a.mp4"], "delete": ["--yes"]}.get(command, [])
    assert runs(command, NAME, *more)[::2] == (
        1,
        f"error: run {NAME}: expected a folder, got a link to {outside}. "
        "Remove the link; runs stay inside the output folder.\n",
    )
    assert runs(command, "d" * 16, *more)[::2] == (
        1,
        f"error: run {'d' * 16}: expected a folder of this name in {root}, got none. "
        "Take the name from `runs list`, or name ComfyUI's output folder with --output.\n",
    )
    assert list(states(output)) == [OTHER]
    assert (outside / "talk.mp4").exists()


# export


def test_export_of_a_finished_run(runs: Run, finished: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.mp4"
    code, out, errors = runs("export", NAME, "--to", target)
    assert (code, errors) == (0, "")
    assert out == f"exported the finished video, {target.stat().st_size / 1e6:.1f} MB: {target}\n"
    assert target.read_bytes() == finished.video_path.read_bytes()
    frames, sound = decoded(target)
    assert frames == 60
    assert sound == pytest.approx(2.4, abs=0.03)
    before = target.read_bytes()
    assert runs("export", OTHER, "--to", target)[::2] == (
        1,
        f"error: file {target}: expected a new file, got one that is there already. "
        "Name another file, or add --force to replace it.\n",
    )
    assert target.read_bytes() == before
    assert runs("export", OTHER, "--to", target, "--force")[0] == 0
    assert decoded(target)[0] == 37


@pytest.mark.parametrize("codec", ["h264", "h265", "ffv1", "prores"])
def test_export_of_an_unfinished_run(tmp_path: Path, codec: str) -> None:
    folder = make_run(tmp_path / "longtalk", windows=3, codec=codec)
    target = tmp_path / f"out{folder.suffix}"
    code, out, errors = call(tmp_path, "export", NAME, "--to", target)
    assert (code, errors) == (0, "")
    assert out == f"exported windows 1 to 3 of 4, 49 frames, {target.stat().st_size / 1e6:.1f} MB: {target}\n"
    frames, sound = decoded(target)
    assert frames == 49
    assert sound == pytest.approx(49 / 25, abs=0.03)
    wrong = tmp_path / "out.avi"
    assert call(tmp_path, "export", NAME, "--to", wrong)[2] == (
        f"error: file {wrong}: expected a name that ends in {folder.suffix}, as {codec} needs, got out.avi. "
        "Change the name's end; nothing is encoded again.\n"
    )


def test_export_leaves_out_what_is_damaged(runs: Run, finished: RunFolder, tmp_path: Path) -> None:
    damage(finished.video_path)
    chain = current_chain(finished)
    damage(finished.segment_path(3, chain[2].key))
    damage(finished.sound_path)
    target = tmp_path / "out.mp4"
    code, out, errors = runs("export", NAME, "--to", target)
    assert code == 0
    assert out.startswith("exported windows 1 to 2 of 4, 37 frames, ")
    assert errors.splitlines() == [
        "note: the video is damaged (talk.mp4 is not as it was written), so the windows are joined again",
        f"note: window 3 and what follows are left out: window_00003_{chain[2].key}.mp4 is not as it was written",
        "note: the sound is left out: sound.mp4 is not as it was written",
    ]
    damage(finished.segment_path(1, chain[0].key))
    assert (
        "expected a finished video, or at least one finished window, got window 1 and"
        in runs("export", NAME, "--to", target, "--force")[2]
    )
    damage(finished.manifest_path)
    assert (
        "expected a finished video, or a manifest that tells how to join its windows, got damaged manifest."
        in runs("export", NAME, "--to", target, "--force")[2]
    )


def test_export_never_writes_into_the_runs(runs: Run, finished: RunFolder, unfinished: RunFolder) -> None:
    before = finished.video_path.read_bytes()
    for target in (finished.video_path, finished.path.parent / "x.mp4", unfinished.path / ".." / "x.mp4"):
        code, _, errors = runs("export", OTHER, "--to", target, "--force")
        assert code == 1
        assert "expected a place outside the folder of all runs" in errors
    assert finished.video_path.read_bytes() == before


def test_a_run_that_is_being_made_can_be_exported(runs: Run, unfinished: RunFolder, tmp_path: Path) -> None:
    with held(unfinished):
        assert runs("export", OTHER, "--to", tmp_path / "out.mp4")[0] == 0
    assert decoded(tmp_path / "out.mp4")[0] == 37


# delete


def test_delete(runs: Run, output: Path, finished: RunFolder, unfinished: RunFolder) -> None:
    freed = size(finished)
    assert runs("delete", NAME, "--dry-run")[1].endswith(f"\nwould delete 1 run, {freed}; nothing is deleted\n")
    assert finished.video_path.exists()
    assert runs("delete", NAME, NAME, "--yes")[1].endswith(f"\ndeleted 1 run, {freed} freed\n")
    assert list(states(output)) == [OTHER]
    assert not finished.path.exists()
    assert runs("delete", "--finished", "--yes") == (0, "no runs to delete\n", "")
    assert runs("delete", OTHER, NAME, "--yes")[0] == 1
    assert unfinished.path.exists(), "one that is not there stops all of them"


@pytest.mark.parametrize(("flag", "left"), [("--finished", [OTHER]), ("--unfinished", [NAME]), ("--all", [])])
def test_delete_by_state(runs: Run, output: Path, flag: str, left: list[str]) -> None:
    foreign = output / "longtalk" / ("a" * 16)
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"not ours")
    (output / "longtalk" / "notes.txt").write_text("not ours either")
    code, _, errors = runs("delete", flag, "--yes")
    assert (code, errors) == (0, f"note: {'a' * 16} is left alone: not a run\n")
    assert [name for name in states(output) if name != "a" * 16] == left
    assert (foreign / "holiday.jpg").exists()
    assert (output / "longtalk" / "notes.txt").exists()
    assert (
        "expected a run that LongTalk made, got nothing in it is from LongTalk." in runs("delete", "a" * 16, "--yes")[2]
    )


def test_delete_windows_only(runs: Run, finished: RunFolder, unfinished: RunFolder) -> None:
    video = finished.video_path.read_bytes()
    record(finished, VideoFormat(), 3, 3, "3:7")
    before = finished.bytes() + unfinished.bytes()
    code, out, _ = runs("delete", "--all", "--windows-only", "--yes")
    freed = before - finished.bytes() - unfinished.bytes()
    assert code == 0
    assert out.endswith(f"\ndeleted the windows of 2 runs, {freed / 1e6:.1f} MB freed\n")
    assert finished.video_path.read_bytes() == video
    assert sorted(path.name for path in finished.path.iterdir()) == ["lock", "manifest.json", "talk.json", "talk.mp4"]
    assert runs("inspect", NAME, "--verify")[0] == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_delete_asks(runs: Run, finished: RunFolder, unfinished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert runs("delete", "--all")[::2] == (
        1,
        "error: confirmation: expected a person at the terminal, or --yes, got an input that is no terminal. "
        "Add --yes to delete without being asked, or --dry-run to see what would be deleted.\n",
    )
    total = f"{(finished.bytes() + unfinished.bytes()) / 1e6:.1f} MB"
    for answer in ("n\n", "\n", "", "yep\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        code, out, _ = runs("delete", "--all")
        assert code == 1
        assert out.endswith(
            f"\nDelete 2 runs, {total}? 1 not finished: what is made of it is lost. [y/N] nothing is deleted\n"
        )
    assert finished.path.exists()
    monkeypatch.setattr(sys, "stdin", Terminal("Y\n"))
    code, out, _ = runs("delete", NAME)
    assert code == 0
    assert "? [y/N] deleted 1 run, " in out


def test_a_run_in_use_is_not_deleted(runs: Run, output: Path, unfinished: RunFolder) -> None:
    with held(unfinished) as process:
        code, _, errors = runs("delete", OTHER, "--yes")
        assert code == 1
        assert errors.startswith(
            f"error: run {OTHER}: expected a run that nobody is working on, got process {process} on "
        )
        assert errors.endswith(". Wait for it to end, or cancel it in ComfyUI.\n")
        code, out, errors = runs("delete", "--all", "--yes")
        assert code == 0
        assert "deleted 1 run, " in out
        assert errors.startswith(f"note: {OTHER} is left alone: in use by process {process} on ")
        # Taken between the look and the deletion: the lock decides.
        (unfinished.path / "owner.json").unlink()
        code, out, errors = runs("delete", OTHER, "--yes")
        assert code == 1
        assert errors.startswith(f"error: run {OTHER}: expected a run that nobody else is working on, got ")
        assert "deleted 0 runs, 0.0 MB freed\n" in out
    assert [record_.window for record_ in current_chain(unfinished)] == [1, 2]
    assert runs("delete", OTHER, "--yes")[0] == 0
    assert states(output) == {}


@pytest.mark.parametrize("windows_only", [False, True])
def test_links_inside_a_run_are_not_followed(
    runs: Run, finished: RunFolder, tmp_path: Path, windows_only: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    key = current_chain(finished)[0].key
    finished.segment_path(1, key).unlink()
    finished.segment_path(1, key).symlink_to(outside / "precious.txt")
    finished.carry_path(1, key).unlink()
    finished.carry_path(1, key).symlink_to(outside, target_is_directory=True)
    (finished.path / "link").symlink_to(outside, target_is_directory=True)
    (finished.path / "sub").mkdir()
    (finished.path / "sub" / "link").symlink_to(outside, target_is_directory=True)
    (finished.path / "sub" / "file").symlink_to(outside / "precious.txt")
    finished.manifest_path.unlink()
    finished.manifest_path.symlink_to(outside / "precious.txt")
    assert "damaged manifest" in runs("list")[1]
    assert runs("delete", NAME, "--yes", *["--windows-only"] * windows_only)[0] == 0
    assert finished.path.exists() == windows_only
    assert (outside / "precious.txt").read_text() == "precious"


BOTH = ["delete", NAME, "--all"], ["delete", "--all", "--finished"]


@pytest.mark.parametrize(
    "arguments", [["delete"], *BOTH, ["inspect"], ["export", NAME], ["inspect", NAME, "--at", "x"]]
)
def test_wrong_usage(runs: Run, output: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left, contextlib.redirect_stderr(io.StringIO()):
        main(["runs", *arguments])
    assert left.value.code == 2
    assert len(states(output)) == 2


# How it is started


def test_started_from_custom_nodes(root: Path, output: Path, tmp_path: Path) -> None:
    nodes = tmp_path / "custom_nodes"
    nodes.mkdir()
    (nodes / "Long-Talk main").symlink_to(root)
    (nodes / "LongTalk-0.1.0").symlink_to(root)
    ways = [["-m", "Long-Talk main.infinitetalk.cli"], ["-I", nodes / "LongTalk-0.1.0" / "infinitetalk" / "cli"]]
    outs = []
    for way in ways:
        command = [sys.executable, *way, "runs", "list"]
        done = subprocess.run(command, cwd=nodes, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        outs.append(done.stdout)
    assert outs[0] == outs[1] == call(output, "list")[1]


def test_elsewhere_the_output_folder_must_be_named() -> None:
    with pytest.raises(LongTalkError, match="Name ComfyUI's output folder with --output"):
        output_folder()


def test_the_commands_that_list_and_delete_need_no_torch(output: Path) -> None:
    code = (
        "import sys; from longtalk.infinitetalk.cli.runs import main\n"
        "for words in (['list'], ['delete', '--finished', '--yes']):\n"
        f"    assert main(['runs', *words, '--output', {str(output)!r}]) == 0\n"
        "assert not {'torch', 'comfy', 'folder_paths'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/", capture_output=True)


def test_a_reader_that_leaves_is_no_error(output: Path) -> None:
    command = [sys.executable, "-m", "longtalk.infinitetalk.cli", "runs", "list", "--output", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/") as process:
        process.stdout.close()
        assert process.stderr.read() == b""


# Hostile files

HOSTILE_TEXT = st.text(st.sampled_from(list("a \x1b[31m\r\n\x00\u202e\ud800\u2028é/.")), max_size=30)
HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**4000, -(10**400), 2**64, 2**31, -1, 0, 1e308, -1e308, "h264", "\x1b]0;x\x07"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | HOSTILE_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE_TEXT, inner, max_size=4),
    max_leaves=12,
)


def every_command(output: Path, name: str) -> None:
    """None may crash, hang or print what a terminal obeys; all but deletion."""
    target = output.parent / "hostile.mp4"
    assert call(output, "list")[0] == 0
    for arguments in (
        ["inspect", name, "--verify"],
        ["inspect", name, "--at", "1"],
        ["inspect", name, "--json"],
        ["export", name, "--to", target, "--force"],
        ["delete", name, "--dry-run"],
    ):
        assert call(output, *arguments)[0] in (0, 1)
    json.loads(call(output, "list", "--json")[1])


def mutated(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The content with other values at the places named, as "about.ends"."""
    content = json.loads(json.dumps(content))
    content.pop("digest", None)
    for place, value in changes.items():
        inner, *names = content, *place.split(".")
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = value
    return content


ABOUT = ("created", "width", "height", "codec", "crf", "fps", "frames", "seed", "steps", "ends")
MANIFEST = st.dictionaries(st.sampled_from(["format", "parts", "sound.bytes", *(f"about.{n}" for n in ABOUT)]), HOSTILE)
RECORD = st.dictionaries(
    st.sampled_from(
        [
            *("window", "key", "seed", "frames", "segment", "carry", "render_s", "fallbacks", "stats", "segment.bytes"),
            *(f"stats.{name}" for name in ("drift", "brightness", "boundary_change", "interior_change")),
            *("fallbacks.memory_level", "fallbacks.plain_attention"),
        ]
    ),
    HOSTILE,
)
SLOWLY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def apply(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(path.read_bytes())
    # What is inside is changed before the whole of it is.
    with contextlib.suppress(TypeError):
        content = mutated(content, dict(sorted(changes.items(), key=lambda item: -item[0].count("."))))
    content.pop("digest", None)
    write_json(path, content)


@SLOWLY
@given(changes=MANIFEST)
def test_hostile_manifests(unfinished: RunFolder, changes: dict[str, Any]) -> None:
    original = unfinished.manifest_path.read_bytes()
    try:
        apply(unfinished.manifest_path, changes)
        every_command(unfinished.path.parent.parent, OTHER)
    finally:
        unfinished.manifest_path.write_bytes(original)


@SLOWLY
@given(changes=RECORD, window=st.sampled_from([1, 2]))
def test_hostile_records(unfinished: RunFolder, changes: dict[str, Any], window: int) -> None:
    path = unfinished.record_path(window, window_keys(OTHER, (SEED, SEED + 1))[window - 1])
    original = path.read_bytes()
    try:
        apply(path, changes)
        every_command(unfinished.path.parent.parent, OTHER)
    finally:
        path.write_bytes(original)


def short(value: Any) -> str:
    return repr(value)[:9]


NUMBERS = [10**4000, -1, True, 1e308, None, "1", [1]]


@pytest.mark.parametrize("value", NUMBERS, ids=short)
@pytest.mark.parametrize("field", ["frames", "seed", "render_s"])
def test_numbers_no_window_can_have(unfinished: RunFolder, field: str, value: Any) -> None:
    path = unfinished.record_path(2, window_keys(OTHER, (SEED, SEED + 1))[1])
    apply(path, {field: value})
    code, out, _ = call(unfinished.path.parent.parent, "inspect", OTHER)
    assert (code, [found.window for found in current_chain(unfinished)]) == (0, [1])
    assert f"\ndamaged: window 2 ({path.stem[-8:]}): " in out


@pytest.mark.parametrize("value", NUMBERS, ids=short)
@pytest.mark.parametrize("field", ["drift", "boundary_change", "interior_change"])
def test_measurements_no_window_can_have(unfinished: RunFolder, field: str, value: Any) -> None:
    path = unfinished.record_path(2, window_keys(OTHER, (SEED, SEED + 1))[1])
    apply(path, {f"stats.{field}": value, "fallbacks.memory_level": value})
    code, out, _ = call(unfinished.path.parent.parent, "inspect", OTHER)
    assert code == 0
    finite = value in (-1, 1e308) and value is not True
    assert ("measurements damaged" in out) != (finite or (value is None and field != "drift"))
    assert out.count("memory level") == 1, "that of the first window"
    out = call(unfinished.path.parent.parent, "inspect", OTHER, "--json")[1]
    assert len(json.loads(out, parse_constant=pytest.fail)["window_list"]) == 2


@pytest.mark.parametrize("value", [*NUMBERS, 0, [], [0], [5, 5, 60], [60.0], [61]], ids=short)
@pytest.mark.parametrize("field", [name for name in ABOUT if name not in ("created", "seed")])
def test_numbers_no_run_can_have(unfinished: RunFolder, field: str, value: Any) -> None:
    apply(unfinished.manifest_path, {f"about.{field}": value})
    every_command(unfinished.path.parent.parent, OTHER)
    assert states(unfinished.path.parent.parent)[OTHER] == "damaged manifest"


@SLOWLY
@given(content=HOSTILE | st.binary(max_size=40), name=st.sampled_from(["manifest", "talk", "owner", "record"]))
def test_hostile_files(unfinished: RunFolder, content: Any, name: str) -> None:
    path = unfinished.path / f"{name}.json"
    if name == "record":
        path = unfinished.record_path(1, window_keys(OTHER, (SEED,))[0])
    original = path.read_bytes() if path.exists() else None
    (unfinished.path / "lock").touch()
    try:
        if isinstance(content, dict):
            write_json(path, content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        every_command(unfinished.path.parent.parent, OTHER)
    finally:
        path.unlink() if original is None else path.write_bytes(original)


@pytest.mark.parametrize(
    "owner",
    [b'{"process": Infinity}', b"[" * 4000, b"\xff", b"[]", b'{"process": "1", "host": "\\u001b[2J", "since": [[]]}'],
)
def test_a_hostile_owner(unfinished: RunFolder, owner: bytes) -> None:
    with held(unfinished):
        (unfinished.path / "owner.json").write_bytes(owner)
        assert states(unfinished.path.parent.parent)[OTHER].startswith("in use by ")
        every_command(unfinished.path.parent.parent, OTHER)


def nested(depth: int) -> Any:
    content: Any = []
    for _ in range(depth):
        content = [content]
    return content


@pytest.mark.parametrize("depth", [*range(100, 1000, 75), 100_000])
def test_deep_nesting(unfinished: RunFolder, depth: int) -> None:
    output = unfinished.path.parent.parent
    path = unfinished.record_path(1, window_keys(OTHER, (SEED,))[0])
    if depth > 1000:
        for hostile in (path, unfinished.manifest_path):
            hostile.write_text("[" * depth)
            every_command(output, OTHER)
        return
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        apply(path, {"stats": nested(depth), "fallbacks.memory_level": nested(depth)})
        apply(unfinished.manifest_path, {"format": nested(depth)})
    finally:
        sys.setrecursionlimit(limit)
    every_command(output, OTHER)


def test_many_ends(unfinished: RunFolder) -> None:
    content = json.loads(unfinished.manifest_path.read_bytes())
    ends = list(range(1, 200_001))
    apply(unfinished.manifest_path, {"about.ends": ends, "about.frames": ends[-1]})
    assert call(unfinished.path.parent.parent, "list")[1].count("2 of 200000") == 1
    every_command(unfinished.path.parent.parent, OTHER)
    content["about"]["ends"] = "x" * 5_000_000
    unfinished.manifest_path.write_text(json.dumps(content))
    assert states(unfinished.path.parent.parent)[OTHER] == "damaged manifest"


def test_pipes_do_not_hang(unfinished: RunFolder) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    for name in ("owner.json", "talk.json", "talk.mp4", "lock"):
        os.mkfifo(unfinished.path / name)
    for path in [*unfinished.path.glob("window_00001*"), unfinished.sound_path, unfinished.manifest_path]:
        every_command(unfinished.path.parent.parent, OTHER)
        path.unlink()
        os.mkfifo(path)
    every_command(unfinished.path.parent.parent, OTHER)


def test_control_characters_are_shown_not_obeyed(unfinished: RunFolder) -> None:
    apply(unfinished.manifest_path, {"about.created": "\x1b[2J\r\n\u202e\ud800 now"})
    out = call(unfinished.path.parent.parent, "list")[1]
    assert r"\x1b[2J\r\n\u202e\ud800 now" in out
