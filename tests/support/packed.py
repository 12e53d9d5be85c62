"""The archive for ComfyUI's registry, as comfy-cli makes it, and a fresh ComfyUI that holds it alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import demo_client
import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = "node.zip"
#: What a ComfyUI in use has collected, and what it does not need to run.
NOT_FRESH = {"custom_nodes", "models", "input", "output", "user", "temp", "tests", "tests-unit"}


def from_scripts_test(variable: str) -> Path:
    """A path that scripts/test hands over."""
    value = os.environ.get(variable)
    if not value or not Path(value).exists():
        pytest.fail(f"{variable} must name a file (got {value!r}); run scripts/test, which makes it and sets this")
    return Path(value)


def git(*words: object) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *map(str, words)]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def make_checkout(folder: Path) -> Path:
    """A repository with the files that git tracks here, as they are now (without a .git: those it does not ignore)."""
    git("init", "--quiet", folder)
    if (ROOT / ".git").exists():
        listed = git("-C", ROOT, "ls-files", "-z")
    else:
        places = f"--git-dir={folder / '.git'}", f"--work-tree={ROOT}"
        listed = git(*places, "-C", ROOT, "ls-files", "-z", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git("-C", folder, "add", "--all", "--force")
    return folder


def comfy_cli(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """comfy-cli's answer, of which it can ask nobody, without a network."""
    home = checkout.parent / "home"
    home.mkdir(exist_ok=True)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "COLUMNS": "200",
        "DO_NOT_TRACK": "1",
        "COMFY_NO_UPDATE_CHECK": "1",
        # Nothing listens there: whatever wanted the network would fail.
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    }
    command = [str(from_scripts_test("LONGTALK_COMFY_CLI")), "--skip-prompt", *words]
    return subprocess.run(
        command, cwd=checkout, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )


def make_fresh_comfyui(comfyui: Path, models: Path, archive: Path, folder: Path, name: str) -> Path:
    """A ComfyUI whose custom_nodes holds the unpacked archive alone, with the demo's models and input."""

    def unwanted(where: str, names: list[str]) -> set[str]:
        top = NOT_FRESH if Path(where) == comfyui else set()
        made = {each for each in names if (Path(where) / each / "pyvenv.cfg").exists()}
        return made | {each for each in names if each in top or each.startswith(".")}

    shutil.copytree(comfyui, folder, ignore=unwanted)
    demo_client.make_folders(folder, models)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder / "custom_nodes" / name)
    return folder
