"""The two environments that the archive for ComfyUI's registry is checked with. Standard library only.

- comfy-cli, as scripts/registry.lock pins it: it validates and packs;
- a user's: what ComfyUI's requirements.txt and ours name and need, in the versions of requirements.lock as far as that
  ComfyUI takes them, and nothing else of it.

Both lie in the cache, beside the shared environment, and are made with its uv, whose downloads they share.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import comfyui_pins
from environment import Environment, environment_key, is_complete, locked, shared_folder, write_marker
from setup_common import CLONE, child_environ, run, say

REGISTRY_LOCK = CLONE / "scripts" / "registry.lock"
_ACTION = "check that the package index can be reached and run this again; what was downloaded is kept"


@dataclass(frozen=True)
class ArchiveEnvironments:
    """`comfy_cli` is the command `comfy`, `python` a user's Python."""

    comfy_cli: Path
    python: Path


def ensure(made: Environment) -> ArchiveEnvironments:
    """Make what is missing. Takes a moment when nothing is."""
    with locked(made.cache):
        uv = shared_folder(made.cache) / "bin" / "uv"
        return ArchiveEnvironments(_ensure_comfy_cli(made.cache, uv), _ensure_user(made.cache, uv, made.comfyui))


def _ensure_comfy_cli(cache: Path, uv: Path) -> Path:
    folder = cache / f"comfy-cli-{environment_key(REGISTRY_LOCK.read_bytes())}"
    if not is_complete(folder):
        say(f"making the environment of comfy-cli, once (about 100 MB to download): {folder}")
        _begin(folder, uv)
        _install(folder, uv, REGISTRY_LOCK)
        write_marker(folder)
    return folder / "bin" / "comfy"


def _ensure_user(cache: Path, uv: Path, comfyui: Path) -> Path:
    lock = (CLONE / "requirements.lock").read_text()
    wanted = comfyui_pins.of_comfyui((comfyui / "requirements.txt").read_text(), lock)
    wanted += comfyui_pins.listed((CLONE / "requirements.txt").read_text())
    folder = cache / f"user-{environment_key(user_digest(wanted, lock))}"
    if not is_complete(folder):
        say(f"making the environment of a user with this ComfyUI, once: {folder}")
        _begin(folder, uv)
        names, pins = folder / "wanted.txt", folder / "user.lock"
        names.write_text("".join(f"{line}\n" for line in wanted))
        # uv keeps what the output file already pins wherever the wanted packages allow it.
        pins.write_text(lock)
        command = [uv, "pip", "compile", "--quiet", "--python", folder / "bin" / "python", "--generate-hashes"]
        run([*command, "--output-file", pins, names], what="choosing the packages of a user", action=_ACTION)
        _install(folder, uv, pins)
        write_marker(folder)
    return folder / "bin" / "python"


def user_digest(wanted: list[str], lock: str) -> bytes:
    """What a user's environment follows from."""
    return hashlib.sha256("\n".join([*wanted, lock]).encode()).digest()


def _begin(folder: Path, uv: Path) -> None:
    if folder.exists():
        say(f"removing a half-made environment: {folder}")
        shutil.rmtree(folder)
    shared = uv.parent / "python"
    run([uv, "venv", "--quiet", "--python", shared, folder], what="making a virtual environment")


def _install(folder: Path, uv: Path, lock: Path) -> None:
    environ = child_environ()
    environ.setdefault("UV_HTTP_TIMEOUT", "300")
    command = [uv, "pip", "install", "--python", folder / "bin" / "python", "--require-hashes", "--requirements", lock]
    run(command, what=f"installing {lock.name}", action=_ACTION, environ=environ, leave_out=" + ")
