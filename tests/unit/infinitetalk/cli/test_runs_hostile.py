"""A thousand folders of runs from somebody who means harm, through every command: our own words, nothing outside the
runs is touched, and nothing hangs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from amounts import LONG_TIMEOUT_S, cases
from hostile_folders import Hostile, in_time, make_outside, snapshot
from made_runs import NAME
from run_commands import OTHER, call

#: Folders, in a run with --long and in one without.
MANY, FEW = 1000, 40

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")

COMMANDS = (
    ("list",),
    ("list", "--json"),
    ("inspect", "{name}", "--verify"),
    ("inspect", "{name}", "--at", "1", "--json"),
    ("export", "{name}", "--to", "{target}"),
    ("delete", "{name}", "--dry-run"),
    ("delete", "--all", "--windows-only", "--yes"),
    ("inspect", "{name}", "--verify"),
    ("delete", "{name}", "--yes"),
    ("list",),
)


def foreign_files(folder: Path) -> dict[str, bytes]:
    """What is certainly not LongTalk's in a folder, with what is in it."""
    folders = [path for path in folder.glob("*") if path.is_dir() and not path.is_symlink()]
    inner = {f"{path.name}/{each.name}": each for path in folders for each in path.iterdir()}
    inner |= {path.name: path for path in folder.glob("foreign.bin*") if path.is_file() and not path.is_symlink()}
    return {name: path.read_bytes() for name, path in inner.items() if path.lstat().st_size < 1 << 20}


@pytest.mark.timeout(LONG_TIMEOUT_S)
def test_every_command_on_hostile_folders(made: Path, tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    before = snapshot(outside)
    output = tmp_path / "output"
    codes = set()
    for number in range(cases(FEW, MANY)):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(made / "longtalk", output / "longtalk")
        name = (NAME, OTHER)[number % 2]
        folder = output / "longtalk" / name
        hostile = Hostile(number, outside)
        hostile.harm(folder)
        foreign = foreign_files(folder)
        target = tmp_path / "out.mp4"
        target.unlink(missing_ok=True)
        for command in COMMANDS:
            arguments = [each.format(name=name, target=target) for each in command]
            label = f"{hostile}; {' '.join(arguments)}"
            code, _, errors = in_time(lambda a=arguments: call(output, *a), label)
            assert code in (0, 1), label
            assert "Errno" not in errors, f"{label}: {errors}"
            assert snapshot(outside) == before, label
            codes.add((command[0], code))
        assert foreign_files(folder) == foreign, hostile
    # Each command worked on some, and refused others.
    assert {("inspect", 0), ("inspect", 1), ("export", 0), ("export", 1), ("delete", 0), ("list", 0)} <= codes
