"""What a run without --long leaves out of matrices, and what --long adds."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import amounts
import pytest

SIZES = ((2, 5), (5, 2), (3, 3, 2), (3, 3, 3), (4, 2, 2, 5))


@pytest.mark.parametrize("strength", [1, 2])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_thinned_matrix_keeps_every_value_or_pair(sizes: tuple[int, ...], strength: int) -> None:
    axes = [f"axis {number}" for number in range(len(sizes))]
    thinning = amounts.Thinning()
    cases = [dict(zip(axes, case, strict=True)) for case in itertools.product(*map(range, sizes))]
    kept = [case for case in cases if thinning.stays("a test", case, strength)]
    for chosen in itertools.combinations(axes, strength):
        assert {tuple(case[axis] for axis in chosen) for case in kept} == {
            tuple(case[axis] for axis in chosen) for case in cases
        }
    assert (len(kept) < len(cases)) == (len(sizes) > strength)


PROJECT = """
import amounts, pytest

@pytest.mark.long
def test_kills(): pass

@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("a", [1, 2, 3])
@pytest.mark.parametrize("b", [4, 5, 6])
def test_all(a, b): pass

def test_count(record_property):
    print("examples", amounts.examples(10))
"""


@pytest.mark.parametrize(
    ("options", "passed", "examples"),
    [
        ((), "6 passed, 5 deselected", 10),
        (("--long",), "11 passed", 10 * amounts.LONG_TIMES),
        (("test_it.py::test_all[6-3]",), "1 passed", None),
    ],
)
def test_what_runs(tmp_path: Path, root: Path, options: tuple[str, ...], passed: str, examples: int | None) -> None:
    """With the repository's own conftest.py and pyproject.toml."""
    for name in ("pyproject.toml", "tests/conftest.py"):
        (tmp_path / Path(name).name).write_text((root / name).read_text())
    (tmp_path / "test_it.py").write_text(PROJECT)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "support").symlink_to(root / "tests" / "support")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *(options or ("test_it.py",))]
    if "--long" in options:
        command.append("test_it.py")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert f"{passed} in " in done.stdout, done.stdout + done.stderr
    assert examples is None or f"examples {examples}\n" in done.stdout
