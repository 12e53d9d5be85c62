"""What LTX hears: audio latents of exactly one window."""

from __future__ import annotations

import math
from typing import Any

import torch

from ...audio.resample import resample
from ...audio.sound import Track
from ..plan.ltx_windows import nearest_sample
from ..plan.windows import Window

#: Samples per step of ComfyUI's audio VAE wrapper: it crops what it encodes to a multiple of them, in the middle.
VAE_BLOCK = 4096
_VAE_RATE_HZ = 44100


def audio_latents_for(frames: int, fps: int, latents_per_s: float) -> int:
    """Audio latents that go with so many frames: round(frames / fps * rate)."""
    return round(frames / fps * latents_per_s)


def encode_sound(audio_vae: Any, track: Track, window: Window, fps: int) -> torch.Tensor:
    """The window's sound as latents ``[1, 8, T, 16]``, T = round(length / fps * latents per second).

    The sound starts at the sample of the window's first frame and goes on past its end where there is more, as far as
    the VAE's blocks need; where there is none it is silent. Whole blocks are handed over, so nothing is cropped and the
    first latent is the window's first frame.

    Args:
        audio_vae: LTX audio VAE, a VAE of ComfyUI.
        track: the whole sound.
    """
    model = audio_vae.first_stage_model
    count = audio_latents_for(window.length, fps, float(model.latents_per_second))
    rate = int(getattr(audio_vae, "audio_sample_rate", _VAE_RATE_HZ))
    # One sample over, so that the last latent's end is inside however the rates round.
    needed = math.ceil((count / float(model.latents_per_second) * rate + 1) / VAE_BLOCK) * VAE_BLOCK
    first = nearest_sample(window.start, track.sample_rate, fps)
    taken = -(-needed * track.sample_rate // rate)
    piece = track.waveform[:, first : first + taken]
    if piece.shape[0] > 2:
        piece = piece.mean(0, keepdim=True)
    piece = torch.nn.functional.pad(piece, (0, taken - piece.shape[1]))
    sound = resample(piece, track.sample_rate, rate)[:, :needed]
    latents: torch.Tensor = audio_vae.encode(sound[None].movedim(1, -1))
    return latents[:, :, :count].contiguous()
