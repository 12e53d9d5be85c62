"""Servers that are killed while they work lose nothing: the benchmark of it, shorter. Runs with --long only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 10


@pytest.mark.long
def test_no_kill_loses_or_changes_anything(comfyui_path: Path, root: Path) -> None:
    """At random moments, and while each kind of file is half written."""
    from longtalk.benchmarks.faults import AIMS

    command = [sys.executable, "-m", "benchmarks.faults", "--runs", str(RUNS), "--json"]
    environ = {**os.environ, "COMFYUI_PATH": str(comfyui_path)}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["runs"]) == RUNS + len(AIMS)
    assert all(run["kills"] for run in found["runs"])
