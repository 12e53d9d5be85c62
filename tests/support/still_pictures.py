"""Synthetic pictures and windows, good by construction, for what is measured of a window."""

from __future__ import annotations

import math

import torch

from longtalk.infinitetalk.run.window_checks import Look, look_of, measure
from longtalk.infinitetalk.run.window_stats import WindowStats

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
LATENTS = torch.zeros(1, 16, 2, 4, 4)
GOOD = WindowStats(brightness=0.4, contrast=0.2, drift=1.5, boundary_change=0.01, interior_change=0.005)
REFERENCE = Look(lab=(47.0, 7.0, 8.0), brightness=0.41, contrast=0.2)


def solid(*colour: float, frames: int = 1, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.float32).expand(frames, height, width, 3).clone()


def waves(positions: torch.Tensor, height: int = 48, width: int = 200) -> torch.Tensor:
    """A smooth picture that moves sideways: brightness is a sine over the width, shifted by shares of the width."""
    across = torch.arange(width) / width
    line = 0.5 + 0.4 * torch.sin(2 * math.pi * (across - positions[:, None]))
    return line[:, None, :, None].expand(-1, height, -1, 3).clone()


def detailed(height: int = 96, width: int = 200) -> torch.Tensor:
    """One picture ``[H, W, 3]`` with detail of a few pixels, as hair and cloth have."""
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(3))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return fine[0].movedim(0, -1)  # CHW -> HWC


def eight_bit(frame: torch.Tensor) -> torch.Tensor:
    return (frame * 255).round().to(torch.uint8)


def grain(frames: torch.Tensor, levels: float) -> torch.Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    return (frames + levels / 255 * noise).clamp(0, 1)


def after(still: torch.Tensor, frames: torch.Tensor) -> WindowStats:
    """Statistics of a window that follows the picture ``still`` and is compared with it."""
    return measure(frames, look_of(still[None]), eight_bit(still))
