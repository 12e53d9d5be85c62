"""What one video is made from, as far as all families agree.

A node fills in a family's run, :meth:`Run.checked` says what cannot work and reads what is written in words, and a
session makes the video. Every field enters the run's name, see :mod:`.identity`, but for those that say why not: what
is forgotten there makes a run anew instead of going on with another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, TypeVar, get_args, get_type_hints

import folder_paths
import torch

from ...audio.tracks import Track
from ...base.grid import LatentGrid
from ...base.pictures import fit_image
from ...base.values import check_flag
from ..attention.measured import Precision
from ..plan.estimate import Estimate
from ..plan.schedule import windows_of
from ..plan.timing import Ending, Timing
from ..plan.timing_text import timing_notes
from ..plan.windows import Plan
from ..run.finish import Step
from ..run.loop import Carry, Renderer
from ..run.retakes import Retake, parse_retakes, retake_seeds
from ..run.seeds import parse_rerender, window_seeds
from ..run.store.names import RUNS_FOLDER
from ..run.video.formats import VideoFormat
from ..run.video.soundtrack import Soundtrack
from .checks import check_image, check_noise, check_sampler, check_sigmas, snapped_size
from .events import RunEvents
from .identity import common_values, digests
from .noise import WindowNoise, base_seed
from .preflight import Demand, preflight
from .prompts import EncodedSchedule, WindowPrompts, check_schedule, window_prompts

FADE_S = 0.2
"""Length of the fade at the end of a video's sound, where the video is cut after the last word."""


class Resume(str, Enum):
    """What becomes of the windows that an earlier run of the same inputs finished."""

    AUTO = "auto"
    """They are kept."""
    START_OVER = "start over"
    """They are made again."""


class Keep(str, Enum):
    """What is left of a finished run."""

    ALL = "keep"
    """Its windows too, so that some can be made again."""
    VIDEO = "video only"


class RunRenderer(Renderer, Protocol):
    """A renderer that also says which attention kernels it measured."""

    def attention_report(self) -> list[str]:
        """Tables for the report; none where nothing was measured."""
        ...


Self = TypeVar("Self", bound="Run")


class Apart(NamedTuple):
    """Marks a field that does not enter the run's name by itself: it counts otherwise, or cannot change the picture."""

    why: str


def fields_alone(run: Run) -> dict[str, Any]:
    """The fields that enter a run's name by themselves, by the names that a person reads."""
    hints = get_type_hints(type(run), include_extras=True)
    apart = {name for name, hint in hints.items() if any(isinstance(mark, Apart) for mark in get_args(hint))}
    return {each.name.replace("_", " "): getattr(run, each.name) for each in fields(run) if each.name not in apart}


@dataclass(frozen=True, kw_only=True, eq=False)
class Run(ABC):
    """One run of one family.

    Attributes:
        plan: the windows.
        guider: GUIDER over the model.
        vae: of the pictures.
        image: reference picture, IMAGE of one picture.
        noise, sampler, sigmas: as in SamplerCustomAdvanced.
        width, height: of the video; :meth:`checked` makes them multiples of the family's.
        soundtrack: what the video plays, if not what is spoken.
        video: codec and quality.
        attention: class of attention kernels, see :class:`~.attention.MeasuredAttention`; None leaves the choice to
            ComfyUI. A node's own attention on the model stays in any case.
        schedule: gives each window its own prompt in place of the guider's positive.
        timing: where the model hears silence, and how the video ends; ``plan`` is made for it.
        rerender_from: read by :func:`~..run.seeds.parse_rerender`.
        retake: read by :func:`~..run.retakes.parse_retakes`; only for a renderer that is a
            :class:`~..run.loop.Retaker`.
        resume, keep: what becomes of windows on the disk; no picture depends on it.
        return_images: collect all frames in memory, too.
        notice: what was changed of the inputs, for the report.
    """

    plan: Annotated[Plan, Apart("counts as the windows")]
    guider: Annotated[Any, Apart("counts as model, LoRA, model options, guidance and prompts")]
    vae: Annotated[Any, Apart("counts by its weights")]
    image: Any
    noise: Annotated[Any, Apart("counts as the seed")]
    sampler: Any
    sigmas: Annotated[Any, Apart("counts as the steps")]
    width: Annotated[int, Apart("counts as the size")]
    height: Annotated[int, Apart("counts as the size")]
    soundtrack: Annotated[Track | None, Apart("counts as the sound")] = None
    video: Annotated[VideoFormat, Apart("counts as the codec")] = field(default_factory=VideoFormat)
    attention: Precision | None = Precision.EXACT
    schedule: Annotated[EncodedSchedule | None, Apart("counts as the prompt schedule")] = None
    timing: Annotated[Timing | None, Apart("counts as windows, speech and sound, which are made for it")] = None
    rerender_from: Annotated[str, Apart("counts for the names of windows")] = ""
    retake: Annotated[str, Apart("counts for the names of windows")] = ""
    resume: Annotated[Resume, Apart("says what becomes of windows on the disk")] = Resume.AUTO
    keep: Annotated[Keep, Apart("says what becomes of windows on the disk")] = Keep.ALL
    return_images: Annotated[bool, Apart("collects the frames that are made anyway")] = False
    notice: Annotated[str, Apart("is words for the report")] = ""

    grid: ClassVar[LatentGrid]
    """How the family packs frames into latents."""
    sizes: ClassVar[str]
    """Sizes that the family's model is made for, in words."""
    window_setting: ClassVar[str]
    """The widget that makes windows shorter."""

    # What a family says of itself.

    @abstractmethod
    def check_models(self) -> None:
        """Refuse models and conditioning that cannot work, before anything is loaded.

        Raises:
            LongTalkError
        """

    @abstractmethod
    def check_settings(self) -> None:
        """Refuse the family's own numbers and switches where they are out of range.

        Raises:
            LongTalkError
        """

    @abstractmethod
    def check_prompt(self, conditioning: Any, name: str) -> None:
        """Refuse a prompt that the model cannot be told.

        Raises:
            LongTalkError
        """

    @property
    @abstractmethod
    def spoken(self) -> Track:
        """What is spoken, as the video plays it where there is no soundtrack."""

    @property
    @abstractmethod
    def speakers(self) -> int:
        """How many speakers' features are kept in memory."""

    @property
    @abstractmethod
    def forwards(self) -> int:
        """How many forwards of the model one step takes."""

    @abstractmethod
    def heard_notes(self) -> list[str]:
        """What was done to the sound that the model hears, for the report."""

    @abstractmethod
    def own_values(self) -> dict[str, Any]:
        """What decides the result of fields that are :class:`Apart`, by the names that a person reads."""

    @abstractmethod
    def settings(self) -> str:
        """What the report says of the family's own settings."""

    @abstractmethod
    def fits(self, carry: Carry) -> bool:
        """Whether tensors read from a file are what a later window continues from."""

    @abstractmethod
    def renderer(self, noise: WindowNoise, events: RunEvents) -> RunRenderer:
        """Prepare the models and whatever all windows share."""

    def steps(self) -> Sequence[Step]:
        """What is done to each window's frames before they are measured, in order."""
        return ()

    def advice(self) -> list[str]:
        """Which of ComfyUI's options would pay, for the report."""
        return []

    # What all families share.

    def checked(self: Self) -> Self:
        """This run with parsed values. Nothing is loaded or encoded before everything else was found to work.

        Raises:
            LongTalkError: an input cannot work.
        """
        self.check_models()
        image = check_image(self.image)
        check_noise(self.noise)
        check_sampler(self.sampler)
        self.check_settings()
        check_schedule(self.schedule, self.check_prompt)
        check_flag(self.return_images, "return_images")
        sigmas = check_sigmas(self.sigmas)
        width, height, notice = snapped_size(self.width, self.height, self.grid.side, self.sizes)
        run = replace(self, image=image, sigmas=sigmas, width=width, height=height, notice=notice or "")
        run.read()
        return run

    def read(self) -> None:
        """Read everything that is written in words, so that what is wrong is said now."""
        _ = self.seeds, self.retakes, self.prompts, self.sound

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def model(self) -> Any:
        """The diffusion model's patcher."""
        return self.guider.model_patcher

    @property
    def denoising_steps(self) -> int:
        """Of each window."""
        return int(self.sigmas.numel()) - 1

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each window, those that are rendered again included."""
        windows = len(self.plan.windows)
        rerender = parse_rerender(self.rerender_from, windows)
        return tuple(window_seeds(base_seed(self.noise), windows, rerender, self.plan.shot_starts))

    @cached_property
    def retakes(self) -> tuple[Retake, ...]:
        """Stretches that are made again between windows that stay."""
        return parse_retakes(self.retake, self.plan)

    @property
    def retaken_seeds(self) -> tuple[int, ...]:
        """The seed of each window with the retakes' seeds in their places."""
        return retake_seeds(self.seeds, self.retakes)

    @cached_property
    def prompts(self) -> WindowPrompts | None:
        """Each window's own prompt; None without a schedule."""
        return None if self.schedule is None else window_prompts(self.schedule, *windows_of(self.plan))

    @cached_property
    def picture(self) -> torch.Tensor:
        """The reference as the video shows it, float 0..1 ``[1, H, W, 3]``; windows are compared with it."""
        return fit_image(self.image, *self.size)

    @property
    def played(self) -> Track:
        """What the video plays."""
        return self.soundtrack or self.spoken

    @cached_property
    def sound(self) -> Soundtrack:
        """The sound of the video, faded out where a video is cut after the last word."""
        track, plan = self.played, self.plan
        samples, fade = track.waveform, 0
        if self._is_cut_after_the_last_word:
            samples = samples[:, : -(-plan.frames * track.sample_rate // plan.fps)]
            fade = round(FADE_S * track.sample_rate)
        return Soundtrack(samples.numpy(), track.sample_rate, fade)

    @property
    def _too_long_s(self) -> float:
        """Seconds by which the sound is longer than the video; nothing where they are as long as each other."""
        over_s = self.played.duration_s - self.plan.frames / self.plan.fps
        return over_s if abs(over_s) > 1 / self.plan.fps else 0.0

    @property
    def _is_cut_after_the_last_word(self) -> bool:
        return self._too_long_s > 0 and self.timing is not None and self.timing.ending is Ending.CUT

    def notes(self) -> list[str]:
        """What was changed or left out of the inputs, for the report."""
        notes = [*self.heard_notes(), *([self.notice] if self.notice else [])]
        notes += timing_notes(self.timing) if self.timing is not None else []
        if self._too_long_s and not self._is_cut_after_the_last_word:
            change = "cut at its end" if self._too_long_s > 0 else "silent after it"
            track, video_s = self.played, self.plan.frames / self.plan.fps
            notes.append(f"sound: {track.name} is {track.duration_s:.2f} s, the video {video_s:.2f} s; {change}")
        return notes

    def parts(self) -> dict[str, str]:
        """Digests of everything that decides the result, by name."""
        return digests(self, fields_alone(self), common_values(self), self.own_values())

    def preflight(self, made: int, folder: Path, window_s: float | None) -> Estimate:
        """What the other windows will take, once so many are made.

        Raises:
            LongTalkError: that cannot fit, see :func:`~.preflight.preflight`.
        """
        demand = Demand(
            plan=self.plan,
            width=self.width,
            height=self.height,
            steps=self.denoising_steps,
            forwards=self.forwards,
            model=self.model,
            vae=self.vae,
            video=self.video,
            speakers=self.speakers,
            return_images=self.return_images,
            grid=self.grid,
            window_setting=self.window_setting,
        )
        return preflight(demand, made, folder, window_s)


def runs_root() -> Path:
    """The folder of all runs, in ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory()) / RUNS_FOLDER
