"""LTX-2.3 with given sound: how one window becomes frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_lt import LTXVPreprocess

from ....base.grid import LTX_GRID, LTX_STEP
from ....base.pictures import enlarged_size, fit_image
from ...model.adain import channel_statistics
from ...plan.windows import Plan, Window
from ...run.loop import Carry, Rendered
from ..checks import check_latents
from ..events import RunEvents
from ..noise import WindowNoise
from ..renderer import GuidedRenderer
from ..vae import VideoVae
from .items import Colours, Draft, Ending, Guides, Item, Overlap, Picture, Shown
from .sound import encode_sound

if TYPE_CHECKING:
    from .run import LtxRun

#: The longer side of a picture while it is compressed, as in ComfyUI's template video_ltx2_3_ia2v.
COMPRESSED_SIDE = 1536
OVERLAP = "overlap"
FIRST = "first_statistics"


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


class LtxRenderer(GuidedRenderer):
    """Renders windows with LTX-2.3's audio/video model, the sound given, see :class:`~...run.loop.Retaker`.

    Each window's inputs are made in the same way as the first one's: the same picture processing, the same masks, the
    same cropping. Only what is pinned differs: the reference in the first window, later the last latents before.

    Args:
        run: checked.
        noise: gives each window its noise and seed.
        events: of the run.
    """

    def __init__(self, run: LtxRun, noise: WindowNoise, events: RunEvents) -> None:
        super().__init__(run, VideoVae(run.vae, LTX_GRID), noise, events)
        self._audio_vae = run.audio_vae
        self._track = run.track
        self._quiet = run.quiet
        self._options = run.options
        self._scale = run.vae.downscale_index_formula
        # The reference comes back many times: it is encoded once.
        pictures = {id(picture): picture for picture in [run.image, *(guide.image for guide in run.all_guides)]}
        encoded = {key: self._encode(picture) for key, picture in pictures.items()}
        self._reference = encoded[id(run.image)]
        self._guides = [(guide.frame, encoded[id(guide.image)], guide.strength) for guide in run.all_guides]

    def render(self, window: Window, carry: Carry) -> Rendered:
        """Sample and decode one window."""
        return self._render(window, carry, None)

    def render_until(self, window: Window, carry: Carry, until: Carry) -> Rendered:
        """As :meth:`render`, with the last latents pinned as well."""
        return self._render(window, carry, until[OVERLAP])

    def _render(self, window: Window, carry: Carry, end: torch.Tensor | None) -> Rendered:
        self._events.start_window(window)
        latents = self.sample(window, carry, end)
        return Rendered(latents, self._vae.decode(latents))

    def hand_on(self, window: Window, carry: Carry, rendered: Rendered) -> Carry:
        """The window's last latents, exactly as the next one will be pinned to, and the first window's colours."""
        handed: Carry = {}
        after = self._plan.after(window)
        if after is not None:
            latents = rendered.latents
            handed = {
                OVERLAP: latents[:, :, latents.shape[2] - after.pinned_latents :].contiguous().cpu(),
                FIRST: carry[FIRST] if carry else channel_statistics(latents).cpu(),
            }
        self._events.end_window(window)
        return handed

    def sample(self, window: Window, carry: Carry, end: torch.Tensor | None = None) -> torch.Tensor:
        """The window's latents ``[1, 128, window.latents, h, w]``, its pinned ones exactly as they went in.

        Args:
            end: ``[1, 128, f, h, w]`` that the window ends with.
        """
        device = comfy.model_management.intermediate_device()
        draft = Draft(
            window,
            video=torch.zeros(LTX_GRID.shape(window.length, *self._size), device=device),
            mask=torch.ones((1, 1, window.latents, 1, 1), device=device),
            conditioning={"frame_rate": float(self._plan.fps)},
        )
        items = self._items(window, carry, end)
        for item in items:
            item.place(draft)
        latents = self._sampled(draft).to(device)[:, :, : window.latents].clone()
        for item in items:
            latents = item.settle(draft, latents)
        return latents

    def _items(self, window: Window, carry: Carry, end: torch.Tensor | None) -> list[Item]:
        """What this window is given."""
        options, items = self._options, list[Item]()
        if carry and window.pinned > 0:
            items.append(Overlap(carry[OVERLAP], window.taken_over // LTX_STEP if options.blend else 0))
        else:
            items.append(Picture(self._reference, options.image_strength))
        if end is not None:
            items.append(Ending(end))
        items.append(Guides(self._shown_in(window), self._scale))
        if carry and options.adain:
            items.append(Colours(carry[FIRST], options.adain))
        return items

    def _shown_in(self, window: Window) -> list[Shown]:
        """The pictures that the video shall come to in the window's new part."""
        begin, end = window.start + window.pinned, window.start + window.length
        if not self._plan.hands_on(window):
            end -= window.cut  # what is there belongs to the next shot
        return [
            Shown(frame - window.start, latents, strength)
            for frame, latents, strength in self._guides
            if begin <= frame < end
        ]

    def _sampled(self, draft: Draft) -> torch.Tensor:
        """What the sampler makes of a window's video, its sound beside it ``[1, 128, f, h, w]``."""
        window, video = draft.window, draft.video
        sound = encode_sound(self._audio_vae, self._track, window, self._plan.fps, self._quiet).to(video)
        latents = NestedTensor((video, sound))
        masks = NestedTensor((draft.mask, torch.zeros((1, 1, 1, 1), device=video.device)))
        noise = self._noise.generate(window.number, latents)
        for drawn, stream in zip(streams_of(noise), (video, sound), strict=False):
            check_latents(drawn, stream.shape, "noise")
        sampled = streams_of(self._denoise(window, draft.conditioning, noise, latents, masks))[0]
        return check_latents(sampled, video.shape, "sampler", finite=False)

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        """Latents ``[1, 128, 1, h, w]`` of a picture that went through one frame of compressed video.

        In the order of ComfyUI's template video_ltx2_3_ia2v: compressed large, then scaled to the video's size.
        """
        image = image[..., :3]
        if self._options.compression:
            large = fit_image(image, *enlarged_size(*self._size, COMPRESSED_SIDE))
            image = LTXVPreprocess.execute(large, self._options.compression).result[0]
        return self._vae.encode(fit_image(image, *self._size))
