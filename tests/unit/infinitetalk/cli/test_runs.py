"""``runs list`` and ``runs inspect``, what every command refuses, and how the command line is started."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import NAME, damage, discard_videos, finish_run, make_run, video_of
from run_commands import OTHER, Run, apply, call, held, make_talk, size, states

from longtalk.base.errors import LongTalkError
from longtalk.base.files import write_json
from longtalk.base.rates import FPS
from longtalk.infinitetalk.cli.main import main
from longtalk.infinitetalk.cli.runs import output_folder
from longtalk.infinitetalk.run.store.chains import current_chain, read_windows
from longtalk.infinitetalk.run.store.folder import RunFolder
from longtalk.infinitetalk.run.video.formats import VideoFormat

# list


def test_list(runs: Run, finished: RunFolder, unfinished: RunFolder) -> None:
    code, out, errors = runs("list")
    sizes = [folder.bytes() for folder in (finished, unfinished)]
    assert (code, errors) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "run made size codec length windows videos disk state",
        f"{NAME} 2026-11-21 08:00:00 64x48 h264 0:02.40 4 of 4 1 {size(finished)} finished",
        f"{OTHER} 2026-11-21 08:00:00 64x48 h264 0:02.40 2 of 4 0 {size(unfinished)} unfinished",
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
        "Name ComfyUI's output folder with --output. [LT-SETTING]\n"
    )


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
    with open(video_of(finished), "ab") as file:
        file.write(b"x")
    assert states(output)[NAME] == "unfinished"


# Chains


def test_two_chains(runs: Run, finished: RunFolder) -> None:
    root = finished.path.parent
    first = [record.key for record in current_chain(finished)]
    _, _, keys = make_talk(root, windows=3, rerender="3:7")
    chains = read_windows(finished).chains
    assert [[record.key for record in chain] for chain in chains] == [first, list(keys[:3])]
    assert current_chain(finished) == list(chains[0]), "the whole video shows the first chain"
    _, out, _ = runs("inspect", NAME)
    assert "these windows are made with an empty rerender_from\n" in out
    assert "also there: window 3 made with another seed; rerender_from: 3:7 gives them\n" in out
    discard_videos(finished)
    assert [record.key for record in current_chain(finished)] == list(keys[:3]), "the one worked on last"
    for window, key in enumerate(keys[:3], start=1):
        os.utime(finished.record_path(window, key), (1, 1))
    assert [record.key for record in current_chain(finished)] == first
    make_talk(root, rerender="3:7", finish=True)
    os.utime(finished.record_path(4, keys[3]), (1, 1))
    assert [record.seed for record in current_chain(finished)] == [100, 101, 9, 10]
    _, out, _ = runs("inspect", NAME, "--at", "2.3")
    assert "these windows are made with rerender_from: 3:7\n" in out
    assert "also there: windows 3 to 4 made with another seed; an empty rerender_from gives them\n" in out
    assert "\nrerender_from: 3:7, 4:SEED\nPut a number other than 7 in the place of SEED;" in out
    assert "\nrerender_from: 2:SEED\n" in runs("inspect", NAME, "--at", "1")[1], "3:7 lies in what is made again"
    found = json.loads(runs("inspect", NAME, "--json")[1])
    assert found["rerender_from"] == [[3, 7]]
    assert [video["shown"] for video in found["video_list"]] == [True]
    finish_run(finished, keys, VideoFormat(), sound=False)
    finish_run(finished, first, VideoFormat())
    rows = [line for line in runs("inspect", NAME)[1].splitlines() if line.startswith(tuple(finished.video_names()))]
    assert sorted(row.partition(" MB  ")[2] for row in rows) == [
        "                  rerender_from: 3:7",
        "asked for last    an empty rerender_from",
        "made again since  rerender_from: 3:7",
    ]
    assert runs("inspect", NAME, "--verify")[0] == 0


def test_chains_of_shots(runs: Run, output: Path) -> None:
    """Seven windows in three shots; the second one made again."""
    root, name = output / "longtalk", "1" * 16
    settings = {"name": name, "seed": 100, "frames": (30, 25, 35)}
    folder, plan, first = make_run(root, **settings, finish=True)
    assert [window.shot for window in plan.windows] == [0, 0, 1, 1, 2, 2, 2]
    _, out, _ = runs("inspect", name)
    assert [line.split()[-1] for line in out.splitlines() if line.strip().startswith(("1 ", "3 ", "5 "))] == [
        "-", "shot", "shot"
    ]  # fmt: skip
    _, _, again = make_run(root, **settings, rerender="4:7")
    chains = read_windows(folder).chains
    assert [[record.key for record in chain] for chain in chains] == [list(first), list(again[:4])]
    _, out, _ = runs("inspect", name)
    assert "these windows are made with an empty rerender_from\n" in out
    assert "also there: window 4 made with another seed; rerender_from: 4:7 gives them\n" in out
    make_run(root, **settings, rerender="4:7", finish=True)
    assert [record.key for record in current_chain(folder)] == list(again), "what the video shows"
    assert json.loads(runs("inspect", name, "--json")[1])["rerender_from"] == [[4, 7]]
    _, out, _ = runs("inspect", name, "--at", "0")
    assert "\nrerender_from: 1:SEED, 4:7\n" in out, "4:7 is in another shot, and stays"
    assert "; window 1 and those after it in its shot, up to 2, are made again.\n" in out
    assert "\nrerender_from: 3:SEED\n" in runs("inspect", name, "--at", "1.2")[1]
    _, out, _ = runs("inspect", name, "--at", "3.5")
    assert "\nrerender_from: 4:7, 7:SEED\n" in out
    assert "; window 7 and all after it are made again.\n" in out
    assert runs("inspect", name, "--verify")[0] == 0
    # A shot that lacks a window ends the chain; what is behind it still counts as whole.
    for keys in (first, again):
        folder.record_path(4, keys[3]).unlink()
    discard_videos(folder)
    assert [record.window for record in current_chain(folder)] == [1, 2, 3]
    assert [record.window for record in read_windows(folder).records] == [1, 2, 3, 5, 6, 7]
    assert read_windows(folder).damage == ()


def test_a_record_under_another_windows_name_is_in_no_chain(runs: Run, unfinished: RunFolder) -> None:
    record = current_chain(unfinished)[1]
    make_talk(unfinished.path.parent, name=OTHER, windows=3)
    forged = "00000000"
    content = json.loads(unfinished.record_path(2, record.key).read_bytes())
    del content["digest"]
    write_json(unfinished.record_path(3, forged), {**content, "window": 3, "key": forged})
    shutil.copy(unfinished.record_path(2, record.key), unfinished.record_path(2, forged))
    shutil.copy(unfinished.record_path(2, record.key), unfinished.path / f"window_000004_{forged}.json")
    assert [found.window for found in current_chain(unfinished)] == [1, 2, 3]
    unfinished.record_path(2, record.key).unlink()
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
        "Take the second from the player's clock. [LT-SETTING]\n"
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
    name = finished.video_names()[0]
    assert lines[13].split() == ["video", "made", "disk", "made", "with"]
    assert re.fullmatch(
        rf"{name}  \d{{4}}-\d\d-\d\d [0-9:]{{8}} +[0-9.]+ MB  asked for last  an empty rerender_from", lines[14]
    )
    lines = lines[3:]
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
    assert [window["end"] for window in found["window_list"]] == [21, 37, 49, 60]
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
        "Queue the same workflow again; it writes the manifest anew. [LT-RUN]\n"
    )


def test_a_second_that_floats_miss(runs: Run, unfinished: RunFolder) -> None:
    apply(unfinished.manifest_path, {"about.ends": [29, 60]})
    assert 1.16 * FPS < 29
    for second, window in (("1.15", 1), ("1.16", 2), ("0:01.16", 2)):
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
    video = video_of(finished)
    damage(video)
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
        f"damaged: window 3 ({chain[2].key}): window_00003_{chain[2].key}.mp4 is not a file, but a link",
        "damaged: sound: sound.mp4 is not as it was written",
        f"damaged: video: {video.name} is not as it was written",
    ]
    assert json.loads(runs("inspect", NAME, "--verify", "--json")[1])["damage"][-1] == (
        f"video: {video.name} is not as it was written"
    )


# What every command refuses


@pytest.mark.parametrize("name", ["..", "../longtalk", "x" * 300, "\x1b[31m", NAME[:-1], NAME.upper()])
@pytest.mark.parametrize("command", ["inspect", "export", "delete"])
def test_only_names_of_runs_are_taken(runs: Run, command: str, name: str, tmp_path: Path) -> None:
    more = {"export": ["--to", tmp_path / "a.mp4"], "delete": ["--yes"]}.get(command, [])
    code, _, errors = runs(command, name, *more)
    assert code == 1
    assert errors.startswith("error: run: expected the name of a run, 16 hexadecimal digits, got ")
    assert errors.endswith(". Take the name from the list of runs. [LT-RUN]\n")
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
        "Remove the link; runs stay inside the output folder. [LT-RUN]\n",
    )
    assert runs(command, "d" * 16, *more)[::2] == (
        1,
        f"error: run {'d' * 16}: expected a folder of this name in {root}, got none. "
        "Take the name from `runs list`, or name ComfyUI's output folder with --output. [LT-RUN]\n",
    )
    assert list(states(output)) == [OTHER]
    assert list(outside.glob("talk_*.mp4"))


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
        "import sys; from longtalk.infinitetalk.cli.main import main\n"
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
