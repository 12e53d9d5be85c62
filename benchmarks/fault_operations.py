"""Is anything lost when the process dies at any single file operation of a run? ComfyUI in this process, tiny models.

    python -m benchmarks.fault_operations
    python -m benchmarks.fault_operations wan "start over" --every 3

A run of each configuration is made once, and counted: each time that a file in the output folder is opened, renamed,
linked, removed or synced, or a folder made or removed there. Then it is made anew as often as there were operations;
each time the process ends, without a chance to clean up, just before another one of them. Every attempt is a process of
its own: a copy of this one, in which ComfyUI and the models are loaded. What was asked for is then asked for once more.

Exits 1 unless at every operation no finished window was lost or made again, no earlier video was harmed, the final
videos are those of an undisturbed run (digest of all decoded frames and of the sound), and nothing is left over.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environment
import torch

from .equal_parts import LTX, WAN
from .equal_runs import nodes_of, start_comfyui
from .equal_studio import Studio, speech_like
from .fault_evidence import Decoded, OnDisk

KILLED = 137
_FAILED = 70
#: What Python tells an audit hook of, with the places of the paths among its arguments.
_OPERATIONS = {"open": 1, "os.rename": 2, "os.remove": 1, "os.link": 2, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1}

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One configuration.

    Attributes:
        node: its id.
        inputs: of the run that is killed.
        before: inputs of the runs that were made before it, undisturbed, one after the other.
    """

    node: str
    inputs: Inputs
    before: Sequence[Inputs] = ()


def _cases(studio: Studio) -> dict[str, Callable[[], Case]]:
    def wan(**changes: Any) -> Inputs:
        return studio.wan_inputs(audio=speech_like(29 / 25), **{**_SMALL, **changes})

    def ltx(**changes: Any) -> Inputs:
        return studio.ltx_inputs(audio=speech_like(81 / 25), overlap_seconds=9 / 25, **_PLAYABLE, **changes)

    def apg() -> Case:
        from comfy_extras.nodes_apg import APG

        model = APG.execute(studio.wan.model, eta=0.5, norm_threshold=2.0, momentum=-0.5).result[0]
        return Case(WAN, wan(model=model, cfg=2.0))

    return {
        "wan": lambda: Case(WAN, wan()),
        "ltx": lambda: Case(LTX, ltx()),
        "start over": lambda: Case(WAN, wan(resume="start over"), [wan()]),
        "another take": lambda: Case(WAN, wan(rerender_from="2:77"), [wan()]),
        "retake": lambda: Case(LTX, ltx(retake="1.36-1.6: 77"), [ltx()]),
        "video only": lambda: Case(WAN, wan(finished_runs="video only")),
        "apg": apg,
    }


#: What every player shows, and nothing in memory.
_PLAYABLE = {"codec": "h264", "crf": 18, "return_images": False}
#: Three windows.
_SMALL = {**_PLAYABLE, "width": 48, "height": 32, "steps": 1, "window_frames": 13, "motion_frames": 5}


class _Counter:
    """Counts the operations on files in a folder, and ends the process just before one of them."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self._folder = str(folder)
        self._last = last
        self.count = 0
        sys.addaudithook(self._hear)
        sync = os.fsync

        def fsync(handle: int) -> None:
            self._one()
            sync(handle)

        os.fsync = fsync

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        paths = arguments[: _OPERATIONS.get(event, 0)]
        if any(isinstance(path, str | os.PathLike) and str(path).startswith(self._folder) for path in paths):
            self._one()

    def _one(self) -> None:
        self.count += 1
        if self.count == self._last:
            os._exit(KILLED)


class Bench:
    """Attempts at runs, each in a copy of this process."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self._studio = studio
        self.output = folder / "output"
        self.runs = self.output / "longtalk"
        self._told = folder / "told.json"

    def attempt(self, node: str, inputs: Inputs, last: int | None = None) -> dict[str, Any] | None:
        """Make one run; what it came to, or None where it was ended before its operation ``last``."""
        self._told.unlink(missing_ok=True)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = _FAILED
            try:
                self._run(node, inputs, last)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == KILLED:
            return None
        if code:
            raise SystemExit(f"error: a run ended with {code}")
        found: dict[str, Any] = json.loads(self._told.read_text())
        return found

    def warm_up(self, node: str, inputs: Inputs) -> None:
        """Make a run in this process, so that its copies need not load and measure what one has loaded and measured."""
        import folder_paths

        folder_paths.set_output_directory(str(self.output.parent / "warm"))
        with torch.inference_mode():
            self._studio.nodes[node].execute(**inputs)

    def _run(self, node: str, inputs: Inputs, last: int | None) -> None:
        import folder_paths

        self.output.mkdir(exist_ok=True)
        folder_paths.set_output_directory(str(self.output))
        counter = _Counter(self.output, last)
        with torch.inference_mode():  # as ComfyUI runs nodes
            video = self._studio.nodes[node].execute(**inputs).result[0]
        count = counter.count
        decoded = Decoded.of(Path(video.get_stream_source()))
        self._told.write_text(json.dumps({"operations": count, "video": repr(decoded)}))


def _videos(runs: Path) -> dict[str, str]:
    return {path.name: repr(Decoded.of(path)) for path in sorted(runs.glob("*/talk*.mp4"))}


def _record_files(runs: Path) -> dict[str, tuple[int, int, int]]:
    """The files of all windows that count, by name: inode, time and size. A window that is made again has others."""
    found = {}
    for record in runs.glob("*/window_*.json"):
        for path in record.parent.glob(f"{record.stem}.*"):
            status = path.stat()
            found[path.name] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def _left_over(runs: Path) -> list[str]:
    names = [path.name for path in runs.glob("*/*")]
    return [
        name
        for name in names
        if name.endswith(".part") or name.startswith("partial_") or name in ("owner.json", "start_over.json")
    ]


def _keep(runs: Path, aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(runs, aside, symlinks=True)


def examine(bench: Bench, name: str, case: Case, every: int) -> Iterator[str]:
    """What was wrong, for each operation at which the run was killed; prints how far it is."""
    bench.warm_up(case.node, case.inputs)
    shutil.rmtree(bench.output, ignore_errors=True)
    for inputs in case.before:
        bench.attempt(case.node, inputs)
    start = bench.output.parent / "start"
    bench.output.mkdir(exist_ok=True)
    _keep(bench.output, start)
    earlier = _videos(bench.runs)
    whole = bench.attempt(case.node, case.inputs)
    assert whole is not None
    expected = _videos(bench.runs)
    windows = len(_record_files(bench.runs))
    total = whole["operations"]
    began = time.perf_counter()
    for last in range(1, total + 1, every):
        shutil.rmtree(bench.output)
        shutil.copytree(start, bench.output, symlinks=True)
        if bench.attempt(case.node, case.inputs, last) is not None:
            continue  # the threads took turns in another way, and there were fewer operations
        at_kill = OnDisk.read(bench.runs) if bench.runs.exists() else None
        starts_anew = case.inputs.get("resume") == "start over" and not list(bench.runs.glob("*/start_over.json"))
        kept = {} if starts_anew else _record_files(bench.runs)
        where = f"{name}, killed before operation {last} of {total}"
        if at_kill is not None and at_kill.not_whole:
            yield f"{where}: records without their files: {at_kill.not_whole}"
        harmed = [video for video, digest in earlier.items() if _videos(bench.runs).get(video) != digest]
        if harmed:
            yield f"{where}: the earlier video is harmed: {harmed}"
        found = bench.attempt(case.node, case.inputs)
        assert found is not None
        at_end = _record_files(bench.runs)
        lost = [file for file, state in kept.items() if at_end.get(file) != state]
        if lost and case.inputs.get("finished_runs") != "video only":
            yield f"{where}: LOST {lost}"
        if found["video"] != whole["video"] or _videos(bench.runs) != expected:
            yield f"{where}: the video DIFFERS"
        if len(at_end) != windows:
            yield f"{where}: {len(at_end)} files of windows instead of {windows}"
        left = _left_over(bench.runs)
        if left:
            yield f"{where}: left over: {left}"
    print(f"{name}: {total} operations, every {every} killed, {time.perf_counter() - began:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="configurations; all when none is named")
    parser.add_argument("--every", type=int, default=1, help="kill before every so many operations only")
    arguments = parser.parse_args()
    made = environment.ensure()
    with tempfile.TemporaryDirectory(prefix="longtalk-operations-") as scratch:
        folder = Path(scratch)
        start_comfyui(folder / "comfyui", made.models)
        clone = Path(__file__).resolve().parent.parent
        studio = Studio(nodes_of(clone), made.models, folder / "comfyui", clone / "scripts" / "assets" / "speech.flac")
        known = _cases(studio)
        unknown = [name for name in arguments.names if name not in known]
        if unknown or arguments.every < 1:
            parser.error(f"no configuration {unknown}; there are {', '.join(known)}")
        bench = Bench(studio, folder)
        wrong = []
        for name in arguments.names or known:
            for text in examine(bench, name, known[name](), arguments.every):
                print(text, flush=True)
                wrong.append(text)
    print(f"{len(wrong)} faults\n{'FAILED' if wrong else 'passed'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
