"""LTX-2.3 with given sound: how one window becomes frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_lt import LTXVAddGuide, LTXVPreprocess

from ....audio.reading.track import Track
from ....base.grid import LTX_GRID, LTX_STEP
from ....base.pictures import enlarged_size, fit_image
from ....base.segment import Segment
from ...attention.measured import Precision
from ...model.adain import channel_statistics, towards_statistics
from ...model.latents import blended, rising
from ...plan.windows import Plan, Window
from ...run.loop import Carry, Rendered
from ..checks import check_latents
from ..events import RunEvents
from ..noise import WindowNoise
from ..prompts import WindowPrompts
from ..renderer import GuidedFamily
from ..vae import ClipVae
from .sound import encode_sound

#: The longer side of a picture while it is compressed, as in ComfyUI's template video_ltx2_3_ia2v.
COMPRESSED_SIDE = 1536
OVERLAP = "overlap"
FIRST = "first_statistics"


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


def fits_ltx(carry: Carry, plan: Plan, width: int, height: int) -> bool:
    """Whether tensors read from a file are what a later window of this plan continues from."""
    overlap, first = carry.get(OVERLAP), carry.get(FIRST)
    shape = (1, LTX_GRID.channels, plan.carried_latents, height // LTX_GRID.spatial, width // LTX_GRID.spatial)
    return (
        overlap is not None
        and first is not None
        and overlap.shape == shape
        and first.shape == (2, 1, LTX_GRID.channels)
        and overlap.is_floating_point()
        and first.is_floating_point()
    )


def streams_of(latents: Any) -> tuple[Any, Any]:
    """Video and audio of what a NOISE or a SAMPLER gave; None for what is not there."""
    streams = latents.unbind() if isinstance(latents, NestedTensor) else [latents]
    return streams[0], streams[1] if len(streams) > 1 else None


class LtxFamily(GuidedFamily):
    """Renders windows with LTX-2.3's audio/video model, the sound given.

    Each window's inputs are made in the same way as the first one's: the same picture processing, the same masks, the
    same cropping. Only what is pinned differs: the reference in the first window, later the last latents before.

    Args:
        plan: of :func:`~...plan.ltx_windows.plan_ltx`.
        guider: GUIDER over a checked LTX audio/video model.
        vae, audio_vae: of LTX.
        image: reference ``[1, H, W, 3]``.
        track: what the model hears.
        quiet: where it hears silence instead.
        guides: pictures at frames of the video.
        others: as in :class:`~..renderer.GuidedFamily`.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        guider: Any,
        vae: Any,
        audio_vae: Any,
        image: torch.Tensor,
        track: Track,
        guides: Sequence[Guide],
        width: int,
        height: int,
        noise: WindowNoise,
        sampler: Any,
        sigmas: torch.Tensor,
        events: RunEvents,
        options: LtxOptions,
        quiet: Sequence[Segment] = (),
        attention: Precision | None = None,
        prompts: WindowPrompts | None = None,
    ) -> None:
        super().__init__(
            guider=guider,
            vae=ClipVae(vae, LTX_GRID.spatial, LTX_STEP),
            noise=noise,
            sampler=sampler,
            sigmas=sigmas,
            events=events,
            attention=attention,
            prompts=prompts,
        )
        self._plan = plan
        self._audio_vae = audio_vae
        self._track = track
        self._quiet = quiet
        self._options = options
        self._size = (width, height)
        self._scale = vae.downscale_index_formula
        pictures = [image, *(guide.image for guide in guides)]
        encoded = {id(picture): self._encode(picture) for picture in pictures}
        self._reference = encoded[id(image)]
        self._guides = [(guide.frame, encoded[id(guide.image)], guide.strength) for guide in guides]

    def render(self, window: Window, carry: Carry) -> Rendered:
        """Sample and decode one window, see :class:`~...run.loop.Family`.

        What the next window continues from are this one's last latents, exactly as it will be pinned to.
        """
        return self._render(window, carry, None)

    def render_until(self, window: Window, carry: Carry, until: Carry) -> Rendered:
        """As :meth:`render`, with the last latents pinned as well, see :class:`~...run.loop.Retaker`."""
        return self._render(window, carry, until[OVERLAP])

    def _render(self, window: Window, carry: Carry, end: torch.Tensor | None) -> Rendered:
        self._events.start_window(window)
        latents = self.sample(window, carry, end)
        frames = self._vae.decode(latents)
        after: Carry = {}
        if self._plan.hands_on(window):
            pinned = self._plan.windows[window.index + 1].pinned_latents
            after = {
                OVERLAP: latents[:, :, latents.shape[2] - pinned :].contiguous().cpu(),
                FIRST: carry[FIRST] if carry else channel_statistics(latents).cpu(),
            }
        self._events.end_window(window)
        return Rendered(latents, frames, after)

    def sample(self, window: Window, carry: Carry, end: torch.Tensor | None = None) -> torch.Tensor:
        """The window's latents ``[1, 128, window.latents, h, w]``, its pinned ones exactly as they went in.

        Args:
            end: ``[1, 128, f, h, w]`` that the window ends with.
        """
        goes_on = bool(carry) and window.pinned > 0
        given = carry[OVERLAP] if goes_on else self._reference
        held = given.shape[2]
        width, height = self._size
        device = comfy.model_management.intermediate_device()
        video = torch.zeros(
            [1, LTX_GRID.channels, window.latents, height // LTX_GRID.spatial, width // LTX_GRID.spatial], device=device
        )
        video[:, :, :held] = given.to(video)
        mask = torch.ones((1, 1, window.latents, 1, 1), device=device)
        mask[:, :, :held] = 0.0 if goes_on else 1.0 - self._options.image_strength
        late = window.taken_over // LTX_STEP if self._options.blend and goes_on else 0
        shares = rising(late)
        if late:
            mask[:, :, held - late : held] = shares.to(mask).view(1, 1, -1, 1, 1)
        tail = 0 if end is None else end.shape[2]
        if end is not None:
            video[:, :, window.latents - tail :] = end.to(video)
            mask[:, :, window.latents - tail :] = 0.0
        video, mask = self._add_guides(window, video, mask)

        sound = encode_sound(self._audio_vae, self._track, window, self._plan.fps, self._quiet).to(video)
        latents = NestedTensor((video, sound))
        masks = NestedTensor((mask, torch.zeros((1, 1, 1, 1), device=device)))
        noise = self._noise.generate(window.index, latents)
        for drawn, stream in zip(streams_of(noise), (video, sound), strict=False):
            check_latents(drawn, stream.shape, "noise")
        sampled = streams_of(self._denoise(window, noise, latents, masks))[0]
        sampled = check_latents(sampled, video.shape, "sampler", finite=False).to(device)[:, :, : window.latents]
        fixed = held - late if goes_on or self._options.image_strength == 1.0 else 0
        parts = [video[:, :, :fixed].to(sampled)]
        if late:
            parts.append(blended(video[:, :, fixed:held].to(sampled), sampled[:, :, fixed:held], shares))
        new = sampled[:, :, fixed + late : window.latents - tail]
        if carry and self._options.adain:
            new = towards_statistics(new, carry[FIRST], self._options.adain)
        return torch.cat([*parts, new, video[:, :, window.latents - tail : window.latents].to(sampled)], dim=2)

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        """Latents ``[1, 128, 1, h, w]`` of a picture that went through one frame of compressed video.

        In the order of ComfyUI's template video_ltx2_3_ia2v: compressed large, then scaled to the video's size.
        """
        image = image[..., :3]
        if self._options.compression:
            large = fit_image(image, *enlarged_size(*self._size, COMPRESSED_SIDE))
            image = LTXVPreprocess.execute(large, self._options.compression).result[0]
        return self._vae.encode(fit_image(image, *self._size))

    def _add_guides(self, window: Window, video: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the guides of the window's new part to its latents, and tell the conditioning where they belong.

        As ComfyUI's LTXVAddGuide does with one picture; the picture is encoded once per run.
        """
        begin, end = window.start + window.pinned, window.start + window.length
        if not self._plan.hands_on(window):
            end -= window.cut  # what is there belongs to the next shot
        conditioning: Any = [[video, {}]]
        entries = []
        for frame, latents, strength in self._guides:
            if not begin <= frame < end:
                continue
            conditioning, _, video, mask = LTXVAddGuide.append_keyframe(
                conditioning, conditioning, frame - window.start, video, mask, latents.to(video), strength, self._scale
            )
            shape = list(latents.shape[2:])
            entries.append(
                {
                    "pre_filter_count": shape[0] * shape[1] * shape[2],
                    "strength": strength,
                    "pixel_mask": None,
                    "latent_shape": shape,
                }
            )
        # Both always: guides of another latent that a conditioning brings along would be looked for in this one.
        places = conditioning[0][1].get("keyframe_idxs")
        self._give(
            window,
            {
                "frame_rate": float(self._plan.fps),
                "keyframe_idxs": places,
                "guide_attention_entries": entries or None,
            },
        )
        return video, mask
