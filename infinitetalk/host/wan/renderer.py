"""WAN 2.1 + InfiniteTalk: how one window becomes frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP

from ....base.errors import PictureError
from ....base.grid import WAN_GRID
from ....base.pictures import centre_crop
from ...model.audio_projection import audio_context, silent_context
from ...model.speaker_map import token_masks
from ...plan.windows import Plan, Window
from ...run.loop import Carry, Rendered
from ..checks import check_latents
from ..events import RunEvents
from ..noise import WindowNoise
from ..renderer import KEY, GuidedRenderer
from ..vae import VideoVae
from .audio_patch import AudioPatch, PinnedLatents, SpeakerMapPatch
from .guider import needs_silence

if TYPE_CHECKING:
    from .run import WanRun

#: What the frames behind the reference are filled with: zero after the VAE's normalisation.
GREY = 0.5
#: Picture tokens are 2x2 latents.
PATCH = 2
MOTION = "motion"


def fits(carry: Carry, plan: Plan, width: int, height: int) -> bool:
    """Whether tensors read from a file are what a later window of this plan continues from."""
    motion = carry.get(MOTION)
    shape = (1, WAN_GRID.channels, plan.carried_latents, height // WAN_GRID.spatial, width // WAN_GRID.spatial)
    return motion is not None and motion.shape == shape and motion.is_floating_point()


class WanRenderer(GuidedRenderer):
    """Renders windows with WAN 2.1 image-to-video and an InfiniteTalk patch, see :class:`~...run.loop.Renderer`.

    One clone of the model carries all hooks for the whole run; each window only exchanges their tensors.

    Args:
        run: checked.
        noise: gives each window its noise and seed.
        events: of the run.
    """

    def __init__(self, run: WanRun, noise: WindowNoise, events: RunEvents) -> None:
        super().__init__(run, VideoVae(run.vae, WAN_GRID), noise, events)
        self._speech = run.heard
        self._patch = run.model_patch
        longest = max(run.plan.windows, key=lambda window: window.length)

        model = self._model
        self._pinned = PinnedLatents()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, self._pinned)
        self._audio = AudioPatch(run.model_patch, run.audio_scale) if run.audio_scale != 0.0 else None
        if self._audio is not None:
            model.set_model_attn2_patch(self._audio)
            masks = self._speech.speakers.masks
            if masks is not None:
                model.set_model_attn1_patch(SpeakerMapPatch(self._token_masks(masks, self._speech.speakers.names)))
        self._dtype = model.model.get_dtype_inference()
        if self._audio is not None and needs_silence(run.guider):
            silent = silent_context(
                run.model_patch.model.audio_proj,
                longest.latents,
                dtype=self._speech.features[0].dtype,
                device=model.load_device,
            )
            self._audio.silent = silent.to(self._dtype)

        self._reference = self._encode_reference(run.picture, longest.length)
        self._clip_vision = run.clip_vision

    def render(self, window: Window, carry: Carry) -> Rendered:
        """Sample and decode one window."""
        self._events.start_window(window)
        latents = self.sample(window, carry)
        return Rendered(latents, self._vae.decode(latents))

    def hand_on(self, window: Window, carry: Carry, rendered: Rendered) -> Carry:
        """The latents of the window's last ``motion_frames`` frames, as the VAE encodes them.

        They are exactly what the next window will be pinned to, in 1/36 of the frames' size.
        """
        after: Carry = {}
        if self._plan.hands_on(window):
            after = {MOTION: self._vae.encode(rendered.frames[-self._plan.motion_frames :]).cpu()}
        self._events.end_window(window)
        return after

    def sample(self, window: Window, carry: Carry) -> torch.Tensor:
        """The window's latents ``[1, 16, window.latents, h, w]``, its pinned ones exactly as they went in."""
        pinned = carry[MOTION] if carry else self._reference[:, :, :1]
        self._pinned.latents = self._model.model.process_latent_in(pinned)
        self._set_audio(window)

        shape = WAN_GRID.shape(window.length, *self._size)
        empty = torch.zeros(shape, device=comfy.model_management.intermediate_device())
        noise = check_latents(self._noise.generate(window.number, empty), empty.shape, "noise")
        samples = self._denoise(window, self._given(window), noise, empty)
        samples = check_latents(samples, empty.shape, "sampler", finite=False).to(empty.device)
        return torch.cat([pinned.to(samples), samples[:, :, pinned.shape[2] :]], dim=2)

    def _set_audio(self, window: Window) -> None:
        if self._audio is None:
            return
        projection = self._patch.model.audio_proj
        device = self._model.load_device
        speech = self._speech
        heard = audio_context(projection, speech.features, *window.audio, gates=speech.gates, device=device)
        self._audio.heard = heard.to(self._dtype)

    def _given(self, window: Window) -> dict[str, Any]:
        """What is added to each of the window's prompts: the reference as latents, mask (0 = given) and CLIP vision."""
        reference = self._reference[:, :, : window.latents]
        mask = torch.ones((1, 1, *reference.shape[2:]), device=reference.device, dtype=reference.dtype)
        mask[:, :, :1] = 0.0
        given: dict[str, Any] = {"concat_latent_image": reference, "concat_mask": mask}
        if self._clip_vision is not None:
            given["clip_vision_output"] = self._clip_vision
        return given

    def _encode_reference(self, image: torch.Tensor, frames: int) -> torch.Tensor:
        """Latents of the reference ``[1, H, W, 3]`` followed by grey, for the longest window's ``frames``.

        The VAE is causal: a shorter window's latents are the first of these.
        """
        picture = torch.full((frames, *image.shape[1:]), GREY, device=image.device, dtype=image.dtype)
        picture[:1] = image
        return self._vae.encode(picture)

    def _token_masks(self, masks: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        width, height = self._size
        step = WAN_GRID.spatial * PATCH
        grid = token_masks(centre_crop(masks, width, height), height // step, width // step)
        for index, speaker in enumerate(grid[:-1]):
            if not bool(speaker.any()):
                raise PictureError(
                    f"mask of {names[index]}",
                    expected=f"a speaker inside the {width}x{height} picture, {step} pixels across or more",
                    actual="nothing left of the mask after cropping the reference image to that shape",
                    action="Crop the reference image to the video's shape first, or paint a larger mask",
                )
        return grid
