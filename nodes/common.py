"""Inputs that several nodes share, and conversions between ComfyUI's types and the core's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from ..audio.tracks import Track, track_from_audio
from ..base.errors import LongTalkError
from ..base.rates import FPS
from ..base.values import shown
from ..infinitetalk.model.speakers import Speakers, make_speakers
from ..infinitetalk.plan.shots import timed_plan
from ..infinitetalk.plan.timing import Timing, check_sound
from ..infinitetalk.plan.windows import MAX_WINDOW_FRAMES, Plan, PlanMode, plan_windows

CATEGORY = "LongTalk"

SpeakersType = io.Custom("LONGTALK_SPEAKERS")
SpeechType = io.Custom("LONGTALK_SPEECH")
ScheduleType = io.Custom("LONGTALK_SCHEDULE")
TimingType = io.Custom("LONGTALK_TIMING")


def window_inputs() -> list[Any]:
    """The three widgets that decide the windows."""
    return [
        io.Int.Input(
            "window_frames",
            default=81,
            min=5,
            max=MAX_WINDOW_FRAMES,
            step=4,
            tooltip="Frames per window at most, 4n+1. 81 is what the model was trained on; fewer need less memory.",
        ),
        io.Int.Input(
            "motion_frames",
            default=9,
            min=1,
            max=77,
            step=4,
            tooltip="Frames at each window's start that repeat the end of the window before, 4n+1. 9 is usual, "
            "25 holds motion better and costs more windows.",
        ),
        io.Combo.Input(
            "plan_mode",
            options=PlanMode,
            default=PlanMode.EXACT,
            tooltip="exact: the video is as long as the audio, windows balanced, nothing padded. "
            "aligned_down: full windows only, the end of the audio is cut. "
            "aligned_up: full windows only, sampled past the end and cut.",
        ),
    ]


def share_input(name: str, default: float, tooltip: str, **options: Any) -> Any:
    """A widget for a number from 0 to 1."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip, **options)


def timing_input() -> Any:
    """How a run treats silence, the ending and shots."""
    return TimingType.Input(
        "timing",
        optional=True,
        tooltip="From Silence and Shots (LongTalk), made from the same sound: the mouth rests in pauses, the video "
        "ends as chosen there, and shots begin anew from the reference picture.",
    )


def timing_from(timing: Any, tracks: Sequence[Track], *, mixed: bool = False) -> Timing | None:
    """The timing for a run that hears these tracks; see :func:`~..infinitetalk.plan.timing.check_sound`.

    Raises:
        LongTalkError: something else, or one of another sound.
    """
    if timing is None:
        return None
    checked = output_of("timing", timing, Timing, "Silence and Shots (LongTalk)")
    check_sound(checked, [track.duration_s for track in tracks], mixed=mixed)
    return checked


def speakers_plan(
    speakers: Speakers, timing: Timing | None, window_frames: int, motion_frames: int, plan_mode: str
) -> Plan:
    """WAN's windows for these speakers.

    Raises:
        LongTalkError: settings that cannot be.
    """
    return timed_plan(
        speakers.frames, FPS, timing, lambda frames: plan_windows(frames, window_frames, motion_frames, plan_mode)
    )


def to_image(picture: np.ndarray) -> torch.Tensor:
    """uint8 ``[H, W, 3]`` as IMAGE ``[1, H, W, 3]``."""
    return torch.from_numpy(picture).float().div_(255)[None]


T = TypeVar("T")


def output_of(name: str, value: object, kind: type[T], node: str) -> T:
    """``value`` if it is what ``node`` gives, or a clear word about what it is instead.

    Raises:
        LongTalkError
    """
    if isinstance(value, kind):
        return value
    raise LongTalkError(name, expected=f"the output of {node}", actual=type(value).__name__, action=f"Connect {node}")


def file_named(folder: str, name: Any) -> Path:
    """The file of this name in one of ComfyUI's folders.

    Raises:
        LongTalkError: there is none.
    """
    found = folder_paths.get_full_path(folder, name) if isinstance(name, str) else None
    if found is None:
        raise LongTalkError(
            "name",
            expected=f"a file in models/{folder}, as the list shows them",
            actual=shown(name),
            action="Choose one of the list; press R to read the folders again",
        )
    return Path(found)


def speakers_from(audio: Any, speakers: Speakers | None) -> Speakers:
    """The speakers of a node that takes either one audio or the output of Speakers (LongTalk).

    Raises:
        LongTalkError: neither or both are connected.
    """
    if speakers is not None and audio is not None:
        raise LongTalkError(
            "audio",
            expected="either 'audio' or 'speakers'",
            actual="both connected",
            action="Disconnect one; 'speakers' already carries its tracks",
        )
    if speakers is not None:
        return output_of("speakers", speakers, Speakers, "Speakers (LongTalk)")
    return make_speakers([track_from_audio(audio, "audio")], [None])
