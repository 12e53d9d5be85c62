"""Small operations on video latents ``[B, C, F, H, W]``."""

from __future__ import annotations

import math

import torch


def raised_cosine(count: int) -> torch.Tensor:
    """Weights ``[count]`` of what comes, rising from near 0 to near 1; one minus them is what goes.

    w_j = (1 - cos(pi * (j + 1) / (count + 1))) / 2, so neither end is 0 or 1 and all count.
    """
    steps = torch.arange(1, count + 1) / (count + 1)
    return (1 - torch.cos(math.pi * steps)) / 2


def crossfade(before: torch.Tensor, after: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """``(1 - w) * before + w * after`` over two latents of the same ``F`` frames, ``weights`` ``[F]``."""
    rising = weights.to(after).view(1, 1, -1, 1, 1)
    return torch.lerp(before.to(after), after, rising.expand_as(after))


def channel_statistics(latents: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of each channel over frames and places, ``[2, B, C]``, float32."""
    flat = latents.float().flatten(2)
    return torch.stack([flat.mean(2), flat.std(2)])


def towards_statistics(latents: torch.Tensor, target: torch.Tensor, strength: float) -> torch.Tensor:
    """Latents whose channels' mean and deviation are moved towards ``target``: AdaIN.

    x' = x + strength * ((x - mean) / std * target_std + target_mean - x); source: Huang and Belongie (2017), eq. 8.

    Args:
        latents: ``[B, C, F, H, W]``.
        target: of :func:`channel_statistics`.
        strength: 0 leaves them, 1 gives them the target's.
    """
    own = channel_statistics(latents)
    mean, std = (value.to(latents)[:, :, None, None, None] for value in own)
    target_mean, target_std = (value.to(latents)[:, :, None, None, None] for value in target)
    moved = (latents - mean) / std.clamp(min=1e-6) * target_std + target_mean
    return torch.lerp(latents, moved, strength)
