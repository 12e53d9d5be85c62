"""The arrows between rooms run down, two rooms know ComfyUI, importing the pack does nothing.

The rooms and the rule stand in `tests/support/house.py`.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import house
import pytest


@pytest.fixture(scope="module")
def faults(root: Path) -> list[house.Fault]:
    return house.faults(root)


def test_no_arrow_runs_up(root: Path, faults: list[house.Fault]) -> None:
    assert len(house.arrows(root)) > 500
    assert [str(fault) for fault in faults] == []


def test_every_room_of_the_table_is_there(root: Path) -> None:
    """But faces/, which comes with video to video."""
    rooms = {house.room_of(file) for file in house.files(root)} - {""}
    assert rooms | {"faces"} == house.BELOW.keys()


def test_no_modules_import_each_other_in_a_circle(root: Path) -> None:
    """When they run: a run makes its renderer, and a renderer's types name the run that it is made of."""
    graph: dict[str, set[str]] = {}
    for arrow in house.arrows(root, at_run_time=True):
        if arrow.target.endswith(".py"):
            graph.setdefault(arrow.file, set()).add(arrow.target)
    graphlib.TopologicalSorter(graph).prepare()


def test_the_list_of_comfyuis_modules_is_whole(comfyui_path: Path) -> None:
    found = {path.stem for path in comfyui_path.glob("*.py")}
    found |= {path.parent.name for path in comfyui_path.glob("*/*.py")}
    # Not meant to be imported; the second is found anew under another name in each version.
    found -= {"custom_nodes", "script_examples", "tests", "tests-unit"}
    assert {name for name in found if not name.startswith("hook_breaker")} <= house.COMFYUI


#: A file, what it imports and the file that this leads to. Each is one that the rule forbids.
FORBIDDEN = {
    "base uses a room": ("base/times.py", "from ..audio import voice", "audio/voice.py"),
    "metrics uses sound": ("metrics/sync.py", "from ..audio.voice import x", "audio/voice.py"),
    "audio uses infinitetalk": ("audio/voice.py", "from ..infinitetalk import plan", "infinitetalk/plan/__init__.py"),
    "audio uses metrics": ("audio/song.py", "from ..metrics.sync import x", "metrics/sync.py"),
    "reading uses prepare": ("audio/reading/track.py", "from ..prepare import filters", "audio/prepare/filters.py"),
    "reading uses tracks": ("audio/reading/track.py", "from ..voice import x", "audio/voice.py"),
    "encoder uses reading": ("audio/encoder/features.py", "from ..reading.track import x", "audio/reading/track.py"),
    "voice uses the report": ("audio/voice.py", "from .report.text import x", "audio/report/text.py"),
    "plan uses model": ("infinitetalk/plan/windows.py", "from ..model import x", "infinitetalk/model/__init__.py"),
    "draw uses run": ("infinitetalk/draw/layout.py", "from ..run.loop import x", "infinitetalk/run/loop.py"),
    "model, att.": ("infinitetalk/model/gate.py", "from ..attention import x", "infinitetalk/attention/__init__.py"),
    "att., model": ("infinitetalk/attention/proof.py", "from ..model.gate import x", "infinitetalk/model/gate.py"),
    "run uses its store": ("infinitetalk/run/loop.py", "from .store import folder", "infinitetalk/run/store/folder.py"),
    "run uses video": ("infinitetalk/run/loop.py", "from .video.join import x", "infinitetalk/run/video/join.py"),
    "run uses a family": ("infinitetalk/run/loop.py", "from ..host.wan import run", "infinitetalk/host/wan/run.py"),
    "video uses the loop": ("infinitetalk/run/video/join.py", "from ..loop import x", "infinitetalk/run/loop.py"),
    "store uses host": ("infinitetalk/run/store/folder.py", "from ...host.run import x", "infinitetalk/host/run.py"),
    "cli uses host": ("infinitetalk/cli/main.py", "from ..host.session import x", "infinitetalk/host/session.py"),
    "cli uses nodes": ("infinitetalk/cli/main.py", "from ...nodes import plan", "nodes/plan.py"),
    "host uses a wing": ("infinitetalk/host/run.py", "from .wan import guider", "infinitetalk/host/wan/guider.py"),
    "host uses cli": ("infinitetalk/host/run.py", "from ..cli.main import x", "infinitetalk/cli/main.py"),
    "host uses nodes": ("infinitetalk/host/run.py", "from ...nodes.plan import x", "nodes/plan.py"),
    "LTX uses WAN": ("infinitetalk/host/ltx/run.py", "from ..wan.guider import x", "infinitetalk/host/wan/guider.py"),
    "WAN uses LTX": ("infinitetalk/host/wan/run.py", "from ..ltx.run import x", "infinitetalk/host/ltx/run.py"),
    "a node uses a node": ("nodes/ltx.py", "from .plan import x", "nodes/plan.py"),
    "the shared inputs use a node": ("nodes/inputs.py", "from .plan import x", "nodes/plan.py"),
    "nodes use cli": ("nodes/ltx.py", "from ..infinitetalk.cli.main import x", "infinitetalk/cli/main.py"),
    "the door uses a room": ("__init__.py", "from .audio.voice import x", "audio/voice.py"),
    "a room uses the door": ("audio/voice.py", "from .. import comfy_entrypoint", "__init__.py"),
    "absolute": ("audio/voice.py", "import longtalk.infinitetalk.run.loop as x", "infinitetalk/run/loop.py"),
    "absolute, from": ("audio/voice.py", "from longtalk.infinitetalk import plan", "infinitetalk/plan/__init__.py"),
    "second of a list": ("infinitetalk/host/run.py", "from . import session, ltx", "infinitetalk/host/ltx/__init__.py"),
    "in a function": ("audio/voice.py", "def f():\n    from ..nodes import plan", "nodes/plan.py"),
    "for types alone": ("audio/voice.py", "if TYPE_CHECKING:\n    from ..nodes import plan", "nodes/plan.py"),
    "in a try": ("audio/voice.py", "try:\n    import longtalk.nodes.plan\nfinally:\n    pass", "nodes/plan.py"),
    "ComfyUI": ("infinitetalk/run/loop.py", "import comfy.utils", "comfy"),
    "ComfyUI, from": ("infinitetalk/run/loop.py", "from comfy_api.latest import io", "comfy_api"),
    "ComfyUI's nodes": ("infinitetalk/cli/main.py", "import nodes", "nodes"),
    "ComfyUI, in a function": ("audio/voice.py", "def f():\n    import folder_paths", "folder_paths"),
    "no product": ("audio/voice.py", "from ..benchmarks.loop import x", "longtalk.benchmarks.loop"),
    "nothing there": ("audio/voice.py", "from longtalk.sound import x", "longtalk.sound"),
}  # fmt: skip

ALLOWED = (
    ("infinitetalk/host/ltx/run.py", "from ..session import x"),
    ("infinitetalk/host/wan/run.py", "import comfy.utils"),
    ("infinitetalk/run/store/folder.py", "from ..loop import x"),
    ("infinitetalk/cli/main.py", "from ...audio.report.text import x"),
    ("audio/report/text.py", "from ..voice import x"),
    ("nodes/ltx.py", "from .inputs import x\nfrom ..infinitetalk.host.ltx.run import y\nimport folder_paths"),
    ("nodes/__init__.py", "from .ltx import x"),
    ("__init__.py", "def f():\n    from .nodes import x"),
)


@pytest.fixture(scope="module")
def empty_house(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of the product and the node inputs that are to come, without a line in them."""
    folder = tmp_path_factory.mktemp("house")
    for file in {*house.files(root), "nodes/inputs.py"}:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@contextmanager
def written(texts: dict[Path, str]) -> Iterator[None]:
    """These texts in empty files, as long as it lasts."""
    for path, text in texts.items():
        path.write_text(text)
    yield
    for path in texts:
        path.write_text("")


@pytest.mark.parametrize("case", FORBIDDEN)
def test_an_arrow_that_runs_up_is_found(empty_house: Path, case: str) -> None:
    file, statement, target = FORBIDDEN[case]
    assert house.faults(empty_house) == []
    with written({empty_house / file: statement}):
        [fault] = house.faults(empty_house)
    assert (fault.file, fault.target) == (file, target)
    assert str(fault).startswith(f"{file}:{fault.line} imports {target}: ")


def test_arrows_that_run_down_are_none(empty_house: Path) -> None:
    with written({empty_house / file: statement for file, statement in ALLOWED}):
        assert len(house.arrows(empty_house)) == len(ALLOWED) + 2
        assert house.faults(empty_house) == []


def test_a_room_that_the_table_does_not_know_is_found(tmp_path: Path) -> None:
    (tmp_path / "audio" / "colour").mkdir(parents=True)
    (tmp_path / "audio" / "colour" / "match.py").write_text("import torch")
    [fault] = house.faults(tmp_path)
    assert "has no row for audio/colour" in fault.why


def top_levels(path: Path) -> set[str]:
    """The modules that a file imports, by their top-level names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_plan_needs_no_torch(root: Path) -> None:
    for name in ("windows", "plan_text", "schedule", "schedule_text"):
        assert not top_levels(root / "infinitetalk" / "plan" / f"{name}.py") & {"torch", "numpy"}


def test_pure_rooms_import_without_comfyui(root: Path) -> None:
    """All of them in a fresh process that has no ComfyUI on its path."""
    names = [
        "longtalk." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in house.files(root)
        if house.room_of(file) and not file.startswith(house.KNOW_COMFYUI)
    ]
    assert len(names) > 80
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"assert not set({sorted(house.COMFYUI)!r}) & sys.modules.keys()"
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
