"""The frames of a whole video as one IMAGE, when the user asked for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import comfy.model_management
import torch

from ...base.errors import TooBigError
from ..run.video.join import read_frames

log = logging.getLogger(__name__)


class Images:
    """Collects frames in memory that is reserved beforehand.

    Attributes:
        frames: float 0..1 ``[F, H, W, 3]``, of which the first ``filled`` are there.

    Raises:
        LongTalkError: they do not fit into the memory that is free.
    """

    def __init__(self, frames: int, width: int, height: int) -> None:
        shape = (frames, height, width, 3)
        gigabytes = math.prod(shape) * 4 / 1e9
        free = comfy.model_management.get_free_memory(torch.device("cpu")) / 1e9
        if gigabytes > free:
            raise TooBigError(
                "return_images",
                expected=f"frames that fit into the {free:.1f} GB of memory that are free",
                actual=f"{frames} frames of {width}x{height}, {gigabytes:.1f} GB",
                action="Turn return_images off and use the video, which needs no memory",
            )
        log.warning("return_images: %d frames as one IMAGE take %.1f GB of memory", frames, gigabytes)
        self.frames = torch.empty(shape)
        self.filled = 0

    def add(self, frames: torch.Tensor) -> None:
        self.frames[self.filled : self.filled + frames.shape[0]] = frames
        self.filled += frames.shape[0]

    def hold(self, frames: int) -> None:
        """The last frame once more, so many times."""
        self.frames[self.filled : self.filled + frames] = self.frames[self.filled - 1]
        self.filled += frames

    def add_files(self, paths: Sequence[Path]) -> None:
        """The frames of video files, one behind the other."""
        for frame in read_frames(paths):
            self.add(torch.from_numpy(frame).float().div_(255)[None])
