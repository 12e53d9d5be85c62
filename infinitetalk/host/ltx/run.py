"""LTX-2.3 with given sound, from inputs to a finished video file: check, plan, and hand over to the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ....audio.reading.resample import resampling_note
from ....audio.reading.track import Track
from ....base.errors import LongTalkError
from ....base.grid import LTX_GRID
from ....base.pictures import fit_image
from ....base.segment import Segment
from ....base.values import check_flag, check_number
from ....base.words import count
from ...attention.measured import Precision
from ...plan.estimate import Estimate
from ...plan.keyframes import parse_keyframes
from ...plan.windows import Plan, frames_for_samples
from ...run.loop import Carry
from ...run.video.soundtrack import Soundtrack
from ..checks import check_image, check_noise, check_sampler, check_sigmas, snapped_size
from ..events import RunEvents
from ..identity import ltx_parts
from ..noise import WindowNoise
from ..preflight import preflight
from ..prompts import WindowPrompts, check_schedule
from ..run import RunInputs, check_run, prompts_of, sound_of
from ..session import Result, make
from ..wan.guider import forwards_of
from .checks import check_audio_vae, check_keyframes, check_ltx_guider, check_ltx_text, check_ltx_vae
from .renderer import Guide, LtxFamily, LtxOptions, fits_ltx
from .sound import sound_rate_of

_SIZES = "832x448, 448x832, 1280x704 or 704x1280"


@dataclass(frozen=True, kw_only=True)
class LtxInputs(RunInputs):
    """Everything a run needs; see :class:`~.renderer.LtxFamily`.

    ``track`` is what the model hears; ``plan`` must be made for its length. ``reanchor_s`` brings the reference back as
    a guide every so many seconds, 0 never, with ``reanchor_strength``. ``attention`` is the class of attention kernels,
    None for ComfyUI's own choice.
    """

    vae: Any
    audio_vae: Any
    image: Any
    track: Track
    width: int = 832
    height: int = 448
    guides: Sequence[Guide] = ()
    reanchor_s: float = 0.0
    reanchor_strength: float = 1.0
    options: LtxOptions = field(default_factory=LtxOptions)
    attention: Precision | None = Precision.EXACT

    @property
    def quiet(self) -> tuple[Segment, ...]:
        """Where the model hears silence."""
        return self.timing.quiet_all if self.timing is not None else ()


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
        ("keyframe_strength", inputs.reanchor_strength),
    ):
        check_number(value, name, 0.0, 1.0)
    check_number(options.compression, "img_compression", 0, 100)
    check_flag(options.blend, "overlap_mode")
    check_number(inputs.reanchor_s, "reanchor_seconds", 0.0, 86400.0)
    check_schedule(inputs.schedule, partial(check_ltx_text, model=inputs.guider.model_patcher))
    check_run(inputs)
    image = check_image(inputs.image)
    return replace(inputs, image=image, sigmas=check_sigmas(inputs.sigmas), guides=_all_guides(inputs, image))


def _all_guides(inputs: LtxInputs, image: torch.Tensor) -> list[Guide]:
    """The user's pictures, and the reference wherever it is due again."""
    plan, found = inputs.plan, list(inputs.guides)
    every = max(1, round(inputs.reanchor_s * plan.fps))
    if inputs.reanchor_s:
        found += [
            Guide(frame, image, inputs.reanchor_strength)
            for frame in range(every, plan.frames - plan.held_frames, every)
        ]
    return sorted(found, key=lambda guide: guide.frame)


def guides_from(images: Any, text: str, strength: float, plan: Plan) -> list[Guide]:
    """Pictures at their times, as :func:`~...plan.keyframes.parse_keyframes` reads them.

    Args:
        images: IMAGE batch, or None for no keyframes.
        text: which picture when.
        strength: of lines that name none.

    Raises:
        LongTalkError: a line that cannot be read, pictures without lines or the other way round, a picture that is not
            in the batch, a time that is not in the video.
    """
    keyframes = parse_keyframes(text)
    if images is None and not keyframes:
        return []
    pictures = check_keyframes(images)
    if not keyframes:
        raise LongTalkError(
            "keyframes",
            expected="a line for each picture, as in '0:20.5: 0'",
            actual="no line",
            action="Write when each picture comes, or disconnect keyframe_images",
        )
    check_number(strength, "keyframe_strength", 0.0, 1.0)
    found = []
    for keyframe in keyframes:
        frame = keyframe.frame(plan.fps)
        where = f"line {keyframe.line} of the keyframes"
        if keyframe.image >= pictures.shape[0]:
            raise LongTalkError(
                where,
                expected=f"a picture from 0 to {pictures.shape[0] - 1}",
                actual=str(keyframe.image),
                action="Count the pictures of the batch from 0",
            )
        moves = plan.frames - plan.held_frames
        end = "where the picture stands still" if plan.held_frames else "the length of the video"
        if frame >= moves:
            raise LongTalkError(
                where,
                expected=f"a time below {moves / plan.fps:.2f} s, {end}",
                actual=f"{float(keyframe.time):.2f} s",
                action="Move it, or remove the line",
            )
        used = strength if keyframe.strength is None else keyframe.strength
        found.append(Guide(frame, pictures[keyframe.image : keyframe.image + 1, ..., :3].float(), used))
    return found


@dataclass(frozen=True)
class LtxJob:
    """One run of LTX, see :class:`~..run.Job`.

    Args:
        inputs: checked.
        size: multiples of 32.
        sound: what the video plays.
        prompts: of each window, where there is a schedule.
    """

    inputs: LtxInputs
    size: tuple[int, int]
    sound: Soundtrack
    prompts: WindowPrompts | None

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
            quiet=inputs.quiet,
            guides=inputs.guides,
            options=inputs.options,
            sound=self.sound,
            noise=inputs.noise,
            sampler=inputs.sampler,
            sigmas=inputs.sigmas,
            attention=inputs.attention,
            prompts=self.prompts,
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
        if inputs.guides:
            parts.append(count(len(inputs.guides), "keyframe"))
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
            quiet=inputs.quiet,
            guides=inputs.guides,
            width=width,
            height=height,
            noise=noise,
            sampler=inputs.sampler,
            sigmas=inputs.sigmas,
            events=events,
            options=inputs.options,
            attention=inputs.attention,
            prompts=self.prompts,
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
    resampled = resampling_note(inputs.track.name, inputs.track.sample_rate, sound_rate_of(inputs.audio_vae))
    notes = [note for note in (notice, resampled) if note]
    sound = sound_of(inputs, inputs.soundtrack or inputs.track, notes)
    return make(LtxJob(inputs, (width, height), sound, prompts_of(inputs)), notes)
