#!/usr/bin/env python3
"""How large files, classes and functions may be, and that nobody changes where Python looks for modules.

`scripts/limits.py` prints a line for each thing that is over: `file:line: what it is`. Exit code 1 where there is one.
ruff counts the parameters of functions (PLR0913) everywhere but in `nodes/`, where ComfyUI calls `execute` with as many
as the schema names; here those of all other functions there are counted. Standard library only.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from setup_common import CLONE

MOST_PARAMETERS = 10
MOST_CLASS_LINES = 250
MOST_LINES = 400
MOST_TEST_LINES = 500

#: Called by ComfyUI with the inputs that the schema names.
SCHEMAS = "nodes"
CALLED_BY_COMFYUI = "execute"

_CHANGES = ("insert", "append", "extend", "remove", "pop", "clear", "reverse", "sort")
_LIST = ("sys", "path")
_IN_TEXT = re.compile(r"\bsys\.path(\.(" + "|".join(_CHANGES) + r")\(|(\[[^\]]*\])?\s*\+?=[^=])")
_NOT_OURS = {"__pycache__", "build", "dist", "demo-output"}


class Over(NamedTuple):
    """Something that is over a limit: ``what`` names it, ``how`` gives the number and the limit."""

    file: str
    line: int
    what: str
    how: str

    @property
    def key(self) -> tuple[str, str]:
        return self.file, self.what

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}: {self.how}"


def python_files(root: Path) -> Iterator[Path]:
    """Our Python files, the scripts without a suffix too; nothing that a tool made, or that git leaves alone."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in _NOT_OURS)
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix == ".py" or (not path.suffix and _is_script(path)):
                yield path


def _is_script(path: Path) -> bool:
    with open(path, "rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


def over_in(root: Path) -> list[Over]:
    """Everything in this tree that is over a limit."""
    return [over for path in python_files(root) for over in over_in_file(path, path.relative_to(root).as_posix())]


def over_in_file(path: Path, name: str) -> Iterator[Over]:
    """What is over a limit in one file, which is called ``name`` from the root of the tree."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, name)
    top = name.split("/")[0]
    lines, most = len(text.splitlines()), MOST_TEST_LINES if top == "tests" else MOST_LINES
    if lines > most:
        yield Over(name, most + 1, "file", f"{lines} lines, {most} at most")
    documentation = {id(node) for node in _docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _of_class(node, name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and top == SCHEMAS:
            yield from _of_function(node, name)
        elif isinstance(node, ast.stmt | ast.expr) and id(node) not in documentation and _changes_the_path(node):
            yield Over(
                name, node.lineno, ".".join(_LIST), "changed; start Python so that it finds the modules by itself"
            )


def _of_class(node: ast.ClassDef, name: str) -> Iterator[Over]:
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    lines = (node.end_lineno or first) - first + 1
    if lines > MOST_CLASS_LINES:
        yield Over(name, node.lineno, f"class {node.name}", f"{lines} lines, {MOST_CLASS_LINES} at most")


def _of_function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[Over]:
    count = _parameters(node)
    if node.name != CALLED_BY_COMFYUI and count > MOST_PARAMETERS:
        yield Over(name, node.lineno, f"def {node.name}", f"{count} parameters, {MOST_PARAMETERS} at most")


def _docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    """Texts that stand by themselves: what they say is not run."""
    return (
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """As ruff counts them: without those that collect the rest, and without the object itself."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _changes_the_path(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = node.func
        if not isinstance(called, ast.Attribute):
            return False
        return called.attr == "addsitedir" or (called.attr in _CHANGES and _is_the_path(called.value))
    if isinstance(node, ast.Assign | ast.Delete):
        return any(_is_part_of_the_path(each) for each in node.targets)
    if isinstance(node, ast.AugAssign):
        return _is_part_of_the_path(node.target)
    if isinstance(node, ast.ImportFrom):
        return node.module == _LIST[0] and any(each.name == _LIST[1] for each in node.names)
    # A program handed to another Python.
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_IN_TEXT.search(node.value))


def _is_the_path(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) == _LIST


def _is_part_of_the_path(node: ast.AST) -> bool:
    if isinstance(node, ast.Tuple | ast.List):
        return any(_is_part_of_the_path(each) for each in node.elts)
    return _is_the_path(node.value if isinstance(node, ast.Subscript) else node)


def main() -> int:
    found = over_in(CLONE)
    for over in found:
        print(over)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
