"""One iteration of an LTX-2.3 loop that is wired by hand: which frames, which sound, whether it is the last.

A loop construct that looks at its condition after the body ran still runs the body once more, and one that counts may
count too far. So an iteration past the end is given the last window again instead of a start without sound.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction

from ...base.values import check_whole
from ...base.words import count
from .ltx_windows import Geometry, nearest_sample, plan_ltx
from .plan_text import plan_report
from .windows import Plan, Window, frames_for_samples

LEAST_SOUND_S = Fraction(1, 2)
"""The least sound that an audio encoder is given. Core's encoder fails below 4096 samples at 44.1 kHz (0.09 s)."""
ITERATION_MAX = 1_000_000
WINDOWS_MAX = 100_000


@dataclass(frozen=True)
class LoopStep:
    """What one iteration works on. Its sound is samples [first_sample, end_sample)."""

    window: Window
    """The window that this iteration makes; an iteration past the end makes the last window."""
    total: int
    """How many iterations there are; they count from 0 to ``total - 1``."""
    first_sample: int
    end_sample: int
    silence: int
    """How many samples of silence to append, where the last window has less than half a second of sound."""

    @property
    def should_stop(self) -> bool:
        """Whether this iteration is the last one, or past it."""
        return self.window.number == self.total

    @property
    def pinned_latents(self) -> int:
        """How many latents are taken over from the window before: none in the first window."""
        return self.window.pinned_latents if self.window.pinned else 0


def loop_plan(samples: int, rate_hz: int, shape: Geometry, max_iterations: int = 0) -> Plan:
    """Lay windows over a sound. Each puts out all its frames: latents are joined first, and decoded as one.

    Args:
        samples: how many the sound has.
        rate_hz: the sample rate of the sound.
        shape: window and overlap.
        max_iterations: only so many windows are made, for a short test run; 0 for all. The plan's
            ``requested_frames`` still tells how many frames the whole sound needs.

    Raises:
        LongTalkError: there is no sound, or the limit is no count.
    """
    limit = check_whole(max_iterations, "max_iterations", 0, WINDOWS_MAX)
    plan = plan_ltx(frames_for_samples(samples, rate_hz, shape.fps), shape, late_latents=0)
    if not limit or limit >= len(plan.windows):
        return plan
    windows = plan.windows[:limit]
    return dataclasses.replace(plan, frames=windows[-1].output[1], windows=windows)


def loop_step(plan: Plan, iteration: int, samples: int, rate_hz: int) -> LoopStep:
    """What iteration ``iteration`` (from 0) of a :func:`loop_plan` works on.

    The sound of a window begins at the sample nearest to its first frame and ends at the one nearest to its end; that
    of the last window ends with the audio, which is up to 7 frames before the window does.

    Raises:
        LongTalkError: the iteration is no whole number from 0 on.
    """
    iteration = check_whole(iteration, "iteration", 0, ITERATION_MAX)
    window = plan.window(min(iteration + 1, len(plan.windows)))
    start, end = window.audio
    first = nearest_sample(start, rate_hz, plan.fps)
    last = samples if end >= plan.requested_frames else nearest_sample(end, rate_hz, plan.fps)
    least = -(-rate_hz * LEAST_SOUND_S.numerator // LEAST_SOUND_S.denominator)
    return LoopStep(window, len(plan.windows), first, last, max(0, least - (last - first)))


def loop_report(plan: Plan, shape: Geometry) -> str:
    """What the loop will do, in words: the geometry in frames, latents and seconds, then the plan."""
    lines = [
        f"Window {shape.window_s:.2f} s: {count(shape.window_frames, 'frame')}, "
        f"{count(shape.window_latents, 'latent')}",
        f"Overlap {shape.overlap_s:.2f} s: {count(shape.overlap_frames, 'frame')}, "
        f"{count(shape.overlap_latents, 'latent')}",
        f"Stride {shape.stride_s:.2f} s: {count(shape.stride_frames, 'frame')}",
        f"Iterations: {len(plan.windows):,}",
    ]
    if plan.frames < plan.requested_frames:
        needed = shape.windows_for(plan.requested_frames)
        lines[-1] += f" of the {needed:,} the audio needs (a test run)"
    return "\n".join([*lines, "", plan_report(plan)])
