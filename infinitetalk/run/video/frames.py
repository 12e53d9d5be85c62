"""Finds one frame by its time: in a batch of pictures, or in a video file without decoding the rest of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ....base.errors import FileError, LongTalkError, SettingError
from ....base.rates import FPS
from ....base.values import check_number
from .formats import SCALE_BACK_FLAGS

TIME_MAX_S = 360_000.0
"""The latest time, a hundred hours."""
FPS_MAX = 1000.0
SLACK_S = Fraction(1, 1000)
"""Times are typed to the millisecond: 0.033 s means the frame that begins at 1/30 s."""

_PER_SECOND = 10**6


def frame_number(seconds: float, fps: float, frames: int) -> int:
    """Which of ``frames`` frames is shown at a time, counted from 0.

    Raises:
        LongTalkError: a value is no number, or the time is past the last frame.
    """
    time = _exact(seconds)
    rate = Fraction(check_number(fps, "fps", 0.01, FPS_MAX)).limit_denominator(1001)
    found = math.floor((time + SLACK_S) * rate)
    if found >= frames:
        raise _past_the_end(time, frames / rate, f"{frames} images at {float(rate):g} fps")
    return found


def video_frame(source: Any, seconds: float, start_s: float = 0.0, duration_s: float = 0.0) -> np.ndarray:
    """The frame of a video that is shown at a time.

    Decoding begins at the keyframe before it, and one frame is held at a time: memory does not depend on the length.

    Args:
        source: a path, or an open file.
        seconds: the time from the start of the video.
        start_s: where the video starts in the file, if it was trimmed.
        duration_s: how much of the file from there on is the video; 0 for all.

    Returns:
        uint8 RGB ``[H, W, 3]``, upright.

    Raises:
        LongTalkError: the time is past the end, or the file cannot be read.
    """
    time = _exact(seconds)
    kept = _exact(duration_s)
    if kept and time >= kept:
        raise _past_the_end(time, kept, "the trimmed video")
    if kept:
        time = max(Fraction(0), min(time, kept - 2 * SLACK_S))  # so that no frame after it is near enough
    try:
        with av.open(source) as container:
            if not container.streams.video:
                raise _unreadable("no picture in it")
            stream = container.streams.video[0]
            first = Fraction(stream.start_time or 0) * stream.time_base
            return _picture(_shown_at(container, stream, max(first, _exact(start_s)) + time, first))
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(str(error)) from error


def _shown_at(container: Any, stream: Any, time: Fraction, first: Fraction) -> Any:
    """The last frame of a file that begins at a time or before it."""
    latest = time + SLACK_S
    container.seek(math.floor(latest / stream.time_base), stream=stream, backward=True)
    found = None
    for frame in _timed(container, stream):
        if frame.pts * stream.time_base > latest:
            break
        found = frame
    else:
        end = _end(found, stream) if found is not None else first
        if latest >= end + SLACK_S:
            raise _past_the_end(time - first, end - first, "the video")
    if found is None:  # the file's index led past the frame
        container.seek(0, stream=stream, backward=True)
        for frame in _timed(container, stream):
            if found is not None and frame.pts * stream.time_base > latest:
                break
            found = frame
    return found


def _timed(container: Any, stream: Any) -> Iterator[Any]:
    for frame in container.decode(stream):
        if frame.pts is None:
            raise _unreadable("frames without times")
        yield frame


def _end(frame: Any, stream: Any) -> Fraction:
    """When a last frame is over."""
    begin = frame.pts * stream.time_base
    if frame.duration:
        return begin + frame.duration * stream.time_base
    return begin + (1 / Fraction(stream.average_rate) if stream.average_rate else Fraction(1, FPS))


def _picture(frame: Any) -> np.ndarray:
    rgb = VideoReformatter().reformat(frame, format="rgb24", interpolation=SCALE_BACK_FLAGS).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, round(getattr(frame, "rotation", 0) / 90)))


def _exact(seconds: float) -> Fraction:
    return Fraction(round(check_number(seconds, "seconds", 0.0, TIME_MAX_S) * _PER_SECOND), _PER_SECOND)


def _past_the_end(time: Fraction, end: Fraction, what: str) -> LongTalkError:
    return SettingError(
        "seconds",
        expected=f"a time before the end of {what}, {float(end):.3f} s",
        actual=f"{float(time):.3f} s",
        action="Use an earlier time",
    )


def _unreadable(reason: str) -> LongTalkError:
    return FileError(
        "video",
        expected="a video that can be read",
        actual=" ".join(reason.split())[:200] or "an unreadable file",
        action="Play it in another program; if that works, convert it to MP4 first",
    )
