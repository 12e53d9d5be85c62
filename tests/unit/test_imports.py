"""The pack imports what it asks for itself, torch and ComfyUI; what is optional, only when it is wanted.

ComfyUI drops what it no longer needs from its requirements, as it did torchaudio. So a package counts as there when
requirements.txt names it, whatever the ComfyUI at hand brings. torch alone is left to ComfyUI.
The attention kernels are no import statements: `attention/backends.py` looks for each of them first.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("base", "nodes", "audio", "infinitetalk", "metrics")

#: ComfyUI's own modules, which are no distribution.
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "server"}
#: What some users have. Imported inside a function and inside a `try` that says what happens without.
OPTIONAL = {"torchaudio", "librosa"}


class Import(NamedTuple):
    where: str
    name: str
    in_function: bool
    in_try: bool

    @property
    def waits(self) -> bool:
        """Whether the module around it loads without it, and something is done where it is missing."""
        return self.in_function and self.in_try


def imports_in(path: Path, node: ast.AST, in_function: bool = False, in_try: bool = False) -> Iterator[Import]:
    """Every absolute import below a node, by its top-level name and what it stands in."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [each.name for each in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        names = [node.module]
    for name in names:
        yield Import(f"{path.relative_to(ROOT)}:{node.lineno}", name.split(".")[0], in_function, in_try)
    in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    tried = node.body if isinstance(node, ast.Try) else []
    for child in ast.iter_child_nodes(node):
        yield from imports_in(path, child, in_function, in_try or child in tried)


def product_imports() -> list[Import]:
    files = [ROOT / "__init__.py", *(path for top in PRODUCT for path in sorted((ROOT / top).rglob("*.py")))]
    found = [each for path in files for each in imports_in(path, ast.parse(path.read_text()))]
    return [each for each in found if each.name not in sys.stdlib_module_names]


def plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def requirements(path: Path) -> set[str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return {plain(re.split(r"[<>=!~;\[ ]", line)[0]) for line in lines if line and line[0] != "#"}


def test_every_import_is_asked_for_or_waits_until_it_is_wanted(comfyui_path: Path) -> None:
    asked = requirements(ROOT / "requirements.txt") | ({"torch"} & requirements(comfyui_path / "requirements.txt"))
    from_distributions = metadata.packages_distributions()
    modules = {name for name, owners in from_distributions.items() if asked & {plain(owner) for owner in owners}}
    assert "torch" in modules
    broken = [
        f"{each.where} imports {each.name}"
        for each in product_imports()
        if each.name not in modules | COMFYUI and not (each.name in OPTIONAL and each.waits)
    ]
    assert broken == []


def test_each_optional_package_is_imported_and_waits() -> None:
    assert {each.name for each in product_imports() if each.waits} >= OPTIONAL
