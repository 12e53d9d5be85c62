"""Times and counts in words, for reports and messages."""

from __future__ import annotations

from fractions import Fraction

from .rates import FPS


def printable(text: str) -> str:
    """The text in one line: control characters, line breaks and marks that turn the writing around are escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def clock(frames: int, fps: int = FPS) -> str:
    """The time of a frame as m:ss.ff (hundredths of a second): exact at 25 fps, else rounded down."""
    seconds, rest = divmod(frames, fps)
    return f"{seconds // 60}:{seconds % 60:02d}.{rest * 100 // fps:02d}"


def clock_s(time_s: float) -> str:
    """A time as m:ss.ff, rounded to the nearest hundredth of a second."""
    return clock(round(time_s * 100), 100)


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 window", "1,250 windows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock_text(seconds: float) -> str:
    """A duration in whole seconds: ``65`` as ``1:05``, ``3725`` as ``1:02:05``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def time_text(seconds: Fraction | float) -> str:
    """A time as m:ss.ff, or as h:mm:ss.ff from an hour on, rounded to hundredths of a second."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    whole = f"{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    hours = f"{minutes // 60}:" if minutes >= 60 else ""
    return f"{hours}{whole}:{rest // 100:02d}.{rest % 100:02d}"


def brief(words: object, most: int = 300) -> str:
    """What an error of another program says, in one line: its first and its last line, ``most`` letters of it.

    FFmpeg begins with a banner of thirty lines and says at the end what is wrong.
    """
    lines = [" ".join(line.split()) for line in str(words).splitlines() if line.strip()]
    ends = [lines[0], lines[-1]] if len(lines) > 1 else lines
    shortened = [line if len(line) <= most // len(ends) else line[: most // len(ends) - 3] + "..." for line in ends]
    return " ... ".join(shortened)
