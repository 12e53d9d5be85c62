"""Everything that can be refused before a model is loaded, with the expected, the actual and the next action."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_base
import torch

from ..errors import LongTalkError

log = logging.getLogger(__name__)

TEXT_WIDTH = 4096
CLIP_VISION_WIDTH = 1280
LATENT_CHANNELS = 16
SIZE_STEP = 16
VAE_SPATIAL = 8
#: Input channels of an image-to-video model: noise, mask and image.
I2V_CHANNELS = 36


def check_model(model: Any) -> None:
    """The model must be WAN 2.1 image-to-video.

    Raises:
        LongTalkError
    """
    expected = "a WAN 2.1 image-to-video model (wan2.1_i2v_480p_14B or wan2.1_i2v_720p_14B)"
    action = "Load it with Load Diffusion Model (or a GGUF loader) and connect it to 'model'"
    inner = getattr(model, "model", None)
    if not isinstance(inner, comfy.model_base.WAN21):
        actual = "nothing" if model is None else type(inner if inner is not None else model).__name__
        raise LongTalkError("model", expected=expected, actual=actual, action=action)
    channels = inner.diffusion_model.patch_embedding.weight.shape[1]
    if channels != I2V_CHANNELS or type(inner) is not comfy.model_base.WAN21:
        raise LongTalkError(
            "model",
            expected=expected,
            actual=f"{type(inner).__name__} with {channels} input channels"
            + (" (text-to-video)" if channels == LATENT_CHANNELS else ""),
            action=action,
        )
    if model.model_options.get("context_handler") is not None:
        raise LongTalkError(
            "model",
            expected="a model without context windows",
            actual="one with a context window node applied",
            action="Remove the context windows node; LongTalk makes the windows itself",
        )


def check_vae(vae: Any) -> None:
    """The VAE must be WAN 2.1's: 16 channels, 8 times smaller.

    Raises:
        LongTalkError
    """
    channels = getattr(vae, "latent_channels", None)
    scale = vae.spacial_compression_encode() if channels is not None else None
    if channels != LATENT_CHANNELS or scale != VAE_SPATIAL or getattr(vae, "latent_dim", None) != 3:
        actual = "nothing" if vae is None else f"a VAE with {channels} channels and scale {scale}"
        if channels == 48:
            actual += " (that is wan2.2_vae)"
        raise LongTalkError(
            "vae",
            expected=f"the WAN 2.1 VAE ({LATENT_CHANNELS} channels, scale {VAE_SPATIAL})",
            actual=actual,
            action="Load wan_2.1_vae.safetensors with Load VAE",
        )


def check_text(conditioning: Any, name: str) -> None:
    """Text conditioning must come from umt5-xxl (4096 wide).

    Args:
        conditioning: CONDITIONING, or a guider's converted list of dictionaries.

    Raises:
        LongTalkError
    """
    action = "Load umt5_xxl with Load CLIP (type wan) and connect its CLIP Text Encode"
    expected = f"text conditioning {TEXT_WIDTH} wide, from umt5-xxl"
    if not conditioning:
        raise LongTalkError(name, expected=expected, actual="nothing", action=action)
    for entry in conditioning:
        text = entry.get("cross_attn") if isinstance(entry, dict) else entry[0]
        if text is not None and text.shape[-1] != TEXT_WIDTH:
            raise LongTalkError(name, expected=expected, actual=f"{text.shape[-1]} wide", action=action)


def check_clip_vision(output: Any, name: str = "clip_vision_output") -> None:
    """CLIP vision must be clip_vision_h (1280 wide). None is fine: the model also runs without.

    Raises:
        LongTalkError
    """
    if output is None:
        return
    hidden = getattr(output, "penultimate_hidden_states", None)
    if not isinstance(hidden, torch.Tensor) or hidden.shape[-1] != CLIP_VISION_WIDTH:
        actual = f"{hidden.shape[-1]} wide" if isinstance(hidden, torch.Tensor) else "no hidden states"
        raise LongTalkError(
            name,
            expected=f"hidden states {CLIP_VISION_WIDTH} wide, from clip_vision_h",
            actual=actual,
            action="Load clip_vision_h.safetensors with Load CLIP Vision",
        )


def check_image(image: Any, name: str = "image") -> torch.Tensor:
    """One reference image ``[1, H, W, 3]``, from an IMAGE of any batch and channel count.

    Raises:
        LongTalkError
    """
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or 0 in image.shape or image.shape[-1] < 3:
        actual = str(tuple(image.shape)) if isinstance(image, torch.Tensor) else type(image).__name__
        raise LongTalkError(
            name, expected="an image [1, H, W, 3]", actual=actual, action="Connect the output of Load Image"
        )
    if image.shape[0] > 1:
        raise LongTalkError(
            name,
            expected="one reference image",
            actual=f"a batch of {image.shape[0]}",
            action="Pick one with Get Image from Batch",
        )
    if not bool(torch.isfinite(image).all()):
        raise LongTalkError(
            name, expected="finite pixels", actual="NaN or infinite values", action="Check the node that made the image"
        )
    return image[..., :3]


def snapped_size(width: int, height: int) -> tuple[int, int, str | None]:
    """Width and height as multiples of 16, and a notice when they had to change.

    Raises:
        LongTalkError: smaller than 16.
    """
    snapped = tuple(max(1, round(size / SIZE_STEP)) * SIZE_STEP for size in (width, height))
    if min(width, height) < SIZE_STEP:
        raise LongTalkError(
            "size",
            expected=f"at least {SIZE_STEP}x{SIZE_STEP}",
            actual=f"{width}x{height}",
            action="Use 832x480, 480x832, 1280x720 or 720x1280",
        )
    if snapped == (width, height):
        return width, height, None
    notice = f"size {width}x{height} is not a multiple of {SIZE_STEP}: made {snapped[0]}x{snapped[1]}"
    log.warning(notice)
    return snapped[0], snapped[1], notice
