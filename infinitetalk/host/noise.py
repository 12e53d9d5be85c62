"""A seed per window, for seeds and for any NOISE object."""

from __future__ import annotations

import copy
import logging
from typing import Any

import comfy.sample
import torch

log = logging.getLogger(__name__)

SEED_LIMIT = 2**64


class SeedNoise:
    """The noise of KSampler's seed widget, as a NOISE object."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        out: torch.Tensor = comfy.sample.prepare_noise(latent["samples"], self.seed)
        return out


def _reseed(noise: Any, offset: int, seen: set[int]) -> bool:
    """Add ``offset`` to every seed in a NOISE object and the NOISE objects inside it; whether there was one."""
    if id(noise) in seen:
        return False
    seen.add(id(noise))
    found = False
    for name, value in list(getattr(noise, "__dict__", {}).items()):
        if isinstance(value, int) and not isinstance(value, bool) and "seed" in name.lower():
            setattr(noise, name, (value + offset) % SEED_LIMIT)
            found = True
        elif hasattr(value, "generate_noise"):
            found = _reseed(value, offset, seen) or found
    return found


def _shuffled(noise: torch.Tensor, window: int) -> torch.Tensor:
    """The same values at other places: another noise of exactly the same distribution."""
    generator = torch.Generator().manual_seed(window)
    order = torch.randperm(noise.numel(), generator=generator)
    return noise.flatten()[order].reshape(noise.shape)


class WindowNoise:
    """Gives each window its own noise from one NOISE object.

    A window's seed is the base seed plus its index. The noise of an object without any seed is shuffled in every
    window after the first, so that no two windows share a pattern. Noise that is switched off (zeros) stays off.
    """

    def __init__(self, noise: Any) -> None:
        self._noise = noise

    def seed(self, window: int) -> int:
        """The seed for ancestral and SDE samplers, and for the report."""
        return (int(getattr(self._noise, "seed", 0) or 0) + window) % SEED_LIMIT

    def generate(self, window: int, samples: torch.Tensor) -> torch.Tensor:
        """Noise for a window's empty latent ``samples [1, C, T, h, w]``."""
        latent = {"samples": samples}
        if window == 0:
            first: torch.Tensor = self._noise.generate_noise(latent)
            return first
        own = copy.deepcopy(self._noise)
        if _reseed(own, window, set()):
            seeded: torch.Tensor = own.generate_noise(latent)
            return seeded
        log.info("the NOISE input has no seed: window %d gets its noise shuffled", window + 1)
        # The object itself, not the copy, so that one that draws on goes on drawing.
        return _shuffled(self._noise.generate_noise(latent), window)
