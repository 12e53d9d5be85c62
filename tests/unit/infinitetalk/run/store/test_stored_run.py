"""The format is a promise: a run that lies in tests/assets, written once, is found again and goes on; a video too.

If this test fails, runs on the disks of users are lost. Do not write the stored files anew: read them, or raise FORMAT.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from made_runs import NAME, PARTS, make_run
from run_commands import call

from longtalk.infinitetalk.plan.windows import plan_windows
from longtalk.infinitetalk.run.seeds import window_seeds
from longtalk.infinitetalk.run.store.folder import RunFolder
from longtalk.infinitetalk.run.store.overview import overview
from longtalk.infinitetalk.run.store.recorder import LAST_FRAME
from longtalk.infinitetalk.run.store.reuse import Reuse
from longtalk.infinitetalk.run.store.take import Take

#: Three windows of 21 frames with 9 motion frames, seed 5; the first two were made.
PLAN = plan_windows(45, 21, 9)
TAKE = Take(NAME, window_seeds(5, 3), PLAN.shot_starts)


@pytest.fixture
def stored(tmp_path: Path, root: Path) -> RunFolder:
    """A copy of the stored run."""
    shutil.copytree(root / "tests" / "assets" / "stored_run", tmp_path / "longtalk")
    return RunFolder(tmp_path / "longtalk", NAME, ".mp4")


def test_its_names_are_those_that_this_version_makes(stored: RunFolder) -> None:
    stems = [f"window_{number:05d}_{key}" for number, key in zip((1, 2), ("1e77521d", "aa320594"), strict=True)]
    names = [stem + suffix for stem in stems for suffix in (".json", ".mp4", ".safetensors")]
    assert sorted(path.name for path in stored.path.iterdir()) == sorted(["manifest.json", "sound.mp4", *names])
    assert TAKE.keys[:2] == ("1e77521d", "aa320594")


def test_it_is_known_and_told(stored: RunFolder) -> None:
    stored.check_format()
    manifest = stored.manifest()
    assert manifest is not None
    assert manifest.parts == PARTS
    assert stored.is_sound(manifest.sound)
    assert (manifest.about.ends, manifest.about.frames, manifest.about.seed) == ((21, 33, 45), 45, 5)
    run = overview(stored.path.parent, NAME)
    assert (run.state, run.windows_text, run.windows.damage) == ("unfinished", "2 of 3", ())
    output = stored.path.parent.parent
    assert call(output, "inspect", NAME, "--verify")[0] == 0
    assert call(output, "export", NAME, "--to", output / "out.mp4")[1].startswith("exported windows 1 to 2 of 3, 33 fr")


def test_it_goes_on(stored: RunFolder) -> None:
    reuse = Reuse(stored, PLAN, (64, 48), lambda carry: carry["motion"].shape == (1, 16, 3, 6, 8), TAKE)
    there = reuse.finished(TAKE)
    assert (sorted(there), reuse.notes) == ([1, 2], [])
    start = reuse.start_behind(there[2])
    assert start.made == 2
    assert torch.equal(start.carry["motion"], torch.full((1, 16, 3, 6, 8), 1.0))
    assert LAST_FRAME not in start.carry
    before = {path.name: path.read_bytes() for path in stored.path.glob("window_*")}
    make_run(stored.path.parent)
    assert sorted(reuse.finished(TAKE)) == [1, 2, 3]
    assert {name: (stored.path / name).read_bytes() for name in before} == before


def test_a_video_is_found_and_handed_out(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "tests" / "assets" / "stored_video", tmp_path / "longtalk")
    folder = RunFolder(tmp_path / "longtalk", NAME, ".mp4")
    folder.check_format()
    video = folder.finished_video(TAKE.video_key)
    assert video is not None
    assert (video.path.name, video.frames, video.duration_s) == ("talk_81fd4012_103ebeda.mp4", 45, 1.8)
    assert folder.report_beside(video).read_text() == "the report\n"
    run = overview(folder.path.parent, NAME)
    assert (run.state, [found.name for found in run.videos]) == ("finished", ["81fd4012_103ebeda"])
    assert call(tmp_path, "inspect", NAME, "--verify")[0] == 0
    assert call(tmp_path, "export", NAME, "--to", tmp_path / "out.mp4")[1].startswith("exported the finished video")
    assert (tmp_path / "out.mp4").read_bytes() == video.path.read_bytes()
