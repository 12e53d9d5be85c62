"""Whether what we use of ComfyUI is there in one of its versions, and as we use it. Standard library only."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from comfy_nodes import NodeSignature, NodeUse
from comfy_tree import Definition, Parameter, State, Tree
from comfy_uses import Call, Use

SIGNATURE = "signature differs"
_UNREAD = "not all of its inputs can be read from the source"
#: What stops the pack, or a workflow of ours, from working.
BREAKS = (State.MISSING.value, SIGNATURE)


@dataclass
class Verdict:
    """What a version has to say of one name.

    Attributes:
        status: "there", "missing", "signature differs", "file not given" or "cannot be read from the source".
        place: file and line of its definition there.
        problems: why the signature differs, or why there is nothing.
        notes: what changed since the version that this one is compared with, and does not break a call.
    """

    name: str
    status: str
    place: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def breaks(self) -> bool:
        return self.status in BREAKS

    def add(self, problems: Sequence[str], where: str) -> None:
        """What of one use does not fit any more."""
        self.problems += [f"{problem} ({where})" for problem in problems]
        if problems:
            self.status = SIGNATURE


def compare_uses(uses: Sequence[Use], tree: Tree, older: Tree | None = None) -> list[Verdict]:
    """A verdict for each name that is used, in alphabetical order; ``older`` is the version that is known to work."""
    by_name: dict[str, list[Use]] = {}
    for use in uses:
        by_name.setdefault(use.name, []).append(use)
    return [_verdict(name, by_name[name], tree, older) for name in sorted(by_name)]


def _verdict(name: str, uses: Sequence[Use], tree: Tree, older: Tree | None) -> Verdict:
    found = tree.find(name)
    if found.state is not State.THERE:
        return Verdict(name, found.state.value, problems=[found.why])
    verdict = Verdict(name, found.state.value, ", ".join(dict.fromkeys(each.place for each in found.definitions)))
    before = older.find(name).definitions if older else ()
    # Where ComfyUI chooses among several at run time, which was which before is not known.
    single = len(before) == len(found.definitions) == 1
    known = older.parameters(before[0]) if older and single else None
    for definition in found.definitions:
        parameters = tree.parameters(definition)
        for use in uses if parameters is not None else ():
            verdict.add(_refusals(use, parameters or [], known), use.where)
        if parameters is not None and known is not None:
            verdict.notes += _changes(parameters, known)
        if parameters is None and any(use.call for use in uses):
            verdict.notes.append("its parameters cannot be read from the source")
    if single and _text(before[0]) != _text(found.definitions[0]):
        verdict.notes.append("its source changed")
    return verdict


def _refusals(use: Use, parameters: Sequence[Parameter], known: Sequence[Parameter] | None) -> list[str]:
    if use.override is not None:
        return override_refusals(use.override, parameters)
    if use.call is None:
        return []
    return call_refusals(use.call, parameters) + _reordered(use.call, parameters, known)


def call_refusals(call: Call, parameters: Sequence[Parameter]) -> list[str]:
    """Why a function with these parameters cannot be called so."""
    places = [each for each in parameters if each.kind == "positional"]
    kinds = {each.kind for each in parameters}
    out = []
    if call.positional > len(places) and "args" not in kinds:
        out.append(f"it takes {len(places)} arguments by position, we pass {call.positional}")
    filled = {each.name for each in places[: call.positional]}
    for name in call.keywords:
        if name in filled:
            out.append(f"'{name}' is passed by name and by position")
        elif "kwargs" not in kinds and name not in {each.name for each in parameters}:
            out.append(f"the parameter '{name}', which we pass, has gone")
    for each in () if call.more else parameters:
        if each.required and each.name not in filled and each.name not in call.keywords:
            out.append(f"'{each.name}' is required, and we do not pass it")
    return out


def _reordered(call: Call, parameters: Sequence[Parameter], known: Sequence[Parameter] | None) -> list[str]:
    """Whether what we pass by position arrives at another parameter than before."""
    if known is None or any(each.kind == "args" for each in (*parameters, *known)):
        return []
    before, now = ([each.name for each in side if each.kind == "positional"] for side in (known, parameters))
    passed = before[: call.positional]
    moved = [name for index, name in enumerate(passed) if name in now and now.index(name) != index]
    if not moved:  # another name at the same place is no other order
        return []
    return [f"the order changed: we pass {', '.join(passed)}, it takes {', '.join(now[: call.positional])}"]


def override_refusals(ours: Sequence[Parameter], theirs: Sequence[Parameter]) -> list[str]:
    """Why our method cannot be called as ComfyUI calls its own."""
    if all(each.kind in ("args", "kwargs") for each in theirs):
        return []
    kinds = {each.kind for each in ours}
    out = []
    mine = [each for each in ours if each.kind == "positional"]
    for index, each in enumerate(each for each in theirs if each.kind == "positional"):
        at = mine[index].name if index < len(mine) else None
        if at != each.name and "args" not in kinds:
            out.append(f"ComfyUI's method takes '{each.name}' as number {index + 1}, ours {at or 'nothing'}")
    named = {each.name for each in ours}
    for each in theirs:
        if each.kind == "keyword" and each.name not in named and "kwargs" not in kinds:
            out.append(f"ComfyUI's method takes '{each.name}', ours does not")
    given = {each.name for each in theirs}
    out += [
        f"ours requires '{each.name}', which ComfyUI does not pass"
        for each in ours
        if each.required and each.name not in given
    ]
    return out


def _changes(parameters: Sequence[Parameter], known: Sequence[Parameter]) -> list[str]:
    """What changed among the parameters without breaking a call."""
    before, now = ({each.name: each for each in side} for side in (known, parameters))
    out = [f"new parameter '{name}'" for name in now if name not in before]
    out += [f"the parameter '{name}' has gone" for name in before if name not in now]
    for name in before:
        if name in now and before[name].default != now[name].default:
            out.append(f"the default of '{name}' was {before[name].default}, is {now[name].default}")
    return out


def _text(definition: Definition) -> str:
    """The source of a definition without comments and documentation; of a class only its bases and its constructor."""
    node = definition.node
    if isinstance(node, ast.ClassDef):
        made = [each for each in node.body if getattr(each, "name", "") == "__init__"]
        return " ".join(ast.dump(each) for each in (*node.bases, *made))
    return "" if isinstance(node, ast.Module) else ast.dump(node)


def compare_words(words: dict[str, Sequence[str]], tree: Tree) -> list[Verdict]:
    """Whether the keys that both sides must know still stand in ComfyUI's files."""
    out = []
    for file, each_of in words.items():
        path = tree.root / file
        text = path.read_text(encoding="utf-8") if path.is_file() else None
        for word in each_of:
            status = tree.absent if text is None else State.THERE if word in text else State.MISSING
            out.append(Verdict(f"{file}: '{word}'", status.value, file))
    return out


def compare_nodes(
    uses: Iterable[NodeUse],
    tree: Tree,
    signatures: dict[str, NodeSignature],
    older: dict[str, NodeSignature] | None = None,
) -> list[Verdict]:
    """A verdict for each node type of our workflows."""
    out: dict[str, Verdict] = {}
    for use in sorted(uses, key=lambda each: each.type):
        found, before = signatures.get(use.type), (older or {}).get(use.type)
        verdict = out.setdefault(use.type, Verdict(f"node {use.type}", State.THERE.value))
        if found is None:
            verdict.status, verdict.problems = tree.absent.value, [f"no node {use.type}"]
            continue
        verdict.add(_node_refusals(use, found, before), use.where)
        if not found.is_known and _UNREAD not in verdict.notes:
            verdict.notes.append(_UNREAD)
        if before is not None and found != before:
            changes = _node_changes(found, before)
            verdict.notes += [each for each in changes if each not in verdict.notes]
    return list(out.values())


def _node_refusals(use: NodeUse, found: NodeSignature, before: NodeSignature | None) -> list[str]:
    by_id = {each.id: each for each in found.inputs}
    if "?" in by_id:
        return []
    out = []
    for name, kind in use.links.items():
        if name not in by_id:
            out.append(f"the input '{name}', which is connected, has gone")
        elif kind is not None and by_id[name].type not in (kind, "*", "?") and kind not in by_id[name].type.split(","):
            out.append(f"the input '{name}' is of type {by_id[name].type}, {kind} is connected")
    gone = [name for name in use.values or () if name.split(".")[0] not in by_id]
    out += [f"the input '{name}', which has a value, has gone" for name in gone]
    for each in found.inputs:
        by_position = use.values is None and (each.id in found.widgets or each.type == "?")
        if each.required and not by_position and each.id not in use.links and each.id not in (use.values or ()):
            out.append(f"the input '{each.id}' is required, and nothing is connected")
    for index, kind in use.outputs.items():
        there = found.outputs[index] if index < len(found.outputs) else "nothing"
        if there not in (kind, "*", "?"):
            out.append(f"output {index + 1} is {there}, used as {kind}")
    known = before is not None and before.is_known and found.is_known
    if use.values is None and before is not None and known and found.widgets[: len(before.widgets)] != before.widgets:
        out.append(f"the widgets were {', '.join(before.widgets)}, are {', '.join(found.widgets)}")
    return out


def _node_changes(found: NodeSignature, before: NodeSignature) -> list[str]:
    known = {each.id: each for each in before.inputs}
    out = []
    for each in found.inputs:
        was = known.get(each.id)
        if was is None:
            out.append(f"new input '{each.id}' ({each.type}{', required' if each.required else ''})")
        elif was.type != each.type and "?" not in (was.type, each.type):
            out.append(f"'{each.id}' was {was.type}, is {each.type}")
        elif was.required != each.required:
            out.append(f"'{each.id}' is {'required' if each.required else 'optional'} now")
    out += [f"the input '{name}' has gone" for name in known if name not in {each.id for each in found.inputs}]
    if found.outputs != before.outputs and "?" not in found.outputs:
        out.append(f"outputs were {', '.join(before.outputs) or 'none'}, are {', '.join(found.outputs) or 'none'}")
    return out


def as_json(verdicts: Sequence[Verdict]) -> str:
    """One line for each verdict, for other programs."""
    return "\n".join(json.dumps(vars(each)) for each in verdicts)
