"""WAN 2.1 + InfiniteTalk: how one window becomes frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP

from ....base.errors import LongTalkError
from ....base.grid import WAN_GRID
from ....base.pictures import centre_crop, fit_image
from ...attention.measured import Precision
from ...model.audio_projection import audio_context, silent_context
from ...model.gate import Gate
from ...model.speaker_map import token_masks
from ...plan.windows import Plan, Window
from ...run.loop import Carry, Rendered
from ..checks import check_latents
from ..events import RunEvents
from ..noise import WindowNoise
from ..prompts import WindowPrompts
from ..renderer import KEY, GuidedFamily
from ..vae import ClipVae
from .audio_patch import AudioPatch, PinnedLatents, SpeakerMapPatch
from .guider import needs_silence

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


class WanFamily(GuidedFamily):
    """Renders windows with WAN 2.1 image-to-video and an InfiniteTalk patch.

    One clone of the model carries all hooks for the whole run; each window only exchanges their tensors.

    Args:
        guider: GUIDER over a checked WAN model; it is copied, never changed.
        model_patch: checked InfiniteTalk patch.
        vae: WAN 2.1 VAE.
        image: reference ``[1, H, W, 3]``.
        clip_vision: CLIP vision output of the reference, or None.
        features: one ``[T, 12, 768]`` per speaker; mirrored past its end where the last window needs more.
        gates: one per speaker, where some of the features are to be silence; see :class:`~...model.gate.Gate`.
        masks: ``[speakers, H, W]`` in the reference image, or None for one speaker.
        names: what messages call the speakers; numbers from 1 where it is left out.
        noise: gives each window its noise and seed.
        sampler, sigmas: as in SamplerCustomAdvanced.
        audio_scale: strength of the audio cross-attention; 0 leaves the patch out altogether.
        attention: class of attention kernels, see :class:`~..attention.MeasuredAttention`; None leaves the choice to
            ComfyUI. A node's own attention on the model stays in any case.
        prompts: each window's own prompt, instead of the guider's positive; None leaves that.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        guider: Any,
        model_patch: Any,
        vae: Any,
        image: torch.Tensor,
        clip_vision: Any,
        features: Sequence[torch.Tensor],
        masks: torch.Tensor | None,
        width: int,
        height: int,
        noise: WindowNoise,
        sampler: Any,
        sigmas: torch.Tensor,
        audio_scale: float,
        events: RunEvents,
        attention: Precision | None = None,
        gates: Sequence[Gate] = (),
        names: Sequence[str] = (),
        prompts: WindowPrompts | None = None,
    ) -> None:
        super().__init__(
            guider=guider,
            vae=ClipVae(vae),
            noise=noise,
            sampler=sampler,
            sigmas=sigmas,
            events=events,
            attention=attention,
            prompts=prompts,
        )
        self._plan = plan
        self._features = features
        self._gates = gates
        self._patch = model_patch
        self._size = (width, height)
        self._motion_frames = plan.motion_frames
        longest = max(plan.windows, key=lambda window: window.length)

        model = self._model
        self._pinned = PinnedLatents()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, self._pinned)
        self._audio = AudioPatch(model_patch, audio_scale) if audio_scale != 0.0 else None
        if self._audio is not None:
            model.set_model_attn2_patch(self._audio)
            if masks is not None:
                model.set_model_attn1_patch(SpeakerMapPatch(self._token_masks(masks, names)))
        self._dtype = model.model.get_dtype_inference()
        if self._audio is not None and needs_silence(guider):
            silent = silent_context(
                model_patch.model.audio_proj, longest.latents, dtype=features[0].dtype, device=model.load_device
            )
            self._audio.silent = silent.to(self._dtype)

        self._reference = self._encode_reference(fit_image(image, width, height), longest.length)
        self._clip_vision = clip_vision

    def render(self, window: Window, carry: Carry) -> Rendered:
        """Sample and decode one window, see :class:`~...run.loop.Family`.

        What the next window continues from are the latents of this one's last ``motion_frames`` frames, as the VAE
        encodes them: exactly what it will be pinned to, in 1/36 of the frames' size.
        """
        self._events.start_window(window)
        latents = self.sample(window, carry)
        frames = self._vae.decode(latents)
        after: Carry = {}
        if self._plan.hands_on(window):
            after = {MOTION: self._vae.encode(frames[-self._motion_frames :]).cpu()}
        self._events.end_window(window)
        return Rendered(latents, frames, after)

    def sample(self, window: Window, carry: Carry) -> torch.Tensor:
        """The window's latents ``[1, 16, window.latents, h, w]``, its pinned ones exactly as they went in."""
        pinned = carry[MOTION] if carry else self._reference[:, :, :1]
        self._pinned.latents = self._model.model.process_latent_in(pinned)
        self._set_audio(window)
        self._set_conds(window)

        width, height = self._size
        empty = torch.zeros(
            [1, WAN_GRID.channels, window.latents, height // WAN_GRID.spatial, width // WAN_GRID.spatial],
            device=comfy.model_management.intermediate_device(),
        )
        noise = check_latents(self._noise.generate(window.index, empty), empty.shape, "noise")
        samples = self._denoise(window, noise, empty)
        samples = check_latents(samples, empty.shape, "sampler", finite=False).to(empty.device)
        return torch.cat([pinned.to(samples), samples[:, :, pinned.shape[2] :]], dim=2)

    def _set_audio(self, window: Window) -> None:
        if self._audio is None:
            return
        projection = self._patch.model.audio_proj
        device = self._model.load_device
        heard = audio_context(projection, self._features, *window.audio, gates=self._gates, device=device)
        self._audio.heard = heard.to(self._dtype)

    def _set_conds(self, window: Window) -> None:
        """The window's prompts, each with the reference image: latents, mask (0 = given) and CLIP vision."""
        reference = self._reference[:, :, : window.latents]
        mask = torch.ones((1, 1, *reference.shape[2:]), device=reference.device, dtype=reference.dtype)
        mask[:, :, :1] = 0.0
        given = {"concat_latent_image": reference, "concat_mask": mask}
        if self._clip_vision is not None:
            given["clip_vision_output"] = self._clip_vision
        self._give(window, given)

    def _encode_reference(self, image: torch.Tensor, frames: int) -> torch.Tensor:
        """Latents of the reference followed by grey, for the longest window's ``frames``.

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
                raise LongTalkError(
                    f"mask of {names[index] if names else f'speaker {index + 1}'}",
                    expected=f"a speaker inside the {width}x{height} picture, {step} pixels across or more",
                    actual="nothing left of the mask after cropping the reference image to that shape",
                    action="Crop the reference image to the video's shape first, or paint a larger mask",
                )
        return grid
