"""Times and counts in words, for reports and messages."""

from __future__ import annotations

from .rates import FPS


def clock(frames: int, fps: int = FPS) -> str:
    """A frame number as m:ss.ff (hundredths), exact at 25 fps, else rounded down."""
    seconds, rest = divmod(frames, fps)
    return f"{seconds // 60}:{seconds % 60:02d}.{rest * 100 // fps:02d}"


def clock_s(time_s: float) -> str:
    """Seconds as m:ss.ff, to the nearest hundredth."""
    return clock(round(time_s * 100), 100)


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 window", "1,250 windows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock_text(seconds: float) -> str:
    """``65`` as ``1:05``, ``3725`` as ``1:02:05``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
