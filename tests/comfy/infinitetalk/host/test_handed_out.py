"""A node's fingerprint changes when, and only when, a file that it handed out is lost; asked as ComfyUI asks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

NODE = "LongTalkSampler"
INPUTS = {"seed": 3, "rerender_from": "", "model": None}


class Prompts:
    """Prompts of one ComfyUI: each is asked for fingerprints, then executed."""

    def __init__(self) -> None:
        from longtalk.infinitetalk.host.handed_out import HandedOut

        self.register = HandedOut()
        self.number = 0

    def begin(self) -> None:
        self.number += 1

    def asked(self, node: str, **inputs: object) -> str:
        from comfy_execution.utils import CurrentNodeContext

        with CurrentNodeContext(f"prompt {self.number}", node, 0):
            return self.register.fingerprint(NODE, {**INPUTS, **inputs})

    def executed(self, node: str, path: Path) -> None:
        from comfy_execution.utils import CurrentNodeContext

        with CurrentNodeContext(f"prompt {self.number}", node, 0):
            self.register.note(path)


@pytest.fixture
def prompts() -> Prompts:
    return Prompts()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "talk.mp4"
    path.write_bytes(b"a video")
    return path


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


LOSSES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "longer": lambda path: path.write_bytes(b"another video"),
    "written again": lambda path: os.utime(path, (1, 1)),
    "replaced": replaced,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_file_changes_the_fingerprint_once(prompts: Prompts, video: Path, loss: str) -> None:
    prompts.begin()
    first = prompts.asked("1")
    prompts.executed("1", video)
    for _ in range(2):
        prompts.begin()
        assert prompts.asked("1") == first
    LOSSES[loss](video)
    prompts.begin()
    second = prompts.asked("1")
    assert second != first
    assert prompts.asked("1") == second, "asked twice in one prompt"
    prompts.begin()
    assert prompts.asked("1") == second, "not executed in between: a node that failed, say"


def test_what_is_kept_for_any_node_is_noticed_by_any_node(prompts: Prompts, video: Path) -> None:
    """ComfyUI gives what it kept to a node of another id with the same inputs, one of a subgraph among them."""
    prompts.begin()
    first = prompts.asked("1")
    prompts.executed("1", video)
    video.unlink()
    prompts.begin()
    assert prompts.asked("7.0.0.2") == prompts.asked("1") != first


def test_another_setting_is_none_of_its_business(prompts: Prompts, video: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(b"other")
    prompts.begin()
    first, again = prompts.asked("1"), prompts.asked("2", rerender_from="2:7")
    prompts.executed("1", video)
    prompts.executed("2", other)
    other.unlink()
    prompts.begin()
    assert prompts.asked("1") == first
    assert prompts.asked("2", rerender_from="2:7") != again


def test_all_files_of_a_list_count(prompts: Prompts, tmp_path: Path) -> None:
    """A node is executed once for each item of a list; and what feeds it (here unseen) may give it other files."""
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    prompts.begin()
    first = prompts.asked("1")
    for path in paths[:2]:
        path.write_bytes(path.name.encode())
        prompts.executed("1", path)
    prompts.begin()
    assert prompts.asked("1") == first
    paths[2].write_bytes(b"of another picture")
    prompts.executed("1", paths[2])
    paths[1].unlink()
    prompts.begin()
    assert prompts.asked("1") != first


def test_a_file_that_is_gone_as_it_is_handed_out_is_lost(prompts: Prompts, tmp_path: Path) -> None:
    prompts.begin()
    first = prompts.asked("1")
    prompts.executed("1", tmp_path / "none.mp4")
    prompts.begin()
    assert prompts.asked("1") != first


def test_nothing_is_noted_without_a_prompt_or_a_cache(prompts: Prompts, video: Path) -> None:
    prompts.register.note(video)
    prompts.begin()
    prompts.executed("1", video)  # with --cache-none ComfyUI asks for no fingerprint
    video.unlink()
    first = prompts.asked("1")
    prompts.begin()
    assert prompts.asked("1") == first
    prompts.executed("2", video)
    prompts.begin()
    assert prompts.asked("1") == first


def test_another_process_has_other_fingerprints(prompts: Prompts) -> None:
    """What a cache outside the process kept, this one cannot vouch for."""
    assert prompts.asked("1") != Prompts().asked("1")


def test_every_node_that_gives_a_video_of_a_run_is_one_that_notices(root: Path) -> None:
    import longtalk.nodes
    from longtalk.nodes.video_outputs import VideoNode

    schemas = json.loads((root / "nodes" / "schemas.json").read_text())
    giving = {name for name, node in schemas.items() if any(each["type"] == "VIDEO" for each in node["outputs"])}
    assert len(giving) == 3
    assert {node.__name__ for node in longtalk.nodes.NODES if issubclass(node, VideoNode)} == giving
