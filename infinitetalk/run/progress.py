"""Progress over a whole run: steps done, and time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate

from ...base.words import clock_text
from ..plan.windows import Plan


class RunProgress:
    """Counts denoising steps over all windows and estimates the time left.

    A step of a longer window counts more (frames of the window as weight), so that a balanced plan's shorter windows
    do not distort the estimate. Decoding and encoding between steps are part of the elapsed time, hence of the rate.

    Args:
        plan: the windows of the run.
        steps: denoising steps of each window.
        made: how many windows were made earlier; they do not count for the rate.
        expected_s: how long the session will take, as estimated beforehand; used until the first window is done.
        clock: gives seconds that only rise.
    """

    def __init__(
        self,
        plan: Plan,
        steps: int,
        *,
        made: int = 0,
        expected_s: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._plan = plan
        self._steps = max(1, steps)
        self._made = made
        self._expected_s = expected_s
        self._clock = clock
        self._began = clock()
        self._weights = [0, *accumulate(window.length * self._steps for window in plan.windows)]
        self._number = made + 1
        self._step = 0

    @property
    def total_steps(self) -> int:
        return len(self._plan.windows) * self._steps

    @property
    def done_steps(self) -> int:
        return (self._number - 1) * self._steps + self._step

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    def start_window(self, number: int) -> None:
        """Enter a window, counted from 1; everything before it counts as done."""
        self._number = number
        self._step = 0

    def step(self, done: int) -> None:
        """Take note that ``done`` steps of the current window are finished."""
        self._step = min(done, self._steps)

    @property
    def left_s(self) -> float | None:
        """How many seconds are left: by the estimate until a window is done, then at the rate so far.

        None before the first step when there is no estimate.
        """
        before = self._weights[self._made]
        done = self._weights[self._number - 1] + self._step * self._plan.window(self._number).length - before
        total = self._weights[-1] - before
        if self._expected_s is not None and self._number == self._made + 1:
            return max(0.0, self._expected_s * (total - done) / total)
        if done == 0:
            return None
        return self.elapsed_s * (total - done) / done

    def text(self) -> str:
        """The progress as one line for a person: ``window 3 of 7, step 2 of 4, 1:05 left``."""
        left = self.left_s
        parts = [
            f"window {self._number} of {len(self._plan.windows)}",
            f"step {self._step} of {self._steps}",
        ]
        if left is not None:
            parts.append(f"{clock_text(left)} left")
        return ", ".join(parts)
