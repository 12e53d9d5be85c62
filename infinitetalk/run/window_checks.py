"""Is a finished window a picture, and does it belong to the window before it?

Every number is taken from a lattice of pixels of the frame (about 96 x 96), so that a window costs milliseconds; only
NaN and infinity are looked for in every value. The thresholds were measured at 25 fps on a portrait (832x480), on 15 s
of a real person talking without a cut (458x458) and on the noise that untrained models draw; "talk" below is the
second. Where a comment says "levels", it means steps of 1/255. Whether a window jumps is decided in
:mod:`.window_stats`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from kornia.color import rgb_to_lab

from .window_stats import WindowStats

# ITU-R BT.709, applied to the encoded values: a weight for the eye, not a photometric measure.
_LUMA = (0.2126, 0.7152, 0.0722)

# Against all pixels, 96 points each way keep brightness within 0.003, contrast within 0.002 and the mean colour within
# 0.3 delta E (2.3 is just noticeable) on the portrait and talk; 32 or 48 points were off by up to 0.7 delta E.
_LATTICE = 96
# The mean colour of every 5th frame of talk differs from that of all frames by 0.02 delta E, and Lab is the dear part.
_COLOUR_FRAMES = 16

# Black: 5 levels. The portrait gets there when it is exposed 5.6 stops less, talk with 7.2; nothing can be made out
# then. What breaks writes 0 (NaN becomes 0 in 8 bits). Noise of untrained models has 0.39.
_BLACK = 0.02
# Flat: 2.5 levels. Grain of one level has 0.003; portrait and talk have 0.19 and 0.22, in fog that leaves a tenth of
# their contrast 0.019, behind a blur of 200 pixels 0.055, noise of untrained models 0.17.
_FLAT = 0.01
# Both must also be less than a tenth of the reference's own: a scene that is just above the limit may dim and clear
# (a fade, a lamp that leaves the picture) without being called broken for crossing it.
_SHARE_LEFT = 0.1

# A turn of the head or the camera that begins right at the boundary goes on in the frames after it; a seam does not.
# A pan of 3 % of the width per frame over 8 frames of a still shot: the boundary changes 28 times as much as the
# window's median, and as much as the median of the first three changes.
_OPENING_CHANGES = 3


@dataclass(frozen=True)
class Look:
    """What a picture or a video looks like.

    Attributes:
        lab: the mean CIE L*a*b* (D65); L 0..100, a and b about -128..127.
        brightness: the mean of all values, 0..1.
        contrast: the spatial standard deviation of luma, as the mean over the frames, 0..0.5.
    """

    lab: tuple[float, float, float]
    brightness: float
    contrast: float


def look_of(frames: torch.Tensor) -> Look:
    """Measure a picture or a video.

    Args:
        frames: float 0..1 ``[F, H, W, 3]``, RGB as shown (sRGB), on any device; what lies outside 0..1 is clamped.

    Raises:
        ValueError: the frames have another shape, are empty, or are no floating point numbers.
    """
    return _look_of_lattice(_lattice(frames))


def measure(frames: torch.Tensor, reference: Look, last_frame: torch.Tensor | None) -> WindowStats:
    """Measure the new frames of a window. Frames with NaN give NaN, never an exception.

    Args:
        frames: float 0..1 ``[F, H, W, 3]``, on any device.
        reference: the picture that the video shall look like.
        last_frame: uint8 ``[H, W, 3]``, the frame before ``frames[0]``, on any device; None in the first window.

    Raises:
        ValueError: what :func:`look_of` refuses; or the last frame has another size or type.
    """
    points = _lattice(frames)
    look = _look_of_lattice(points)
    boundary = None
    if last_frame is not None:
        if last_frame.dtype != torch.uint8 or last_frame.shape != frames.shape[1:]:
            expected, got = list(frames.shape[1:]), list(last_frame.shape)
            raise ValueError(f"last frame: expected uint8 {expected}, got {last_frame.dtype} {got}")
        before = _lattice(last_frame[None].to(torch.float32) / 255)[0]
        boundary = float((points[0] - before.to(points.device)).abs().mean())
    return WindowStats(
        brightness=look.brightness,
        contrast=look.contrast,
        drift=math.dist(look.lab, reference.lab),
        boundary_change=boundary,
        interior_change=_typical_change(points),
    )


def what_is_broken(latents: torch.Tensor, frames: torch.Tensor, stats: WindowStats, reference: Look) -> str | None:
    """Say in plain words why a window cannot be meant; None when it can.

    A dark or flat reference never makes the picture be called black or flat.

    Args:
        latents: what the sampler gave, float, any shape.
        frames: all frames of the window, float ``[F, H, W, 3]``; they are counted from 1.
        stats: of the window's new frames, from :func:`measure`.
        reference: the picture that the video shall look like.
    """
    if not _is_finite(latents):
        bad = int((~torch.isfinite(latents)).sum())
        return f"the model's latents have NaN or infinite values ({bad:,} of {latents.numel():,})"
    if not _is_finite(frames):
        places = [place for place, frame in enumerate(frames, start=1) if not _is_finite(frame)]
        if len(places) == 1:
            return f"frame {places[0]} of {len(frames)} has NaN or infinite values"
        return f"{len(places)} of {len(frames)} frames have NaN or infinite values, frame {places[0]} first"
    if _is_gone(stats.brightness, reference.brightness, _BLACK):
        return (
            f"the picture is black (mean brightness {stats.brightness:.3f}, "
            f"the reference image {reference.brightness:.2f})"
        )
    # Black after a reference that is itself black, but for a logo or the rim of a silhouette, may be meant.
    both_dark = max(stats.brightness, reference.brightness) < _BLACK
    if not both_dark and _is_gone(stats.contrast, reference.contrast, _FLAT):
        return (
            f"the picture is one flat colour (contrast {stats.contrast:.3f}, "
            f"the reference image {reference.contrast:.2f})"
        )
    return None


def _lattice(frames: torch.Tensor) -> torch.Tensor:
    """Every n-th pixel each way as float32 clamped to 0..1 (NaN stays), ``[F, h, w, 3]`` with h, w below 2 * 96 + 1.

    Points, not averages over blocks: averages would take the contrast out of fine noise and call it flat.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.numel() == 0 or not frames.is_floating_point():
        raise ValueError(f"frames: expected float [F, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    rows, columns = (_every_nth(size) for size in frames.shape[1:3])
    return frames[:, rows, columns].to(torch.float32).clamp(0, 1)


def _every_nth(size: int) -> slice:
    """The places along one side, centred. The step is odd: an even one would see only half of a pattern of period 2."""
    step = max(1, size // _LATTICE) | 1
    return slice((size - 1) % step // 2, None, step)


def _look_of_lattice(points: torch.Tensor) -> Look:
    few = points[:: math.ceil(len(points) / _COLOUR_FRAMES)]
    lab = rgb_to_lab(few.movedim(-1, 1)).mean(dim=(0, 2, 3))  # FHWC -> FCHW
    red, green, blue = points.unbind(-1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    lightness, a, b = lab.tolist()
    return Look(
        lab=(lightness, a, b),
        brightness=float(points.mean()),
        contrast=float(luma.flatten(1).std(dim=1, correction=0).mean()),
    )


def _typical_change(points: torch.Tensor) -> float | None:
    if len(points) < 2:
        return None
    changes = (points[1:] - points[:-1]).abs().mean(dim=(1, 2, 3))
    return float(torch.maximum(changes.median(), changes[:_OPENING_CHANGES].median()))


def _is_finite(values: torch.Tensor) -> bool:
    # Minimum and maximum carry NaN and infinity and take one pass without a copy: 16 ms for 345 MB on two cores, where
    # isfinite().all() takes 490 ms.
    if values.numel() == 0:
        return True
    return all(math.isfinite(float(end)) for end in torch.aminmax(values))


def _is_gone(value: float, reference: float, limit: float) -> bool:
    return value < limit <= reference and value < _SHARE_LEFT * reference
