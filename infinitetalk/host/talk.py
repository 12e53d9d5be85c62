"""One run from inputs to a finished video file: check, plan, and hand over to the session that makes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ...audio.tracks import Track
from ..attention.measured import Precision
from ..plan.windows import FPS, Plan
from ..run.formats import VideoFormat
from ..run.seeds import parse_rerender
from ..run.soundtrack import Soundtrack
from ..speech import Speech
from ..values import check_flag, check_number
from .checks import (
    check_clip_vision,
    check_guider,
    check_image,
    check_noise,
    check_sampler,
    check_sigmas,
    check_text,
    check_vae,
    snapped_size,
)
from .memory import twice
from .patch import check_patch
from .schedule import EncodedSchedule, check_schedule
from .session import Result, Session

log = logging.getLogger(__name__)

#: The range of audio_scale's widget, both ways.
SCALE_MAX = 10.0
RESUME_CHOICES = ("auto", "start over")
KEEP_CHOICES = ("keep", "video only")


@dataclass(frozen=True)
class Inputs:
    """Everything a run needs; see :class:`~.wan.WanFamily` for the tensors.

    ``speech`` is called once, when everything else has been checked; ``plan`` must be made for its speakers' frames.
    ``rerender_from`` is read by :func:`~..run.seeds.parse_rerender`; ``start_over`` forgets what an earlier run of the
    same inputs made; without ``keep_windows`` only the video is left of a finished run. ``attention`` is the class of
    attention kernels, None for ComfyUI's own choice. ``schedule`` gives each window its own prompt in place of the
    guider's positive.
    """

    plan: Plan
    guider: Any
    model_patch: Any
    vae: Any
    image: Any
    speech: Callable[[], Speech]
    noise: Any
    sampler: Any
    sigmas: torch.Tensor
    width: int = 832
    height: int = 480
    clip_vision: Any = None
    soundtrack: Track | None = None
    audio_scale: float = 1.0
    video: VideoFormat = field(default_factory=VideoFormat)
    return_images: bool = False
    start_over: bool = False
    rerender_from: str = ""
    keep_windows: bool = True
    attention: Precision | None = Precision.EXACT
    schedule: EncodedSchedule | None = None


def runs_root() -> Path:
    """Where the runs are: ``longtalk`` in the output folder."""
    return Path(folder_paths.get_output_directory()) / "longtalk"


def _checked(inputs: Inputs) -> Inputs:
    """Refuse what is wrong before anything is loaded or encoded; the sigmas come back in float32.

    Raises:
        LongTalkError
    """
    check_guider(inputs.guider)
    check_patch(inputs.model_patch, inputs.guider.model_patcher)
    check_vae(inputs.vae)
    check_image(inputs.image)
    check_clip_vision(inputs.clip_vision)
    check_noise(inputs.noise)
    check_sampler(inputs.sampler)
    check_number(inputs.audio_scale, "audio_scale", -SCALE_MAX, SCALE_MAX)
    check_flag(inputs.return_images, "return_images")
    check_schedule(inputs.schedule, check_text)
    parse_rerender(inputs.rerender_from, len(inputs.plan.windows))
    return replace(inputs, sigmas=check_sigmas(inputs.sigmas))


def _sound(track: Track, plan: Plan, notes: list[str]) -> Soundtrack:
    """The sound for the video; adds a note when it is not as long as the picture."""
    video_s = plan.frames / FPS
    if abs(track.duration_s - video_s) > 1 / FPS:
        change = "cut at its end" if track.duration_s > video_s else "silent after it"
        notes.append(f"sound: {track.name} is {track.duration_s:.2f} s, the video {video_s:.2f} s; {change}")
    return Soundtrack(track.waveform.numpy(), track.sample_rate)


def talk(inputs: Inputs) -> Result:
    """Make the video, or go on with the one an earlier run of the same inputs began.

    Raises:
        LongTalkError: an input cannot work; raised before the speech is encoded, let alone a model loaded. Also what
            stops a run on its way (memory, disk, a broken picture); the windows finished by then are kept.
    """
    inputs = _checked(inputs)
    width, height, notice = snapped_size(inputs.width, inputs.height)
    speech = twice("the speech features", inputs.speech)
    notes = [*speech.notes, *([notice] if notice else [])]
    sound = _sound(inputs.soundtrack or speech.speakers.arrangement.mix, inputs.plan, notes)
    session = Session(inputs, speech, sound, width=width, height=height, root=runs_root(), notes=notes)
    with session.folder.owned():
        return session.make()
