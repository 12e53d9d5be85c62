"""The comparison of two checkouts: what it overlooks on purpose, and that it overlooks nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longtalk.benchmarks.equal import Reworded, compare, masked, report_differences, table
from longtalk.benchmarks.equal_record import Record

REPORT = """37 frames, 1.48 s, 48x32, h264, sound aac, 0.3 MB
took 0:07: 3.3 s rendering, 0.0 s waiting for the disk, 1.64 s per window
run a9dc68257521d7b8: 0.1 MB in /home/a/output/longtalk/a9dc68257521d7b8 (windows kept); all runs 0.1 MB
saved as /home/a/output/longtalk/a9dc68257521d7b8/talk.mkv (Save Video writes mp4)
note: estimate: 2 windows, 3 MB host memory, 1 MB disk, about 3 s (from the windows made before)
     3  [21, 29)            0:00.84 - 0:01.16        13       5    0                     5     1.7 s   25.0    1.0
INFO window 3 of 4, step 2 of 2, 0:01 left, frames 21 to 29 done (3fa9c1d2)
INFO /home/a/output/longtalk/a9dc68257521d7b8/talk.mp4: 37 frames in 0:07"""
OTHER_TIMES = """37 frames, 1.48 s, 48x32, h264, sound aac, 0.4 MB
took 1:01:07: 3.9 s rendering, 1.0 s waiting for the disk, 2.64 s per window
run talk-0001: 0.2 MB in /mnt/b/c/longtalk/talk-0001 (windows kept); all runs 1.1 GB
saved as /mnt/b/c/longtalk/talk-0001/talk_9b04d1e6_5c77a0f2.mkv (Save Video writes mp4)
note: estimate: 2 windows, 30 MB host memory, 11 MB disk, about 1:13 (from the windows made before)
     3  [21, 29)            0:00.84 - 0:01.16        13       5    0                     5    21.7 s   25.0    1.0
INFO window 3 of 4, step 2 of 2, 1:00:01 left, frames 21 to 29 done (9b04d1e6)
INFO /mnt/b/c/longtalk/talk-0001/talk_9b04d1e6_5c77a0f2.mp4: 37 frames in 0:19"""


def test_times_sizes_and_names_of_runs_may_differ() -> None:
    assert report_differences(REPORT.splitlines(), OTHER_TIMES.splitlines(), Reworded()) == []


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("37 frames, 1.48 s,", "37 frames, 1.52 s,"),
        ("37 frames in", "36 frames in"),
        ("step 2 of 2", "step 3 of 3"),
        ("(from the windows made before)", "(before the first window)"),
        ("[21, 29)", "[21, 28)"),
        ("0:00.84 - 0:01.16", "0:00.84 - 0:01.20"),
        ("     5     1.7 s", "     6     1.7 s"),
        ("25.0    1.0", "25.1    1.0"),
        ("25.0    1.0", "25.0    1.1"),
        ("2 windows", "3 windows"),
        ("talk.mkv", "talk.mp4"),
        ("frames 21 to 29 done", "frames 21 to 30 done"),
    ],
)
def test_nothing_else_may(was: str, becomes: str) -> None:
    assert was in REPORT
    found = report_differences(REPORT.splitlines(), REPORT.replace(was, becomes, 1).splitlines(), Reworded())
    assert [line[0] for line in found] == ["-", "+"]


def test_a_line_more_is_told() -> None:
    found = report_differences(["a"], ["a", "note: b"], Reworded())
    assert found == ["+note: b"]


def test_reworded_lines_are_equal_and_a_pair_that_is_met_nowhere_is_known() -> None:
    reworded = Reworded([("1 speaker(s)", "1 speaker"), ("pinned again", "taken over")])
    assert report_differences(["seed 3, 1 speaker(s)"], ["seed 3, 1 speaker"], reworded) == []
    assert report_differences(["seed 3, 1 speaker(s)"], ["seed 4, 1 speaker"], reworded) != []
    assert reworded.unmet() == ["pinned again"]


@pytest.mark.parametrize("text", ["{}", '[["a"]]', '[["", "b"]]', '["a", "b"]'])
def test_a_file_of_reworded_lines_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "reworded.json"
    path.write_text(text)
    with pytest.raises(SystemExit, match="list of pairs"):
        Reworded.read(path)


def recorded(folder: Path, change: float = 0.0, lines: str = "a\nb", failed: str = "") -> Path:
    record = Record(folder)
    frames = np.zeros((4, 2, 2, 3), np.float32)
    frames[2, 0, 0, 0] = change
    record.array("frames", "run images", frames)
    record.found["sound"]["run file"] = {"bytes": "1"}
    record.text("run", lines)
    if failed:
        record.found["failed"] = failed
    record.save()
    return folder


def test_a_bit_of_one_pixel_is_seen_and_told_in_numbers(tmp_path: Path) -> None:
    old, same = recorded(tmp_path / "old"), recorded(tmp_path / "same")
    assert compare("case", old, same, Reworded()).equal
    new = compare("case", old, recorded(tmp_path / "new", change=1e-9), Reworded())
    assert new.words == {"frames": "DIFFERS", "sound": "equal", "plan": "-", "report": "equal"}
    assert new.details == ["frames, run images: 1 of 4 along the first axis, first at 2, by up to 1e-09"]
    minus_zero = compare("case", old, recorded(tmp_path / "zero", change=-0.0), Reworded())
    assert not minus_zero.equal
    assert new.details[0] in table([new])


def test_results_that_are_missing_or_failed_are_not_equal(tmp_path: Path) -> None:
    old = recorded(tmp_path / "old")
    new = recorded(tmp_path / "new")
    path = new / "record.json"
    found = json.loads(path.read_text())
    del found["sound"]["run file"]
    path.write_text(json.dumps(found))
    assert compare("case", old, new, Reworded()).details == ["sound, run file: only in the old one"]
    both = [recorded(tmp_path / name, failed="Traceback\nValueError: no") for name in ("c", "d")]
    compared = compare("case", both[0], both[1], Reworded())
    assert compared.details == ["the old one failed: ValueError: no", "the new one failed: ValueError: no"]
    assert not compared.equal


def test_packets_that_differ_are_named(tmp_path: Path) -> None:
    old, new = recorded(tmp_path / "old"), recorded(tmp_path / "new")
    path = new / "record.json"
    path.write_text(path.read_text().replace('"bytes": "1"', '"bytes": "2"'))
    assert compare("case", old, new, Reworded()).details == ["sound, run file: bytes 1 and 2"]


def test_masks_leave_seconds_that_tell_no_duration() -> None:
    line = "Ending: hold, the picture stands still from 0:02.92 on (0.88 s)"
    assert masked(line) == line
