"""Loudness after ITU-R BS.1770 for the audio encoder: measured by ffmpeg, corrected with a plain gain."""

from __future__ import annotations

import torch

from ..reading.source import TrackSource
from ..reading.track import Track
from .filters import GATE_LUFS, Meter

BLOCK_S = 0.4
"""The gating block of BS.1770-4; nothing shorter has a loudness."""

MIN_RATE_HZ = 8000
"""The lowest sample rate at which a sound has a loudness: BS.1770 weights by a shelf at 1.7 kHz, which makes no sense
where there is hardly anything above it."""


def why_undefined(duration_s: float, rate_hz: int, found_lufs: float | None) -> str | None:
    """What to tell a person about a sound that has no loudness; None for a sound that has one."""
    if duration_s < BLOCK_S:
        return f"{duration_s:.2f} s is too short to measure loudness ({BLOCK_S} s are needed): level unchanged"
    if rate_hz < MIN_RATE_HZ:
        return f"{rate_hz} Hz sound has no loudness ({MIN_RATE_HZ} Hz are needed): level unchanged"
    if found_lufs is None:
        return f"silent (nothing above {GATE_LUFS:.0f} LUFS): level unchanged"
    return None


def integrated_loudness(samples: torch.Tensor, rate_hz: int) -> float | None:
    """The integrated loudness in LUFS of mono float32 ``[N]``; None where no block of 0.4 s is above -70 LUFS.

    Source: ITU-R BS.1770-4 through ffmpeg's ``ebur128``. Memory does not grow with the length.

    Raises:
        LongTalkError: there is nowhere to write a small temporary file.
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
        The scaled copy and None; or, where loudness is not defined (shorter than 0.4 s, silent, below 8 kHz), the
        samples unchanged and a notice for the user.
    """
    loudness = integrated_loudness(samples, rate_hz)
    notice = why_undefined(samples.shape[0] / rate_hz, rate_hz, loudness)
    if notice or loudness is None:
        return samples, notice
    return samples * 10.0 ** ((target_lufs - loudness) / 20.0), None
