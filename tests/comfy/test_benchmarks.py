"""The comparison runs at tiny size on the CPU, and its table and plot come out; speed is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

OURS, OTHERS = (0, 114, 178), (153, 153, 153)


def compare(out: Path, comfyui: Path, root: Path, cases: str) -> None:
    command = [sys.executable, "-m", "benchmarks.compare", "--size", "tiny", "--cases", cases, "--out", str(out)]
    environ = {**os.environ, "COMFYUI_PATH": str(comfyui), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def results(comfyui_path: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small comparison: core and LongTalk, two windows; then the latents of each class of kernels."""
    out = tmp_path_factory.mktemp("benchmark")
    compare(out, comfyui_path, root, "window")
    compare(out, comfyui_path, root, "accuracy")
    return out


def test_both_made_what_was_asked_for(results: Path) -> None:
    rows = json.loads((results / "benchmarks.json").read_text())["rows"]
    made = {row["name"]: row for row in rows if row["case"] == "window"}
    assert set(made) == {"ComfyUI core", "LongTalk exact, first run"}
    for row in made.values():
        assert row["frames"] == row["asked"] == 33
        assert row["forwards"] == 2 * 2
        assert row["forward_ms"] > 0
    assert [row["error"] for row in rows if row["case"] == "accuracy"] == [0.0, 0.0, 0.0], "one attention on the CPU"


def test_ltx_runs_at_tiny_size(comfyui_path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.ltx", "--size", "tiny"]
    environ = {**os.environ, "COMFYUI_PATH": str(comfyui_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert (row["windows"], row["frames"]) == (3, 81)
    assert row["forward_ms"] > 0


def test_a_queue_of_some_minutes(comfyui_path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.queue", "--minutes", "2", "--every", "0.2"]
    environ = {**os.environ, "COMFYUI_PATH": str(comfyui_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)
    assert "pictures in the VAE" in done.stdout, done.stdout + done.stderr
    assert next(line for line in done.stdout.splitlines() if "pictures in" in line).endswith("in 1 call(s)")
    assert "limit 3 s" in done.stdout


def test_table_and_plot(results: Path, root: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.tables", "--out", str(results)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    page = (results / "benchmarks.md").read_text()
    for words in ("ComfyUI core", "LongTalk exact, first run", "Accuracy", "96x64"):
        assert words in page
    with Image.open(results / "benchmarks.png") as picture:
        assert picture.width == 1200
        colours = {colour for _, colour in picture.getcolors(2**16) or []}
    assert {OURS, OTHERS} <= colours
