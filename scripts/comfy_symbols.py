"""What of ComfyUI we use, and whether other versions of it still have that. Standard library only.

    python3 scripts/comfy_symbols.py list
    .venv/bin/python scripts/comfy_symbols.py compare --comfyui OLD NEW ...

`list` prints every name of ComfyUI that our source uses, how it is called and where, and the nodes of our workflows.
`compare` looks all of it up in one or more versions. With several, the first is the one that is known to work, and
what changed since is told. A folder may hold single files of a version: what is not there is "file not given".
The exit code is 1 when something is missing or cannot be called any more as we call it.

Only the source is read, so these are not seen: objects whose class `comfy_members.json` does not name, what lies in a
function's body (its source is said to have changed, no more), names that are made while ComfyUI runs. The nodes of a
whole version are asked from that version itself, which needs its packages (`--source` reads their source instead).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from comfy_compare import Verdict, as_json, compare_nodes, compare_uses, compare_words
from comfy_nodes import NodeSignature, NodeUse, node_uses, read_signatures, run_signatures, workflow_files
from comfy_tree import State, Tree
from comfy_uses import PRODUCT, TOOLS, Declared, Use, declared, source_files, uses_in
from setup_common import SetupError


def version_of(root: Path) -> str:
    """The version that a ComfyUI's folder names."""
    path = root / "comfyui_version.py"
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", path.read_text()) if path.is_file() else None
    return match[1] if match else "of unknown version"


def called(use: Use) -> str:
    """How a name is used, in a few words."""
    if use.override is not None:
        return f"overridden with ({', '.join(each.name for each in use.override)})"
    if use.call is None:
        return ""
    parts = [f"{use.call.positional} by position"] if use.call.positional else []
    parts += [f"{name}=" for name in use.call.keywords]
    return f"({', '.join([*parts, *(['...'] if use.call.more else [])])})"


def print_list(uses: Sequence[Use], nodes: Sequence[NodeUse], table: Declared) -> None:
    """All that is used, each way of it once."""
    places: dict[tuple[str, str], list[str]] = {}
    for use in uses:
        places.setdefault((use.name, called(use)), []).append(use.where)
    for (name, how), where in sorted(places.items()):
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        print(f"{name}{how and ' ' + how}: {where[0]}{more}")
    for file, words in table.words.items():
        print(f"{file}: {', '.join(words)} (words that both sides know)")
    for name, count in sorted(Counter(each.type for each in nodes).items()):
        print(f"node {name}: {count} in our workflows")
    print(
        f"\n{len({use.name for use in uses})} names, {len(uses)} uses, {len({node.type for node in nodes})} node types"
    )


def signatures(tree: Tree, nodes: Sequence[NodeUse], *, from_source: bool) -> tuple[dict[str, NodeSignature], str]:
    """The node types of our workflows as a version has them, and how that was found out."""
    types = sorted({node.type for node in nodes})
    if tree.is_whole and not from_source:
        return run_signatures(tree.root, types), "asked from the running ComfyUI"
    return read_signatures(tree, types), "read from the source"


def verdicts_for(
    tree: Tree, uses: Sequence[Use], nodes: Sequence[NodeUse], table: Declared, older: Tree | None, *, from_source: bool
) -> tuple[list[Verdict], str]:
    """Everything about one version."""
    found, how = signatures(tree, nodes, from_source=from_source)
    before = signatures(older, nodes, from_source=from_source)[0] if older else None
    verdicts = compare_uses(uses, tree, older) + compare_words(table.words, tree)
    return verdicts + compare_nodes(nodes, tree, found, before), how


def print_verdicts(tree: Tree, verdicts: Sequence[Verdict], how: str, *, everything: bool) -> None:
    """One version's verdicts: those that say more than "there", or all of them."""
    kind = "whole" if tree.is_whole else "single files"
    print(f"\nComfyUI {version_of(tree.root)}, {kind}: {tree.root} (nodes {how})")
    for each in verdicts:
        if everything or each.notes or each.status != State.THERE.value:
            print(f"  {each.name}: {each.status}{each.place and ', ' + each.place}")
            for text in (*each.problems, *each.notes):
                print(f"      {text}")
    counts = Counter(each.status for each in verdicts)
    print("  " + ", ".join(f"{count} {status}" for status, count in counts.most_common()))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What of ComfyUI we use, and whether a version of it has that.")
    parser.add_argument("--tools", action="store_true", help="also what scripts, benchmarks and training use")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print all that is used")
    compare = commands.add_parser("compare", help="look it up in versions of ComfyUI")
    compare.add_argument("--comfyui", nargs="+", type=Path, required=True, metavar="PATH", help="the oldest first")
    compare.add_argument("--source", action="store_true", help="read the source of nodes, do not run a ComfyUI")
    compare.add_argument("--all", action="store_true", help="also print what is there unchanged")
    compare.add_argument("--json", action="store_true", help="one line of JSON for each name")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = parsed(arguments)
    table = declared()
    uses = uses_in(source_files((*PRODUCT, *TOOLS) if given.tools else PRODUCT), table)
    nodes = node_uses(workflow_files())
    if given.command == "list":
        print_list(uses, nodes, table)
        return 0
    breaks = False
    older: Tree | None = None
    for path in given.comfyui:
        if not path.is_dir():
            print(f"error: expected a folder with files of ComfyUI, got {path}; give another PATH", file=sys.stderr)
            return 2
        tree = Tree(path.expanduser().absolute())
        try:
            verdicts, how = verdicts_for(tree, uses, nodes, table, older, from_source=given.source)
        except SetupError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        if given.json:
            print(as_json(verdicts))
        else:
            print_verdicts(tree, verdicts, how, everything=given.all)
        breaks = breaks or any(each.breaks for each in verdicts)
        older = older or tree
    return int(breaks)


if __name__ == "__main__":
    raise SystemExit(main())
