#!/usr/bin/env python3
"""Make this clone's lock file follow a newer ComfyUI, which asks for newer packages than requirements.lock has.

The pins are raised in scripts/requirements.in, and requirements.lock is made again; everything else in it stays.

    python3 scripts/follow_comfyui.py                      the ComfyUI that scripts/test would take
    python3 scripts/follow_comfyui.py --newest FOLDER      obtains the newest version first; test it with COMFYUI_PATH
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import comfyui_pins
import comfyui_source
from environment import bootstrap_uv, cache_dir, find_uv
from setup_common import CLONE, SetupError, child_environ, run, say

LIST = CLONE / "scripts" / "requirements.in"
LOCK = CLONE / "requirements.lock"
ASK_LIMIT_S = 60


def newest_tag(listed: str) -> str:
    """The highest released version in what `git ls-remote --tags` prints; release candidates do not count."""
    tags = re.findall(r"refs/tags/(v\d+\.\d+\.\d+)$", listed, re.MULTILINE)
    if not tags:
        raise SetupError(f"expected tags such as v0.30.0 at {comfyui_source.REPOSITORY}, got none", "name a ComfyUI")
    return max(tags, key=comfyui_pins.order)


def obtain_newest(target: Path) -> None:
    if target.exists():
        raise SetupError(f"{target} is there already", "name a folder that is not there yet")
    command = ["git", "ls-remote", "--tags", "--refs", comfyui_source.REPOSITORY]
    environ = {**child_environ(), "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=ASK_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"cannot ask for ComfyUI's versions ({error})", "check git and the network") from None
    if done.returncode != 0:
        raise SetupError(f"cannot ask for ComfyUI's versions ({done.stderr.strip()})", "check the network")
    tag = newest_tag(done.stdout)
    say(f"cloning ComfyUI {tag}")
    failure = comfyui_source.clone_repository(target, tag)
    if failure:
        raise SetupError(f"cannot clone ComfyUI {tag} ({failure})", "check the network")


def follow(comfyui: Path) -> bool:
    """Raise the pins and make the lock file again; returns whether anything had to be done."""
    ours = LIST.read_text()
    raised = comfyui_pins.raised(ours, (comfyui / "requirements.txt").read_text())
    if raised == ours:
        return False
    LIST.write_text(raised)
    with tempfile.TemporaryDirectory() as temporary:
        uv = find_uv() or bootstrap_uv(Path(temporary) / "uv", LOCK)
        options = ["--universal", "--python-version", "3.10", "--generate-hashes"]
        files = ["--output-file", str(LOCK.relative_to(CLONE)), str(LIST.relative_to(CLONE))]
        # The lock file names the command that docs/development.md shows; which Python uv runs with is of this machine
        # (without one, uv asks every Python it can find whether it is 3.10).
        environ = {**child_environ(), "UV_CUSTOM_COMPILE_COMMAND": " ".join(["uv pip compile", *options, *files])}
        command = [uv, "pip", "compile", "--quiet", "--python", sys.executable, *options, *files]
        run(command, what="making requirements.lock again", environ=environ)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the lock file follow a newer ComfyUI.")
    parser.add_argument("--newest", type=Path, metavar="FOLDER", help="obtain the newest ComfyUI into FOLDER first")
    chosen = parser.parse_args()
    try:
        if chosen.newest:
            comfyui = chosen.newest.expanduser().absolute()
            obtain_newest(comfyui)
        else:
            found = comfyui_source.find_comfyui(os.environ, comfyui_source.clone_places())
            comfyui = found[0] if found else cache_dir() / f"ComfyUI-{comfyui_source.PINNED}"
            if not comfyui_source.is_comfyui(comfyui):
                raise SetupError(f"there is no ComfyUI at {comfyui}", "set COMFYUI_PATH, or use --newest FOLDER")
        os.chdir(CLONE)  # the lock file names its source as it was called
        changed = follow(comfyui)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    version = comfyui_source.comfyui_version(comfyui)
    say(
        f"requirements.lock {'now follows' if changed else 'has all that is asked for by'} ComfyUI {version}: {comfyui}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
