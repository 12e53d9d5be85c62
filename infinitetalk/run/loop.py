"""The one window loop. It knows neither a model family nor ComfyUI.

Data flows one way: for each window of the plan the family renders all its frames (the pinned ones included), the loop
drops what is pinned or surplus, hands the rest to the writer and keeps the last frames as the next window's motion.
Nothing is kept per frame, so memory does not grow with the length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from ..plan.windows import Plan, Window


class Family(Protocol):
    """What differs between model families: how one window becomes frames."""

    def render(self, window: Window, motion: torch.Tensor | None) -> torch.Tensor:
        """Frames of a whole window, float 0..1 ``[window.length, H, W, 3]``.

        Args:
            window: what to render.
            motion: the last ``plan.motion_frames`` frames before this window's new ones,
                ``[plan.motion_frames, H, W, 3]``; None in the first window.
        """
        ...


@dataclass(frozen=True)
class WindowTime:
    """What one window took."""

    window: Window
    render_s: float
    write_s: float


@dataclass(frozen=True)
class RunReport:
    """What the loop did: frames handed to the writer and the time of each window."""

    frames: int
    times: tuple[WindowTime, ...]

    @property
    def render_s(self) -> float:
        return sum(entry.render_s for entry in self.times)

    @property
    def write_s(self) -> float:
        return sum(entry.write_s for entry in self.times)


def _nothing() -> None:
    return None


def run_windows(
    plan: Plan,
    family: Family,
    write: Callable[[torch.Tensor], None],
    *,
    check_interrupt: Callable[[], None] = _nothing,
) -> RunReport:
    """Render every window of ``plan`` in order and hand exactly ``plan.frames`` frames to ``write``.

    Args:
        plan: the windows.
        family: renders one window.
        write: takes frames ``[F, H, W, 3]`` as they become final; may block.
        check_interrupt: called before each window and before each write; raises to stop the run.

    Raises:
        ValueError: the family returned another number of frames than the window has (a bug in the family).
    """
    motion: torch.Tensor | None = None
    frames_out = 0
    times: list[WindowTime] = []
    for window in plan.windows:
        check_interrupt()
        began = time.perf_counter()
        frames = family.render(window, motion)
        if frames.shape[0] != window.length:
            raise ValueError(f"window {window.index + 1}: expected {window.length} frames, got {frames.shape[0]}")
        rendered = time.perf_counter()
        check_interrupt()
        fresh = frames[window.pinned : window.length - window.cut]
        write(fresh)
        frames_out += fresh.shape[0]
        # A copy, so that the window's frames (hundreds of MB) can go before the next window is rendered.
        motion = frames[-plan.motion_frames :].clone()
        del frames, fresh
        times.append(WindowTime(window, rendered - began, time.perf_counter() - rendered))
    return RunReport(frames_out, tuple(times))
