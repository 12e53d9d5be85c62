"""A copy of the pack in a ComfyUI's ``custom_nodes``, under any name, and the commands that the pack's pages show."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("longtalk", "LongTalk", "comfyui-longtalk", "ComfyUI LongTalk")
"""What the registry, a clone, people and people with spaces call the pack's folder."""

_NOT_THE_PACK = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "tests", "scripts", "training", "benchmarks")
_PORTABLE = "python_embeded\\python.exe ComfyUI\\custom_nodes\\longtalk\\"
_SCRIPT = "python bin/longtalk "


def copy_pack(comfyui: Path, name: str) -> Path:
    """The pack as `comfyui`/custom_nodes/`name`, with an output folder beside."""
    (comfyui / "output" / "longtalk").mkdir(parents=True)
    pack = comfyui / "custom_nodes" / name
    shutil.copytree(ROOT, pack, ignore=_NOT_THE_PACK)
    return pack


def shown_commands(root: Path) -> list[str]:
    """The lines of the pages and of the notes in workflows that start the command line, in the order of the pages."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted((root / "web" / "docs").glob("*.md"))]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    for workflow in sorted((root / "workflows").glob("*.json")):
        notes = json.loads(workflow.read_text(encoding="utf-8")).get("nodes", ())
        texts += [value for node in notes for value in node.get("widgets_values") or () if isinstance(value, str)]
    lines = []
    for text in texts:
        # Indented, as a block, or between backticks.
        lines += re.findall(r"(?:^    |`)(\S+ [^`\n]*bin[/\\]longtalk [^`\n]+)", text, re.MULTILINE)
    return lines


def words_of(line: str, python: list[str], pack: Path) -> list[str]:
    """A shown line as it is started in the pack's folder, with this Python."""
    if line.startswith(_PORTABLE):
        script, *words = line.removeprefix(_PORTABLE).split()
        return [*python, str(pack / script.replace("\\", "/")), *words]
    assert line.startswith(_SCRIPT), line
    return [*python, *shlex.split(line)[1:]]
