"""Which frames each window of LTX-2.3 samples, pins and puts out. Integers only.

LTX's video VAE packs one first frame, then eight frames per latent, so every length is 8n+1; windows advance by whole
latents. A window's start is a frame number, so sound and picture advance by exactly the same time: the sound of window
i begins at sample start_i * rate / fps, computed from the frame and never added up.

With window and overlap given in seconds (w, o) at a frame rate:

    window latents  = (max(1, round(w * fps)) - 1) // 8 + 1
    overlap latents = (round(o * fps) - 1) // 8 + 1, or 0 where that is no frame
    stride          = 8 * (window latents - overlap latents) frames
    overlap         = window - stride = 8 * (overlap latents - 1) + 1 frames

Without an overlap nothing is pinned: windows then follow each other, and the stride is the whole window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...base.errors import SettingError, SoundError
from ...base.grid import LTX_STEP
from ...base.values import as_whole, check_number, shown
from .windows import Plan, PlanMode, Window

FPS_MAX = 60
WINDOW_S, OVERLAP_S = 19.88, 2.0
"""Length of a window and of what it takes over, where nobody asks for others."""
WINDOW_MAX_S = 60.0
"""The longest window: three times what the positions of the model reach (20 s)."""

LATE_LATENTS = 3
"""How many pinned latents are decoded with what follows them, where the overlap has that many to spare.

LTX's video decoder looks ahead, too: the last frames of a window that is decoded alone differ from those of the whole
video's decode, and the eye sees a step there. So a window's last frames come out of the next one, which was given the
same latents and has what follows them.
"""


@dataclass(frozen=True)
class Geometry:
    """Window and overlap in whole latents.

    Attributes:
        fps: frames per second.
        window_latents: how many latents a full window has.
        overlap_latents: how many are pinned at the start of every later window; fewer than ``window_latents``.
    """

    fps: int
    window_latents: int
    overlap_latents: int

    @property
    def window_frames(self) -> int:
        return LTX_STEP * (self.window_latents - 1) + 1

    @property
    def stride_frames(self) -> int:
        """How many frames lie between the starts of two windows; so many frames a later window adds."""
        if not self.overlap_latents:
            return self.window_frames
        return LTX_STEP * (self.window_latents - self.overlap_latents)

    @property
    def overlap_frames(self) -> int:
        """How many frames two neighbouring windows share, which is the overlap that is really used."""
        return self.window_frames - self.stride_frames

    @property
    def window_s(self) -> float:
        return self.window_frames / self.fps

    @property
    def stride_s(self) -> float:
        return self.stride_frames / self.fps

    @property
    def overlap_s(self) -> float:
        return self.overlap_frames / self.fps

    def windows_for(self, frames: int) -> int:
        """How many windows cover so many frames: 1 + ceil((frames - window) / stride), at least 1."""
        return 1 + max(0, -(-(frames - self.window_frames) // self.stride_frames))

    def start_frame(self, number: int) -> int:
        """The frame at which a window, counted from 1, starts, its pinned frames included."""
        return (number - 1) * self.stride_frames


def nearest_sample(frame: int, rate_hz: int, fps: int) -> int:
    """The audio sample that is nearest to the beginning of a frame, in exact integers."""
    return (2 * frame * rate_hz + fps) // (2 * fps)


def check_fps(fps: Any) -> int:
    """The value as a frame rate, a plain int.

    Raises:
        LongTalkError
    """
    found = as_whole(fps)
    if found is None or not 1 <= found <= FPS_MAX:
        raise SettingError(
            "fps",
            expected=f"a whole number, 1 to {FPS_MAX}",
            actual=shown(fps),
            action="Use 25, or 24 as the model was trained",
        )
    return found


def geometry(window_s: float, overlap_s: float, fps: int) -> Geometry:
    """Round a window and an overlap in seconds to whole latents; the formula stands at the top of the module.

    Raises:
        LongTalkError: a value is no number or out of range, or the overlap leaves a window nothing new.
    """
    fps = check_fps(fps)
    check_number(window_s, "window_seconds", 0.0, WINDOW_MAX_S)
    check_number(overlap_s, "overlap_seconds", 0.0, WINDOW_MAX_S)
    window = (max(1, round(window_s * fps)) - 1) // LTX_STEP + 1
    pinned = round(overlap_s * fps)
    overlap = (pinned - 1) // LTX_STEP + 1 if pinned > 0 else 0
    if window < 2:
        raise SettingError(
            "window_seconds",
            expected=f"at least {(LTX_STEP + 1) / fps:.2f} s ({LTX_STEP + 1} frames at {fps} fps)",
            actual=f"{window_s:g} s",
            action="Use 5 to 20 s",
        )
    if overlap >= window:
        longest_s = (LTX_STEP * (window - 2) + 1) / fps
        raise SettingError(
            "overlap_seconds",
            expected=f"at most {longest_s:.2f} s with a window of {window_s:g} s",
            actual=f"{overlap_s:g} s",
            action="Use 2 s, or 3 s where the face changes between windows",
        )
    return Geometry(fps, window, overlap)


def plan_ltx(frames: int, shape: Geometry, late_latents: int = LATE_LATENTS) -> Plan:
    """Lay windows over ``frames`` frames; the last one is as long as it has to be.

    Args:
        frames: how many the audio needs.
        shape: window and overlap.
        late_latents: pinned latents that come out of the later window, see :data:`LATE_LATENTS`; at most half of the
            overlap is taken, so that they also have what came before them.

    Raises:
        LongTalkError: there is no frame.
    """
    count = as_whole(frames)
    if count is None or count < 1:
        raise SoundError(
            "frames", expected="1 or more", actual=shown(frames), action="Connect audio of at least one frame"
        )
    total = shape.windows_for(count)
    late = LTX_STEP * min(late_latents, shape.overlap_latents // 2)
    windows = []
    for number in range(1, total + 1):
        start, last = shape.start_frame(number), number == total
        needed = count - start
        length = LTX_STEP * math.ceil((needed - 1) / LTX_STEP) + 1 if last else shape.window_frames
        length = max(length, LTX_STEP + 1)
        windows.append(
            Window(
                number,
                start,
                length,
                pinned=shape.overlap_frames if number > 1 else 0,
                cut=length - needed if last else late,
                step=LTX_STEP,
                taken_over=late if number > 1 else 0,
            )
        )
    return Plan(count, count, shape.window_frames, shape.overlap_frames, PlanMode.EXACT, tuple(windows), fps=shape.fps)
