"""Inputs that several of the nodes for hand-wired loops share."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..base.errors import PictureError
from ..base.tensors import described, is_plain
from ..infinitetalk.plan.ltx_loop import ITERATION_MAX, WINDOWS_MAX
from ..infinitetalk.plan.ltx_windows import FPS_MAX, WINDOW_MAX_S


def iteration_input() -> Any:
    """Which pass of the loop this is."""
    return io.Int.Input(
        "iteration", default=0, min=0, max=ITERATION_MAX, tooltip="The loop's counter, from 0: 0 is the first window."
    )


def loop_inputs() -> list[Any]:
    """The two lengths that decide the windows."""
    return [
        io.Float.Input(
            "window_seconds",
            default=19.88,
            min=0.0,
            max=WINDOW_MAX_S,
            step=0.04,
            tooltip="Length of a window, rounded down to 8n+1 frames. The model reaches 20 s; less needs less memory.",
        ),
        io.Float.Input(
            "overlap_seconds",
            default=2.0,
            min=0.0,
            max=WINDOW_MAX_S,
            step=0.04,
            tooltip="What each window takes over from the one before, rounded down to whole latents. 3 where the face "
            "changes between windows.",
        ),
    ]


def fps_input() -> Any:
    """Frames per second of the video."""
    return io.Int.Input(
        "fps", default=25, min=1, max=FPS_MAX, tooltip="Frames per second; the same number in LTXVConditioning."
    )


def limit_input() -> Any:
    """A limit for test runs."""
    return io.Int.Input(
        "max_iterations",
        default=0,
        min=0,
        max=WINDOWS_MAX,
        optional=True,
        tooltip="Stop after so many windows, for a short test run. 0: all.",
    )


def image_batch(name: str, images: Any) -> torch.Tensor:
    """An IMAGE ``[B, H, W, C]`` with at least one picture.

    Raises:
        LongTalkError
    """
    if not is_plain(images) or images.ndim != 4 or 0 in images.shape:
        raise PictureError(
            name,
            expected="pictures [batch, height, width, channels]",
            actual=described(images),
            action="Connect the output of an image node",
        )
    return images
