"""Everything that can be refused before a model is loaded, with the expected, the actual and the next action."""

from __future__ import annotations

import logging
from typing import Any

import torch

from ...base.errors import LinkError, ModelError, PictureError, ResultError, SettingError
from ...base.tensors import described, is_finite, is_plain
from ...base.values import as_whole, shown
from ..run.seeds import SEED_LIMIT

log = logging.getLogger(__name__)

SIZE_STEP = 16
SIZE_MAX = 4096
#: As many steps as the widget of the sampler allows.
STEPS_MAX = 10_000
#: WAN is a flow model: a sigma is the share of noise, 1 at most. Nodes that scale a schedule pass it a little; those of
#: other model families begin at 14 or 80.
SIGMA_MAX = 2.0
#: Pixels are 0 to 1, and interpolation overshoots a little.
PIXELS = (-1.0, 2.0)


def check_no_context(model: Any) -> None:
    """Refuse a model that a node gave ComfyUI's own context windows.

    Raises:
        LongTalkError
    """
    if model.model_options.get("context_handler") is not None:
        raise ModelError(
            "model",
            expected="a model without context windows",
            actual="one with a context window node applied",
            action="Remove the context windows node; LongTalk makes the windows itself",
        )


def check_image(image: Any, name: str = "image") -> torch.Tensor:
    """One reference image, float32 ``[1, H, W, 3]``, from an IMAGE of any batch and with or without transparency.

    Raises:
        LongTalkError
    """
    good = is_plain(image) and image.is_floating_point() and image.ndim == 4 and 0 not in image.shape
    if not good or image.shape[-1] not in (3, 4):
        actual = str(tuple(image.shape)) if good else type(image).__name__ if image is None else described(image)
        raise PictureError(
            name, expected="an image [1, H, W, 3]", actual=actual, action="Connect the output of Load Image"
        )
    if image.shape[0] > 1:
        raise PictureError(
            name,
            expected="one reference image",
            actual=f"a batch of {image.shape[0]}",
            action="Pick one with Get Image from Batch",
        )
    image = image[..., :3].float()
    if not is_finite(image):
        raise PictureError(
            name, expected="finite pixels", actual="NaN or infinite values", action="Check the node that made the image"
        )
    low, high = (float(value) for value in image.aminmax())
    if low < PIXELS[0] or high > PIXELS[1]:
        raise PictureError(
            name,
            expected="pixels from 0 to 1",
            actual=f"values from {low:g} to {high:g}",
            action="Scale them (an image of 0 to 255 divided by 255), or clamp an HDR image",
        )
    return image


def snapped_size(
    width: int, height: int, step: int = SIZE_STEP, examples: str = "832x480, 480x832, 1280x720 or 720x1280"
) -> tuple[int, int, str | None]:
    """Width and height as multiples of ``step``, and a notice when they had to change.

    Raises:
        LongTalkError: no whole numbers, smaller than the step, larger than 4096.
    """
    sides = [as_whole(side) for side in (width, height)]
    found = [side for side in sides if side is not None and step <= side <= SIZE_MAX]
    if len(found) < 2:
        raise SettingError(
            "size",
            expected=f"whole numbers from {step}x{step} to {SIZE_MAX}x{SIZE_MAX}",
            actual=f"{shown(width)}x{shown(height)}",
            action=f"Use {examples}",
        )
    snapped = [round(side / step) * step for side in found]
    if snapped == found:
        return found[0], found[1], None
    notice = f"size {found[0]}x{found[1]} is not a multiple of {step}: made {snapped[0]}x{snapped[1]}"
    log.warning(notice)
    return snapped[0], snapped[1], notice


def check_sigmas(sigmas: Any) -> torch.Tensor:
    """A noise schedule that falls, as float32 ``[steps + 1]``.

    Raises:
        LongTalkError: not a schedule, no step, too many, rising, of another model family, or ending in pure noise.
    """
    if not is_plain(sigmas) or not sigmas.is_floating_point() or sigmas.ndim != 1:
        raise LinkError(
            "sigmas",
            expected="a list of sigmas",
            actual=described(sigmas),
            action="Connect a scheduler node (BasicScheduler) with the same model",
        )
    steps = max(0, sigmas.numel() - 1)
    if not 1 <= steps <= STEPS_MAX:
        raise SettingError(
            "sigmas",
            expected="at least one step" if steps < 1 else f"at most {STEPS_MAX} steps",
            actual=f"{steps} steps",
            action="Raise the steps, or denoise above 0" if steps < 1 else "Lower the steps",
        )
    sigmas = sigmas.float()
    first, last = float(sigmas[0]), float(sigmas[-1])
    if not is_finite(sigmas) or bool((sigmas < 0).any()) or first > SIGMA_MAX:
        raise LinkError(
            "sigmas",
            expected="shares of noise from 1 (nothing but noise) down to 0, as WAN takes them",
            actual=f"values such as {float(sigmas.min()):g} and {float(sigmas.max()):g}",
            action="Choose another scheduler or more steps, and connect the same model to its node",
        )
    if bool((sigmas.diff() > 0).any()) or not last < min(first, 1.0):
        raise LinkError(
            "sigmas",
            expected="a falling schedule that ends below 1",
            actual=f"one from {first:g} to {last:g} that rises or never falls",
            action="Connect a scheduler node, and remove nodes that flip the sigmas",
        )
    return sigmas


def check_sampler(sampler: Any) -> None:
    """A SAMPLER: something that samples.

    Raises:
        LongTalkError
    """
    works = callable(getattr(sampler, "sample", None)) and not isinstance(sampler, type)
    options = getattr(sampler, "extra_options", {})
    if not works or not callable(getattr(sampler, "sampler_function", callable)) or not isinstance(options, dict):
        raise LinkError(
            "sampler",
            expected="a SAMPLER",
            actual=described(sampler),
            action="Connect KSamplerSelect or another sampler node",
        )


def check_noise(noise: Any) -> None:
    """A NOISE: something that makes noise, with a whole number as its seed if it has one.

    Raises:
        LongTalkError
    """
    seed = getattr(noise, "seed", None)
    works = callable(getattr(noise, "generate_noise", None)) and not isinstance(noise, type)
    whole = int(seed) if isinstance(seed, bool) else as_whole(seed)
    if not works or not (seed is None or (whole is not None and -(2**63) <= whole < SEED_LIMIT)):
        raise LinkError(
            "noise",
            expected="a NOISE, with a whole number of 64 bits as its seed",
            actual=f"one with the seed {shown(seed)}" if works else described(noise),
            action="Connect RandomNoise",
        )


def check_latents(latents: Any, shape: tuple[int, ...], name: str, *, finite: bool = True) -> torch.Tensor:
    """What a NOISE or a SAMPLER gives back: floats of the window's shape.

    Args:
        finite: refuse NaN and infinity, too. Not for what a model computed: that is tried again in other ways first.

    Raises:
        LongTalkError
    """
    if not is_plain(latents) or not latents.is_floating_point() or tuple(latents.shape) != tuple(shape):
        raise ResultError(
            name,
            expected=f"float values of shape {list(shape)} from it",
            actual=described(latents),
            action=f"Connect another node to '{name}'; this one was made for pictures or for another model",
        )
    if finite and not is_finite(latents):
        raise ResultError(
            name,
            expected="finite values from it",
            actual="NaN or infinity",
            action=f"Connect another node to '{name}', or change its settings",
        )
    return latents


def guider_parts(guider: Any) -> tuple[Any, dict[str, Any]]:
    """The model and the named prompts of a GUIDER.

    Raises:
        LongTalkError: it is none, or has no positive prompt.
    """
    conds = getattr(guider, "original_conds", None)
    works = callable(getattr(guider, "sample", None)) and not isinstance(guider, type)
    if not works or not isinstance(conds, dict) or "positive" not in conds or not hasattr(guider, "model_options"):
        raise LinkError(
            "guider",
            expected="a GUIDER with its prompts",
            actual=described(guider),
            action="Connect Audio Guider (LongTalk), CFGGuider or BasicGuider",
        )
    return getattr(guider, "model_patcher", None), conds
