"""What a sampler handed out stays what it was, whatever ComfyUI keeps of it: takes of a run, and files that are lost.

What a saved video must show is known from prompts that asked for its take alone, in an empty folder.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import demo_client
import pytest
import torch
from canvas import as_prompt, info_of
from demo_server import ComfyServer, run_workflow
from run_commands import command
from small_graphs import shrink
from watched import frames_hash

from longtalk.infinitetalk.run.store.folder import RunFolder, run_names

#: How ComfyUI is told to keep what nodes returned; without any of it, it decides by itself.
CACHES = {
    "default": (),
    "classic": ("--cache-classic",),
    "lru": ("--cache-lru", "30"),
    "ram": ("--cache-ram", "0.5"),
    "none": ("--cache-none",),
}
TAKES = FIRST, AGAIN = "", "2:1000"
"""Values of ``rerender_from``."""
Frames = tuple[int, str]


class Bench:
    """A server that is asked for takes of one run."""

    def __init__(self, server: ComfyServer, output: Path, graph: dict[str, Any], kind: str) -> None:
        self._server = server
        self._graph = graph
        self._kind = kind
        self._names = count()
        self.output = output
        self.runs = output / "longtalk"

    def save(self, *takes: str, **changes: Any) -> list[Frames]:
        """Queue a graph with a sampler for each take, each with its Save Video; the frames that they saved.

        What is saved gets another name each time, and is saved after all samplers have been executed.
        """
        graph = copy.deepcopy(self._graph)
        [sampler] = [graph.pop(name) for name in list(graph) if graph[name]["class_type"] == self._kind]
        [saver] = [graph.pop(name) for name in list(graph) if graph[name]["class_type"] == "SaveVideo"]
        graph = {name: node for name, node in graph.items() if not is_shown(node)}
        for place, take in enumerate(takes):
            settings = {**sampler["inputs"], "rerender_from": take, **changes}
            graph[f"sampler {place}"] = {"class_type": self._kind, "inputs": settings}
            nothing = {"string": [f"sampler {place}", 2], "start": 0, "end": 0}
            graph[f"nothing {place}"] = {"class_type": "StringSubstring", "inputs": nothing}
            before = [f"name {place - 1}", 0] if place else f"takes_{next(self._names)}"
            name = {"string_a": before, "string_b": [f"nothing {place}", 0], "delimiter": ""}
            graph[f"name {place}"] = {"class_type": "StringConcatenate", "inputs": name}
        for place in range(len(takes)):
            video, name = [f"sampler {place}", 0], [f"name {len(takes) - 1}", 0]
            inputs = {**saver["inputs"], "video": video, "filename_prefix": name}
            graph[f"saver {place}"] = {"class_type": "SaveVideo", "inputs": inputs}
        outputs = asyncio.run(run_workflow(self._server, graph))
        files = [
            demo_client.saved_files({"": outputs[f"saver {place}"]}, (".mp4",))[0][1] for place in range(len(takes))
        ]
        return [frames_hash(self.output / file["subfolder"] / file["filename"]) for file in files]

    def rendered(self) -> int:
        """How many windows were rendered so far."""
        return len(re.findall(r"frames \d+ to \d+ done", self._server.log.read_text(errors="replace")))

    def run(self) -> RunFolder:
        """The run that was asked for last."""
        return RunFolder(self.runs, run_names(self.runs)[0], ".mp4")


def is_shown(node: dict[str, Any]) -> bool:
    return node["class_type"] in ("LongTalkPlan", "LongTalkLoopPlan", "SaveImage", "PreviewImage", "PreviewAny")


def wan_graph(server: ComfyServer, root: Path) -> tuple[dict[str, Any], str]:
    graph = json.loads((root / "workflows" / "api" / "longtalk_demo.json").read_text())
    for node in graph.values():
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = "short.wav"
        if node["class_type"] == "LongTalkSampler":
            node["inputs"].update(width=48, height=32, steps=1, window_frames=21, seed=4711)
    return graph, "LongTalkSampler"


def ltx_graph(server: ComfyServer, root: Path) -> tuple[dict[str, Any], str]:
    graph = shrink(as_prompt(json.loads((root / "workflows" / "longtalk_ltx.json").read_text()), info_of(server)))
    [sampler] = [node["inputs"] for node in graph.values() if node["class_type"] == "LongTalkLTXSampler"]
    sampler.update(steps=1, seed=4711)
    return graph, "LongTalkLTXSampler"


def test_two_takes_and_a_deleted_run(server: ComfyServer, base: Path, root: Path) -> None:
    """The least of what the next test does for every cache."""
    bench = Bench(server, base / "output", *wan_graph(server, root))
    [first] = bench.save(FIRST)
    name = bench.run().name
    [again_first, again] = bench.save(FIRST, AGAIN)
    assert again_first == first
    assert first[0] == again[0] == 45
    assert first[1] != again[1]
    made = bench.rendered()
    assert command("runs", "delete", name, "--yes", "--output", bench.output)[0] == 0
    assert bench.save(AGAIN, FIRST) == [again, first]
    assert bench.rendered() > made
    assert len(bench.run().video_names()) == 2


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, comfyui_path: Path, base: Path, root: Path, tmp_path: Path
) -> Iterator[Bench]:
    """A server of its own, with the options and for the family that the test names, and an empty output folder."""
    cache, graph_of = request.param
    output = tmp_path / "output"
    output.mkdir()
    options = ("--output-directory", str(output), *CACHES[cache])
    cpu = not torch.cuda.is_available()
    with ComfyServer(comfyui_path, base, tmp_path / "log", cpu=cpu, threads=1, options=options) as server:
        yield Bench(server, output, *graph_of(server, root))


CASES = [*((cache, wan_graph) for cache in CACHES), ("default", ltx_graph)]


@pytest.mark.long
@pytest.mark.parametrize("bench", CASES, indirect=True, ids=lambda case: f"{case[1].__name__}-{case[0]}")
def test_every_saved_file_is_the_take_that_was_asked_for(bench: Bench) -> None:
    expected = {}
    for take in TAKES:
        [expected[take]] = bench.save(take)
        shutil.rmtree(bench.runs)  # so the other take is made without it
    first, again = expected[FIRST], expected[AGAIN]
    assert first[0] == again[0] == 45
    assert first[1] != again[1]

    # Both in one graph, in either order; from files that are lost, from the caches, from the run.
    before = bench.rendered()
    assert bench.save(FIRST, AGAIN) == [first, again]
    made = bench.rendered()
    assert made > before, "the run was deleted"
    assert bench.save(FIRST, AGAIN) == [first, again]
    assert bench.save(AGAIN, FIRST) == [again, first]
    assert bench.save(AGAIN) == [again]
    assert bench.save(FIRST) == [first]
    assert bench.rendered() == made, "what is there is not made again"

    # One video is deleted, the other one is replaced by it: both are noticed.
    name, folder = bench.run().name, bench.run()
    videos = {frames_hash(folder.video_path(video)): video for video in folder.video_names()}
    assert videos.keys() == {first, again}
    shutil.copyfile(folder.video_path(videos[first]), folder.video_path(videos[again]))
    code, _, errors = command("runs", "delete", name, "--video", videos[first], "--yes", "--output", bench.output)
    assert (code, errors) == (0, "")
    assert bench.save(AGAIN, FIRST) == [again, first]
    assert bench.rendered() == made, "the windows are there, and joined again"
    assert {frames_hash(folder.video_path(video)): video for video in folder.video_names()} == videos

    # The whole run is deleted, twice.
    for takes in ((FIRST, AGAIN), (AGAIN, FIRST)):
        assert command("runs", "delete", "--all", "--yes", "--output", bench.output)[0] == 0
        assert bench.save(*takes) == [expected[take] for take in takes]
        assert bench.rendered() > made
        made = bench.rendered()
    assert bench.save(FIRST, AGAIN) == [first, again]
    assert bench.rendered() == made

    # Starting over makes the same bytes: the file is still the one that was handed out.
    path = folder.video_path(videos[first])
    handed_out = path.stat()
    assert bench.save(FIRST, resume="start over") == [first]
    assert bench.rendered() > made
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (handed_out.st_ino, handed_out.st_mtime_ns)
