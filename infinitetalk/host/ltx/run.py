"""LTX-2.3 with given sound: what one video is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch

from ....audio.reading.resample import naming, resampler, resampling_note
from ....audio.reading.track import Track
from ....base.errors import TextError
from ....base.grid import LTX_GRID, LatentGrid
from ....base.segment import Segment
from ....base.values import check_flag, check_number
from ....base.words import count
from ...plan.keyframes import parse_keyframes
from ...plan.windows import Plan, frames_for_samples
from ...run.loop import Carry
from ..events import RunEvents
from ..guiders import text_forwards
from ..identity import vae_of
from ..noise import WindowNoise
from ..run import Apart, Run
from .checks import check_audio_vae, check_keyframes, check_ltx_guider, check_ltx_text, check_ltx_vae
from .renderer import LtxRenderer, fits_ltx
from .sound import sound_rate_of


@dataclass(frozen=True)
class LtxOptions:
    """What may differ from the plain loop.

    Attributes:
        image_strength: how firmly the reference holds the first latent, 0 to 1. 0.7 is what ComfyUI's template and
            Lightricks use where motion is made; at 1 the picture tends to stand still (LTX-2 issue 117).
        compression: quality (CRF) of the one video frame that the reference goes through: LTX freezes on too clean a
            picture. 0 leaves it as it is.
        blend: whether the late latents of the overlap are made anew and cross-faded, not only pinned.
        adain: how far each window's colours are drawn towards the first one's, 0 to 1.
    """

    image_strength: float = 0.7
    compression: int = 18
    blend: bool = False
    adain: float = 0.0


@dataclass(frozen=True, eq=False)
class Guide:
    """A picture that the video shall come to.

    Attributes:
        frame: of the video.
        image: ``[1, H, W, 3]``.
        strength: 1 holds it; as in LTXVAddGuide.
    """

    frame: int
    image: torch.Tensor
    strength: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LtxRun(Run):
    """One run of LTX-2.3 with given sound.

    Attributes:
        audio_vae: LTX's audio VAE.
        track: what the model hears; ``plan`` must be made for its length.
        guides: pictures at frames of the video.
        reanchor_s: the reference comes back as a guide every so many seconds; 0 never.
        reanchor_strength: of these guides.
        options: what may differ from the plain loop.
    """

    audio_vae: Annotated[Any, Apart("counts by its weights")]
    track: Annotated[Track, Apart("counts as the speech")]
    guides: Annotated[Sequence[Guide], Apart("counts together with the reference's own")] = ()
    reanchor_s: Annotated[float, Apart("counts as the guides that come of it")] = 0.0
    reanchor_strength: Annotated[float, Apart("counts as the guides that come of it")] = 1.0
    options: LtxOptions = field(default_factory=LtxOptions)

    grid: ClassVar[LatentGrid] = LTX_GRID
    sizes: ClassVar[str] = "832x448, 448x832, 1280x704 or 704x1280"
    window_setting: ClassVar[str] = "window_seconds"

    def check_models(self) -> None:
        check_ltx_guider(self.guider)
        check_ltx_vae(self.vae)
        check_audio_vae(self.audio_vae)

    def check_settings(self) -> None:
        options = self.options
        for name, value in (
            ("image_strength", options.image_strength),
            ("adain", options.adain),
            ("keyframe_strength", self.reanchor_strength),
        ):
            check_number(value, name, 0.0, 1.0)
        check_number(options.compression, "img_compression", 0, 100)
        check_flag(options.blend, "overlap_mode")
        check_number(self.reanchor_s, "reanchor_seconds", 0.0, 86400.0)

    def check_prompt(self, conditioning: Any, name: str) -> None:
        check_ltx_text(conditioning, name, self.model)

    @property
    def spoken(self) -> Track:
        return self.track

    @property
    def speakers(self) -> int:
        return 0

    @property
    def forwards(self) -> int:
        return text_forwards(self.guider)

    @property
    def quiet(self) -> tuple[Segment, ...]:
        """Where the model hears silence."""
        return self.timing.quiet_all if self.timing is not None else ()

    @cached_property
    def all_guides(self) -> list[Guide]:
        """The user's pictures, and the reference wherever it is due again."""
        plan, found = self.plan, list(self.guides)
        every = max(1, round(self.reanchor_s * plan.fps))
        if self.reanchor_s:
            found += [
                Guide(frame, self.image, self.reanchor_strength)
                for frame in range(every, plan.frames - plan.held_frames, every)
            ]
        return sorted(found, key=lambda guide: guide.frame)

    def heard_notes(self) -> list[str]:
        note = resampling_note(self.track.name, self.track.sample_rate, sound_rate_of(self.audio_vae))
        return [note] if note else []

    def own_values(self) -> dict[str, Any]:
        track = self.track
        resampled_by = naming([resampler(track.sample_rate, sound_rate_of(self.audio_vae))])
        return {
            "audio vae": vae_of(self.audio_vae),
            "speech": [track.waveform, track.sample_rate, *self.quiet, *resampled_by],
            "guides": self.all_guides,
        }

    def settings(self) -> str:
        plan, options = self.plan, self.options
        parts = [
            f"windows of {plan.window_frames / plan.fps:.2f} s, overlap {plan.motion_frames / plan.fps:.2f} s",
            "cross-faded" if options.blend else "trimmed",
        ]
        if options.adain:
            parts.append(f"AdaIN {options.adain:g}")
        if self.all_guides:
            parts.append(count(len(self.all_guides), "keyframe"))
        return ", ".join(parts)

    def fits(self, carry: Carry) -> bool:
        return fits_ltx(carry, self.plan, *self.size)

    def renderer(self, noise: WindowNoise, events: RunEvents) -> LtxRenderer:
        return LtxRenderer(self, noise, events)


def frames_of(track: Track, fps: int) -> int:
    """Frames of the video that goes with a sound."""
    return frames_for_samples(track.samples, track.sample_rate, fps)


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
        raise TextError(
            "keyframes",
            expected="a line for each picture, as in '0:20.5: 0'",
            actual="no line",
            action="Write when each picture comes, or disconnect keyframe_images",
        )
    check_number(strength, "keyframe_strength", 0.0, 1.0)
    # A picture that comes several times is one object: it is hashed and encoded once.
    shown = {each.image: pictures[each.image : each.image + 1, ..., :3].float() for each in keyframes}
    found = []
    for keyframe in keyframes:
        frame = keyframe.frame(plan.fps)
        where = f"line {keyframe.line} of the keyframes"
        if keyframe.image >= pictures.shape[0]:
            raise TextError(
                where,
                expected=f"a picture from 0 to {pictures.shape[0] - 1}",
                actual=str(keyframe.image),
                action="Count the pictures of the batch from 0",
            )
        moves = plan.frames - plan.held_frames
        end = "where the picture stands still" if plan.held_frames else "the length of the video"
        if frame >= moves:
            raise TextError(
                where,
                expected=f"a time below {moves / plan.fps:.2f} s, {end}",
                actual=f"{float(keyframe.time):.2f} s",
                action="Move it, or remove the line",
            )
        used = strength if keyframe.strength is None else keyframe.strength
        found.append(Guide(frame, shown[keyframe.image], used))
    return found
