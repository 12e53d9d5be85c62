"""What a ComfyUI defines, read from its source without running it. Standard library only.

A tree may be whole, or hold single files of a version that cannot be had whole. A name that a whole tree does not have
is missing; in a tree of single files it may lie in a file that is not there, and that is said instead.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

#: ComfyUI's own packages; comfy_kitchen, comfy_aimdo and the like are packages of others to it.
PACKAGES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras")
Function = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Decorators after which the parameters are still the ones that are written.
_HARMLESS = {"classmethod", "staticmethod", "abstractmethod", "override", "wrap_attn", "torch.no_grad", "final"}
#: Behind so many names that only stand for another name, something goes in circles.
_MOST_STEPS = 40


class State(Enum):
    """What a tree says of a name."""

    THERE = "there"
    MISSING = "missing"
    NOT_GIVEN = "file not given"
    UNSEEN = "cannot be read from the source"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function; ``kind`` is "positional", "keyword", "args" or "kwargs"."""

    name: str
    kind: str
    default: str | None = None

    @property
    def required(self) -> bool:
        return self.default is None and self.kind in ("positional", "keyword")


@dataclass(frozen=True)
class Module:
    """A parsed file: the dotted name by which it is imported, where it lies, its syntax tree."""

    name: str
    path: Path
    body: list[ast.stmt]
    is_package: bool


@dataclass(frozen=True)
class Definition:
    """Where a name is defined: a function, a class, or a value (then ``node`` is what is assigned)."""

    module: Module
    node: ast.AST
    method: bool = False

    @property
    def place(self) -> str:
        file = self.module.name.replace(".", "/") + ("/__init__.py" if self.module.is_package else ".py")
        return f"{file}:{getattr(self.node, 'lineno', '?')}"


@dataclass(frozen=True)
class Found:
    """The definitions of a name (several where ComfyUI chooses at run time), or why there are none."""

    state: State
    definitions: tuple[Definition, ...] = ()
    why: str = ""


@dataclass(eq=False)
class Tree:
    """The Python files below a folder, parsed when they are asked for."""

    root: Path
    _modules: dict[str, Module | None] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the folder holds all of a ComfyUI, judged by the files that every one has."""
        return all((self.root / name).is_file() for name in ("main.py", "nodes.py", "execution.py", "comfy/sd.py"))

    @property
    def absent(self) -> State:
        """What it means that a file is not there."""
        return State.MISSING if self.is_whole else State.NOT_GIVEN

    def module(self, name: str) -> Module | None:
        """The module with this dotted name, where there is such a file."""
        if name not in self._modules:
            self._modules[name] = self._parsed(name)
        return self._modules[name]

    def _parsed(self, name: str) -> Module | None:
        base = self.root.joinpath(*name.split("."))
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if path.is_file():
                parsed = ast.parse(path.read_text(encoding="utf-8"), str(path))
                return Module(name, path, parsed.body, path.name == "__init__.py")
        return None

    def is_ours(self, name: str) -> bool:
        """Whether a module of this name belongs to ComfyUI rather than to a package that it uses."""
        top = name.split(".")[0]
        return top in PACKAGES or (self.root / f"{top}.py").is_file()

    def find(self, path: str, steps: int = 0) -> Found:
        """Where ``comfy.samplers.CFGGuider.set_conds`` and the like are defined."""
        parts = path.split(".")
        for count in range(len(parts), 0, -1):
            module = self.module(".".join(parts[:count]))
            if module is None:
                continue
            if count == len(parts):
                return Found(State.THERE, (Definition(module, ast.Module(module.body, [])),))
            found = self._in_module(module, parts[count:], steps)
            if found.state is State.MISSING and module.is_package:
                return Found(self.absent, why=f"{parts[count]} is neither in {module.name} nor a file beside it")
            return found
        if self.root.joinpath(*parts).is_dir():
            return Found(State.THERE)
        return Found(self.absent, why=f"no file for {path}")

    def _in_module(self, module: Module, rest: Sequence[str], steps: int) -> Found:
        if steps > _MOST_STEPS:
            return Found(State.UNSEEN, why="names that stand for each other in a circle")
        bound = list(_bindings(module.body, rest[0]))
        found = [self._of_binding(module, statement, rest, steps + 1) for statement in bound]
        if not found:
            found = [self.find(f"{star}.{'.'.join(rest)}", steps + 1) for star in _stars(module) if self.is_ours(star)]
        if not any(each.state is State.THERE for each in found) and any(_bindings(module.body, "__getattr__")):
            return Found(State.UNSEEN, why=f"{module.name} makes its names when they are asked for")
        return _joined(found, found[0].why if found else f"{rest[0]} is not in {module.name}")

    def _of_binding(self, module: Module, statement: ast.AST, rest: Sequence[str], steps: int) -> Found:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            target = imported(statement, rest[0], module)
            if not self.is_ours(target):
                return Found(State.UNSEEN, why=f"{target} lies outside ComfyUI")
            return self.find(".".join([target, *rest[1:]]), steps)
        if isinstance(statement, Function):
            found = Found(State.THERE, (Definition(module, statement),))
            return found if len(rest) == 1 else Found(State.UNSEEN, why=f"an attribute of the function {rest[0]}")
        if isinstance(statement, ast.ClassDef):
            if len(rest) == 1:
                return Found(State.THERE, (Definition(module, statement),))
            return self._in_class(module, statement, rest[1:], steps)
        return self._of_value(module, statement, rest[1:], steps)

    def _of_value(self, module: Module, value: ast.AST, rest: Sequence[str], steps: int) -> Found:
        """What is assigned to a name: followed where it is only another name."""
        path = chain(value)
        if path is not None:
            found = self._in_module(module, [*path.split("."), *rest], steps)
            if found.state is not State.MISSING or rest:
                return found
        if not rest:
            return Found(State.THERE, (Definition(module, value),))
        return Found(State.UNSEEN, why=f"an attribute of what {ast.unparse(value)[:60]} gives")

    def _in_class(self, module: Module, class_: ast.ClassDef, rest: Sequence[str], steps: int) -> Found:
        found = []
        for statement in _bindings(class_.body, rest[0]):
            if isinstance(statement, Function):
                found.append(Found(State.THERE, (Definition(module, statement, method=True),)))
            else:
                found.append(self._of_binding(module, statement, rest, steps + 1))
        if not found and rest[0] in _instance_attributes(class_):
            found.append(Found(State.THERE if len(rest) == 1 else State.UNSEEN, why="an attribute of the instances"))
        for base in class_.bases if not found else ():
            path = chain(base)
            inherited = self._in_module(module, path.split("."), steps + 1) if path else Found(State.UNSEEN)
            if inherited.state is State.NOT_GIVEN:
                found.append(Found(State.NOT_GIVEN, why=f"the base class {path} is in a file that is not given"))
            for definition in inherited.definitions:
                if isinstance(definition.node, ast.ClassDef):
                    found.append(self._in_class(definition.module, definition.node, rest, steps + 1))
        if not any(each.state is State.THERE for each in found) and any(_bindings(class_.body, "__getattr__")):
            return Found(State.UNSEEN, why=f"{class_.name} makes its attributes when they are asked for")
        return _joined(found, f"{class_.name} has no {rest[0]}")

    def parameters(self, definition: Definition) -> list[Parameter] | None:
        """Those of a function or of a class's constructor, without self; None where the source does not tell."""
        node = definition.node
        if isinstance(node, Function):
            if not {ast.unparse(each).split("(")[0] for each in node.decorator_list} <= _HARMLESS:
                return None
            static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
            return function_parameters(node.args, skip_first=definition.method and not static)
        if not isinstance(node, ast.ClassDef):
            return None
        if any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            return self._fields(definition.module, node)
        made = self._in_class(definition.module, node, ["__init__"], 0)
        if made.state is State.MISSING and not node.bases:
            return []
        return self.parameters(made.definitions[0]) if made.state is State.THERE and made.definitions else None

    def _fields(self, module: Module, class_: ast.ClassDef) -> list[Parameter]:
        """The parameters of a dataclass's constructor, those of its bases first."""
        out: dict[str, Parameter] = {}
        for base in class_.bases:
            path = chain(base)
            for definition in self._in_module(module, path.split("."), 0).definitions if path else ():
                if isinstance(definition.node, ast.ClassDef):
                    out |= {each.name: each for each in self._fields(definition.module, definition.node)}
        for statement in class_.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                default = None if statement.value is None else ast.unparse(statement.value)
                out[statement.target.id] = Parameter(statement.target.id, "positional", default)
        return list(out.values())


def _joined(found: Sequence[Found], why: str) -> Found:
    """One answer from those of all the places where a name is bound: any place that has it counts."""
    for state in (State.THERE, State.UNSEEN, State.NOT_GIVEN):
        having = [each for each in found if each.state is state]
        if having:
            definitions = tuple(definition for each in having for definition in each.definitions)
            return Found(state, definitions, having[0].why)
    return Found(State.MISSING, why=why)


def chain(node: ast.AST | None) -> str | None:
    """``a.b.c`` of a name with attributes; None for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = chain(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a body and of the branches in it, but not of functions and classes."""
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody"):
            if not isinstance(statement, (*Function, ast.ClassDef)):
                yield from _statements(getattr(statement, part, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)


def _bindings(body: Sequence[ast.stmt], name: str) -> Iterator[ast.AST]:
    """Whatever gives ``name`` its meaning: definitions, imports, and the values that are assigned to it."""
    for statement in _statements(body):
        if isinstance(statement, (*Function, ast.ClassDef)) and statement.name == name:
            yield statement
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            if any((alias.asname or alias.name.split(".")[0]) == name for alias in statement.names):
                yield statement
        elif isinstance(statement, ast.Assign):
            targets = [each for target in statement.targets for each in getattr(target, "elts", [target])]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                yield statement.value
        elif isinstance(statement, ast.AnnAssign) and chain(statement.target) == name:
            yield statement.value or statement


def imported(statement: ast.Import | ast.ImportFrom, name: str, module: Module) -> str:
    """The dotted name that ``name`` stands for behind an import in this module."""
    for alias in statement.names:
        if (alias.asname or alias.name.split(".")[0]) == name:
            if isinstance(statement, ast.ImportFrom):
                return f"{source_of(statement, module)}.{alias.name}"
            return alias.name if alias.asname else name
    raise ValueError(f"{name} is not imported by {ast.unparse(statement)}")


def source_of(statement: ast.ImportFrom, module: Module) -> str:
    """The module that ``from ... import`` reads, with the leading dots resolved."""
    if not statement.level:
        return statement.module or ""
    parts = module.name.split(".")
    kept = parts[: len(parts) - statement.level + module.is_package]
    return ".".join([*kept, *([statement.module] if statement.module else [])])


def _stars(module: Module) -> list[str]:
    """The modules whose names ``from ... import *`` brings in."""
    imports = (each for each in _statements(module.body) if isinstance(each, ast.ImportFrom))
    return [source_of(each, module) for each in imports if each.names[0].name == "*"]


@functools.cache
def _instance_attributes(class_: ast.ClassDef) -> frozenset[str]:
    """The names that the methods of a class assign to ``self``, or to the class itself."""
    owners = ("self", "cls", class_.name)
    attributes = (node for node in ast.walk(class_) if isinstance(node, ast.Attribute))
    return frozenset(
        node.attr for node in attributes if isinstance(node.ctx, ast.Store) and chain(node.value) in owners
    )


def function_parameters(arguments: ast.arguments, *, skip_first: bool) -> list[Parameter]:
    """A function's parameters with their defaults as text."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    out = [_parameter(each, "positional", default) for each, default in zip(positional, defaults, strict=True)]
    out = out[1:] if skip_first else out
    if arguments.vararg:
        out.append(Parameter(arguments.vararg.arg, "args"))
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    out += [_parameter(each, "keyword", default) for each, default in pairs]
    if arguments.kwarg:
        out.append(Parameter(arguments.kwarg.arg, "kwargs"))
    return out


def _parameter(argument: ast.arg, kind: str, default: ast.expr | None) -> Parameter:
    return Parameter(argument.arg, kind, None if default is None else ast.unparse(default))
