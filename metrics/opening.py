"""How far a mouth should be open at each frame, from the sound alone.

Loudness decides: a mouth is closed below :data:`REST_DB` and wide open above :data:`WIDE_DB`, both levels of a sound
whose speech is at -23 LUFS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from ..base.rates import FPS, SPEECH_HZ

RATE_HZ = SPEECH_HZ
HOP = RATE_HZ // FPS

#: Levels (dB full scale, of sound at -23 LUFS) at which the mouth rests and is wide open.
REST_DB, WIDE_DB = -38.0, -18.0


def audio_opening(samples: torch.Tensor) -> torch.Tensor:
    """The opening 0..1 of each frame, 25 per second: ``[N // 640]``.

    Args:
        samples: mono at 16 kHz, brought to -23 LUFS, ``[N]``.
    """
    frames = samples.shape[0] // HOP
    window = torch.hann_window(2 * HOP, periodic=False, dtype=torch.float64)
    power = F.pad(samples.double() ** 2, (HOP // 2, 2 * HOP))
    power = power[: (frames + 1) * HOP].unfold(0, 2 * HOP, HOP) @ (window / window.sum())
    level = (10 * torch.log10(power + 1e-12) - REST_DB) / (WIDE_DB - REST_DB)
    return smoothed(level.clamp(0, 1).float()[None])[0]


def smoothed(opening: torch.Tensor) -> torch.Tensor:
    """Openings ``[B, T]`` as lips with a mass take them: each frame is mixed with half of its neighbours."""
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=opening.dtype, device=opening.device)
    padded = F.pad(opening[:, None], (1, 1), mode="replicate")
    return F.conv1d(padded, kernel[None, None])[:, 0]
