"""What a session has to know of a run, whatever the model family."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import folder_paths
import torch

from ...audio.tracks import Track
from ...base.values import check_flag
from ..plan.estimate import Estimate
from ..plan.schedule import windows_of
from ..plan.timing import Ending, Timing
from ..plan.timing_text import timing_notes
from ..plan.windows import Plan
from ..run.loop import Carry, Family
from ..run.retakes import parse_retakes
from ..run.seeds import parse_rerender
from ..run.video.formats import VideoFormat
from ..run.video.soundtrack import Soundtrack
from .events import RunEvents
from .noise import WindowNoise
from .prompts import EncodedSchedule, WindowPrompts, window_prompts

FADE_S = 0.2
"""In which the sound of a video that is cut after the last word becomes silent."""

RESUME_CHOICES = ("auto", "start over")
KEEP_CHOICES = ("keep", "video only")


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """The inputs that every family's run has.

    Attributes:
        plan: the windows.
        guider: GUIDER over the model.
        noise, sampler, sigmas: as in SamplerCustomAdvanced.
        soundtrack: what the video plays, if not the speech itself.
        return_images: collect all frames in memory.
        start_over: forget what an earlier run of the same inputs made.
        rerender_from: read by :func:`~..run.seeds.parse_rerender`.
        retake: read by :func:`~..run.retakes.parse_retakes`; only for a family that is a :class:`~..run.loop.Retaker`.
        keep_windows: without it only the video is left of a finished run.
        schedule: gives each window its own prompt in place of the guider's positive.
        timing: where the model hears silence, and how the video ends; ``plan`` is made for it.
    """

    plan: Plan
    guider: Any
    noise: Any
    sampler: Any
    sigmas: torch.Tensor
    width: int
    height: int
    soundtrack: Track | None = None
    video: VideoFormat = field(default_factory=VideoFormat)
    return_images: bool = False
    start_over: bool = False
    rerender_from: str = ""
    retake: str = ""
    keep_windows: bool = True
    schedule: EncodedSchedule | None = None
    timing: Timing | None = None

    @property
    def steps(self) -> int:
        """Denoising steps of each window."""
        return self.sigmas.numel() - 1


class RunFamily(Family, Protocol):
    """A family that also says which attention kernels it measured."""

    def attention_report(self) -> list[str]:
        """Tables for the report; none where nothing was measured."""
        ...


class Job(Protocol):
    """One run of one family, checked and with its sound read."""

    @property
    def inputs(self) -> RunInputs: ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the video."""
        ...

    @property
    def prompts(self) -> WindowPrompts | None:
        """Each window's prompt, where a schedule gives them."""
        ...

    @property
    def sound(self) -> Soundtrack:
        """What the video plays."""
        ...

    def picture(self) -> torch.Tensor:
        """The reference as the video shows it, float 0..1 ``[1, H, W, 3]``; windows are compared with it."""
        ...

    def parts(self) -> dict[str, str]:
        """Digests of everything that decides the result, by name."""
        ...

    def fits(self, carry: Carry) -> bool:
        """Whether tensors read from a file are what a later window continues from."""
        ...

    def preflight(self, start: int, folder: Path, window_s: float | None) -> Estimate:
        """What the windows from ``start`` on will take; raises LongTalkError when that cannot fit."""
        ...

    def advice(self) -> list[str]:
        """Which of ComfyUI's options would pay, for the report."""
        ...

    def settings(self) -> str:
        """What the report says of the family's own settings."""
        ...

    def family(self, noise: WindowNoise, events: RunEvents) -> RunFamily:
        """Prepare the models and whatever all windows share."""
        ...


def runs_root() -> Path:
    """Where the runs are: ``longtalk`` in the output folder."""
    return Path(folder_paths.get_output_directory()) / "longtalk"


def check_run(inputs: RunInputs) -> None:
    """Refuse what is wrong with the settings that all families share.

    Raises:
        LongTalkError
    """
    check_flag(inputs.return_images, "return_images")
    parse_rerender(inputs.rerender_from, len(inputs.plan.windows))
    parse_retakes(inputs.retake, inputs.plan)


def prompts_of(inputs: RunInputs) -> WindowPrompts | None:
    """What the schedule gives each window; None without one."""
    if inputs.schedule is None:
        return None
    return window_prompts(inputs.schedule, *windows_of(inputs.plan))


def sound_of(inputs: RunInputs, track: Track, notes: list[str]) -> Soundtrack:
    """The sound for the video; adds a note when it is not as long as the picture."""
    plan, timing = inputs.plan, inputs.timing
    video_s = plan.frames / plan.fps
    notes += timing_notes(timing) if timing is not None else []
    if abs(track.duration_s - video_s) <= 1 / plan.fps:
        return Soundtrack(track.waveform.numpy(), track.sample_rate)
    if timing is not None and timing.ending is Ending.CUT and track.duration_s > video_s:
        samples = track.waveform[:, : -(-plan.frames * track.sample_rate // plan.fps)]
        return Soundtrack(samples.numpy(), track.sample_rate, round(FADE_S * track.sample_rate))
    change = "cut at its end" if track.duration_s > video_s else "silent after it"
    notes.append(f"sound: {track.name} is {track.duration_s:.2f} s, the video {video_s:.2f} s; {change}")
    return Soundtrack(track.waveform.numpy(), track.sample_rate)
