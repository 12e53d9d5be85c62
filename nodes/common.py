"""Inputs that several nodes share, and conversions between ComfyUI's types and the core's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from ..audio.tracks import track_from_audio
from ..infinitetalk.errors import LongTalkError
from ..infinitetalk.plan.windows import MAX_WINDOW_FRAMES, PlanMode
from ..infinitetalk.speech import Speakers, make_speakers
from ..infinitetalk.values import shown

CATEGORY = "LongTalk"

SpeakersType = io.Custom("LONGTALK_SPEAKERS")
SpeechType = io.Custom("LONGTALK_SPEECH")
ScheduleType = io.Custom("LONGTALK_SCHEDULE")


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
