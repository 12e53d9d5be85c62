"""How closely mouths follow voices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

REACH = 6
"""By how many frames a mouth may be early or late and is still found to follow."""


def correlation(mouth: torch.Tensor, voice: torch.Tensor, lag: int = 0) -> float:
    """Pearson's r of ``mouth[t + lag]`` and ``voice[t]``; 0 where one of them does not change.

    Args:
        mouth, voice: one number per frame, ``[F]``; of different lengths, the first frames of both are compared.
        lag: frames by which the mouth is taken to be late.
    """
    count = min(mouth.shape[0], voice.shape[0])
    late, early = max(0, lag), max(0, -lag)
    a = mouth[late : count - early].double()
    b = voice[early : count - late].double()
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 1e-9 else 0.0


@dataclass(frozen=True)
class Sync:
    """How a mouth follows a voice.

    Attributes:
        r: the correlation at lag 0.
        lag: frames by which the mouth is late where it follows best; below 0 it is early.
        best: the correlation at that lag.
    """

    r: float
    lag: int
    best: float


def follow(mouth: torch.Tensor, voice: torch.Tensor) -> Sync:
    """Compare a mouth with a voice at lags of up to :data:`REACH` frames."""
    found = {lag: correlation(mouth, voice, lag) for lag in range(-REACH, REACH + 1)}
    lag = max(found, key=lambda each: (found[each], -abs(each)))
    return Sync(found[0], lag, found[lag])


def who_follows(mouths: Sequence[torch.Tensor], voices: Sequence[torch.Tensor]) -> list[list[float]]:
    """The correlation at lag 0 of every mouth with every voice: a row for each mouth."""
    return [[correlation(mouth, voice) for voice in voices] for mouth in mouths]
