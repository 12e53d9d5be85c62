"""Inputs that several nodes share, and conversions between ComfyUI's types and the core's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from ..audio.encoder.features import FeatureMode
from ..audio.tracks import Track, track_from_audio
from ..base.errors import FileError, LinkError
from ..base.rates import FPS
from ..base.values import check_choice, shown
from ..infinitetalk.attention.measured import Precision
from ..infinitetalk.host.run import Keep, Resume
from ..infinitetalk.model.speakers import Speakers, make_speakers
from ..infinitetalk.plan.schedule import Resolved, resolve_schedule, windows_of
from ..infinitetalk.plan.schedule_text import parse_schedule
from ..infinitetalk.plan.shots import timed_plan
from ..infinitetalk.plan.timing import Timing, check_sound
from ..infinitetalk.plan.windows import MAX_WINDOW_FRAMES, Plan, PlanMode, plan_windows
from ..infinitetalk.run.video.formats import CODECS, VideoFormat

CATEGORY = "LongTalk"
AS_COMFYUI = "as ComfyUI"
"""The choice of attention that leaves it to ComfyUI."""

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


def output_inputs() -> list[Any]:
    return [
        io.Combo.Input(
            "codec",
            options=list(CODECS),
            default="h264",
            tooltip="h264: plays everywhere. h265: smaller. ffv1 (mkv, lossless) and prores (mov): for editors; take "
            "them from output/longtalk, because Save Video writes only mp4.",
        ),
        io.Int.Input(
            "crf",
            default=18,
            min=1,
            max=51,
            tooltip="Quality of h264 and h265: lower is better and larger. 18 looks lossless.",
        ),
        io.Boolean.Input(
            "return_images",
            default=False,
            tooltip="Also return all frames as an IMAGE batch. Takes 4.8 MB per frame at 832x480: 7.2 GB per minute.",
        ),
    ]


def soundtrack_input(what_is_said: str) -> Any:
    """The sound that the video plays."""
    return io.Audio.Input(
        "soundtrack",
        optional=True,
        tooltip=f"Sound of the video, if it is not {what_is_said}",
    )


def run_inputs() -> list[Any]:
    """How a run goes on and what is left of it."""
    return [
        io.Combo.Input(
            "resume",
            options=Resume,
            default=Resume.AUTO,
            optional=True,
            tooltip="auto: windows that an earlier run of the same inputs finished are kept, whatever stopped it. "
            "start over: they are made again.",
        ),
        io.String.Input(
            "rerender_from",
            default="",
            optional=True,
            tooltip="Make a window and all after it again with a new seed: 40:7 is window 40 with seed 7; "
            "40:7, 70:9 then also window 70 with seed 9. The report tells which window holds which second. "
            "Empty: as first made.",
        ),
        io.Combo.Input(
            "finished_runs",
            options=Keep,
            default=Keep.ALL,
            optional=True,
            tooltip="keep: a finished run's windows stay in output/longtalk, so that some can be made again. "
            "video only: they are removed when the video is complete.",
        ),
    ]


def attention_input() -> Any:
    return io.Combo.Input(
        "attention",
        options=[*(each.value for each in Precision), AS_COMFYUI],
        default=Precision.EXACT.value,
        optional=True,
        tooltip="exact: the fastest attention kernel on this GPU with an error below 0.5 %, measured at first use. "
        "fast: below 3 %, which admits 8-bit kernels such as SageAttention. as ComfyUI: the one ComfyUI was started "
        "with. An attention that another node put on the model is kept in any case.",
    )


def schedule_input() -> Any:
    return ScheduleType.Input(
        "schedule",
        optional=True,
        tooltip="Prompts that change over time, from Prompt Schedule (LongTalk). They replace 'positive', which stays "
        "connected but is not used.",
    )


def feature_input() -> Any:
    """The widget that chooses how features are made."""
    return io.Combo.Input(
        "features",
        options=FeatureMode,
        default=FeatureMode.OFFICIAL,
        tooltip="official: 25 features per second enter wav2vec2's transformer, as the model was trained. "
        "core: 50 per second enter it and its outputs are interpolated, as ComfyUI's own nodes do.",
    )


def last_inputs() -> list[Any]:
    """The inputs that every sampler ends with: a new one that all samplers have is appended here."""
    return [timing_input()]


SHARED_DEFAULTS: dict[str, Any] = {
    "soundtrack": None,
    "resume": Resume.AUTO,
    "rerender_from": "",
    "finished_runs": Keep.ALL,
    "attention": Precision.EXACT,
    "schedule": None,
    "retake": "",
}
"""Optional inputs that mean the same in every sampler, with what they are where nothing is connected or saved."""


def shared_fields(codec: str, crf: int, return_images: bool, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a :class:`~..infinitetalk.host.run.Run` that every sampler's inputs give in the same way.

    Args:
        codec, crf, return_images: of :func:`output_inputs`.
        given: the inputs named in :data:`SHARED_DEFAULTS`, those that are there.

    Raises:
        LongTalkError: a choice that does not exist, a soundtrack that is no sound.
        TypeError: an input that no sampler has.
    """
    unknown = given.keys() - SHARED_DEFAULTS.keys()
    if unknown:
        raise TypeError(f"no such input: {', '.join(sorted(unknown))}")
    value = {**SHARED_DEFAULTS, **given}
    attention = check_choice(value["attention"], "attention", [*(each.value for each in Precision), AS_COMFYUI])
    soundtrack = value["soundtrack"]
    return {
        "video": VideoFormat(codec, crf),
        "return_images": return_images,
        "soundtrack": None if soundtrack is None else track_from_audio(soundtrack, "soundtrack"),
        "resume": Resume(check_choice(value["resume"], "resume", [each.value for each in Resume])),
        "keep": Keep(check_choice(value["finished_runs"], "finished_runs", [each.value for each in Keep])),
        "rerender_from": value["rerender_from"],
        "retake": value["retake"],
        "attention": None if attention == AS_COMFYUI else Precision(attention),
        "schedule": value["schedule"],
    }


def schedule_text_input() -> Any:
    return io.String.Input(
        "schedule_text",
        default="",
        multiline=True,
        optional=True,
        tooltip="The text of Prompt Schedule (LongTalk): the picture then shows which window has which prompt, snapped "
        "to the windows, and the report tells what moved. Empty: no schedule.",
    )


def prompts_from(text: str | None, plan: Plan) -> Resolved | None:
    """A schedule laid over the plan's windows; None for an empty text.

    Raises:
        LongTalkError: a schedule that cannot be read.
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    return resolve_schedule(parse_schedule(text), *windows_of(plan))


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
    raise LinkError(name, expected=f"the output of {node}", actual=type(value).__name__, action=f"Connect {node}")


def file_named(folder: str, name: Any) -> Path:
    """The file of this name in one of ComfyUI's folders.

    Raises:
        LongTalkError: there is none.
    """
    found = folder_paths.get_full_path(folder, name) if isinstance(name, str) else None
    if found is None:
        raise FileError(
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
        raise LinkError(
            "audio",
            expected="either 'audio' or 'speakers'",
            actual="both connected",
            action="Disconnect one; 'speakers' already carries its tracks",
        )
    if speakers is not None:
        return output_of("speakers", speakers, Speakers, "Speakers (LongTalk)")
    return make_speakers([track_from_audio(audio, "audio")], [None])
