"""What LongTalk itself costs per window: the plan, the loop and the hand-over to the writer, without model or encoder.

    python -m benchmarks.loop --windows 1250

Frames are tiny (16x16) and premade, and the sink only counts, so what is left is our own bookkeeping. 1250 windows of
81 frames with 9 pinned are an hour of video. Exits 1 when the whole takes longer than 2 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time

import torch

from longtalk.infinitetalk.plan.windows import Plan, Window, plan_windows
from longtalk.infinitetalk.run.frame_queue import FrameQueue
from longtalk.infinitetalk.run.loop import run_windows
from longtalk.infinitetalk.run.writer import chunk_frames, to_bytes

LIMIT_S = 2.0
SIDE = 16
WINDOW_FRAMES = 81
MOTION_FRAMES = 9
QUEUE_FRAMES = 96


class PremadeFrames:
    """A family that costs nothing: a slice of the same frames for every window."""

    def __init__(self) -> None:
        self._frames = torch.rand(WINDOW_FRAMES, SIDE, SIDE, 3)

    def render(self, window: Window, motion: torch.Tensor | None) -> torch.Tensor:
        return self._frames[: window.length]


def frames_of(windows: int) -> int:
    """The frames that full windows bring."""
    return WINDOW_FRAMES + (windows - 1) * (WINDOW_FRAMES - MOTION_FRAMES)


def time_plan(windows: int) -> tuple[Plan, float]:
    began = time.perf_counter()
    plan = plan_windows(frames_of(windows), WINDOW_FRAMES, MOTION_FRAMES)
    elapsed_s = time.perf_counter() - began
    if len(plan.windows) != windows:
        raise SystemExit(f"the plan has {len(plan.windows)} windows, not {windows}")
    return plan, elapsed_s


def time_loop(plan: Plan) -> float:
    counted = 0

    def count(frames: torch.Tensor) -> None:
        nonlocal counted
        counted += frames.shape[0]

    began = time.perf_counter()
    run_windows(plan, PremadeFrames(), count)
    elapsed_s = time.perf_counter() - began
    if counted != plan.frames:
        raise SystemExit(f"the loop wrote {counted} frames, not {plan.frames}")
    return elapsed_s


def time_queue(plan: Plan) -> float:
    """Conversion to bytes and the way through the bounded queue to a thread that only counts."""
    queue = FrameQueue(QUEUE_FRAMES)
    at_a_time = chunk_frames(SIDE, SIDE, QUEUE_FRAMES)
    counted = 0

    def drain() -> None:
        nonlocal counted
        while (chunk := queue.get()) is not None:
            counted += len(chunk)
            queue.done(len(chunk))

    frames = PremadeFrames().render(plan.windows[0], None)
    thread = threading.Thread(target=drain)
    thread.start()
    began = time.perf_counter()
    for window in plan.windows:
        fresh = frames[window.pinned : window.length - window.cut]
        for start in range(0, fresh.shape[0], at_a_time):
            queue.put(to_bytes(fresh[start : start + at_a_time], start))
    queue.end()
    thread.join()
    elapsed_s = time.perf_counter() - began
    if counted != plan.frames:
        raise SystemExit(f"{counted} frames came through the queue, not {plan.frames}")
    return elapsed_s


def measure(windows: int) -> dict[str, float]:
    plan, plan_s = time_plan(windows)
    loop_s, queue_s = time_loop(plan), time_queue(plan)
    total_s = plan_s + loop_s + queue_s
    return {
        "windows": windows,
        "frames": plan.frames,
        "plan_s": plan_s,
        "loop_s": loop_s,
        "queue_s": queue_s,
        "total_s": total_s,
        "per_window_ms": total_s / windows * 1000,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1250)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.windows < 1:
        parser.error("--windows must be 1 or more")
    measure(5)  # the first run pays for imports and thread pools
    rows = [measure(windows) for windows in sorted({10, 100, 1000, args.windows})]
    asked = next(row for row in rows if row["windows"] == args.windows)
    passed = asked["total_s"] <= LIMIT_S
    if args.json:
        print(json.dumps({"runs": rows, "limit_s": LIMIT_S, "passed": passed}))
        return 0 if passed else 1
    print(f"{'windows':>8} {'frames':>8} {'plan s':>8} {'loop s':>8} {'queue s':>8} {'total s':>8} {'ms/window':>10}")
    for row in rows:
        print(
            f"{row['windows']:8.0f} {row['frames']:8.0f} {row['plan_s']:8.4f} {row['loop_s']:8.4f} "
            f"{row['queue_s']:8.4f} {row['total_s']:8.4f} {row['per_window_ms']:10.3f}"
        )
    print(
        f"{args.windows} windows: {asked['total_s']:.3f} s, limit {LIMIT_S:.0f} s: {'passed' if passed else 'FAILED'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
