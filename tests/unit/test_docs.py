"""The pages name files that are there, each node has one, and the drawing of the rooms is that of the imports."""

from __future__ import annotations

import ast
import json
import re
from itertools import product
from pathlib import Path

import house

#: Named on a page, and on their way.
#: Folders beside those of the product whose files the pages name from the root of the repository.
OTHERS = ("benchmarks", "docs", "locales", "scripts", "tests", "training", "web", "workflows")


def pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted(root.glob("docs/*.md")), *sorted(root.glob("web/docs/*.md"))]


def named_paths(page: Path) -> set[str]:
    """What stands in backticks on a page and is a path from the root of the repository, or the name of a module."""
    quoted = re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8"))
    tops = (*house.TOPS, *OTHERS)
    return {each for each in quoted if each.endswith(".py") or (each.partition("/")[0] in tops and "/" in each)}


def test_code_that_the_pages_name_is_there(root: Path) -> None:
    named = {(page.name, path) for page in pages(root) for path in named_paths(page)}
    assert len(named) > 50
    missing = {(page, path) for page, path in named if not (root / path).exists()}
    assert missing == set()


def test_links_lead_somewhere(root: Path) -> None:
    """To a file, and where a heading is named, to that."""
    links = [
        (page, target, heading)
        for page in [root / "README.md", *root.glob("docs/*.md")]
        for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())
    ]
    assert len(links) > 40
    for page, target, heading in links:
        found = (page.parent / target) if target else page
        assert found.exists(), (page.name, target)
        if heading:
            assert heading in headings(found), (page.name, target, heading)


def headings(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings: lower case, no punctuation, hyphens for spaces."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in found}


def drawn(root: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """The rooms of the drawing in docs/architecture.md, and its arrows with those that follow from them."""
    text = (root / "docs" / "architecture.md").read_text()
    [drawing] = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    rooms = dict(re.findall(r'^ +(\w+)\["([^"<]+)/<br>', drawing, re.MULTILINE))
    arrows = set()
    for line in re.findall(r"^ +(\w.* --> .*)$", drawing, re.MULTILINE):
        tails, heads = (re.findall(r"\w+", side) for side in line.split("-->"))
        arrows |= {(rooms[tail], rooms[head]) for tail, head in product(tails, heads)}
    while True:
        more = {(a, d) for (a, b), (c, d) in product(arrows, arrows) if b == c} - arrows
        if not more:
            return set(rooms.values()), arrows
        arrows |= more


def drawn_room(room: str) -> str:
    """The rooms of audio/ are drawn as one."""
    return "audio" if room.startswith("audio/") else room


def test_the_drawing_has_every_room(root: Path) -> None:
    rooms = {drawn_room(house.room_of(file)) for file in house.files(root)}
    assert drawn(root)[0] == rooms - {"", "infinitetalk"}


def test_the_drawing_says_what_the_table_says(root: Path) -> None:
    allowed = {(drawn_room(room), drawn_room(other)) for room, below in house.BELOW.items() for other in below}
    assert drawn(root)[1] <= allowed


def test_the_drawing_has_every_arrow(root: Path) -> None:
    bad = {(fault.file, fault.target) for fault in house.faults(root)}
    found = {
        (drawn_room(house.room_of(arrow.file)), drawn_room(house.room_of(arrow.target)))
        for arrow in house.arrows(root)
        if arrow.target.endswith(".py") and (arrow.file, arrow.target) not in bad
    }
    found = {(room, other) for room, other in found if room and room != other}
    assert len(found) > 20
    assert found <= drawn(root)[1]


def test_every_node_has_a_help_page(root: Path) -> None:
    promised = json.loads((root / "tests" / "server" / "promised_inputs.json").read_text())
    for node in promised:
        page = (root / "web" / "docs" / f"{node}.md").read_text()
        assert page.startswith("# ")
        assert len(page) > 150


def mapped(docstring: str) -> set[str]:
    """The modules that a package's map tells of: `- a, b: what they are; c: what it is`."""
    out: set[str] = set()
    for line in re.findall(r"^- (.+)$", docstring, re.MULTILINE):
        for part in line.split("; "):
            names, colon, _ = part.partition(":")
            if colon and re.fullmatch(r"[\w/]+(, [\w/]+)*", names):
                out |= {name.rstrip("/") for name in names.split(", ")}
    return out


def test_every_package_has_a_true_map(root: Path) -> None:
    """But nodes/, whose list of nodes is its map."""
    packages = {house.room_of(file) for file in house.files(root)} - {"", "nodes"}
    assert len(packages) > 15
    for package in sorted(packages):
        folder = root / package
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
        modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
        told = mapped(ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "")
        assert told == modules, package
