"""ComfyUI's own nodes in our workflows: what the workflows give them, and what a ComfyUI says they take.

A whole ComfyUI is asked by running it, see `comfy_node_dump.py`; of single files the source is read, which tells the
same for the nodes that are written in one of the two usual ways. Standard library only.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_tree import Module, Tree, chain
from setup_common import CLONE, SetupError, child_environ

#: Types whose inputs are widgets; a workflow of the editor keeps their values by position alone.
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
#: Nodes that the editor itself draws.
_OF_THE_EDITOR = ("MarkdownNote", "Note", "Reroute", "PrimitiveNode")
_LIMIT_S = 300


@dataclass(frozen=True)
class Input:
    """One input of a node; ``type`` is "?" where the source does not tell."""

    id: str
    type: str
    required: bool


@dataclass(frozen=True)
class NodeSignature:
    """What a node takes, in the order of its widgets, and the types that it gives."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]

    @property
    def widgets(self) -> list[str]:
        return [each.id for each in self.inputs if each.type in WIDGETS]

    @property
    def is_known(self) -> bool:
        """Whether the type of every input could be read."""
        return all("?" not in (each.id, each.type) for each in self.inputs)


@dataclass(frozen=True)
class NodeUse:
    """One node of one of our workflows.

    Attributes:
        links: inputs that are connected, and with what type where the workflow says it.
        values: widgets by name, as in a workflow for the server; None where they go by position.
        outputs: the type of each output that something is connected to.
    """

    type: str
    where: str
    links: dict[str, str | None]
    values: tuple[str, ...] | None
    outputs: dict[int, str]


def workflow_files(root: Path = CLONE) -> list[Path]:
    """Our workflows: those of the editor and those for the server."""
    return [*sorted((root / "workflows").glob("*.json")), *sorted((root / "workflows" / "api").glob("*.json"))]


def node_uses(paths: Sequence[Path], root: Path = CLONE) -> list[NodeUse]:
    """The nodes of ComfyUI in these workflows; not ours, and not those that the editor draws by itself."""
    out: list[NodeUse] = []
    for path in paths:
        read = json.loads(path.read_text(encoding="utf-8"))
        where = str(path.relative_to(root))
        out += _of_editor(read, where) if "nodes" in read else _of_server(read, where)
    return [use for use in out if not use.type.startswith("LongTalk") and use.type not in _OF_THE_EDITOR]


def _of_editor(workflow: dict[str, Any], where: str) -> Iterator[NodeUse]:
    for node in workflow["nodes"]:
        links = {each["name"]: each["type"] for each in node.get("inputs", []) if each.get("link") is not None}
        outputs = {index: each["type"] for index, each in enumerate(node.get("outputs", [])) if each.get("links")}
        yield NodeUse(node["type"], f"{where}, node {node['id']}", links, None, outputs)


def _of_server(workflow: dict[str, Any], where: str) -> Iterator[NodeUse]:
    for number, node in workflow.items():
        links = {name: None for name, value in node["inputs"].items() if isinstance(value, list)}
        values = tuple(name for name in node["inputs"] if name not in links)
        yield NodeUse(node["class_type"], f"{where}, node {number}", links, values, {})


def run_signatures(comfyui: Path, types: Sequence[str]) -> dict[str, NodeSignature]:
    """What a whole ComfyUI says of these node types, by running it with this Python; without those it has not.

    Raises:
        SetupError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="longtalk_nodes_") as base:
        command = [sys.executable, str(Path(__file__).with_name("comfy_node_dump.py")), base, *types]
        environ = {**child_environ(), "PYTHONPATH": str(Path(comfyui).resolve())}
        try:
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise SetupError(f"{comfyui} did not list its nodes within {_LIMIT_S} s", "try --source instead") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError(
            f"{comfyui} did not list its nodes: {last}",
            "start this script with the Python of the project's environment (.venv/bin/python), or with --source",
        )
    table = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        name: NodeSignature(tuple(Input(*each) for each in given["inputs"]), tuple(given["outputs"]))
        for name, given in table.items()
    }


def read_signatures(tree: Tree, types: Sequence[str]) -> dict[str, NodeSignature]:
    """The same from the source of the files that are there, as far as it can be read."""
    out: dict[str, NodeSignature] = {}
    io_types = _io_types(tree)
    for module in _node_modules(tree, types):
        for class_ in (each for each in module.body if isinstance(each, ast.ClassDef)):
            for name in set(types) & _ids(module, class_):
                schema = _schema(class_)
                out[name] = _old_style(class_) if schema is None else _new_style(module, schema, io_types)
    return out


def _node_modules(tree: Tree, types: Sequence[str]) -> Iterator[Module]:
    """The files in which one of these types stands; the others, most of them, need not be parsed."""
    for path in [tree.root / "nodes.py", *sorted(tree.root.glob("comfy_extras/*.py"))]:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if any(f'"{name}"' in text or f"'{name}'" in text for name in types):
            module = tree.module(".".join(path.relative_to(tree.root).with_suffix("").parts))
            if module is not None:
                yield module


def _ids(module: Module, class_: ast.ClassDef) -> set[str]:
    """The node types that a class stands for."""
    schema = _schema(class_)
    if schema is not None:
        return {str(getattr(each.value, "value", "")) for each in schema.keywords if each.arg == "node_id"}
    out = set()
    for statement in module.body:
        values = statement.value if isinstance(statement, (ast.Assign, ast.AnnAssign)) else None
        for key, value in zip(values.keys, values.values, strict=True) if isinstance(values, ast.Dict) else ():
            if chain(value) == class_.name and isinstance(key, ast.Constant):
                out.add(str(key.value))
    return out


def _schema(class_: ast.ClassDef) -> ast.Call | None:
    """``io.Schema(...)`` in a class, if there is one."""
    for node in ast.walk(class_):
        if isinstance(node, ast.Call) and (chain(node.func) or "").split(".")[-1] == "Schema":
            return node
    return None


def _io_types(tree: Tree) -> dict[str, str]:
    """``Int`` -> ``INT`` and so on, as ComfyUI declares them."""
    module = tree.module("comfy_api.latest._io")
    out = {}
    for class_ in module.body if module else ():
        for decorator in getattr(class_, "decorator_list", []):
            if isinstance(class_, ast.ClassDef) and isinstance(decorator, ast.Call):
                named = [each.value for each in decorator.keywords if each.arg == "io_type"]
                if named and isinstance(named[0], ast.Constant):
                    out[class_.name] = str(named[0].value)
                elif named:
                    out[class_.name] = str(getattr(_constant(module, named[0]), "value", "?"))
    return out


def _constant(module: Module | None, node: ast.expr) -> ast.expr | None:
    for statement in module.body if module else ():
        if isinstance(statement, ast.Assign) and chain(statement.targets[0]) == chain(node):
            return statement.value
    return None


def _old_style(class_: ast.ClassDef) -> NodeSignature:
    """From the dictionary that INPUT_TYPES returns."""
    inputs: list[Input] = []
    outputs: tuple[str, ...] = ()
    for statement in class_.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "INPUT_TYPES":
            returned = [each.value for each in ast.walk(statement) if isinstance(each, ast.Return)]
            if len(returned) != 1 or not isinstance(returned[0], ast.Dict):
                return NodeSignature((Input("?", "?", False),), ())
            groups = {getattr(key, "value", None): value for key, value in _items(returned[0])}
            for group in ("required", "optional"):
                for key, value in _items(groups.get(group)):
                    kind = value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value
                    inputs.append(Input(str(getattr(key, "value", "?")), _old_type(kind), group == "required"))
        elif isinstance(statement, ast.Assign) and chain(statement.targets[0]) == "RETURN_TYPES":
            outputs = tuple(_old_type(each) for each in getattr(statement.value, "elts", []))
    return NodeSignature(tuple(inputs), outputs)


def _items(node: ast.expr | None) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    return zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else iter(())


def _old_type(kind: ast.expr) -> str:
    """A constant, or ``IO.STRING``; whatever else is a list of choices."""
    if isinstance(kind, ast.Constant):
        return str(kind.value)
    path = chain(kind) or ""
    return path.split(".")[1] if path.startswith("IO.") else "COMBO"


def _new_style(module: Module, schema: ast.Call, io_types: dict[str, str]) -> NodeSignature:
    """From the lists of inputs and outputs in io.Schema."""
    lists = {each.arg: each.value for each in schema.keywords}
    made = [_returned(module, each) for each in getattr(lists.get("inputs"), "elts", [])]
    inputs = [_new_input(each, io_types) for each in made]
    inputs = [each for each in inputs if each.required] + [each for each in inputs if not each.required]
    outputs = [_new_type(_returned(module, each), io_types) for each in getattr(lists.get("outputs"), "elts", [])]
    return NodeSignature(tuple(inputs), tuple(outputs))


def _returned(module: Module, node: ast.expr) -> ast.expr:
    """What a helper function in the same file returns, where an input is made by one."""
    name = chain(node.func) if isinstance(node, ast.Call) else None
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            returned = [each.value for each in ast.walk(statement) if isinstance(each, ast.Return) and each.value]
            if isinstance(node, ast.Call) and len(returned) == 1 and isinstance(returned[0], ast.Call):
                made = returned[0]
                return ast.copy_location(ast.Call(made.func, made.args, [*made.keywords, *node.keywords]), node)
    return node


def _new_input(node: ast.expr, io_types: dict[str, str]) -> Input:
    # The last one counts: that of the call of a helper function.
    given = {each.arg: each.value for each in getattr(node, "keywords", [])}
    positional = getattr(node, "args", [])
    name = given.get("id", positional[0] if positional else None)
    return Input(
        str(getattr(name, "value", "?")), _new_type(node, io_types), not getattr(given.get("optional"), "value", False)
    )


def _new_type(node: ast.expr, io_types: dict[str, str]) -> str:
    """``io.Int.Input(...)`` -> INT."""
    path = (chain(node.func) or "") if isinstance(node, ast.Call) else ""
    parts = path.split(".")
    return io_types.get(parts[-2], "?") if len(parts) > 1 else "?"
