"""What can be refused of an LTX run before a model is loaded, with the expected, the actual and the next action."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.model_patcher
import torch
from comfy.ldm.lightricks.vae.audio_vae import AudioVAE

from ....base.errors import ModelError, PictureError
from ....base.grid import LTX_GRID
from ....base.tensors import described, is_plain
from ..checks import check_no_context, guider_parts
from ..conditioning import Prompts


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
    raise ModelError(
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
    """Prompts as wide as the checked model takes, without masks; see :meth:`Prompts.check`.

    A mask cannot hold for a part of the picture: ComfyUI samples picture and sound as one row of numbers.

    Raises:
        LongTalkError
    """
    widths = text_widths(model)
    Prompts(
        expected=f"a prompt from LTX's text encoder, {' or '.join(map(str, sorted(widths)))} wide",
        widths=widths,
        load="Connect CLIP Text Encode with LTX's text encoder (Gemma)",
        reload="Load LTX's text encoder (Gemma) in another precision, or its file again",
        refused=frozenset({"mask"}),
    ).check(conditioning, name)


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
    raise ModelError(
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
    raise ModelError(
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
    raise PictureError(
        "keyframe_images",
        expected="pictures [B, H, W, 3]",
        actual=described(images),
        action="Connect Load Image, or Batch Images for several",
    )
