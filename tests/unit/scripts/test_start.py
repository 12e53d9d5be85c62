"""scripts/start.py and hand_over.py: any Python starts the benchmarks and the training, with what they import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import start


def run(python: str, *words: str, root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    return subprocess.run([python, *words], cwd=root, env=environ, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def stranger(root: Path) -> str:
    """The Python that the environment was made with, which has never heard of longtalk."""
    python = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    assert run(python, "-c", "import longtalk", root=root).returncode != 0
    return python


@pytest.mark.parametrize(
    ("module", "option"),
    [("benchmarks.memory", "--minutes"), ("benchmarks.ltx", "--overlap"), ("training.judge", "--compact")],
)
def test_any_python_starts_a_module(stranger: str, comfyui_path: Path, root: Path, module: str, option: str) -> None:
    done = run(stranger, "-m", module, "--help", root=root, COMFYUI_PATH=str(comfyui_path))
    assert done.returncode == 0, done.stderr
    assert option in done.stdout


def test_a_module_that_is_not_there_is_named(root: Path) -> None:
    done = run(sys.executable, "-m", "benchmarks.nowhere", root=root)
    assert done.returncode != 0
    assert "longtalk.benchmarks.nowhere" in done.stderr


def test_comfyui_is_on_the_path_where_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    python, environ = start.prepared(with_comfyui=True)
    assert python == sys.executable
    assert environ["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), "/somewhere"]
    assert start.prepared(with_comfyui=False)[1]["PYTHONPATH"] == "/somewhere"


def test_every_module_that_needs_comfyui_is_there(root: Path) -> None:
    for module in start.IN_COMFYUI:
        assert (root / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("package", ["benchmarks", "training"])
def test_modules_that_import_comfyui_are_in_the_list(root: Path, package: str) -> None:
    starts = {"benchmarks": ("comfyui.start(", "    start_comfyui("), "training": ("import_comfyui()",)}[package]
    modules = {f"{package}.{path.stem}": path.read_text() for path in (root / package).glob("*.py")}
    found = {
        name
        for name, text in modules.items()
        if any(each in text and f"def {each.strip()}" not in text for each in starts)
    }
    assert found == {name for name in start.IN_COMFYUI if name.startswith(package)}
