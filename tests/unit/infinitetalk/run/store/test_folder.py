"""A run on disk: what counts as finished, what is noticed, who may work on it, and what never leaves the folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import NAME, PARTS, damage, discard_videos, made_window, make_run, video_of
from safetensors.torch import load_file

from longtalk.base.errors import LongTalkError
from longtalk.base.files import DamagedFileError, read_json, write_json
from longtalk.infinitetalk.run.seeds import window_seeds
from longtalk.infinitetalk.run.store import recorder as recorder_module
from longtalk.infinitetalk.run.store.folder import RunFolder, run_names, run_path
from longtalk.infinitetalk.run.store.record import WindowRecord, window_keys
from longtalk.infinitetalk.run.store.recorder import LAST_FRAME, Recorder
from longtalk.infinitetalk.run.store.take import Take
from longtalk.infinitetalk.run.video.formats import VideoFormat


def test_a_window_leaves_its_frames_its_carry_and_a_record(tmp_path: Path) -> None:
    folder, plan, keys = make_run(tmp_path)
    found = folder.finished(keys)
    assert found.damage is None
    assert [record.window for record in found.records] == [1, 2, 3]
    assert [record.frames for record in found.records] == [21, 12, 12]
    assert [record.seed for record in found.records] == [5, 6, 7]
    made, _ = made_window(plan, 2)
    carry = folder.read_carry(2, keys[1])
    assert torch.equal(carry["motion"], made.carry["motion"])
    assert torch.equal(carry[LAST_FRAME], made.last_frame)
    names = sorted(path.name for path in folder.path.iterdir())
    stems = [f"window_{number:05d}_{key}" for number, key in enumerate(keys, start=1)]
    assert names == sorted(
        [
            "manifest.json",
            "sound.mp4",
            *(stem + suffix for stem in stems for suffix in (".mp4", ".safetensors", ".json")),
        ]
    )


def test_an_unfinished_run_is_not_damaged(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, windows=2)
    found = folder.finished(keys)
    assert len(found.records) == 2
    assert found.damage is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


HARM: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "flipped": damage,
    "empty": empty,
    "gone": Path.unlink,
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("file", ["segment_path", "carry_path", "record_path"])
def test_any_harm_to_a_windows_file_is_seen(tmp_path: Path, harm: str, file: str) -> None:
    folder, _, keys = make_run(tmp_path)
    HARM[harm](getattr(folder, file)(2, keys[1]))
    found = folder.finished(keys)
    assert [record.window for record in found.records] == [1]
    assert found.damage is not None
    assert "window 2" in found.damage

    folder.discard_from(2, keys)
    again = folder.finished(keys)
    assert [record.window for record in again.records] == [1]
    assert again.damage is None


@given(st.integers(0, 10**6), st.integers(0, 7))
@settings(max_examples=examples(60), deadline=None)
def test_any_flipped_bit_of_a_record_is_seen(at: int, bit: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "record.json"
        write_json(path, {"window": 3, "key": "0a1b2c3d", "render_s": 1.25, "stats": {"drift": 2.5, "none": None}})
        content = bytearray(path.read_bytes())
        before = json.loads(content)
        content[at % len(content)] ^= 1 << bit
        path.write_bytes(content)
        try:
            read = read_json(path)
        except DamagedFileError:
            return
        # What is left are flips that change nothing: a kind of white space, say.
        del before["digest"]
        assert read == before


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("suffix", [".mp4", ".json"])
def test_any_harm_to_the_joined_video_is_seen(tmp_path: Path, harm: str, suffix: str) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    video = folder.finished_video(keys[-1])
    assert video is not None
    assert (video.path, video.frames) == (video_of(folder), 45)
    HARM[harm](video.path.with_suffix(suffix))
    assert folder.finished_video(keys[-1]) is None


def test_the_joined_video_of_other_seeds_is_not_taken(tmp_path: Path) -> None:
    folder, plan, keys = make_run(tmp_path, finish=True)
    others = window_keys(NAME, window_seeds(5, len(plan.windows), [(3, 99)]))
    assert others[:2] == keys[:2]
    assert others[2] != keys[2]
    assert folder.finished_video(others[-1]) is None


@pytest.mark.parametrize("harm", HARM)
def test_any_harm_to_the_sound_or_the_manifest_is_seen(tmp_path: Path, harm: str) -> None:
    folder, _, _ = make_run(tmp_path, windows=1)
    manifest = folder.manifest()
    assert manifest is not None
    assert manifest.parts == PARTS
    assert folder.is_sound(manifest.sound)
    HARM[harm](folder.sound_path)
    assert not folder.is_sound(manifest.sound)
    HARM[harm](folder.manifest_path)
    assert folder.manifest() is None


def test_windows_made_again_lie_beside_the_first_ones(tmp_path: Path) -> None:
    folder, _, first = make_run(tmp_path)
    _, _, second = make_run(tmp_path, rerender="2:77")
    assert second[0] == first[0]
    assert second[1:] != first[1:]
    assert [record.seed for record in folder.finished(first).records] == [5, 6, 7]
    assert [record.seed for record in folder.finished(second).records] == [5, 78, 79]


def test_the_windows_of_a_shot(tmp_path: Path) -> None:
    """Four windows in two shots: what one of them lacks is not missing in the other."""
    folder, plan, keys = make_run(tmp_path, frames=(30, 30))
    assert [window.shot for window in plan.windows] == [0, 0, 1, 1]
    _, _, again = make_run(tmp_path, frames=(30, 30), rerender="1:77")
    assert [a == b for a, b in zip(keys, again, strict=True)] == [False, False, True, True]
    folder.record_path(1, keys[0]).unlink()
    assert folder.finished(keys, 1, 2).damage == "the record of window 1 is missing"
    found = folder.finished(keys, 3, 4)
    assert ([record.window for record in found.records], found.damage) == ([3, 4], None)
    folder.record_path(2, keys[1]).unlink()
    assert folder.finished(keys, 1, 2).damage is None  # neither was made
    folder.discard_from(3, keys, 3)
    assert folder.finished(keys, 3, 4).damage == "the record of window 3 is missing"
    assert [record.window for record in folder.finished(again, 1, 2).records] == [1, 2]


def test_discarding_keeps_what_is_not_ours(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, finish=True)
    make_run(tmp_path, rerender="2:77")
    video = video_of(folder)
    mine = folder.path / "my notes.txt"
    mine.write_text("keep")
    folder.partial_path(2, 3).write_bytes(b"x")
    folder.discard_windows()
    assert sorted(path.name for path in folder.path.iterdir()) == sorted(
        ["manifest.json", "my notes.txt", "partial_2_of_3_windows.mp4", video.name, video.with_suffix(".json").name]
    )
    folder.discard_partials()
    discard_videos(folder)
    assert sorted(path.name for path in folder.path.iterdir()) == ["manifest.json", "my notes.txt"]
    assert folder.finished(keys).records == ()


# The recorder.


def test_what_goes_wrong_in_the_background_is_raised_to_who_renders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan, keys = make_run(tmp_path, windows=1)
    recorder = Recorder(folder, VideoFormat(), Take(NAME, window_seeds(5, len(plan.windows))))

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder_module, "write_segment", full)
    recorder.put(*made_window(plan, 2))
    with pytest.raises(OSError, match="No space"):
        recorder.wait()
    with pytest.raises(OSError, match="No space"):
        recorder.put(*made_window(plan, 3))
    with pytest.raises(OSError, match="No space"):
        recorder.check()
    assert [record.window for record in folder.finished(keys).records] == [1]


def test_a_record_comes_after_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed at any moment has no record without its files."""
    folder, plan, _ = make_run(tmp_path, windows=0)
    seen: list[tuple[bool, bool, bool]] = []
    original = RunFolder.commit

    def commit(self: RunFolder, record: WindowRecord) -> None:
        paths = (self.segment_path, self.carry_path, self.record_path)
        seen.append(tuple(path(record.window, record.key).exists() for path in paths))  # type: ignore[arg-type]
        original(self, record)

    monkeypatch.setattr(RunFolder, "commit", commit)
    recorder = Recorder(folder, VideoFormat(), Take(NAME, window_seeds(5, len(plan.windows))))
    for number in (1, 2, 3):
        recorder.put(*made_window(plan, number))
    recorder.wait()
    assert seen == [(True, True, False)] * 3
    assert [record.window for record in recorder.records] == [1, 2, 3]


# Who works on it.

HOLD = """
import sys, time
from pathlib import Path
from longtalk.infinitetalk.run.store.folder import RunFolder
with RunFolder(Path(sys.argv[1]), sys.argv[2], ".mp4").owned():
    print("held", flush=True)
    time.sleep(120)
"""


def test_a_run_in_use_is_refused_and_free_again_when_its_owner_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _, _ = make_run(tmp_path, windows=1)
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), NAME], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LongTalkError, match=f"run {NAME}.*process {other.pid} .*Wait"), folder.owned():
            raise AssertionError("entered a run that is in use")
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    with caplog.at_level("INFO"), folder.owned():
        assert f"process {other.pid}" in caplog.text
        with pytest.raises(LongTalkError, match="process"), RunFolder(tmp_path, NAME, ".mp4").owned():
            raise AssertionError("entered a run twice")
    with folder.owned():
        pass
    assert not (folder.path / "owner.json").exists()


def test_a_hostile_owner_file_is_only_words(tmp_path: Path) -> None:
    folder, _, _ = make_run(tmp_path, windows=1)
    for content in ("[" * 5000, "{}", '{"process": 1e999, "host": {}, "since": []}', "\0", '{"process": "x"}'):
        (folder.path / "owner.json").write_text(content)
        with folder.owned():
            pass


# Names and what is read.


@pytest.mark.parametrize(
    "name",
    ["", "..", "../0123456789abcdef", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef/", "a" * 17, "\0" * 16],
)
def test_a_name_that_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LongTalkError, match="16 hexadecimal"):
        run_path(tmp_path, name)


def test_a_link_is_no_run(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / NAME).symlink_to(outside, target_is_directory=True)
    with pytest.raises(LongTalkError, match="link"):
        RunFolder(root, NAME, ".mp4")
    assert run_names(root) == []
    assert run_names(tmp_path / "nowhere") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ("window", "key", "seed", "frames", "segment", "carry", "render_s", "fallbacks", "stats")


@settings(max_examples=examples(150), deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON))
def test_a_well_signed_record_of_the_wrong_kind_is_damage(content: dict[str, Any]) -> None:
    with pytest.raises(DamagedFileError):
        WindowRecord.from_json(content)


HOSTILE_JSON = {
    "nothing": b"",
    "cut": b"{",
    "a list": b"[]",
    "null": b"null",
    "no text": b"\xff\xfe",
    "NaN": b'{"a": NaN}',
    "unsigned": b'{"digest": 1}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a huge number": b'{"a": 1' + b"0" * 10_000 + b"}",
    "a huge file": b" " * 5_000_000,
}


@pytest.mark.parametrize("raw", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_json_is_damage(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    with pytest.raises(DamagedFileError, match=r"x\.json"):
        read_json(path)


def test_a_carry_is_plain_safetensors(tmp_path: Path) -> None:
    folder, _, keys = make_run(tmp_path, windows=1)
    tensors = load_file(str(folder.carry_path(1, keys[0])))
    assert set(tensors) == {"motion", LAST_FRAME}
    folder.carry_path(1, keys[0]).write_bytes(b"\xff" * 64)
    with pytest.raises(LongTalkError, match="the tensors window 1 ended with"):
        folder.read_carry(1, keys[0])
