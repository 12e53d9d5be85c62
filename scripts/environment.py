"""The development environment: everything `scripts/test` and `scripts/demo` need, obtained once.

Three things are made, on a machine that has Python 3.10 or newer and can reach a package index:

- a virtual environment with exactly what requirements.lock names, shared by all clones, in the cache;
- a thin `.venv` in this clone on top of it, in which `import longtalk` is this clone;
- ComfyUI, from COMFYUI_PATH, or the one this pack sits in, or obtained into the cache; and tiny model files for it.

The cache is $LONGTALK_CACHE, else $XDG_CACHE_HOME/longtalk, else ~/.cache/longtalk. It can be deleted at any time.
Standard library only; run it to make everything and to see where it lies: `python3 scripts/environment.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import comfyui_pins
import comfyui_source
from setup_common import CLONE, SetupError, child_environ, run, say, sha256_of

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 14)
"""The Pythons for which the locked torch has wheels."""

NEEDED_BYTES = 8 * 10**9
OLDEST_UV = (0, 5)
MARKER = "longtalk.json"
TOOLS = {"pytest": "pytest:main", "mypy": "mypy.__main__:console_entry"}


@dataclass(frozen=True)
class Environment:
    """Where everything lies. `python` is the clone's own; `models` is a models folder for ComfyUI."""

    python: Path
    comfyui: Path
    comfyui_version: str
    cache: Path
    models: Path


def ensure() -> Environment:
    """Make what is missing of environment, ComfyUI and tiny models. Takes a second when nothing is."""
    cache = cache_dir()
    with locked(cache):
        python = _ensure_python(cache)
        comfyui, version = comfyui_source.ensure_comfyui(cache, shared_folder(cache) / "bin" / "python")
        warn_of_newer_pins(comfyui, version, (CLONE / "requirements.lock").read_text())
        models = _ensure_models(cache, python, comfyui)
    return Environment(python, comfyui, version, cache, models)


def warn_of_newer_pins(comfyui: Path, version: str, lock: str) -> None:
    """Say which packages a ComfyUI asks for newer than the lock file has them, or that it does not have."""
    asked = comfyui_pins.beyond((comfyui / "requirements.txt").read_text(), lock)
    if asked:
        say(
            f"requirements.lock has not what ComfyUI {version} asks for: {', '.join(asked)}. It may not start. "
            "`python3 scripts/follow_comfyui.py` makes the lock file follow it"
        )


def ensure_python() -> Path:
    """Only the clone's Python, for what needs neither ComfyUI nor models."""
    cache = cache_dir()
    with locked(cache):
        return _ensure_python(cache)


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    if environ.get("LONGTALK_CACHE"):
        return Path(environ["LONGTALK_CACHE"]).expanduser().absolute()
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]).expanduser().absolute() / "longtalk"
    return Path.home() / ".cache" / "longtalk"


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """One script at a time prepares things. The system lets go of the lock when a process dies, however it dies."""
    try:
        import fcntl
    except ImportError:
        raise SetupError("these scripts run on Linux and macOS", "on Windows, run them inside WSL") from None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        handle = open(cache / "lock", "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        action = "set LONGTALK_CACHE to another folder"
        raise SetupError(f"cannot write to the cache {cache}: {error}", action) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another LongTalk script is preparing the environment; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# The shared environment


def environment_key(lock: bytes, python: Sequence[int] = sys.version_info, platform: str | None = None) -> str:
    """Names the folder: another lock file, Python version or machine is another environment."""
    digest = hashlib.sha256(lock).hexdigest()[:16]
    return f"python{python[0]}.{python[1]}-{platform or sysconfig.get_platform()}-{digest}"


def shared_folder(cache: Path) -> Path:
    return cache / environment_key((CLONE / "requirements.lock").read_bytes())


def is_complete(folder: Path) -> bool:
    """Whether the environment in `folder` was finished: its marker is written last and names the folder's key.

    A Python that has been uninstalled leaves a dangling link behind, which does not count either.
    """
    return _read_json(folder / MARKER) == {"key": folder.name} and (folder / "bin" / "python").exists()


def _ensure_python(cache: Path) -> Path:
    _check_python()
    shared = shared_folder(cache)
    if not is_complete(shared):
        _make_shared(shared)
    return _ensure_clone_venv(CLONE, shared)


def _make_shared(folder: Path) -> None:
    _check_disk(folder.parent)
    if folder.exists():
        say(f"removing a half-made environment: {folder}")
        shutil.rmtree(folder)
    say(f"making the environment, once (about 3.5 GB to download, 6 GB on disk): {folder}")
    lock = CLONE / "requirements.lock"
    uv = find_uv()
    if uv:
        run([uv, "venv", "--quiet", "--python", sys.executable, folder], what="making a virtual environment")
    else:
        uv = bootstrap_uv(folder, lock)
    environ = child_environ()
    environ.setdefault("UV_HTTP_TIMEOUT", "300")
    # Compiled once, and not at each start where PYTHONDONTWRITEBYTECODE is set: ComfyUI starts in half the time.
    install = [uv, "pip", "install", "--compile-bytecode", "--python", folder / "bin" / "python"]
    run(
        [*install, "--require-hashes", "--requirements", lock],
        what="installing requirements.lock",
        action="check that the package index can be reached and run this again; what was downloaded is kept",
        environ=environ,
        leave_out=" + ",  # what uv says of each of a hundred packages at the end
    )
    write_marker(folder)


def write_marker(folder: Path) -> None:
    """Say that the environment in `folder` is finished."""
    write_last(folder / MARKER, {"key": folder.name})


def find_uv() -> str | None:
    """The uv on PATH if it runs (it may be a version manager's shim that does not) and is not too old."""
    uv = shutil.which("uv")
    if not uv:
        return None
    try:
        found = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"uv (\d+)\.(\d+)", found.stdout)
    return uv if match and (int(match[1]), int(match[2])) >= OLDEST_UV else None


def locked_block(lock: str, name: str) -> str:
    """The lines of one package in a lock file, with its hashes."""
    match = re.search(rf"^{re.escape(name)}==.*?(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL)
    if not match:
        raise SetupError(f"requirements.lock does not name {name}", "make it again (see docs/development.md)")
    return match[0]


def bootstrap_uv(folder: Path, lock: Path) -> str:
    """Make the environment with the standard library and install the locked uv into it."""
    try:
        import ensurepip  # noqa: F401 (Debian ships venv without it)
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            "this Python can make no virtual environment",
            f"install uv, or the package python{sys.version_info[0]}.{sys.version_info[1]}-venv",
        ) from None
    run([sys.executable, "-m", "venv", folder], what="making a virtual environment")
    with tempfile.TemporaryDirectory() as temporary:
        wanted = Path(temporary) / "uv.txt"
        wanted.write_text(locked_block(lock.read_text(), "uv"))
        command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", wanted]
        run(command, what="installing uv", action="check that the package index can be reached")
    return str(folder / "bin" / "uv")


def _check_python() -> None:
    here = tuple(sys.version_info[:2])
    if OLDEST_PYTHON <= here <= NEWEST_PYTHON:
        return
    others = [f"python3.{minor}" for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1)]
    found = next((name for name in others if shutil.which(name)), None)
    raise SetupError(
        f"expected Python 3.{OLDEST_PYTHON[1]} to 3.{NEWEST_PYTHON[1]}, got {here[0]}.{here[1]} ({sys.executable})",
        f"run it with the one you have: {found} {sys.argv[0]}" if found else "install one of them",
    )


def _check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise SetupError(
            f"expected {NEEDED_BYTES // 10**9} GB free for the environment, got {free / 10**9:.1f} GB at {folder}",
            "free some space, or set LONGTALK_CACHE to a folder on another disk",
        )


# The clone's own environment


def _ensure_clone_venv(clone: Path, shared: Path) -> Path:
    """A virtual environment that adds this clone to the shared one; made again when either moved or changed."""
    venv = clone / ".venv"
    wanted = {"clone": str(clone), "shared": str(shared), "pyproject": sha256_of(clone / "pyproject.toml")}
    marker = _read_json(venv / MARKER)
    if marker == wanted and (venv / "bin" / "python").exists():
        return venv / "bin" / "python"
    if marker is None and venv.exists():
        raise SetupError(f"{venv} was not made by this script", "move it away or delete it, and run this again")

    for left_over in clone.glob(".venv.*"):
        shutil.rmtree(left_over)
    part = clone / f".venv.{os.getpid()}"
    uv = shared / "bin" / "uv"
    run([uv, "venv", "--quiet", "--python", shared / "bin" / "python", part], what="making .venv")
    site_packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    # addsitedir, not the bare path: it also follows the .pth files that lie there.
    line = f"import site; site.addsitedir({str(shared / site_packages)!r})\n"
    (part / site_packages / "longtalk_shared.pth").write_text(line)
    command = [uv, "pip", "install", "--quiet", "--offline", "--no-cache", "--no-deps", "--no-build-isolation"]
    run([*command, "--python", part / "bin" / "python", "--editable", clone], what="installing this clone into .venv")
    _add_tools(part / "bin", venv / "bin", shared / "bin")
    # mypy names modules by folders, and a clone's folder may have any name.
    (part / "src").mkdir()
    (part / "src" / "longtalk").symlink_to(clone, target_is_directory=True)
    write_last(part / MARKER, wanted)
    if venv.exists():
        shutil.rmtree(venv)
    part.rename(venv)
    return venv / "bin" / "python"


def _add_tools(part: Path, final: Path, shared: Path) -> None:
    """Commands that see this clone. A wrapper's own folder is what Python puts first on its path, so unlike
    `python -m pytest` it never takes the clone's `nodes` for ComfyUI's.
    """
    for name, entry in TOOLS.items():
        module, function = entry.split(":")
        text = f"#!{final / 'python'}\nimport sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"
        (part / name).write_text(text)
        (part / name).chmod(0o755)
    (part / "ruff").symlink_to(shared / "ruff")


# Tiny models


def _ensure_models(cache: Path, python: Path, comfyui: Path) -> Path:
    """The files of scripts/tiny_models.py. Another version of what makes them writes to another folder."""
    script = CLONE / "scripts" / "tiny_models.py"
    folder = cache / f"tiny-models-{models_key(script.parent)}"
    marker = folder / MARKER
    if folder.is_dir() and _read_json(marker) == _sizes(folder):
        return folder
    marker.unlink(missing_ok=True)
    say("writing tiny model files, once (about 0.7 GB)")
    environ = {**child_environ(), "PYTHONPATH": str(comfyui.resolve())}
    run([python, script, "--out", folder], what="writing the tiny models", environ=environ)
    write_last(marker, _sizes(folder))
    return folder


def models_key(scripts: Path) -> str:
    """Names what the tiny models are made of: tiny_models.py, the modules beside it, and the trained weights."""
    made_of = [*sorted(scripts.glob("tiny_*.py")), scripts / "assets" / "talker.safetensors"]
    hashes = [f"{path.name} {sha256_of(path)}" for path in made_of]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.glob("*/*.safetensors"))}


def write_last(path: Path, content: Mapping[str, object]) -> None:
    """Write a marker so that it is there completely or not at all."""
    part = path.with_name(path.name + ".part")
    with open(part, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def main() -> int:
    try:
        made = ensure()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, value in vars(made).items():
        print(f"{name:<16} {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
