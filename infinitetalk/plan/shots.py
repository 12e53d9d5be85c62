"""One plan for a video of several shots, of which only the beginning may have to be made. Integers only.

Each shot is planned by itself, as if it were the video, and moved to where it lies. So its windows have balanced
lengths, and its first one begins with the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from ...base.errors import SettingError
from .timing import Ending, Timing
from .windows import Plan, PlanMode, Window


def timed_plan(frames: int, fps: int, timing: Timing | None, plan_shot: Callable[[int], Plan]) -> Plan:
    """The windows of a video.

    Args:
        frames: how many the sound needs.
        fps: frames per second.
        timing: how the video ends and where its shots begin; None for one shot of all frames.
        plan_shot: plans the windows of a shot of so many frames.

    Raises:
        LongTalkError: what ``plan_shot`` refuses; or the plan mode leaves out frames between shots.
    """
    if timing is None:
        return plan_shot(frames)
    made = timing.sampled_frames(frames, fps)
    edges = [0, *timing.shot_starts(made, fps), made]
    plans = [plan_shot(end - begin) for begin, end in pairwise(edges)]
    if len(plans) > 1 and plans[0].mode is PlanMode.ALIGNED_DOWN:
        raise SettingError(
            "plan_mode",
            expected=f"exact or {PlanMode.ALIGNED_UP.value}, with shots",
            actual=f"{PlanMode.ALIGNED_DOWN.value}, which would leave out frames at the end of each shot",
            action="Choose exact, or set shots to 0",
        )
    return join_shots(plans, frames if timing.ending is Ending.HOLD else None)


def join_shots(plans: Sequence[Plan], hold_to: int | None = None) -> Plan:
    """Put the shots one behind the other. The last frame then stands still until there are ``hold_to`` frames."""
    begins = accumulate((plan.frames for plan in plans), initial=0)
    windows: list[Window] = []
    for shot, (plan, begin) in enumerate(zip(plans, begins, strict=False)):
        windows += [
            replace(window, number=len(windows) + window.number, start=begin + window.start, shot=shot)
            for window in plan.windows
        ]
    frames = sum(plan.frames for plan in plans)
    requested = sum(plan.requested_frames for plan in plans)
    if hold_to is not None and hold_to > frames:
        windows[-1] = replace(windows[-1], held=hold_to - frames)
        frames = requested = hold_to
    return replace(plans[0], requested_frames=requested, frames=frames, windows=tuple(windows))
