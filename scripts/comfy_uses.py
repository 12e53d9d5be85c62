"""What of ComfyUI this pack's source uses: names, calls, overridden methods, members of objects. Standard library only.

What an import binds is followed through attributes, so those uses are found by themselves. What an object is that a
function is handed cannot be read from the source: `comfy_members.json` names the classes, what our code calls their
objects, and the members that it uses; it also names the words (keys of dictionaries) that both sides must know.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_tree import PACKAGES, Function, Parameter, chain, function_parameters
from setup_common import CLONE

MODULES = ("execution", "folder_paths", "latent_preview", "node_helpers", "nodes", "server")
PRODUCT = ("__init__.py", "base", "nodes", "infinitetalk", "audio", "metrics")
TOOLS = ("scripts", "benchmarks", "training")
MEMBERS = Path(__file__).with_name("comfy_members.json")


@dataclass(frozen=True)
class Call:
    """How something is called; ``more`` where the source does not tell all (``*args``, ``**options``)."""

    positional: int = 0
    keywords: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True)
class Use:
    """One use of one name of ComfyUI.

    Attributes:
        name: dotted, as ``comfy.samplers.CFGGuider.set_conds``.
        where: file and line.
        call: how it is called, if it is.
        override: the parameters of our own method of that name in a class derived from ComfyUI's.
    """

    name: str
    where: str
    call: Call | None = None
    override: tuple[Parameter, ...] | None = None


@dataclass(frozen=True)
class Objects:
    """Members of the objects of one class, as comfy_members.json declares them."""

    of: str
    called: frozenset[str]
    members: frozenset[str]


@dataclass(frozen=True)
class Declared:
    """What comfy_members.json says."""

    objects: tuple[Objects, ...] = ()
    overrides: dict[str, tuple[str, ...]] = field(default_factory=dict)
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)


def declared(path: Path = MEMBERS) -> Declared:
    """Read the table of what the source does not tell."""
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    objects = (
        Objects(each["class"], frozenset(each["called"]), frozenset(each["members"])) for each in table["objects"]
    )
    return Declared(tuple(objects), table["overrides"], table["words"])


def source_files(folders: Sequence[str] = PRODUCT, root: Path = CLONE) -> list[Path]:
    """Our own Python files."""
    found = []
    for name in folders:
        path = root / name
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def uses_in(paths: Sequence[Path], table: Declared, root: Path = CLONE) -> list[Use]:
    """All uses in these files, in the order of the files."""
    out: list[Use] = []
    for path in paths:
        reader = _Reader(str(path.relative_to(root)), table)
        reader.read(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        out += reader.uses
    return out


def is_comfy(module: str) -> bool:
    """Whether an absolute import of this module is one of ComfyUI's."""
    return module.split(".")[0] in (*PACKAGES, *MODULES)


class _Reader(ast.NodeVisitor):
    """Collects the uses in one file."""

    def __init__(self, where: str, table: Declared) -> None:
        self.uses: list[Use] = []
        self._where = where
        self._table = table
        self._bound: dict[str, str] = {}
        self._bases: list[str | None] = []

    def read(self, tree: ast.Module) -> None:
        """Imports first, wherever they stand: functions use names that are imported further down, too."""
        for node in ast.walk(tree):
            for name, target in _imports(node):
                self._bind(name, target, node)
        for name, values in _assigned(tree).items():
            # manager = comfy.model_management, where that is all that the name ever means.
            target = self._target(values[0]) if len(values) == 1 and isinstance(values[0], ast.Attribute) else None
            if target is not None:
                self._bind(name, target, values[0])
        self.visit(tree)

    def _bind(self, name: str, target: str, node: ast.AST) -> None:
        if self._bound.setdefault(name, target) != target:
            raise ValueError(
                f"{self._at(node)}: expected '{name}' to mean one thing in a file, got {self._bound[name]} and "
                f"{target}; rename one of them"
            )

    def _at(self, node: ast.AST) -> str:
        return f"{self._where}:{getattr(node, 'lineno', 0)}"

    def _target(self, node: ast.AST) -> str | None:
        """The dotted name of ComfyUI that an expression means, where it means one."""
        if isinstance(node, ast.Name):
            return self._bound.get(node.id)
        if isinstance(node, ast.Attribute):
            before = self._target(node.value)
            return None if before is None else f"{before}.{node.attr}"
        if isinstance(node, ast.Call) and chain(node.func) in ("import_module", "importlib.import_module"):
            name = node.args[0] if node.args else None
            return str(name.value) if isinstance(name, ast.Constant) and is_comfy(str(name.value)) else None
        return None

    def _add(self, name: str, node: ast.AST, call: Call | None = None) -> None:
        if name.split(".")[0] in MODULES or "." in name:
            self.uses.append(Use(name, self._at(node), call))

    def _members(self, receiver: str, member: str, node: ast.AST, call: Call | None = None) -> None:
        for objects in self._table.objects:
            if receiver in objects.called and member in objects.members:
                self.uses.append(Use(f"{objects.of}.{member}", self._at(node), call))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if is_comfy(alias.name):
                self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for _, target in _imports(node):
            self._add(target, node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = [self._target(base) for base in node.bases]
        for base in filter(None, bases):
            for method in (each for each in node.body if isinstance(each, Function)):
                if method.name in self._table.overrides.get(base, ()):
                    parameters = tuple(function_parameters(method.args, skip_first=True))
                    self.uses.append(Use(f"{base}.{method.name}", self._at(method), override=parameters))
        self._bases.append(bases[0] if bases else None)
        self.generic_visit(node)
        self._bases.pop()

    def visit_Call(self, node: ast.Call) -> None:
        call = _shape(node)
        target = self._target(node.func)
        if target is not None:
            self._add(target, node, call)
        elif isinstance(node.func, ast.Attribute):
            self._method_call(node.func, call)
        elif chain(node.func) in ("getattr", "hasattr") and len(node.args) > 1:
            self._members(ast.unparse(node.args[0]), str(getattr(node.args[1], "value", "")), node)
        for part in (*node.args, *node.keywords):
            self.visit(part)

    def _method_call(self, function: ast.Attribute, call: Call) -> None:
        receiver = ast.unparse(function.value)
        if receiver == "super()":
            if self._bases and self._bases[-1]:
                self._add(f"{self._bases[-1]}.{function.attr}", function, call)
            return
        self._members(receiver, function.attr, function, call)
        self.visit(function.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        target = self._target(node)
        if target is not None:
            self._add(target, node)
            return
        self._members(ast.unparse(node.value), node.attr, node)
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        target = self._target(node)
        if target is not None and isinstance(node.ctx, ast.Load):
            self._add(target, node)


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Names that an import of ComfyUI binds, and what they stand for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if is_comfy(alias.name):
                top = alias.name.split(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module and is_comfy(node.module):
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _assigned(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """All that is assigned to each plain name anywhere in a file."""
    out: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name):
                out.setdefault(target.id, []).append(node.value)
    return out


def _shape(node: ast.Call) -> Call:
    starred = any(isinstance(argument, ast.Starred) for argument in node.args)
    keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
    positional = sum(not isinstance(argument, ast.Starred) for argument in node.args)
    return Call(positional, keywords, starred or len(keywords) < len(node.keywords))


def texts_in(paths: Sequence[Path]) -> set[str]:
    """All string constants and all names of attributes in these files."""
    out: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                out.add(node.value)
            elif isinstance(node, ast.Attribute):
                out.add(node.attr)
            elif isinstance(node, ast.keyword) and node.arg:
                out.add(node.arg)
            elif isinstance(node, (*Function, ast.ClassDef)):
                out.add(node.name)
    return out
