"""Who may import what: pure rooms know no ComfyUI, one room imports comfy, importing the pack does nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMFYUI = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "comfy_execution",
    "execution",
    "folder_paths",
    "latent_preview",
    "server",
}
PURE = ("audio", "base", "infinitetalk", "metrics")
HOST = "infinitetalk/host"


def modules(root: Path, folder: str) -> list[Path]:
    return sorted(path for path in (root / folder).rglob("*.py") if HOST not in path.relative_to(root).as_posix())


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("folder", PURE)
def test_pure_rooms_never_name_comfyui(root: Path, folder: str) -> None:
    found = modules(root, folder)
    assert len(found) > 4
    for path in found:
        assert not imported(path) & COMFYUI, path


def test_the_plan_needs_no_torch(root: Path) -> None:
    for name in ("windows", "plan_text", "schedule", "schedule_text"):
        assert not imported(root / "infinitetalk" / "plan" / f"{name}.py") & {"torch", "numpy"}


def test_pure_rooms_import_without_comfyui(root: Path) -> None:
    """All of them in a fresh process that has no ComfyUI on its path."""
    names = [
        "longtalk." + path.relative_to(root).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for folder in PURE
        for path in modules(root, folder)
    ]
    code = (
        (
            f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
            f"assert not {sorted(COMFYUI)!r} & sys.modules.keys()"
        )
        .replace("assert not [", "assert not {")
        .replace("] &", "} &")
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_importing_the_pack_does_nothing() -> None:
    code = (
        "import sys\nbefore = list(sys.path)\nimport longtalk\n"
        "assert sys.path == before\nassert 'torch' not in sys.modules\n"
        "assert callable(longtalk.comfy_entrypoint)\nassert not hasattr(longtalk, 'NODE_CLASS_MAPPINGS')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd="/", capture_output=True, text=True)
    assert done.stdout == done.stderr == ""


def test_every_node_has_a_help_page(root: Path) -> None:
    promised = json.loads((root / "tests" / "server" / "promised_inputs.json").read_text())
    for node in promised:
        page = (root / "web" / "docs" / f"{node}.md").read_text()
        assert page.startswith("# ")
        assert len(page) > 150


def test_links_in_the_readme_lead_somewhere(root: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (root / "README.md").read_text())
    assert len(links) > 5
    for link in links:
        assert (root / link).exists(), link
