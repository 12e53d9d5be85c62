"""What can be refused of an LTX run before a model is loaded, with the expected, the actual and the next action."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.model_patcher
import torch
from comfy.ldm.lightricks.vae.audio_vae import AudioVAE

from ....base.errors import LongTalkError
from ....base.grid import LTX_GRID
from ....base.tensors import described, is_plain
from ..checks import check_no_context, guider_parts


def check_ltx_model(model: Any) -> None:
    """The model must be LTX-2's audio/video transformer.

    Raises:
        LongTalkError
    """
    inner = getattr(model, "model", None)
    if isinstance(inner, comfy.model_base.LTXAV) and isinstance(model, comfy.model_patcher.ModelPatcher):
        check_no_context(model)
        return
    actual = "nothing" if model is None else type(inner if inner is not None else model).__name__
    if type(inner) is comfy.model_base.LTXV:
        actual += " (LTX without sound)"
    raise LongTalkError(
        "model",
        expected="an LTX-2 or LTX-2.3 audio/video model",
        actual=actual,
        action="Load ltx-2.3 with Load Checkpoint or Load Diffusion Model; for WAN use Sampler (LongTalk)",
    )


def text_widths(model: Any) -> frozenset[int]:
    """The widths ``C`` of text that an LTX audio/video model takes: both streams of it, or one that it splits itself.

    As LTXAVModel.preprocess_text_embeds looks for them.
    """
    net = model.model.diffusion_model
    return frozenset(
        {net.cross_attention_dim + net.audio_cross_attention_dim, 2 * net.caption_channels, net.caption_channels}
    )


def check_ltx_text(conditioning: Any, name: str, model: Any) -> None:
    """Text conditioning: one text ``[1, L, C]`` per entry, as wide as the checked model takes.

    Args:
        conditioning: CONDITIONING, or a guider's converted list of dictionaries.

    Raises:
        LongTalkError
    """
    expected, action = "a prompt from LTX's text encoder", "Connect CLIP Text Encode with LTX's text encoder (Gemma)"
    if not isinstance(conditioning, (list, tuple)) or not conditioning:
        actual = "nothing" if isinstance(conditioning, (list, tuple)) else described(conditioning)
        raise LongTalkError(name, expected=expected, actual=actual, action=action)
    for entry in conditioning:
        text = entry.get("cross_attn") if isinstance(entry, dict) else entry[0] if isinstance(entry, list) else entry
        if not is_plain(text) or not text.is_floating_point() or text.ndim != 3 or text.shape[0] != 1:
            raise LongTalkError(name, expected=expected, actual=described(text), action=action)
        if text.shape[2] not in text_widths(model):
            widths = " or ".join(str(width) for width in sorted(text_widths(model)))
            raise LongTalkError(
                name, expected=f"{expected}, {widths} wide", actual=f"a text {text.shape[2]} wide", action=action
            )


def check_ltx_guider(guider: Any) -> None:
    """A GUIDER over an LTX audio/video model with prompts.

    Raises:
        LongTalkError
    """
    model, conds = guider_parts(guider)
    check_ltx_model(model)
    for name, entries in conds.items():
        check_ltx_text(entries, str(name), model)


def check_ltx_vae(vae: Any) -> None:
    """The VAE must be LTX's for video: 128 channels, 32 times smaller, 8 frames per latent.

    Raises:
        LongTalkError
    """
    found = getattr(vae, "latent_channels", None), getattr(vae, "downscale_index_formula", None)
    works = all(callable(getattr(vae, name, None)) for name in ("encode", "decode"))
    scales = (LTX_GRID.step, LTX_GRID.spatial, LTX_GRID.spatial)
    if works and found[0] == LTX_GRID.channels and tuple(found[1] or ()) == scales:
        return
    actual = "nothing" if vae is None else f"a VAE with {found[0]} channels" if works else described(vae)
    raise LongTalkError(
        "vae",
        expected=f"LTX's video VAE ({LTX_GRID.channels} channels, scale {LTX_GRID.spatial})",
        actual=actual,
        action="Take the VAE of Load Checkpoint, or load LTX's video VAE with Load VAE",
    )


def check_audio_vae(vae: Any) -> None:
    """The audio VAE must be LTX's.

    Raises:
        LongTalkError
    """
    if isinstance(getattr(vae, "first_stage_model", None), AudioVAE) and callable(getattr(vae, "encode", None)):
        return
    raise LongTalkError(
        "audio_vae",
        expected="LTX's audio VAE",
        actual="nothing" if vae is None else type(getattr(vae, "first_stage_model", vae)).__name__,
        action="Load it with Load LTXV Audio VAE",
    )


def check_keyframes(images: Any) -> torch.Tensor:
    """Pictures ``[B, H, W, 3 or 4]``, float.

    Raises:
        LongTalkError
    """
    plain = is_plain(images) and images.is_floating_point() and images.ndim == 4 and 0 not in images.shape
    if plain and images.shape[-1] in (3, 4):
        return images
    raise LongTalkError(
        "keyframe_images",
        expected="pictures [B, H, W, 3]",
        actual=described(images),
        action="Connect Load Image, or Batch Images for several",
    )
