"""The VAE at a run's service: whole clips or spatial tiles, and frames that stay on the GPU where there is room.

A window's frames are checked, turned into bytes and partly encoded again right after they are decoded. On the GPU that
takes milliseconds; on the CPU it takes as long as a tenth of a denoising step, in which the GPU has nothing to do.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import comfy.model_management
import torch

from ...base.grid import LatentGrid

#: Side of the VAE's tiles in pixels, by memory level above 0, with a quarter of overlap. Tiles are spatial only: a clip
#: decoded in pieces of time flickers where the pieces meet.
TILES = (256, 128)
#: Times the decoded frames in float32: as the VAE gives them, in float32 twice (ComfyUI copies), and something over.
_FRAMES_HELD = 4


class VideoVae:
    """Encodes and decodes clips.

    Args:
        vae: a video VAE.
        grid: how it packs frames.

    Attributes:
        memory_level: 0 for whole clips, then an index into :data:`TILES` from 1.
    """

    def __init__(self, vae: Any, grid: LatentGrid) -> None:
        self._vae = vae
        self._grid = grid
        self._on_gpu = copy.copy(vae)
        self._on_gpu.output_device = vae.device
        self.memory_level = 0

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Latents ``[1, C, f, h, w]`` on the CPU of frames ``[F, H, W, C]``, float 0..1."""
        out: torch.Tensor
        if self.memory_level:
            tile = TILES[self.memory_level - 1]
            out = self._vae.encode_tiled(frames[..., :3], tile_x=tile, tile_y=tile, overlap=tile // 4)
        else:
            out = self._vae.encode(frames[..., :3])
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Frames ``[F, H, W, 3]``, float 0..1, of latents ``[1, C, f, h, w]``; on the GPU or the CPU."""
        frames: torch.Tensor
        if self.memory_level:
            tile = TILES[self.memory_level - 1] // self._grid.spatial
            frames = self._vae.decode_tiled(latents, tile_x=tile, tile_y=tile, overlap=tile // 4)
        elif self._has_room(latents):
            frames = self._on_gpu.decode(latents)
        else:
            frames = self._vae.decode(latents)
        return frames.reshape(-1, *frames.shape[-3:])  # [1, F, H, W, 3] -> [F, H, W, 3]

    def _has_room(self, latents: torch.Tensor) -> bool:
        """Whether the frames fit beside everything that ComfyUI plans to have on the GPU.

        The VAE's patcher is asked, as ComfyUI's own decoding does: with dynamic VRAM it counts what can be evicted as
        free, which model management does not.
        """
        device = self._vae.device
        if comfy.model_management.is_device_cpu(device):
            return False
        _, _, count, rows, columns = latents.shape
        frames = self._grid.step * (count - 1) + 1
        frames_bytes = 4 * 3 * frames * math.prod((rows, columns)) * self._grid.spatial**2
        needed = self._vae.memory_used_decode(latents.shape, self._vae.vae_dtype) + _FRAMES_HELD * frames_bytes
        return bool(self._vae.patcher.get_free_memory(device) > needed)
