"""Silence for a speaker who does not speak: in the pauses the model hears encoded silence, so the mouth rests.

At every moment a share of the speech between 0 and 1 is heard: 1 where somebody speaks, 0 in the quiet, with a short
ramp at both ends of it. The share fades features of speech into those of silence, and samples of sound into zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...base.rates import FPS
from ...base.segment import Segment

RAMP_S = 0.12
"""The length of a ramp, three frames at 25 fps."""


def heard_at(quiet: Sequence[Segment], times_s: np.ndarray) -> np.ndarray:
    """The share that is heard at each time, float32 of the times' shape.

    Args:
        quiet: where nothing is heard; sorted, no two overlap. One that begins at 0, or ends at infinity, has no ramp
            there.
        times_s: seconds, of any shape.
    """
    places, shares = [-1.0], [1.0]
    for pause in quiet:
        ramp_s = min(RAMP_S, pause.duration_s / 2)
        if pause.start_s > 0.0:
            places += [pause.start_s, pause.start_s + ramp_s]
            shares += [1.0, 0.0]
        else:
            shares[0] = 0.0
        if not math.isinf(pause.end_s):
            places += [pause.end_s - ramp_s, pause.end_s]
            shares += [0.0, 1.0]
    return np.interp(times_s, places, shares).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Gate:
    """Fades the features of one speaker in the quiet.

    Attributes:
        heard: the share of the features in each frame, float32 ``[T]``.
        silence: the features of silence, ``[layers, width]``.
    """

    heard: torch.Tensor
    silence: torch.Tensor

    @classmethod
    def of(cls, quiet: Sequence[Segment], frames: int, silence: torch.Tensor) -> Gate:
        """The gate of a speaker with so many frames of features; a frame has the share of its middle."""
        middles_s = (np.arange(frames) + 0.5) / FPS
        return cls(torch.from_numpy(heard_at(quiet, middles_s)), silence)


def gated(features: torch.Tensor, heard: torch.Tensor, silence: torch.Tensor) -> torch.Tensor:
    """Fade features into silence: they are exactly themselves at a share of 1, and exactly silence at 0.

    Args:
        features: ``[..., layers, width]``.
        heard: ``[...]``, 0 to 1.
        silence: ``[layers, width]``.
    """
    return torch.lerp(silence.to(features), features, heard.to(features)[..., None, None])
