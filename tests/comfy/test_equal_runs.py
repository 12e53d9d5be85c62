"""The comparison of two checkouts runs: this one equals itself, through the real nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_checkout_equals_itself(comfyui_path: Path, root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.equal", str(root), str(root), "--keep", str(tmp_path / "made")]
    environ = {**os.environ, "COMFYUI_PATH": str(comfyui_path)}
    done = subprocess.run(
        [*command, "--only", "plans,ltx_plain"], cwd=root, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 configurations are equal" in done.stdout
    assert "ltx_plain      equal    equal    -        equal" in done.stdout
    assert "plans          -        -        equal    equal" in done.stdout
    for which in ("old", "new"):
        record = json.loads((tmp_path / "made" / which / "records" / "ltx_plain" / "record.json").read_text())
        assert record["frames"]["run images"]["shape"] == [81, 64, 96, 3]
        assert record["sound"]["run file"]["codec"] == "flac"
        assert any("in 4 windows" in line for line in record["report"])
