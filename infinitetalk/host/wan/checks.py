"""What can be refused of a WAN run before a model is loaded, with the expected, the actual and the next action."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.model_patcher

from ....base.errors import ModelError
from ....base.grid import WAN_GRID
from ..checks import check_no_context, guider_parts
from .conditioning import check_text

#: Input channels of an image-to-video model: noise, mask and image.
I2V_CHANNELS = 36


def check_model(model: Any) -> None:
    """The model must be WAN 2.1 image-to-video.

    Raises:
        LongTalkError
    """
    inner = getattr(model, "model", None)
    found = _other_model(model, inner)
    if found is not None:
        raise ModelError(
            "model",
            expected="a WAN 2.1 image-to-video model (wan2.1_i2v_480p_14B or wan2.1_i2v_720p_14B)",
            actual=found,
            action="Load it with Load Diffusion Model (or a GGUF loader) and connect it to 'model'",
        )
    check_no_context(model)


def _other_model(model: Any, inner: Any) -> str | None:
    """What a MODEL is, in the words of its users, if it is not WAN 2.1 image-to-video.

    ComfyUI has one class for WAN 2.1 and for the 14B models of WAN 2.2. Those of 2.2 have no image embedding: their
    picture comes through the latents alone, and InfiniteTalk's layers were never trained on them.
    """
    if model is None:
        return "nothing"
    if not isinstance(inner, comfy.model_base.WAN21) or not isinstance(model, comfy.model_patcher.ModelPatcher):
        return type(inner if inner is not None else model).__name__
    net = inner.diffusion_model
    channels = net.patch_embedding.weight.shape[1]
    if isinstance(inner, comfy.model_base.WAN22):
        return "WAN 2.2 5B (wan2.2_ti2v_5B)"
    if type(inner) is comfy.model_base.WAN21 and getattr(net, "img_emb", None) is None:
        if channels == I2V_CHANNELS:
            return "WAN 2.2 image-to-video 14B, the high or the low noise model (it has no image embedding)"
        if channels == WAN_GRID.channels:
            return "WAN text-to-video (wan2.1_t2v, or wan2.2_t2v's high or low noise model)"
    if channels != I2V_CHANNELS or type(inner) is not comfy.model_base.WAN21:
        return f"{type(inner).__name__} with {channels} input channels"
    return None


def check_vae(vae: Any) -> None:
    """The VAE must be WAN 2.1's: 16 channels, 8 times smaller.

    Raises:
        LongTalkError
    """
    channels = getattr(vae, "latent_channels", None)
    compression = getattr(vae, "spacial_compression_encode", None)
    scale = compression() if callable(compression) and not isinstance(vae, type) else None
    found = channels, scale, getattr(vae, "latent_dim", None)
    works = all(callable(getattr(vae, name, None)) for name in ("encode", "decode"))
    if found != (WAN_GRID.channels, WAN_GRID.spatial, 3) or not works:
        actual = f"a VAE with {channels} channels and scale {scale}"
        if channels is None:
            actual = "nothing" if vae is None else f"a {type(vae).__name__}"
        if channels == 48:
            actual += " (that is wan2.2_vae)"
        raise ModelError(
            "vae",
            expected=f"the WAN 2.1 VAE ({WAN_GRID.channels} channels, scale {WAN_GRID.spatial})",
            actual=actual,
            action="Load wan_2.1_vae.safetensors with Load VAE",
        )


def check_guider(guider: Any) -> None:
    """A GUIDER over a WAN model with prompts that fit it.

    Raises:
        LongTalkError
    """
    model, conds = guider_parts(guider)
    check_model(model)
    for name, entries in conds.items():
        check_text(entries, str(name))
