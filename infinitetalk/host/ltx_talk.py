"""LTX-2.3 with given sound, from inputs to a finished video file: check, plan, and hand over to the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...audio.sound import Track
from ..attention.measured import Precision
from ..plan.estimate import LTX_GRID, Estimate
from ..plan.windows import frames_for_samples
from ..run.loop import Carry
from ..run.soundtrack import Soundtrack
from ..values import check_flag, check_number
from .checks import check_image, check_noise, check_sampler, check_sigmas, snapped_size
from .events import RunEvents
from .guided import fit_image
from .guider import forwards_of
from .identity import ltx_parts
from .job import RunInputs, check_run, sound_of
from .ltx import Keyframe, LtxFamily, LtxOptions, fits_ltx
from .ltx_checks import check_audio_vae, check_ltx_guider, check_ltx_vae
from .noise import WindowNoise
from .preflight import preflight
from .session import Result, make

_SIZES = "832x448, 448x832, 1280x704 or 704x1280"


@dataclass(frozen=True, kw_only=True)
class LtxInputs(RunInputs):
    """Everything a run needs; see :class:`~.ltx.LtxFamily`.

    ``track`` is what the model hears; ``plan`` must be made for its length. ``reanchor_s`` brings the reference back as
    a keyframe every so many seconds, 0 never. ``attention`` is the class of attention kernels, None for ComfyUI's own
    choice.
    """

    vae: Any
    audio_vae: Any
    image: Any
    track: Track
    width: int = 832
    height: int = 448
    keyframes: Sequence[Keyframe] = ()
    reanchor_s: float = 0.0
    options: LtxOptions = field(default_factory=LtxOptions)
    attention: Precision | None = Precision.EXACT


def _checked(inputs: LtxInputs) -> LtxInputs:
    """Refuse what is wrong before anything is loaded or encoded; the sigmas come back in float32.

    Raises:
        LongTalkError
    """
    check_ltx_guider(inputs.guider)
    check_ltx_vae(inputs.vae)
    check_audio_vae(inputs.audio_vae)
    check_noise(inputs.noise)
    check_sampler(inputs.sampler)
    options = inputs.options
    for name, value in (
        ("image_strength", options.image_strength),
        ("adain", options.adain),
        ("keyframe_strength", options.guide_strength),
    ):
        check_number(value, name, 0.0, 1.0)
    check_number(options.compression, "img_compression", 0, 100)
    check_flag(options.blend, "overlap_mode")
    check_number(inputs.reanchor_s, "reanchor_seconds", 0.0, 86400.0)
    check_run(inputs)
    image = check_image(inputs.image)
    return replace(inputs, image=image, sigmas=check_sigmas(inputs.sigmas), keyframes=_all_keyframes(inputs, image))


def _all_keyframes(inputs: LtxInputs, image: torch.Tensor) -> list[Keyframe]:
    """The user's pictures, and the reference wherever it is due again."""
    plan, found = inputs.plan, list(inputs.keyframes)
    every = round(inputs.reanchor_s * plan.fps)
    if inputs.reanchor_s and every:
        found += [Keyframe(frame, image) for frame in range(every, plan.frames, every)]
    return sorted(found, key=lambda keyframe: keyframe.frame)


@dataclass(frozen=True)
class LtxJob:
    """One run of LTX, see :class:`~.job.Job`.

    Args:
        inputs: checked.
        size: multiples of 32.
        sound: what the video plays.
    """

    inputs: LtxInputs
    size: tuple[int, int]
    sound: Soundtrack

    def picture(self) -> torch.Tensor:
        return fit_image(self.inputs.image, *self.size)

    def parts(self) -> dict[str, str]:
        inputs = self.inputs
        return ltx_parts(
            plan=inputs.plan,
            size=self.size,
            video=inputs.video,
            guider=inputs.guider,
            vae=inputs.vae,
            audio_vae=inputs.audio_vae,
            image=inputs.image,
            track=inputs.track,
            keyframes=inputs.keyframes,
            options=inputs.options,
            sound=self.sound,
            noise=inputs.noise,
            sampler=inputs.sampler,
            sigmas=inputs.sigmas,
            attention=inputs.attention,
        )

    def fits(self, carry: Carry) -> bool:
        return fits_ltx(carry, self.inputs.plan, *self.size)

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
            speakers=0,
            return_images=inputs.return_images,
            window_s=window_s,
            grid=LTX_GRID,
            window_setting="window_seconds",
        )

    def advice(self) -> list[str]:
        return []

    def settings(self) -> str:
        inputs = self.inputs
        plan, options = inputs.plan, inputs.options
        parts = [
            f"windows of {plan.window_frames / plan.fps:.2f} s, overlap {plan.motion_frames / plan.fps:.2f} s",
            "cross-faded" if options.blend else "trimmed",
        ]
        if options.adain:
            parts.append(f"AdaIN {options.adain:g}")
        if inputs.keyframes:
            parts.append(f"{len(inputs.keyframes)} keyframes")
        return ", ".join(parts)

    def family(self, noise: WindowNoise, events: RunEvents) -> LtxFamily:
        inputs = self.inputs
        width, height = self.size
        return LtxFamily(
            plan=inputs.plan,
            guider=inputs.guider,
            vae=inputs.vae,
            audio_vae=inputs.audio_vae,
            image=inputs.image,
            track=inputs.track,
            keyframes=inputs.keyframes,
            width=width,
            height=height,
            noise=noise,
            sampler=inputs.sampler,
            sigmas=inputs.sigmas,
            events=events,
            options=inputs.options,
            attention=inputs.attention,
        )


def frames_of(track: Track, fps: int) -> int:
    """Frames of the video that goes with a sound."""
    return frames_for_samples(track.samples, track.sample_rate, fps)


def ltx_talk(inputs: LtxInputs) -> Result:
    """Make the video, or go on with the one an earlier run of the same inputs began.

    Raises:
        LongTalkError: an input cannot work; raised before a model is loaded. Also what stops a run on its way (memory,
            disk, a broken picture); the windows finished by then are kept.
    """
    inputs = _checked(inputs)
    width, height, notice = snapped_size(inputs.width, inputs.height, LTX_GRID.side, _SIZES)
    notes = [notice] if notice else []
    sound = sound_of(inputs.soundtrack or inputs.track, inputs.plan, notes)
    return make(LtxJob(inputs, (width, height), sound), notes)
