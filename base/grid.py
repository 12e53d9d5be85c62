"""How the families' VAEs pack frames into latents."""

from __future__ import annotations

import math
from typing import NamedTuple

VAE_STEP = 4
"""Frames per latent after the first one (WAN 2.1 VAE, temporal stride)."""

LTX_STEP = 8
"""Frames per latent after the first one (LTX video VAE, temporal stride)."""


class LatentGrid(NamedTuple):
    """How a family's VAE packs frames.

    Attributes:
        channels: numbers in a latent.
        spatial: pixels along one side of a latent.
        step: frames in each latent after the first one, which holds one frame.
        side: the number that the width and the height of a video must be multiples of.
        packed: whether the sampler is handed all numbers in one row, as ComfyUI packs the latents of several streams.
    """

    channels: int
    spatial: int
    step: int
    side: int
    packed: bool = False

    def shape(self, frames: int, width: int, height: int) -> list[int]:
        """The shape of the latents of so many frames, ``[1, C, f, h, w]``."""
        return [1, self.channels, (frames - 1) // self.step + 1, height // self.spatial, width // self.spatial]

    def sampled_shape(self, frames: int, width: int, height: int) -> list[int]:
        """The shape in which the sampler gets them: ``[1, C, f, h, w]``, or packed ``[1, 1, C * f * h * w]``."""
        shape = self.shape(frames, width, height)
        return [1, 1, math.prod(shape)] if self.packed else shape


WAN_GRID = LatentGrid(16, 8, VAE_STEP, 16)
LTX_GRID = LatentGrid(128, 32, LTX_STEP, 32, packed=True)
"""The grid of the picture's latents. The sound's latents are packed behind them, a fiftieth as many at 832x448."""
