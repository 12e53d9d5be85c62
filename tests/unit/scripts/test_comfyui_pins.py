"""Which packages a ComfyUI and its users get, from ComfyUI's list and ours."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import archive_environments
import comfyui_pins
import environment
import follow_comfyui
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setup_common import SetupError

LOCK = """\
comfy-kitchen==0.2.31 \\
    --hash=sha256:00
numpy==2.2.6 ; python_full_version < '3.11' \\
    --hash=sha256:11
numpy==2.4.0 ; python_full_version >= '3.11' \\
    --hash=sha256:22
"""
COMFYUI = """\
comfy-kitchen=={}
# comments are none
torch
numpy>=1.25.0  # nor is this

--extra-index-url nowhere
pydantic~=2.0
"""


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        ("0.2.4", "comfy-kitchen"),
        ("0.2.30", "comfy-kitchen"),
        ("0.2.31", "comfy-kitchen"),
        ("0.2.100", "comfy-kitchen==0.2.100"),
        ("1.0", "comfy-kitchen==1.0"),
    ],
)
def test_the_newer_of_both_pins_is_installed(pin: str, expected: str) -> None:
    wanted = comfyui_pins.of_comfyui(COMFYUI.format(pin), LOCK)
    assert wanted == [expected, "torch", "numpy>=1.25.0", "pydantic~=2.0"]


def test_a_newer_comfyui_raises_our_list() -> None:
    ours = "# What development needs.\ntorch==2.11.0\n\ncomfy-kitchen==0.2.31\nComfy_Aimdo==0.5\n-r ours.txt\nnumpy\n"
    theirs = "torch\ncomfy-kitchen==0.3.0\ncomfy.aimdo==0.4\nnumpy>=2\nnew-one>=1\n"
    assert comfyui_pins.raised(ours, theirs).splitlines() == [
        "# What development needs.",
        "torch==2.11.0",
        "",
        "comfy-kitchen==0.3.0",
        "Comfy_Aimdo==0.5",
        "-r ours.txt",
        "numpy",
        "",
        "# What a newer ComfyUI asks for.",
        "new-one>=1",
    ]


def fake_comfyui(folder: Path, kitchen: str) -> Path:
    (folder / "requirements.txt").write_text(COMFYUI.format(kitchen))
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text('__version__ = "0.99.0"')
    return folder


@pytest.mark.parametrize(
    ("kitchen", "asked"),
    [("0.2.30", "torch, pydantic~=2.0"), ("0.2.100", "comfy-kitchen==0.2.100, torch, pydantic~=2.0")],
)
def test_what_the_lock_does_not_have_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kitchen: str, asked: str
) -> None:
    environment.warn_of_newer_pins(fake_comfyui(tmp_path, kitchen), "0.99.0", LOCK)
    assert capsys.readouterr().out == (
        f"[longtalk] requirements.lock has not what ComfyUI 0.99.0 asks for: {asked}. It may not start. "
        "`python3 scripts/follow_comfyui.py` makes the lock file follow it\n"
    )


def test_the_lock_has_what_the_comfyui_under_test_asks_for(
    root: Path, comfyui_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If not, the message names what is missing and what to do."""
    environment.warn_of_newer_pins(comfyui_path, "under test", (root / "requirements.lock").read_text())
    assert capsys.readouterr().out == ""


def test_the_newest_release_is_found() -> None:
    names = ("v0.9.0", "v0.33.0", "v0.4.12", "v0.45.0-rc1", "latest", "v0.5")
    listed = "".join(f"{number:040x}\trefs/tags/{name}\n" for number, name in enumerate(names))
    assert follow_comfyui.newest_tag(listed) == "v0.33.0"
    with pytest.raises(SetupError, match="got none"):
        follow_comfyui.newest_tag("")


def wheel(folder: Path, name: str, version: str) -> None:
    """A package with nothing in it."""
    about = f"{name}-{version}.dist-info"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as packed:
        for file, text in files.items():
            packed.writestr(f"{about}/{file}", text)


def test_the_lock_file_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real uv and packages from a folder: the raised pin is locked, the other stays where it was."""
    clone, comfyui, index = tmp_path / "clone", tmp_path / "ComfyUI", tmp_path / "index"
    for folder in (clone / "scripts", comfyui, index):
        folder.mkdir(parents=True)
    for name in ("pinned", "loose"):
        for version in ("1.9", "1.10", "1.11"):
            wheel(index, name, version)
    listed, lock = clone / "scripts" / "requirements.in", clone / "requirements.lock"
    listed.write_text("pinned==1.9\nloose\n")
    lock.write_text("pinned==1.9\nloose==1.9\n")
    (fake_comfyui(comfyui, "0") / "requirements.txt").write_text("pinned==1.10\nloose\n")
    for variable, place in (("CLONE", clone), ("LIST", listed), ("LOCK", lock)):
        monkeypatch.setattr(follow_comfyui, variable, place)
    uv = environment.shared_folder(environment.cache_dir()) / "bin" / "uv"
    monkeypatch.setattr(follow_comfyui, "find_uv", lambda: str(uv))
    (tmp_path / "uv.toml").write_text(f'no-index = true\nfind-links = ["{index}"]\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
    monkeypatch.setattr("sys.argv", ["follow_comfyui.py"])
    monkeypatch.chdir(tmp_path)

    assert follow_comfyui.main() == 0
    assert listed.read_text() == "pinned==1.10\nloose\n"
    locked = lock.read_text()
    assert re.findall(r"^(\w+==\S+) ", locked, re.MULTILINE) == ["loose==1.9", "pinned==1.10"]
    assert locked.count("--hash=sha256:") == 2
    assert not [line for line in locked.splitlines() if " /" in line or str(tmp_path) in line]

    assert follow_comfyui.main() == 0
    assert lock.read_text() == locked
    assert "has all that is asked for by ComfyUI 0.99.0" in capsys.readouterr().out.splitlines()[-1]


def test_lines_are_read_as_packaging_reads_them(root: Path, comfyui_path: Path) -> None:
    lists = [comfyui_path / "requirements.txt", root / "requirements.txt", root / "scripts" / "requirements.in"]
    lines = [line for path in lists for line in comfyui_pins.listed(path.read_text())]
    assert len(lines) > 60
    for line in lines:
        read = Requirement(line)
        assert comfyui_pins.name_of(line) == canonicalize_name(read.name)
        exact = [each.version for each in read.specifier if each.operator == "=="]
        assert comfyui_pins.exact_version(line) == (exact[0] if exact else None)


@pytest.mark.parametrize(("less", "more"), [("1.9", "1.10"), ("0.2.4", "0.2.31"), ("1", "1.0.1"), ("2.11.0", "3")])
def test_versions_are_ordered_as_packaging_orders_them(less: str, more: str) -> None:
    assert Version(less) < Version(more)
    assert comfyui_pins.order(less) < comfyui_pins.order(more)


def test_the_users_environment_is_another_for_other_packages() -> None:
    digest = archive_environments.user_digest
    names = {digest(["a"], "b"), digest(["a", "b"], ""), digest(["a"], "c"), digest([], "b")}
    assert len(names) == 4


def test_comfy_clis_lock_is_all_hashes_and_names_no_index(root: Path) -> None:
    lock = (root / "scripts" / "registry.lock").read_text()
    pins = re.findall(r"^[A-Za-z0-9._-]+==\S+.*$", lock, re.MULTILINE)
    assert len(pins) > 40
    assert all(pin.endswith("\\") for pin in pins)
    assert not re.search(r"index-url|find-links|://", lock)
    [wanted] = comfyui_pins.listed((root / "scripts" / "registry.in").read_text())
    assert f"{wanted} \\\n" in lock
