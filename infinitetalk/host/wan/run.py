"""WAN 2.1 with InfiniteTalk, from inputs to a finished video file: check, plan, and hand over to the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ....base.pictures import fit_image
from ....base.values import check_number
from ...attention.measured import Precision
from ...model.speakers import Speech
from ...plan.estimate import Estimate, longest, tokens_of
from ...run.loop import Carry
from ...run.video.soundtrack import Soundtrack
from ..checks import check_image, check_noise, check_sampler, check_sigmas, snapped_size
from ..events import RunEvents
from ..identity import wan_parts
from ..memory import twice
from ..noise import WindowNoise
from ..preflight import preflight
from ..prompts import WindowPrompts, check_schedule
from ..run import RunInputs, check_run, prompts_of, sound_of
from ..session import Result, make
from .advice import advice
from .checks import check_guider, check_vae
from .conditioning import check_clip_vision, check_text
from .guider import forwards_of
from .patch_file import check_patch
from .renderer import WanFamily, fits

#: The range of audio_scale's widget, both ways.
SCALE_MAX = 10.0


@dataclass(frozen=True, kw_only=True)
class Inputs(RunInputs):
    """Everything a run needs; see :class:`~.renderer.WanFamily` for the tensors.

    ``speech`` is called once, when everything else has been checked; ``plan`` must be made for its speakers' frames.
    ``attention`` is the class of attention kernels, None for ComfyUI's own choice.
    """

    model_patch: Any
    vae: Any
    image: Any
    speech: Callable[[], Speech]
    width: int = 832
    height: int = 480
    clip_vision: Any = None
    audio_scale: float = 1.0
    attention: Precision | None = Precision.EXACT


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
    check_schedule(inputs.schedule, check_text)
    check_run(inputs)
    return replace(inputs, sigmas=check_sigmas(inputs.sigmas))


@dataclass(frozen=True)
class WanJob:
    """One run of WAN and InfiniteTalk, see :class:`~..run.Job`.

    Args:
        inputs: checked.
        size: multiples of 16.
        image: checked reference.
        speech, sound: what the model hears, and what the video plays.
        prompts: of each window, where there is a schedule.
    """

    inputs: Inputs
    size: tuple[int, int]
    image: torch.Tensor
    speech: Speech
    sound: Soundtrack
    prompts: WindowPrompts | None

    def picture(self) -> torch.Tensor:
        return fit_image(self.image, *self.size)

    def parts(self) -> dict[str, str]:
        inputs = self.inputs
        return wan_parts(
            plan=inputs.plan,
            size=self.size,
            video=inputs.video,
            guider=inputs.guider,
            model_patch=inputs.model_patch,
            vae=inputs.vae,
            image=self.image,
            speech=self.speech,
            sound=self.sound,
            clip_vision=inputs.clip_vision,
            noise=inputs.noise,
            sampler=inputs.sampler,
            sigmas=inputs.sigmas,
            audio_scale=inputs.audio_scale,
            attention=inputs.attention,
            prompts=self.prompts,
        )

    def fits(self, carry: Carry) -> bool:
        return fits(carry, self.inputs.plan, *self.size)

    def preflight(self, start: int, folder: Path, window_s: float | None) -> Estimate:
        inputs = self.inputs
        width, height = self.size
        return preflight(
            plan=inputs.plan,
            start=start,
            width=width,
            height=height,
            steps=inputs.steps,
            forwards=forwards_of(inputs.guider),
            model=inputs.guider.model_patcher,
            vae=inputs.vae,
            video=inputs.video,
            folder=folder,
            speakers=self.speech.speakers.count,
            return_images=inputs.return_images,
            window_s=window_s,
        )

    def advice(self) -> list[str]:
        return advice(self.inputs.guider.model_patcher, tokens_of(longest(self.inputs.plan).length, *self.size))

    def settings(self) -> str:
        return f"audio scale {self.inputs.audio_scale:g}, {self.speech.speakers.count} speaker(s)"

    def family(self, noise: WindowNoise, events: RunEvents) -> WanFamily:
        inputs = self.inputs
        width, height = self.size
        return WanFamily(
            plan=inputs.plan,
            guider=inputs.guider,
            model_patch=inputs.model_patch,
            vae=inputs.vae,
            image=self.image,
            clip_vision=inputs.clip_vision,
            features=self.speech.features,
            gates=self.speech.gates,
            masks=self.speech.speakers.masks,
            names=self.speech.speakers.names,
            width=width,
            height=height,
            noise=noise,
            sampler=inputs.sampler,
            sigmas=inputs.sigmas,
            audio_scale=inputs.audio_scale,
            events=events,
            attention=inputs.attention,
            prompts=self.prompts,
        )


def talk(inputs: Inputs) -> Result:
    """Make the video, or go on with the one an earlier run of the same inputs began.

    Raises:
        LongTalkError: an input cannot work; raised before the speech is encoded, let alone a model loaded. Also what
            stops a run on its way (memory, disk, a broken picture); the windows finished by then are kept.
    """
    inputs = _checked(inputs)
    width, height, notice = snapped_size(inputs.width, inputs.height)
    speech = twice("the speech features", inputs.speech).timed(inputs.timing)
    notes = [*speech.notes, *([notice] if notice else [])]
    sound = sound_of(inputs, inputs.soundtrack or speech.speakers.arrangement.mix, notes)
    image = check_image(inputs.image)
    return make(WanJob(inputs, (width, height), image, speech, sound, prompts_of(inputs)), notes)
