"""Draws the colours of latents ``[B, C, F, H, W]`` towards those of others."""

from __future__ import annotations

import torch


def channel_statistics(latents: torch.Tensor) -> torch.Tensor:
    """The mean and the standard deviation of each channel over frames and places, float32 ``[2, B, C]``."""
    flat = latents.float().flatten(2)
    return torch.stack([flat.mean(2), flat.std(2)])


def towards_statistics(latents: torch.Tensor, target: torch.Tensor, strength: float) -> torch.Tensor:
    """Move the mean and the deviation of the latents' channels towards ``target``: AdaIN.

    x' = x + strength * ((x - mean) / std * target_std + target_mean - x); source: Huang and Belongie (2017), eq. 8.

    Args:
        latents: ``[B, C, F, H, W]``.
        target: what :func:`channel_statistics` found in other latents.
        strength: 0 leaves the latents as they are, 1 gives them the statistics of the target.
    """
    own = channel_statistics(latents)
    mean, std = (value.to(latents)[:, :, None, None, None] for value in own)
    target_mean, target_std = (value.to(latents)[:, :, None, None, None] for value in target)
    moved = (latents - mean) / std.clamp(min=1e-6) * target_std + target_mean
    return torch.lerp(latents, moved, strength)
