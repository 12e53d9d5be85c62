"""The house: its rooms, which of them each may import, and the arrows that its files really draw.

A room is a folder, named by its path; a file belongs to the innermost room that it lies in. The files of `nodes/` are
each a room of their own, but for those that they share. The table below is the rule, `arrows` reads the imports, and
`faults` says which of them the table does not know.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "longtalk"
TOPS = ("audio", "base", "faces", "infinitetalk", "metrics", "nodes")

_AUDIO = ("base", "audio/reading", "audio/encoder", "audio/prepare", "audio", "audio/report")
_RUN = ("infinitetalk/run", "infinitetalk/run/video", "infinitetalk/run/store")
_PURE = (
    *_AUDIO,
    "faces",
    "metrics",
    "infinitetalk/plan",
    "infinitetalk/draw",
    "infinitetalk/model",
    "infinitetalk/attention",
    *_RUN,
)
_HOST = ("infinitetalk/host", "infinitetalk/host/wan", "infinitetalk/host/ltx")

#: Each room, and the rooms that it may import beside its own. From the ground floor up.
BELOW: dict[str, tuple[str, ...]] = {
    "base": (),
    "faces": ("base",),
    "metrics": ("base",),
    "audio/reading": ("base",),
    "audio/encoder": ("base",),
    "audio/prepare": ("base", "audio/reading"),
    # audio/ itself: tracks, voice, song
    "audio": ("base", "audio/reading", "audio/prepare"),
    "audio/report": ("base", "audio/reading", "audio/prepare", "audio"),
    "infinitetalk": (),
    "infinitetalk/plan": ("base",),
    "infinitetalk/draw": ("base", "infinitetalk/plan"),
    "infinitetalk/model": (*_AUDIO, "infinitetalk/plan"),
    "infinitetalk/attention": ("base",),
    "infinitetalk/run": ("base", "infinitetalk/plan"),
    "infinitetalk/run/video": _AUDIO,
    "infinitetalk/run/store": (*_AUDIO, "infinitetalk/plan", "infinitetalk/run", "infinitetalk/run/video"),
    "infinitetalk/cli": _PURE,
    "infinitetalk/host": _PURE,
    "infinitetalk/host/wan": (*_PURE, "infinitetalk/host"),
    "infinitetalk/host/ltx": (*_PURE, "infinitetalk/host"),
    "nodes": (*_PURE, *_HOST),
}
#: What the files of nodes/ may import of each other: nodes/inputs.py, and files whose names end so or with outputs.py.
#: And where all of them come together.
SHARED_BY_NODES = ("inputs.py", "outputs.py")
ALL_NODES = "nodes/__init__.py"

#: Rooms that may import ComfyUI, and the modules that lie in its folder.
KNOW_COMFYUI = ("infinitetalk/host", "nodes")
COMFYUI = frozenset(
    (
        "alembic_db",
        "api_server",
        "app",
        "comfy",
        "comfy_api",
        "comfy_api_nodes",
        "comfy_config",
        "comfy_execution",
        "comfy_extras",
        "comfyui_version",
        "cuda_malloc",
        "execution",
        "folder_paths",
        "latent_preview",
        "main",
        "middleware",
        "node_helpers",
        "nodes",
        "protocol",
        "server",
        "utils",
    )
)


class Arrow(NamedTuple):
    """``file`` imports ``target``: a file of the house, or a module of somebody else by its top-level name."""

    file: str
    line: int
    target: str


class Fault(NamedTuple):
    """An import that the rule does not know, and why not."""

    file: str
    line: int
    target: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}: {self.why}"


def files(root: Path) -> dict[str, Path]:
    """Every file of the product, by its path in the house."""
    found = [root / "__init__.py", *(path for top in TOPS for path in (root / top).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): path for path in sorted(found) if path.is_file()}


def arrows(root: Path, *, at_run_time: bool = False) -> list[Arrow]:
    """Every import in the house: at the top of a file, in a function, for the type checker alone, wherever it stands.

    What ought to lie in the house and does not has the name it was imported by, ``longtalk.…``, as its target.

    Args:
        root: of the repository.
        at_run_time: leave out those that only the type checker sees.
    """
    house = files(root)
    seen: set[Arrow] = set()
    for file, path in house.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        unseen = set(_for_types_alone(tree)) if at_run_time else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and node not in unseen:
                seen |= {Arrow(file, node.lineno, _target(*each, house)) for each in _imports(node, file)}
    return sorted(seen)


def _for_types_alone(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything below ``if TYPE_CHECKING:``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from (below for statement in node.body for below in ast.walk(statement))


def _imports(node: ast.Import | ast.ImportFrom, file: str) -> Iterator[tuple[str, str]]:
    """(module, name in it) of a statement; relative ones as if they were written out."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
        return
    folder = [PACKAGE, *file.split("/")[:-1]]
    above = folder[: len(folder) - node.level + 1] if node.level else []
    module = ".".join([*above, *([node.module] if node.module else [])])
    yield from ((module, alias.name) for alias in node.names)


def _target(module: str, name: str, house: dict[str, Path]) -> str:
    if module.split(".")[0] != PACKAGE:
        return module.split(".")[0]
    # `from .windows import Plan` may name a module or something in one.
    for each in (f"{module}.{name}", module):
        path = "/".join(each.split(".")[1:])
        for candidate in (f"{path}.py", f"{path}/__init__.py".lstrip("/")):
            if candidate in house:
                return candidate
    return module


def room_of(file: str) -> str:
    """The room in which a file lies: its folder."""
    return file.rpartition("/")[0]


def may_import(file: str, target: str) -> bool:
    """Whether the rule knows this arrow between two files of the house."""
    room, other = room_of(file), room_of(target)
    if not room:
        return target == ALL_NODES
    if room == other == "nodes":
        return file == ALL_NODES or target.endswith(SHARED_BY_NODES)
    return room == other or other in BELOW[room]


def faults(root: Path) -> list[Fault]:
    """The arrows that the rule does not know."""
    out = []
    for file, line, target in arrows(root):
        if room_of(file) not in ("", *BELOW):
            out.append(Fault(file, line, target, f"the table of rooms has no row for {room_of(file)}"))
        elif target.endswith(".py") and not may_import(file, target):
            out.append(Fault(file, line, target, _why(file)))
        elif target.split(".")[0] == PACKAGE:
            out.append(Fault(file, line, target, "the product has no such file"))
        elif target in COMFYUI and not any(_lies_in(file, room) for room in KNOW_COMFYUI):
            out.append(Fault(file, line, target, f"ComfyUI is imported by {' and '.join(KNOW_COMFYUI)} alone"))
    return out


def _why(file: str) -> str:
    room = room_of(file)
    if not room:
        return f"of the house, {file} imports {ALL_NODES} alone"
    if room == "nodes":
        return f"of nodes/, a node imports {' and '.join(SHARED_BY_NODES)} alone"
    return f"{room}/ imports {', '.join(BELOW[room]) or 'nothing of the house'}"


def _lies_in(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")
