"""Pictures and masks in the shape of the video: cut to its proportions around the centre, scaled, rounded to bytes."""

from __future__ import annotations

import torch
from torch.nn import functional


def centre_crop(x: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """The largest part around the centre of ``[..., H, W]`` with the proportions of ``width`` to ``height``.

    As much goes on either side, as in ComfyUI's ``common_upscale``; at least one row and one column stay. Pictures and
    masks are cut by this one rule, so that masks stay over the faces.
    """
    rows, columns = x.shape[-2:]
    top = _surplus(rows, columns * height / width)
    left = _surplus(columns, rows * width / height)
    return x[..., top : rows - top, left : columns - left]


def _surplus(length: int, wanted: float) -> int:
    """What is cut off at each end so that about ``wanted`` of ``length`` stay."""
    return max(0, min(round((length - wanted) / 2), (length - 1) // 2))


def fit_image(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Cut and scale a picture ``[B, H, W, C]`` to ``[B, height, width, C]``.

    Bilinear, over as many pixels as one of the result covers (antialiased), as Pillow does it for the official
    InfiniteTalk code: a photograph that is scaled down without that flickers with the pixels that happen to be hit.
    """
    cut = centre_crop(image.movedim(-1, 1), width, height)
    if cut.shape[-2:] != (height, width):
        cut = functional.interpolate(cut, size=(height, width), mode="bilinear", antialias=True)
    return cut.movedim(1, -1)


def enlarged_size(width: int, height: int, longer: int) -> tuple[int, int]:
    """``(width, height)`` scaled up so that the longer side is ``longer``; as it is where that is reached already."""
    scale = max(1.0, longer / max(width, height))
    return round(width * scale), round(height * scale)


def rounded_to_bytes(values: torch.Tensor) -> torch.Tensor:
    """Float values of any shape, where 1 is white, as uint8 on the same device: round(clamp(x, 0, 1) * 255), halves up.

    Everything that turns a rendered picture into bytes calls this, so that a frame is the same wherever it is kept.
    """
    return values.to(torch.float32).clamp(0.0, 1.0).mul_(255.0).add_(0.5).to(torch.uint8)
