"""Is anything lost when the server is killed? Runs in the real ComfyUI server, each killed, started again and resumed.

    python -m benchmarks.faults --runs 50

Each run is the demo's workflow with its tiny models, shorter and smaller. The server's whole process group gets SIGKILL
at a random moment, from before the models are loaded until after the video is complete; one run in five is killed
again while it is resumed. They take turns in being

    plain
    start over   asked to start over, with a finished run there
    moved        resumed where the pack's folder and the output folder, with the run in it, have other names
    apg          guided by core's APG node
    two takes    asked for two takes in turn, and killed in both; the second has another seed from window 3 on
    retake       of LTX, whose middle window is made again between windows that stay

In --aimed further runs, which are plain, the kill comes at the moment a file is half written: a segment, what the next
window continues from, a record, the joined video and so on, one after the other. SIGKILL leaves what the process wrote
to the system: a power cut is another matter.

Exits 1 unless no finished window was lost (its files are the same ones at the end, and it was not rendered again, also
where several takes show it), no earlier video was touched, no final video differs from that of an uninterrupted run
(digest of all decoded frames and of the sound), at most one window per kill was rendered in vain, and no half-written
file or note of ownership is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import environment
from demo_server import DemoError
from setup_common import SetupError

from .fault_evidence import PHASES, Reference, Verdict
from .fault_kinds import KINDS
from .fault_lane import Kills, Lane

SEED = 20250
LATEST_KILL = 1.15  # of what an uninterrupted run takes
LATEST_START_OVER = 0.75
KILLED_AGAIN = 0.2
#: Every kind of file a run writes, while it is being written. Records and manifest are written in less time than it
#: takes to look: there it is the file before them, just finished.
AIMS = (
    "window_{window:05d}_*.mp4.part",
    "window_{window:05d}_*.safetensors.part",
    "window_{window:05d}_*.safetensors",
    "joined_*.mp4.part",
    "joined_*.mp4",
    "talk_*.mp4",
    "talk_*.txt.part",
    "sound.mp4.part",
    "sound.mp4",
)


def draw(runs: int, aimed: int, windows: int, seed: int) -> list[Kills]:
    """When to kill each run, the same for the same seed."""
    dice = random.Random(seed)
    drawn = []
    for run in range(1, runs + 1):
        kind = list(KINDS)[(run - 1) % len(KINDS)]
        # Who is killed when the video is whole and asks once more starts over once more, as he asked.
        latest = LATEST_START_OVER if KINDS[kind].starts_over else LATEST_KILL
        at = [dice.uniform(0, latest) for _ in KINDS[kind].takes]
        again, moment = dice.random() < KILLED_AGAIN, dice.random()
        drawn.append(Kills(run, (*at, moment * at[0]) if again else tuple(at), kind))
    for number in range(aimed):
        name = AIMS[number % len(AIMS)].format(window=dice.randint(1, windows))
        drawn.append(Kills(runs + number + 1, (name,)))
    return drawn


async def run_lanes(lanes: list[Lane], waiting: list[Kills], told: Any) -> list[Verdict]:
    verdicts: list[Verdict] = []
    kinds = list(dict.fromkeys(KINDS[kills.kind].gives or kills.kind for kills in waiting))
    await together(lane.refer(kinds[number :: len(lanes)], told) for number, lane in enumerate(lanes))
    await together(lane.work(waiting, verdicts, told) for lane in lanes)
    return verdicts


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        # One that failed must not leave the others' servers behind.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def bounds(verdicts: list[Verdict], lanes: list[Lane]) -> dict[str, tuple[int, int]]:
    """What was found and what is allowed, by name."""
    return {
        "lost finished windows": (sum(len(verdict.lost) for verdict in verdicts), 0),
        "differing final videos": (sum(verdict.differs for verdict in verdicts), 0),
        "differing uninterrupted videos": (sum(lane.unsteady for lane in lanes), 0),
        "windows made twice by one kill": (max(max(verdict.made_twice) for verdict in verdicts), 1),
        "runs that left something over": (sum(bool(verdict.left_over) for verdict in verdicts), 0),
        "runs with other problems": (sum(bool(verdict.problems) for verdict in verdicts), 0),
    }


def summary(verdicts: list[Verdict], lanes: list[Lane], seed: int, took_s: float) -> str:
    kills = Counter(phase for verdict in verdicts for _, phase, _ in verdict.kills)
    of_kind = {kind: sum(len(verdict.kills) for verdict in verdicts if verdict.kind == kind) for kind in KINDS}
    caught = sum(bool(parts) for verdict in verdicts for _, _, parts in verdict.kills)
    twice = Counter(count for verdict in verdicts for count in verdict.made_twice)
    lines = [
        f"{len(verdicts)} runs, {kills.total()} kills, {len(lanes)} servers at a time, seed {seed}, {took_s:.0f} s",
        ", ".join(f"{kind}: {count}" for kind, count in of_kind.items()) + " kills",
        f"{'killed in phase':<32} {'kills':>6}",
        *(f"{phase:<32} {kills[phase]:6d}" for phase in PHASES),
        f"{'(caught a half-written file)':<32} {caught:6d}",
        f"{'windows made twice by a kill':<32} "
        + ", ".join(f"{count}: {twice[count]} kills" for count in sorted(twice)),
        f"{'bound':<32} {'found':>6} {'limit':>6}",
    ]
    for name, (found, limit) in bounds(verdicts, lanes).items():
        lines.append(f"{name:<32} {found:6d} {limit:6d} {'' if found <= limit else 'BROKEN'}".rstrip())
    return "\n".join(lines)


def measure(args: argparse.Namespace, folder: Path) -> int:
    """Run everything in ``folder`` and print the summary; the exit code."""
    told = sys.stderr if args.json else sys.stdout
    with contextlib.redirect_stdout(told):
        made = environment.ensure()
    began = time.perf_counter()
    references: dict[str, Reference] = {}
    lanes = [Lane(number, folder, made, args.keep is not None, references) for number in range(1, args.servers + 1)]
    verdicts = asyncio.run(run_lanes(lanes, draw(args.runs, args.aimed, lanes[0].windows, args.seed), told))
    verdicts.sort(key=lambda verdict: verdict.run)
    took_s = time.perf_counter() - began
    found = bounds(verdicts, lanes)
    passed = all(count <= limit for count, limit in found.values())
    if args.json:
        runs = [asdict(verdict) for verdict in verdicts]
        print(json.dumps({"runs": runs, "bounds": found, "seconds": took_s, "seed": args.seed, "passed": passed}))
    else:
        print(f"\n{summary(verdicts, lanes, args.seed, took_s)}\n{'passed' if passed else 'FAILED'}")
    if not passed:
        print(f"to look at the folders and logs: --seed {args.seed} --keep FOLDER", file=sys.stderr)
    return 0 if passed else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--aimed", type=int, default=len(AIMS), help="further runs, killed while a file is written")
    parser.add_argument("--seed", type=int, default=SEED, help="of the moments at which to kill")
    parser.add_argument("--servers", type=int, default=2, help="how many at a time")
    parser.add_argument("--keep", type=Path, help="a new folder that keeps every run and log")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.runs < 1 or args.servers < 1 or args.aimed < 0:
        parser.error("--runs and --servers must be 1 or more, --aimed 0 or more")
    args.servers = min(args.servers, args.runs)
    # A polite kill must not leave servers behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=False)
            return measure(args, args.keep.absolute())
        with tempfile.TemporaryDirectory(prefix="longtalk-faults-") as folder:
            return measure(args, Path(folder))
    except FileExistsError:
        parser.error(f"--keep must name a folder that does not exist yet, got {args.keep}")
    except (DemoError, SetupError, aiohttp.ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the servers are stopped too", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
