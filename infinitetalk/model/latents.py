"""What a loop does with the latents of its windows: take the end, pin it to a start, drop the start, blend two.

LATENT is ComfyUI's dictionary with ``samples`` ``[B, C, F, H, W]``. Whatever else it carries stays behind. Above all
the ``noise_mask``: it says which latents of *its* pass were given. The next pass would hold latents fixed that are to
be made, or the other way round; lips then move seconds early or late, and no error says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch

from ...base.errors import PictureError, SettingError
from ...base.tensors import described, is_plain
from ...base.values import check_choice, check_number, check_whole

Latent = dict[str, Any]

LATENTS_MAX = 100_000
"""The most latents that a widget asks for: over eight hours at 25 frames per second."""


class Curve(str, Enum):
    """The curve on which a cross-fade goes from the first latents to the second."""

    COSINE = "cosine"
    """A raised cosine, which is level at both ends."""
    LINEAR = "linear"


def video_of(latent: object, name: str = "latent") -> torch.Tensor:
    """The video latents ``[B, C, F, H, W]`` of a LATENT; of a joint audio and video latent, the video.

    Raises:
        LongTalkError: it is no LATENT, or not one of a video.
    """
    samples = latent.get("samples") if isinstance(latent, Mapping) else latent
    if getattr(samples, "is_nested", False) and not isinstance(samples, torch.Tensor):
        streams = samples.unbind()  # type: ignore[union-attr]
        samples = streams[0] if len(streams) else None
    if not isinstance(latent, Mapping) or not is_plain(samples) or samples.ndim != 5 or 0 in samples.shape:
        raise PictureError(
            name,
            expected="video latents [batch, channels, frames, height, width]",
            actual=described(samples),
            action="Connect the LATENT of a video model, from its sampler for example",
        )
    return samples


def context(latent: object, count: int) -> Latent:
    """The last ``count`` latents, for the next window to start from.

    Returns:
        A LATENT ``[B, C, count, H, W]`` with a copy of the samples and nothing else.

    Raises:
        LongTalkError: there are fewer latents than that, or they are not of a video.
    """
    samples = video_of(latent)
    frames = samples.shape[2]
    count = _within(count, 1, frames, frames, "Take fewer, or connect the latents of a whole window")
    return {"samples": samples[:, :, frames - count :].clone()}


def trim(latent: object, count: int) -> Latent:
    """All but the first ``count`` latents: what a window adds to those it took over.

    Returns:
        A LATENT ``[B, C, F - count, H, W]`` with a copy of the samples and nothing else. With 0, all latents.

    Raises:
        LongTalkError: nothing would be left, or the latents are not of a video.
    """
    samples = video_of(latent)
    frames = samples.shape[2]
    count = _within(count, 0, frames - 1, frames, "Drop only the overlap; the window has to be longer than it")
    return {"samples": samples[:, :, count:].clone()}


def pin(latent: object, given: object, count: int, strength: float = 1.0) -> Latent:
    """A window's latents with those of ``given`` at their start, held there by the noise mask.

    The mask is the one that sampling this window needs: what ``latent`` brings along for the rest of it stays, above
    all of guides; that of ``given`` is of another pass and never looked at.

    Args:
        latent: the window that is to be sampled, ``[B, C, F, H, W]``: empty, or with the picture in it.
        given: ``count`` latents ``[B, C, count, H, W]``; not looked at where ``count`` is 0.
        count: latents that are pinned; 0 leaves ``latent`` as it is, for the first window.
        strength: 1 holds the pinned latents, 0 lets them be made anew.

    Returns:
        A LATENT like ``latent``, with a ``noise_mask`` ``[B or 1, 1, F, H or 1, W or 1]`` where something is pinned.

    Raises:
        LongTalkError: other sizes, nothing left to be made, no video latents or a joint one, a mask of another form.
    """
    strength = check_number(strength, "strength", 0.0, 1.0)
    samples = video_of(latent)
    assert isinstance(latent, Mapping)
    if latent["samples"] is not samples:
        raise PictureError(
            "latent",
            expected="the latents of a video alone",
            actual="a joint audio and video latent",
            action="Pin before LTXVConcatAVLatent",
        )
    frames = samples.shape[2]
    count = _within(count, 0, frames - 1, frames, "Pin only the overlap; the window has to be longer than it")
    if not count:
        return dict(latent)
    held = video_of(given, "given")
    wanted = (*samples.shape[:2], count, *samples.shape[3:])
    if held.shape != wanted:
        raise PictureError(
            "given",
            expected=f"{count} latents of the window's size, {list(wanted)}",
            actual=described(held),
            action="Connect Latent Context with overlap_latents of Loop Controller, at one size for all windows",
        )
    samples = samples.clone()
    samples[:, :, :count] = held.to(samples)
    mask = _mask_of(latent, samples)
    mask[:, :, :count] = 1.0 - strength
    return {**latent, "samples": samples, "noise_mask": mask}


def crossfade(first: object, second: object, count: int, curve: Curve | str = Curve.COSINE) -> Latent:
    """Both latents joined, the last ``count`` of the first blended into the first ``count`` of the second.

    Latent k of the overlap is ``(1 - w) * first + w * second`` with ``w`` from :func:`rising`. Where both are equal the
    result is exactly what they are.

    Returns:
        A LATENT ``[B, C, F1 + F2 - count, H, W]`` of the first one's kind and device. With 0, one after the other.

    Raises:
        LongTalkError: an overlap longer than either, other sizes, no video latents, or an unknown curve.
    """
    before, after = video_of(first, "first"), video_of(second, "second")
    if before.shape[:2] + before.shape[3:] != after.shape[:2] + after.shape[3:]:
        raise PictureError(
            "second",
            expected=f"latents of the same batch, channels, height and width as 'first', {described(before)}",
            actual=described(after),
            action="Sample both windows at one size",
        )
    frames = min(before.shape[2], after.shape[2])
    count = _within(count, 0, frames, frames, "Use the overlap with which the second window was made")
    after = after.to(before)
    split = before.shape[2] - count
    blend = blended(before[:, :, split:], after[:, :, :count], rising(count, curve))
    return {"samples": torch.cat([before[:, :, :split], blend, after[:, :, count:]], dim=2)}


def blended(before: torch.Tensor, after: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """``(1 - w) * before + w * after`` over latents ``[B, C, F, H, W]``, w = ``shares`` ``[F]``, of the first kind."""
    weights = shares.to(before.device)[:, None, None]  # [F, 1, 1], over H and W
    # Not as written above, which rounds: two equal values would not stay what they are.
    return torch.lerp(before.float(), after.to(before.device).float(), weights).to(before.dtype)


def rising(count: int, curve: Curve | str = Curve.COSINE) -> torch.Tensor:
    """The second latents' share at each of ``count`` places of an overlap, float32 ``[count]``.

    It rises from above 0 to below 1, so that no place is spent on one side alone, and read backwards it is the first
    latents' share.

    Raises:
        LongTalkError: an unknown curve.
    """
    kind = Curve(check_choice(curve, "curve", [known.value for known in Curve]))
    places = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    share = places if kind is Curve.LINEAR else (1 - torch.cos(math.pi * places)) / 2
    return share.float()


def _mask_of(latent: Mapping[str, Any], samples: torch.Tensor) -> torch.Tensor:
    """A copy of a LATENT's own noise mask, with at least one value per latent; ones where it has no mask."""
    batch, _, frames, height, width = samples.shape
    mask = latent.get("noise_mask")
    if mask is None:
        return torch.ones((1, 1, frames, 1, 1), device=samples.device)
    fits = is_plain(mask) and mask.ndim == 5 and mask.shape[1:3] == (1, frames)
    if not fits or mask.shape[0] not in (1, batch) or mask.shape[3:] not in ((1, 1), (height, width)):
        raise PictureError(
            "latent",
            expected=f"no noise mask, or one with a value for each latent, [1, 1, {frames}, 1, 1]",
            actual=described(mask),
            action="Connect EmptyLTXVLatentVideo or LTXVImgToVideoInplace, not the latent of an earlier window",
        )
    return mask.to(torch.float32, copy=True)


def _within(count: object, lowest: int, highest: int, frames: int, action: str) -> int:
    """The value as a count of latents, which must not be larger than the number that is there."""
    found = check_whole(count, "latents", 0, LATENTS_MAX)
    if not lowest <= found <= highest:
        raise SettingError(
            "latents",
            expected=f"{lowest} to {highest}, as there are {frames}",
            actual=str(found),
            action=action,
        )
    return found
