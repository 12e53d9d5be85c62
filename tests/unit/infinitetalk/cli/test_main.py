"""How the command line is started: as the pages say, whatever the pack's folder is called and however Python looks for
modules.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import NAME
from pack_copy import NAMES, copy_pack, shown_commands, words_of
from sound_files import drums, voice, write, write_video

from longtalk.infinitetalk.cli.main import COMMANDS

SAFE_PATH = ["-P"] if sys.version_info >= (3, 11) else ["-E"]  # Python 3.10 knows no -P
OPTIONS = ([], SAFE_PATH, ["-I"])


def started(words: list[str], where: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=where, env={**os.environ, **environ}, capture_output=True, text=True)


@pytest.fixture(params=NAMES)
def pack(request: pytest.FixtureRequest, tmp_path: Path, output: Path) -> Path:
    """The pack in a ComfyUI with two runs, under each name."""
    folder = copy_pack(tmp_path / "ComfyUI", request.param)
    shutil.copytree(output / "longtalk", folder.parents[1] / "output" / "longtalk", dirs_exist_ok=True)
    return folder


def test_the_pages_show_every_command_but_no_other_way_to_start_it(root: Path) -> None:
    lines = shown_commands(root)
    assert {re.split(r"bin[/\\]longtalk ", line)[1].split()[0] for line in lines} == {
        command.__name__.rpartition(".")[2] for command in COMMANDS
    }
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "workflows").glob("*.json")]
    for page in pages:
        assert not re.search(r"infinitetalk[./\\]cli (runs|song|plan|prepare|analyze)", page.read_text()), page


def run_shown(line: str, pack: Path) -> str:
    """What a line that the pages show says, started in the pack's folder; the portable version's Python is isolated."""
    options = ["-I"] if "python_embeded" in line else []
    done = started(words_of(line, [sys.executable, *options], pack), pack)
    assert (done.returncode, done.stderr) == (0, ""), line
    return done.stdout


def test_the_lines_about_runs_work_under_every_name(root: Path, pack: Path) -> None:
    lines = [line for line in shown_commands(root) if line.endswith("runs list")]
    assert len(lines) == 3
    for line in lines:
        assert NAME in run_shown(line, pack)


def test_every_line_works(root: Path, tmp_path: Path) -> None:
    """In the order of the pages: one takes what another wrote."""
    pack = copy_pack(tmp_path / "ComfyUI", "longtalk")
    sound = write(tmp_path / "sound.m4a", voice(48000, 3.0), 48000)
    write_video(pack / "interview.mp4", sound, seconds=3.0)
    write(pack / "song.mp3", drums(44100, 8.0), 44100)
    for line in shown_commands(root):
        assert run_shown(line, pack)
    assert (pack / "speech.wav").stat().st_size > 100_000


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_it_makes_no_difference_where_python_looks(pack: Path, options: list[str]) -> None:
    """As a script with its path and without, and in the ways of before: as a folder and as a module."""
    python = [sys.executable, *options]
    script, folder = pack / "bin" / "longtalk", pack / "infinitetalk" / "cli"
    ways = [
        ([*python, "bin/longtalk"], pack),
        ([*python, str(script)], Path("/")),
        ([*python, str(folder)], Path("/")),
        ([*python, f"{pack.name}/infinitetalk/cli"], pack.parent),
    ]
    if not options:
        ways.append(([*python, "-m", f"{pack.name}.infinitetalk.cli"], pack.parent))
    for words, where in ways:
        done = started([*words, "runs", "list", "--json"], where)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert NAME in {run["name"] for run in json.loads(done.stdout)}


def test_nothing_of_the_pack_hides_other_modules(tmp_path: Path) -> None:
    """Seen at the end of the process: no module is loaded from the pack but under the pack's own name, nor could be."""
    pack = copy_pack(tmp_path / "ComfyUI", "LongTalk")
    write(tmp_path / "speech.wav", voice(16000, 2.0), 16000)
    watch = tmp_path / "watch"
    watch.mkdir()
    (watch / "sitecustomize.py").write_text(
        "import atexit, importlib.util, os, pathlib, sys\n"
        "def look():\n"
        "    pack = pathlib.Path(os.environ['PACK'])\n"
        "    files = [p for p in pack.rglob('*') if p.suffix == '.py' or p.is_dir()]\n"
        "    names = {p.stem for p in files if p.stem.isidentifier() and p.stem[:2] != '__'}\n"
        "    for name in sorted(names - {'longtalk'}):\n"
        "        spec = importlib.util.find_spec(name)\n"
        "        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []\n"
        "        print('HIDES', name, file=sys.stderr) if any(str(pack) in str(p) for p in places) else None\n"
        "    print('LOOKED', len(names), file=sys.stderr)\n"
        "atexit.register(look)\n"
    )
    for start in ("bin/longtalk", "infinitetalk/cli"):
        words = [sys.executable, str(pack / start), "plan", "speech.wav"]
        done = started(words, tmp_path, PYTHONPATH=str(watch), PACK=str(pack))
        assert done.returncode == 0
        assert "HIDES" not in done.stderr
        looked = re.search(r"LOOKED (\d+)", done.stderr)
        assert looked is not None
        assert int(looked[1]) > 100


def test_the_folder_form_leaves_no_process_in_between(tmp_path: Path) -> None:
    """The process that was started is the one that works, so whoever stops it stops the work."""
    pack = copy_pack(tmp_path / "ComfyUI", "LongTalk")
    watch = tmp_path / "watch"
    watch.mkdir()
    (watch / "sitecustomize.py").write_text("import os, sys\nprint('PROCESS', os.getpid(), file=sys.stderr)\n")
    words = [sys.executable, "-W", "error", str(pack / "infinitetalk" / "cli"), "runs", "list"]
    done = started(words, tmp_path, PYTHONPATH=str(watch))
    numbers = re.findall(r"PROCESS (\d+)", done.stderr)
    assert done.returncode == 0
    assert len(numbers) == 2
    assert len(set(numbers)) == 1


def test_a_python_without_the_requirements_is_named(root: Path) -> None:
    """What people type first is often the system's Python. `-S` leaves out everything that was installed."""
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(root / "bin" / "longtalk"), "runs", "list"],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected ComfyUI's Python with LongTalk's requirements, got ")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
