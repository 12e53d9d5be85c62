"""Which frames each window samples, pins from the window before and keeps. Integers only.

WAN's video VAE packs one first frame, then four frames per latent, so every length is 4n+1. A later window
pins the last m frames of the window before it, so it brings its length minus m new frames. N windows that
cover S frames therefore sample S + (N-1)*m frames: the count is smallest when N is, and then fixed. What is
left to choose is how to deal them out. Attention is quadratic in the length, so even shares cost the least.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ...base.errors import SettingError, SoundError
from ...base.grid import VAE_STEP
from ...base.rates import FPS, FRAME_SLACK, WINDOW_FRAMES
from ...base.values import as_whole, shown

MOTION_FRAMES = 9
"""Frames that a window takes over from the one before it, as InfiniteTalk was trained."""
MAX_WINDOW_FRAMES = 241
"""The longest window: three times what the model was trained on; its attention takes nine times as long."""

_COUNT_LIMIT = 2**63
"""Above any count of frames or samples. Python refuses to write out numbers of thousands of digits."""


class PlanMode(str, Enum):
    """How the windows are laid over the requested frames."""

    EXACT = "exact"
    """The fewest windows, of even lengths, with at most 3 surplus frames."""
    ALIGNED_DOWN = "aligned_down"
    """Full windows only; the end of the audio, which does not fill a window, is left out."""
    ALIGNED_UP = "aligned_up"
    """Full windows only; the last one reaches past the audio and is cut."""


@dataclass(frozen=True)
class Window:
    """One pass of the sampler. All intervals are half-open, in frames of the timeline."""

    number: int
    """Counted from 1."""
    start: int
    """The first frame that is sampled; the window's audio starts there too."""
    length: int
    """How many frames are sampled, 4n+1 (8n+1 for LTX)."""
    pinned: int
    """How many of its first frames are taken from the end of the window before; 0 in the first window."""
    cut: int
    """How many last frames do not come out of it: the surplus in the last window, else ``taken_over`` of the next."""
    step: int = VAE_STEP
    """Frames per latent after the first one."""
    taken_over: int = 0
    """How many of the pinned frames, the last of them, come out of this window and not of the one before."""
    shot: int = 0
    """The shot that it belongs to, from 0; nothing is carried over from one shot to the next."""
    held: int = 0
    """For how many frames its last frame stands still behind it; they are not sampled."""

    @property
    def audio(self) -> tuple[int, int]:
        """The audio frames [start, end) that the window hears: one for each frame that is sampled."""
        return self.start, self.start + self.length

    @property
    def output(self) -> tuple[int, int]:
        """The frames [start, end) of the finished video that come from this window."""
        return self.start + self.pinned - self.taken_over, self.start + self.length - self.cut + self.held

    @property
    def latents(self) -> int:
        """How many latent frames are sampled: one for the first frame, and one for every ``step`` after it."""
        return (self.length - 1) // self.step + 1

    @property
    def pinned_latents(self) -> int:
        """How many of its first latents are held fixed: the motion frames, or the reference (1) in the first window."""
        return (self.pinned - 1) // self.step + 1 if self.pinned else 1

    @property
    def put_out(self) -> slice:
        """Which of the ``length`` sampled frames come out of this window; the last of them is ``held``."""
        return slice(self.pinned - self.taken_over, self.length - self.cut)


@dataclass(frozen=True)
class Plan:
    """All windows of one video. The windows' output intervals tile [0, frames) in order."""

    requested_frames: int
    """How many frames the audio needs."""
    frames: int
    """How many frames come out; fewer than requested in aligned_down only."""
    window_frames: int
    motion_frames: int
    mode: PlanMode
    windows: tuple[Window, ...]
    fps: int = FPS

    @property
    def shared(self) -> str:
        """The family's word for the frames that neighbouring windows share."""
        return "motion" if self.windows[0].step == VAE_STEP else "overlap"

    @property
    def sampled_frames(self) -> int:
        """How many frames the sampler works on, pinned and cut ones included."""
        return sum(window.length for window in self.windows)

    @property
    def surplus_frames(self) -> int:
        """How many frames are sampled past the end of the video, or past the ends of shots, and cut."""
        return sum(window.cut for window in self.windows if not self.hands_on(window))

    @property
    def held_frames(self) -> int:
        """For how many frames at the end the last sampled frame stands still."""
        return self.windows[-1].held

    @property
    def audio_frames(self) -> int:
        """The end of the windows' audio intervals: no window asks for a feature at it or past it."""
        return max(window.audio[1] for window in self.windows)

    @property
    def carried_latents(self) -> int:
        """How many latents a window gets from the one before it in this plan."""
        return max(window.pinned_latents for window in self.windows)

    @property
    def shot_starts(self) -> tuple[int, ...]:
        """The numbers of the windows that begin a shot; the first is 1."""
        return tuple(window.number for window in self.windows if self.is_fresh(window))

    def window(self, number: int) -> Window:
        """The window of this number, counted from 1."""
        return self.windows[number - 1]

    def before(self, window: Window) -> Window | None:
        """The window that this one continues from; None where it begins a shot."""
        return self._in_shot(window.number - 1, window.shot)

    def after(self, window: Window) -> Window | None:
        """The window that continues from this one; None where it ends a shot."""
        return self._in_shot(window.number + 1, window.shot)

    def _in_shot(self, number: int, shot: int) -> Window | None:
        found = self.window(number) if 1 <= number <= len(self.windows) else None
        return found if found is not None and found.shot == shot else None

    def is_fresh(self, window: Window) -> bool:
        """Whether a window begins a shot, so that it starts from the reference, whatever came before it."""
        return self.before(window) is None

    def hands_on(self, window: Window) -> bool:
        """Whether another window continues from this one."""
        return self.after(window) is not None

    def window_at(self, frame: int) -> Window:
        """The window whose output holds this frame of the finished video.

        Raises:
            LongTalkError: the frame is not in [0, frames).
        """
        if not 0 <= frame < self.frames:
            raise SettingError(
                "frame",
                expected=f"0 to {self.frames - 1}",
                actual=str(frame),
                action=f"Name a frame of the video, which has {self.frames} frames",
            )
        return self.windows[bisect_right(self.windows, frame, key=lambda window: window.output[0]) - 1]


def frames_for_samples(samples: int, rate_hz: int, fps: int = FPS) -> int:
    """How many video frames cover so many audio samples: ceil(samples * fps / rate), in exact integers.

    No samples need no frames. Raises LongTalkError for a negative count or a rate below 1 Hz.
    """
    example = "Load the audio again; its header may be damaged"
    samples = _whole(samples, "audio samples", "0 or more", example)
    rate_hz = _whole(rate_hz, "audio sample rate", "1 Hz or more", example)
    if samples < 0:
        raise SoundError("audio samples", expected="0 or more", actual=str(samples), action=example)
    if rate_hz < 1:
        raise SoundError("audio sample rate", expected="1 Hz or more", actual=f"{rate_hz} Hz", action=example)
    return -(-samples * fps // rate_hz)


def frames_for_duration(seconds: float) -> int:
    """How many video frames cover a duration: ceil(seconds * 25), to which a rounding error adds no frame.

    10.68 s is 267 frames, although 10.68 * 25 may come out a hair above. A whole number within 40 ns counts as
    met; one audio sample at 192 kHz is 130 times as long. Any positive duration needs at least one frame. Where
    the sample count is known, :func:`frames_for_samples` needs no such allowance.

    Raises:
        LongTalkError: not a number, negative, infinite or NaN.
    """
    action = "Give the length of the audio in seconds, for example 10.68"
    try:
        value = float(seconds)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value * FPS) or value < 0 or isinstance(seconds, (bool, str)):
        raise SettingError("duration", expected="seconds, 0 or more", actual=shown(seconds), action=action)
    exact = value * FPS
    nearest = round(exact)
    if abs(exact - nearest) <= FRAME_SLACK:
        return max(nearest, 1) if value > 0 else 0
    return math.ceil(exact)


def plan_windows(
    frames: int,
    window_frames: int = WINDOW_FRAMES,
    motion_frames: int = MOTION_FRAMES,
    mode: PlanMode | str = PlanMode.EXACT,
) -> Plan:
    """Lay windows of at most L = window_frames over T = frames, each pinning m = motion_frames of the one before.

    exact: the fewest windows, N = 1 + ceil((T-L)/(L-m)). With S the smallest 4n+1 not below T, their lengths
    add up to S + (N-1)*m, dealt evenly in steps of 4, longer ones first. At most 3 frames are cut.

    aligned_down: T is lowered to the largest L + k*(L-m) not above it, below L to the largest 4n+1.

    aligned_up: the N of exact, every window L long, the surplus cut from the last.

    Raises:
        LongTalkError: T below 1; L or m not 4n+1; L beyond 241; m not below L; an unknown mode.
    """
    mode = _plan_mode(mode)
    requested = _whole(frames, "frames", "1 or more", "Connect audio of at least 0.04 s, which is one frame")
    if requested < 1:
        raise SoundError(
            "frames",
            expected="1 or more",
            actual=str(requested),
            action="Connect audio of at least 0.04 s, which is one frame",
        )
    full, motion = _check_sizes(window_frames, motion_frames)
    fresh = full - motion
    kept = requested
    if mode is PlanMode.ALIGNED_DOWN:
        beyond = requested - full
        kept = full + beyond // fresh * fresh if beyond >= 0 else (requested - 1) // VAE_STEP * VAE_STEP + 1
    count = 1 if kept <= full else 1 - (full - kept) // fresh  # 1 + ceil((kept - full) / fresh)
    lengths = [full] * count if mode is PlanMode.ALIGNED_UP else _even_lengths(kept, count, motion)
    windows = []
    start = 0
    for number, length in enumerate(lengths, start=1):
        end = start + length
        cut = end - kept if number == count else 0
        windows.append(Window(number, start, length, motion if number > 1 else 0, cut))
        start = end - motion
    return Plan(requested, kept, full, motion, mode, tuple(windows))


def _even_lengths(frames: int, count: int, motion: int) -> list[int]:
    """The lengths 4n+1 of `count` windows that cover `frames`, at most one VAE step apart, longer ones first.

    In steps of 4: S = 4s+1, m = 4k+1 and lengths 4n+1 turn "sum of lengths = S + (N-1)m" into
    "sum of n = s + (N-1)k", so the steps share out as whole numbers.
    """
    steps = -(-(frames - 1) // VAE_STEP) + (count - 1) * (motion // VAE_STEP)
    share, longer = divmod(steps, count)
    return [VAE_STEP * (share + (index < longer)) + 1 for index in range(count)]


def _check_sizes(window_frames: int, motion_frames: int) -> tuple[int, int]:
    """Both sizes as plain ints; a LongTalkError names the nearest values that work."""
    full = _whole(
        window_frames, "window frames", "a whole number 4n+1, at least 5", f"Use {WINDOW_FRAMES}, or 4n+1 below it"
    )
    if full > MAX_WINDOW_FRAMES:
        raise SettingError(
            "window frames",
            expected=f"{MAX_WINDOW_FRAMES} at most",
            actual=str(full),
            action=f"Use {WINDOW_FRAMES}, as the model was trained, or up to {MAX_WINDOW_FRAMES}",
        )
    if full < 5 or full % VAE_STEP != 1:
        raise SettingError(
            "window frames",
            expected="4n+1 (5, 9, ... 77, 81, ...)",
            actual=str(full),
            action=f"Use {_nearest(full, 5, None)}",
        )
    expected = f"4n+1 (1, 5, 9, ...) below the {full} window frames"
    motion = _whole(motion_frames, "motion frames", expected, "Use 9, or 1 for the shortest overlap")
    if motion < 1 or motion >= full or motion % VAE_STEP != 1:
        raise SettingError(
            "motion frames",
            expected=expected,
            actual=str(motion),
            action=f"Use {_nearest(motion, 1, full - VAE_STEP)}",
        )
    return full, motion


def _nearest(value: int, lowest: int, highest: int | None) -> str:
    """The valid lengths just below and just above a value, as words: "77 or 81"."""
    below = (value - 1) // VAE_STEP * VAE_STEP + 1
    near = (max(length, lowest) for length in (below, below + VAE_STEP))
    return " or ".join(str(length) for length in sorted({min(n, highest) if highest is not None else n for n in near}))


def _whole(value: Any, what: str, expected: str, action: str) -> int:
    """The value as a plain int, see :func:`~...base.values.as_whole`; a LongTalkError for anything else."""
    found = as_whole(value)
    if found is None or abs(found) >= _COUNT_LIMIT:
        raise SettingError(what, expected=expected, actual=shown(value), action=action)
    return found


def _plan_mode(mode: PlanMode | str) -> PlanMode:
    try:
        return PlanMode(mode)
    except ValueError:
        names = [known.value for known in PlanMode]
        raise SettingError(
            "plan mode",
            expected=" or ".join(names),
            actual=shown(mode),
            action=f"Choose {names[0]}, unless you follow a table of aligned frame counts",
        ) from None
