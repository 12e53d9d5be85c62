"""What LongTalk itself costs per window: first without model, encoder and disk, then what keeping a window costs.

    python -m benchmarks.loop --windows 1250

Frames are tiny (16x16) and premade, and the sink only converts them to bytes, so the first table shows our own
bookkeeping: the plan, seeds and keys, the loop, the sanity checks, the conversion. It is the CPU time of one thread,
which on a machine with nothing else to do is the time on the clock. 1250 windows of 81 frames with 9 pinned are an hour
of video. Exits 1 when the whole takes longer than 2 s.

The second table shows, without a limit, what one window of --size costs beside rendering: the checks, and making it
durable (which happens in the background while the next window is rendered).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from longtalk.infinitetalk.plan.windows import Plan, Window, plan_windows
from longtalk.infinitetalk.run.loop import Carry, Fallbacks, MadeWindow, Rendered, run_windows
from longtalk.infinitetalk.run.seeds import window_seeds
from longtalk.infinitetalk.run.store.folder import RunFolder
from longtalk.infinitetalk.run.store.record import FileSum, WindowRecord, window_keys
from longtalk.infinitetalk.run.store.recorder import LAST_FRAME
from longtalk.infinitetalk.run.video.formats import VideoFormat
from longtalk.infinitetalk.run.video.segment import to_bytes, write_segment
from longtalk.infinitetalk.run.window_checks import look_of, measure, what_is_broken

from .memory import MOTION, RUN_NAME, MovingGradient

LIMIT_S = 2.0
SIDE = 16
WINDOW_FRAMES = 81
MOTION_FRAMES = 9
REPEATS = 5


class PremadeFrames:
    """A family that costs nothing: a slice of the same frames for every window."""

    attention = "none"

    def __init__(self) -> None:
        self.frames = torch.rand(WINDOW_FRAMES, SIDE, SIDE, 3)
        self.latents = torch.rand(1, 16, (WINDOW_FRAMES - 1) // 4 + 1, SIDE // 8, SIDE // 8)
        self._carry = {MOTION: self.latents[:, :, -3:]}

    def render(self, window: Window, carry: Carry) -> Rendered:
        return Rendered(self.latents, self.frames[: window.length])

    def hand_on(self, window: Window, carry: Carry, rendered: Rendered) -> Carry:
        return self._carry

    def fall_back(self, fallbacks: Fallbacks) -> None:
        raise SystemExit(f"the loop asks for {fallbacks}, although the frames are good")

    def is_out_of_memory(self, error: Exception) -> bool:
        return False


def frames_of(windows: int) -> int:
    """The frames that full windows bring."""
    return WINDOW_FRAMES + (windows - 1) * (WINDOW_FRAMES - MOTION_FRAMES)


def time_plan(windows: int) -> tuple[Plan, float]:
    began = time.process_time()
    plan = plan_windows(frames_of(windows), WINDOW_FRAMES, MOTION_FRAMES)
    elapsed_s = time.process_time() - began
    if len(plan.windows) != windows:
        raise SystemExit(f"the plan has {len(plan.windows)} windows, not {windows}")
    return plan, elapsed_s


def time_keys(windows: int) -> float:
    began = time.process_time()
    window_keys(RUN_NAME, window_seeds(1, windows))
    return time.process_time() - began


def time_loop(plan: Plan) -> tuple[float, float]:
    """Seconds of the loop with its sanity checks, and of the conversion to bytes in its sink."""
    family = PremadeFrames()
    reference = look_of(family.frames[:1])
    counted = 0
    bytes_s = 0.0

    def put(made: MadeWindow, frames: torch.Tensor) -> None:
        nonlocal counted, bytes_s
        began = time.process_time()
        counted += len(to_bytes(frames, made.window.output[0]))
        bytes_s += time.process_time() - began

    began = time.process_time()
    run_windows(plan, family, put, reference)
    elapsed_s = time.process_time() - began
    if counted != plan.frames:
        raise SystemExit(f"the loop handed over {counted} frames, not {plan.frames}")
    return elapsed_s - bytes_s, bytes_s


def time_checks(plan: Plan) -> float:
    """What the sanity checks take of the loop's time."""
    family = PremadeFrames()
    reference = look_of(family.frames[:1])
    last = (family.frames[-1] * 255).to(torch.uint8)
    began = time.process_time()
    for window in plan.windows:
        stats = measure(family.frames[window.pinned : window.length - window.cut], reference, last)
        what_is_broken(family.latents, family.frames[: window.length], stats, reference)
    return time.process_time() - began


def bookkeeping(windows: int) -> dict[str, float]:
    plan, plan_s = time_plan(windows)
    keys_s = time_keys(windows)
    loop_s, bytes_s = time_loop(plan)
    checks_s = time_checks(plan)
    total_s = plan_s + keys_s + loop_s + bytes_s
    return {
        "windows": windows,
        "frames": plan.frames,
        "plan_s": plan_s,
        "keys_s": keys_s,
        "checks_s": checks_s,
        "loop_s": max(0.0, loop_s - checks_s),
        "bytes_s": bytes_s,
        "total_s": total_s,
        "per_window_ms": total_s / windows * 1000,
    }


def per_window(width: int, height: int) -> list[tuple[str, float]]:
    """What a window of this size takes in each step, in milliseconds: the median of some repeats."""
    plan = plan_windows(frames_of(2), WINDOW_FRAMES, MOTION_FRAMES)
    window = plan.windows[1]
    family = MovingGradient(width, height, MOTION_FRAMES)
    reference = look_of(family.frame(0)[None])
    handed = family.hand_on(plan.windows[0], {}, family.render(plan.windows[0], {}))
    rendered = family.render(window, handed)
    fresh = rendered.frames[window.pinned : window.length - window.cut]
    pixels = to_bytes(fresh)
    before = to_bytes(family.frame(window.output[0] - 1)[None])[0]
    stats = measure(fresh, reference, torch.from_numpy(before))
    carry = {**family.hand_on(window, handed, rendered), LAST_FRAME: torch.from_numpy(pixels[-1])}
    (key,) = window_keys(RUN_NAME, [1])
    with tempfile.TemporaryDirectory() as root:
        folder = RunFolder(Path(root), RUN_NAME, VideoFormat().suffix)
        folder.create()
        segment = folder.segment_path(1, key)
        steps: dict[str, Callable[[], Any]] = {
            "sanity checks": lambda: what_is_broken(
                rendered.latents, rendered.frames, measure(fresh, reference, torch.from_numpy(before)), reference
            ),
            "conversion to bytes": lambda: to_bytes(fresh),
            "segment: encode and write": lambda: write_segment(segment, pixels, VideoFormat()),
            "segment: checksum": lambda: FileSum.of(segment),
            "carry: write and checksum": lambda: folder.write_carry(1, key, carry),
            "record: write": lambda: folder.commit(record),
            "on resume: read and check": lambda: folder.read_record(1, key),
        }
        write_segment(segment, pixels, VideoFormat())
        record = WindowRecord(
            window=1,
            key=key,
            seed=1,
            frames=len(pixels),
            segment=FileSum.of(segment),
            carry=folder.write_carry(1, key, carry),
            render_s=1.0,
            fallbacks=asdict(Fallbacks()),
            stats=stats.to_json(),
        )
        return [(name, statistics.median(_timed(step) for _ in range(REPEATS)) * 1000) for name, step in steps.items()]


def _timed(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1250)
    parser.add_argument("--size", default="832x480", help="WIDTHxHEIGHT of the second table")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.windows < 1:
        parser.error("--windows must be 1 or more")
    try:
        width, height = (int(side) for side in args.size.lower().split("x"))
    except ValueError:
        parser.error(f"--size must look like 832x480, got {args.size}")
    threads = torch.get_num_threads()
    with torch.inference_mode():  # as ComfyUI runs nodes
        torch.set_num_threads(1)
        bookkeeping(5)  # the first run pays for imports
        rows = [bookkeeping(windows) for windows in sorted({10, 100, 1000, args.windows})]
        torch.set_num_threads(threads)
        steps = per_window(width, height)
    asked = next(row for row in rows if row["windows"] == args.windows)
    passed = asked["total_s"] <= LIMIT_S
    if args.json:
        print(json.dumps({"runs": rows, "window_ms": dict(steps), "limit_s": LIMIT_S, "passed": passed}))
        return 0 if passed else 1
    names = ("plan", "keys", "checks", "loop", "bytes", "total")
    print(f"{'windows':>8} {'frames':>8} " + " ".join(f"{name + ' s':>8}" for name in names) + f" {'ms/window':>10}")
    for row in rows:
        seconds = " ".join(f"{row[name + '_s']:8.4f}" for name in names)
        print(f"{row['windows']:8.0f} {row['frames']:8.0f} {seconds} {row['per_window_ms']:10.3f}")
    print(
        f"{args.windows} windows: {asked['total_s']:.3f} s, limit {LIMIT_S:.0f} s: {'passed' if passed else 'FAILED'}"
    )
    print(f"\none window of {WINDOW_FRAMES} frames, {WINDOW_FRAMES - MOTION_FRAMES} of them new, at {width}x{height}")
    for name, milliseconds in steps:
        print(f"{name:<28} {milliseconds:9.1f} ms")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
