"""scripts/limits.py: what is over a limit is found, what is at it is not; ruff counts parameters everywhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import limits
import pytest

#: Written so that this file itself does not seem to change it.
PATH = ".".join(("sys", "path"))
Over = Callable[[str, str], list[tuple[int, str]]]
RUFF = Path(sys.executable).with_name("ruff")


@pytest.fixture
def over(tmp_path: Path) -> Over:
    """What is found in a tree of one file, as (line, what)."""

    def find(name: str, text: str) -> list[tuple[int, str]]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        found = limits.over_in(tmp_path)
        assert {each.file for each in found} <= {name}
        return [(each.line, each.what) for each in found]

    return find


@pytest.mark.parametrize(
    ("name", "most"), [("audio/voice.py", 400), ("scripts/demo.py", 400), ("tests/unit/test_voice.py", 500)]
)
def test_a_file_is_as_long_as_its_limit(over: Over, name: str, most: int) -> None:
    assert over(name, "x = 1\n" * most) == []
    assert over(name, "x = 1\n" * (most + 1)) == [(most + 1, "file")]


def test_a_class_counts_its_decorators(over: Over) -> None:
    body = "class Long:\n" + "    x = 1\n" * 249
    assert over("audio/voice.py", body) == []
    assert over("audio/voice.py", f"@dataclass\n{body}") == [(2, "class Long")]


TEN = ", ".join(f"a{index}" for index in range(10))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"def f({TEN}): ...", []),
        (f"def f({TEN}, b): ...", [(1, "def f")]),
        (f"def f({TEN}, /, *, b=1): ...", [(1, "def f")]),
        (f"class A:\n    async def f(self, {TEN}, b): ...", [(2, "def f")]),
        (f"class A:\n    def f(self, {TEN}, *rest, **more): ...", []),
        (f"class A:\n    def execute(cls, {TEN}, b, c): ...", []),
    ],
)
def test_parameters_of_a_node(over: Over, text: str, found: list[tuple[int, str]]) -> None:
    assert over("nodes/plan.py", text) == found


@pytest.mark.parametrize(
    "line",
    [
        f"{PATH}.insert(0, 'scripts')",
        f"{PATH}.append('scripts')",
        f"{PATH}.remove('scripts')",
        f"{PATH} = ['scripts']",
        f"{PATH}[0] = 'scripts'",
        f"{PATH}[:0] = ['scripts']",
        f"{PATH} += ['scripts']",
        f"del {PATH}[0]",
        f"before, {PATH} = {PATH}, ['scripts']",
        "from sys import path",
        "site.addsitedir('scripts')",
        f"run([python, '-c', \"import sys; {PATH}.insert(0, 'scripts')\"])",
        f"run([python, '-c', f'import sys; {PATH}[:0] = {{folders}}'])",
    ],
)
def test_a_changed_path_is_found(over: Over, line: str) -> None:
    assert over("tests/conftest.py", f"import sys, site\n\n\ndef f():\n    {line}\n") == [(5, PATH)]


def test_a_path_that_is_read_is_none(over: Over) -> None:
    text = f'"""Never {PATH}.insert(0, x)."""\nbefore = list({PATH})\nassert {PATH} == before\nfirst = {PATH}[0]\n'
    assert over("tests/conftest.py", text) == []


def test_scripts_without_a_suffix_are_read_and_what_a_tool_made_is_not(tmp_path: Path) -> None:
    for name in ("bin/longtalk", ".venv/lib/a.py", "build/b.py", "docs/notes", "shell"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\n" if name == "shell" else "#!/usr/bin/env python3\n")
    (tmp_path / "docs" / "notes").write_text("python")
    assert [path.relative_to(tmp_path).as_posix() for path in limits.python_files(tmp_path)] == ["bin/longtalk"]


def test_every_script_that_ruff_checks_is_read(root: Path) -> None:
    shown = subprocess.run([RUFF, "check", "--show-files", "."], cwd=root, check=True, capture_output=True, text=True)
    ruffs = {Path(line) for line in shown.stdout.splitlines() if not line.endswith(".toml")}
    assert set(limits.python_files(root)) == ruffs


def test_the_exit_code_says_whether_something_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "CLONE", tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n" * 400)
    assert (limits.main(), capsys.readouterr().out) == (0, "")
    (tmp_path / "b.py").write_text("x = 1\n" * 403)
    assert (limits.main(), capsys.readouterr().out) == (1, "b.py:401: file: 403 lines, 400 at most\n")


def test_ruff_lets_through_no_more_functions_than_it_must(root: Path) -> None:
    """The files in which ruff does not count parameters are the nodes alone."""
    command = [RUFF, "check", ".", "--isolated", "--select", "PLR0913", "--output-format", "json"]
    command += ["--exit-zero", "--config", f"lint.pylint.max-args={limits.MOST_PARAMETERS}"]
    found = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
    over = {Path(each["filename"]).relative_to(root).as_posix() for each in found}
    text = (root / "pyproject.toml").read_text()
    let_through = {line.split('"')[1] for line in text.splitlines() if line.endswith('= ["PLR0913"]')}
    assert f"max-args = {limits.MOST_PARAMETERS}" in text.splitlines()
    assert let_through == {"nodes/*"}
    assert {file for file in over if not file.startswith("nodes/")} == set()
