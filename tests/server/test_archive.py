"""What ComfyUI's registry hands out: validated and packed by comfy-cli, unpacked alone into a fresh ComfyUI."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import aiohttp
import demo_client
import pytest
import torch
from demo_server import ComfyServer, run_workflow, wait_until_up
from packed import ARCHIVE, comfy_cli, from_scripts_test, make_checkout, make_fresh_comfyui
from PIL import Image

import longtalk

#: The registry's name for the folder, and the one that most people clone into.
NAMES = ("longtalk", "LongTalk")
AT_GITHUB = "https://raw.githubusercontent.com/longtalk/longtalk/main/"
ONLY_FOR_DEVELOPMENT = (
    "librosa",
    "pytest",
    "mypy",
    "hypothesis",
    "pyloudnorm",
    "imageio_ffmpeg",
    "comfy_cli",
    "longtalk",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("registry") / "clone")


@pytest.fixture(scope="module")
def archive(checkout: Path) -> Path:
    done = comfy_cli(checkout, "node", "pack")
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / ARCHIVE


@pytest.fixture(scope="module")
def held(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as packed:
        return {name for name in packed.namelist() if not name.endswith("/")}


# Validated


def test_comfy_cli_finds_nothing(checkout: Path) -> None:
    done = comfy_cli(checkout, "node", "validate")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All validation checks passed" in said
    for trouble in ("Warning", "warnings found", "Error"):
        assert trouble not in said, said


def test_comfy_cli_would_find_something(checkout: Path, tmp_path: Path) -> None:
    """The same check on the pack with one line too many, and with a version that stands nowhere."""
    clone = make_checkout(tmp_path / "clone")
    with open(clone / "nodes" / "__init__.py", "a") as file:
        file.write('\nexec("1")\n')
    done = comfy_cli(clone, "node", "validate")
    assert "Security warnings found" in done.stdout + done.stderr
    assert "S102" in done.stdout + done.stderr
    (clone / "__init__.py").write_text("")
    done = comfy_cli(clone, "node", "validate")
    assert done.returncode == 1
    assert "version is empty" in done.stdout + done.stderr


def test_the_registry_understands_every_field(checkout: Path, root: Path) -> None:
    code = (
        "import dataclasses, json\n"
        "from comfy_cli.registry.config_parser import extract_node_configuration\n"
        "print(json.dumps(dataclasses.asdict(extract_node_configuration('pyproject.toml'))))"
    )
    python = from_scripts_test("LONGTALK_COMFY_CLI").parent / "python"
    out = subprocess.run([python, "-c", code], cwd=checkout, check=True, capture_output=True, text=True).stdout
    found = json.loads(out)
    project, comfy = found["project"], found["tool_comfy"]
    assert project["version"] == longtalk.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["supported_os"] == ["OS Independent"]
    assert project["supported_accelerators"] == ["GPU :: NVIDIA CUDA"]
    assert project["supported_comfyui_version"] == ">=0.30.0"
    assert project["license"]["text"] == "Apache-2.0"
    assert project["urls"]["repository"] == "https://github.com/longtalk/longtalk"
    for family in ("WAN 2.1", "InfiniteTalk", "LTX-2.3"):
        assert family in project["description"]
        assert family in (longtalk.__doc__ or "").splitlines()[0]
    sizes = {}
    for field in ("icon", "banner_url"):
        assert comfy[field].startswith(AT_GITHUB)
        with Image.open(root / comfy[field].removeprefix(AT_GITHUB)) as picture:
            assert picture.format == "PNG"
            sizes[field] = picture.size
    assert sizes["icon"][0] == sizes["icon"][1] <= 400
    assert sizes["banner_url"][0] * 9 == sizes["banner_url"][1] * 21


# Packed


def test_the_archive_holds_what_users_need_and_nothing_else(held: set[str], archive: Path, root: Path) -> None:
    tops = {PurePosixPath(name).parts[0] for name in held}
    folders = {"audio", "base", "bin", "docs", "infinitetalk", "metrics", "nodes", "web", "workflows"}
    files = {"__init__.py", "pyproject.toml", "requirements.txt", "README.md", "CHANGELOG.md", "LICENSE"}
    assert folders | files <= tops
    assert not tops & {
        "tests",
        "scripts",
        "training",
        "benchmarks",
        "requirements.lock",
        ".ci",
        ".github",
        ".gitignore",
    }
    for pattern in ("web/docs/*.md", "workflows/*.json", "workflows/*.jpg", "workflows/api/*.json", "**/*.py"):
        for path in root.glob(pattern):
            name = path.relative_to(root).as_posix()
            if name.split("/")[0] in folders:
                assert name in held
    assert archive.stat().st_size < 2_500_000


def test_every_picture_and_page_that_the_pages_show_is_in_the_archive(held: set[str], archive: Path) -> None:
    seen = 0
    with zipfile.ZipFile(archive) as packed:
        for page in sorted(name for name in held if name.endswith(".md") and not name.startswith("web/")):
            text = packed.read(page).decode()
            for target in re.findall(r"!\[[^\]]*\]\(([^)#]+)|<img src=\"([^\"]+)\"|\]\(([^)#:]+\.(?:md|json))", text):
                name = PurePosixPath(page).parent / next(filter(None, target))
                parts: list[str] = []
                for part in name.parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                # How the tiny models were trained is told in the repository only.
                if parts[0] != "training":
                    assert "/".join(parts) in held, f"{page} shows {name}"
                    seen += 1
    assert seen > 30


# Installed


class Installed(NamedTuple):
    comfyui: Path
    pack: Path
    server: ComfyServer


@pytest.fixture(scope="module", params=NAMES)
def installed(
    request: pytest.FixtureRequest,
    comfyui_path: Path,
    tiny_models: Path,
    archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    """The server of a fresh ComfyUI with the archive alone, run by a Python that has only what a user installs."""
    folder = tmp_path_factory.mktemp("fresh") / "ComfyUI"
    comfyui = make_fresh_comfyui(comfyui_path, tiny_models, archive, folder, request.param)
    python = from_scripts_test("LONGTALK_USER_PYTHON")
    cpu = not torch.cuda.is_available()
    server = ComfyServer(comfyui, comfyui, folder / "server.log", cpu=cpu, threads=1, python=python, every_pack=True)
    with server:
        yield Installed(comfyui, comfyui / "custom_nodes" / request.param, server)


def test_the_user_has_only_what_the_lists_name() -> None:
    python = from_scripts_test("LONGTALK_USER_PYTHON")
    code = (
        f"import importlib.util as u; print([n for n in {(*ONLY_FOR_DEVELOPMENT, 'gguf', 'torch')} if u.find_spec(n)])"
    )
    done = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "['gguf', 'torch']\n"


def test_all_nodes_load(installed: Installed, root: Path) -> None:
    async def nodes() -> dict[str, Any]:
        async with aiohttp.ClientSession(installed.server.url) as session:
            await wait_until_up(installed.server, session)
            async with session.get("/object_info") as answer:
                return dict(await answer.json())

    everything = asyncio.run(nodes())
    log = installed.server.log.read_text()
    for trouble in ("Traceback", "IMPORT FAILED"):
        assert trouble not in log, log
    found = {name: info for name, info in everything.items() if name.startswith("LongTalk")}
    promised = json.loads((root / "tests" / "server" / "promised_inputs.json").read_text())
    assert set(found) == set(promised)
    for node, inputs in promised.items():
        for group, names in inputs.items():
            assert found[node]["input_order"].get(group, [])[: len(names)] == names, node
    assert {info["python_module"] for info in found.values()} == {f"custom_nodes.{installed.pack.name}"}


@pytest.fixture(scope="module")
def video(installed: Installed) -> Path:
    """What the demo's workflow, as the archive brings it, saved."""
    workflow = json.loads((installed.pack / "workflows" / "api" / "longtalk_demo.json").read_text())
    outputs = asyncio.run(run_workflow(installed.server, workflow))
    [(_, saved)] = demo_client.saved_files(outputs, (".mp4",))
    return installed.comfyui / "output" / saved["subfolder"] / saved["filename"]


def test_it_makes_the_demos_video(video: Path) -> None:
    speech = demo_client.demo_media.read_sound(demo_client.SPEECH)
    assert demo_client.check(demo_client.demo_media.read_video(video), speech) == []
    sync = demo_client.demo_sync.Talk(video, demo_client.SPEECH).sync
    assert sync.r >= demo_client.LEAST_R
    assert abs(sync.lag) <= 1


def test_the_command_line_answers(installed: Installed, video: Path) -> None:
    """It finds the run, and reads a sound, with a user's packages alone."""
    python = from_scripts_test("LONGTALK_USER_PYTHON")
    speech = installed.comfyui / "input" / "speech.flac"
    for words, said in ((["runs", "list"], "1 run in"), (["plan", str(speech)], "248 frames")):
        done = subprocess.run([python, "bin/longtalk", *words], cwd=installed.pack, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
