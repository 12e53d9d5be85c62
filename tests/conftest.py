"""Where the tests find ComfyUI and the tiny models, what only a long run holds, and what the summary says."""

from __future__ import annotations

import os
import runpy
from collections import Counter
from pathlib import Path

import amounts
import pytest

ROOT = Path(__file__).resolve().parent.parent
SUITES = {"unit": "without ComfyUI", "comfy": "in the ComfyUI process", "server": "against the ComfyUI server"}


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "also what takes long: kills of real servers, many more generated examples, every case of each matrix"
    parser.addoption("--long", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    amounts.choose(long=config.getoption("long"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --long, leave out the tests marked `long` and all but some cases of those marked `matrix`."""
    if config.getoption("long"):
        for item in items:
            item.add_marker(pytest.mark.timeout(amounts.LONG_TIMEOUT_S))
        return
    thinning = amounts.Thinning()
    kept, left_out = [], []
    for item in items:
        stays = item.get_closest_marker("long") is None
        matrix = item.get_closest_marker("matrix")
        if matrix is not None and isinstance(item, pytest.Function):
            # All cases share the objects that are their values, and those need not be comparable.
            case = {axis: id(value) for axis, value in item.callspec.params.items()}
            stays &= thinning.stays(item.nodeid.split("[")[0], case, matrix.kwargs["strength"])
        (kept if stays else left_out).append(item)
    # A case that somebody names is run.
    if left_out and not any("[" in argument for argument in config.args):
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.exit(f"{variable} must name a folder (got {value!r}); run scripts/test, which sets it", returncode=2)
    return Path(value).resolve()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """The ComfyUI under test."""
    return _folder("COMFYUI_PATH")


@pytest.fixture(scope="session")
def tiny_models() -> Path:
    """The folder of tiny models, laid out as ComfyUI's models folder."""
    return _folder("LONGTALK_TINY_MODELS")


def comfyui_version() -> str:
    path = Path(os.environ.get("COMFYUI_PATH", "")) / "comfyui_version.py"
    return runpy.run_path(str(path))["__version__"] if path.is_file() else "none"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        parts = Path(report.nodeid.split("::")[0]).parts
        if report.when == "call" and len(parts) > 1:
            counts[parts[1]] += 1
    passed = ", ".join(f"{counts[suite]} {text}" for suite, text in SUITES.items())
    skipped = len(terminalreporter.stats.get("skipped", []))
    if os.environ.get("LONGTALK_LINT_FAILED"):
        terminalreporter.write_line(f"FAILED before the tests: {os.environ['LONGTALK_LINT_FAILED']} (see above)")
    terminalreporter.write_line(f"ComfyUI {comfyui_version()}: passed {passed}; {skipped} skipped")
