"""A seed per window, for seeds and for any NOISE object."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import comfy.nested_tensor
import comfy.sample
import torch

from ..run.seeds import SEED_LIMIT

log = logging.getLogger(__name__)


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


def _shuffled(noise: torch.Tensor, offset: int) -> torch.Tensor:
    """The same values at other places: another noise of exactly the same distribution. Nested: in each stream."""
    if isinstance(noise, comfy.nested_tensor.NestedTensor):
        return comfy.nested_tensor.NestedTensor([_shuffled(stream, offset) for stream in noise.unbind()])
    generator = torch.Generator().manual_seed(offset)
    order = torch.randperm(noise.numel(), generator=generator)
    return noise.flatten()[order].reshape(noise.shape)


def base_seed(noise: Any) -> int:
    """The seed of a NOISE object; 0 where it has none."""
    return int(getattr(noise, "seed", 0) or 0) % SEED_LIMIT


class WindowNoise:
    """Gives each window its own noise from one NOISE object.

    The noise of an object without any seed is shuffled, by as many different orders as there are seeds, so that no two
    windows share a pattern. Noise that is switched off (zeros) stays off.

    Args:
        noise: NOISE.
        seeds: of each window; the object is reseeded by what they differ from its own.
    """

    def __init__(self, noise: Any, seeds: Sequence[int]) -> None:
        self._noise = noise
        self._seeds = seeds

    def seed(self, number: int) -> int:
        """The seed of a window, counted from 1, for ancestral and SDE samplers, and for the report."""
        return self._seeds[number - 1]

    def generate(self, number: int, samples: torch.Tensor) -> torch.Tensor:
        """Noise for the empty latent ``samples [1, C, T, h, w]`` of a window, counted from 1."""
        latent = {"samples": samples}
        offset = (self.seed(number) - base_seed(self._noise)) % SEED_LIMIT
        if offset == 0:
            own: torch.Tensor = self._noise.generate_noise(latent)
            return own
        other = copy.deepcopy(self._noise)
        if _reseed(other, offset, set()):
            seeded: torch.Tensor = other.generate_noise(latent)
            return seeded
        log.info("the NOISE input has no seed: window %d gets its noise shuffled", number)
        # The object itself, not the copy, so that one that draws on goes on drawing.
        return _shuffled(self._noise.generate_noise(latent), offset)
