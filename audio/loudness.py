"""Loudness after ITU-R BS.1770 for the audio encoder: measured by ffmpeg, corrected with a plain gain."""

from __future__ import annotations

import torch

from .filters import GATE_LUFS, Meter
from .sound import Track
from .source import TrackSource

BLOCK_S = 0.4
"""Gating block of BS.1770-4; nothing shorter has a loudness."""


def too_short(duration_s: float) -> str:
    """What to tell where a sound is shorter than a block."""
    return f"{duration_s:.2f} s is too short to measure loudness ({BLOCK_S} s are needed): level unchanged"


SILENT = f"silent (nothing above {GATE_LUFS:.0f} LUFS): level unchanged"


def integrated_loudness(samples: torch.Tensor, rate_hz: int) -> float | None:
    """Integrated loudness in LUFS of mono float32 ``[N]``; None where no 0.4 s block is above -70 LUFS.

    Source: ITU-R BS.1770-4 through ffmpeg's ``ebur128``. Memory does not grow with the length.

    Raises:
        LongTalkError: nowhere to write a small temporary file.
    """
    sound = TrackSource(Track(samples[None], rate_hz))
    return Meter(peaks=False).measure(sound.blocks(), rate_hz, sound.channels).integrated_lufs


def normalize_loudness(
    samples: torch.Tensor, rate_hz: int, target_lufs: float = -23.0
) -> tuple[torch.Tensor, str | None]:
    """Bring speech to the loudness the audio encoder was fed with in training.

    A pure gain, as in the official InfiniteTalk: no limiter, so peaks may pass full scale. For the encoder only.

    Args:
        samples: mono float32 ``[N]`` on the CPU.
        rate_hz: its sample rate.
        target_lufs: EBU R128 level by default.

    Returns:
        The scaled copy and None; or, where loudness is not defined (shorter than 0.4 s, or silent), the samples
        unchanged and a notice for the user.
    """
    duration_s = samples.shape[0] / rate_hz
    if duration_s < BLOCK_S:
        return samples, too_short(duration_s)
    loudness = integrated_loudness(samples, rate_hz)
    if loudness is None:
        return samples, SILENT
    return samples * 10.0 ** ((target_lufs - loudness) / 20.0), None
