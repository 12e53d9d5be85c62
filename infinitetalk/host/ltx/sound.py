"""What LTX hears: audio latents of exactly one window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ....audio.reading.resample import resample
from ....audio.reading.track import Track
from ....base.segment import Segment
from ...model.gate import heard_at
from ...plan.ltx_windows import nearest_sample
from ...plan.windows import Window

#: Samples per step of ComfyUI's audio VAE wrapper: it crops what it encodes to a multiple of them, in the middle.
VAE_BLOCK = 4096
_VAE_RATE_HZ = 44100


def audio_latents_for(frames: int, fps: int, latents_per_s: float) -> int:
    """Audio latents that go with so many frames: round(frames / fps * rate)."""
    return round(frames / fps * latents_per_s)


def sound_rate_of(audio_vae: Any) -> int:
    """Samples per second that ComfyUI's wrapper of the audio VAE takes."""
    return int(getattr(audio_vae, "audio_sample_rate", _VAE_RATE_HZ))


def encode_sound(audio_vae: Any, track: Track, window: Window, fps: int, quiet: Sequence[Segment] = ()) -> torch.Tensor:
    """The window's sound as latents ``[1, 8, T, 16]``, T = round(length / fps * latents per second).

    Exactly the window's own samples are converted to the VAE's rate, as ComfyUI's TrimAudioDuration and LTXVAudioVAE-
    Encode do; behind the sound's end it is silent. Whole blocks are handed over, so nothing is cropped and the first
    latent is the window's first frame.

    Args:
        audio_vae: LTX audio VAE, a VAE of ComfyUI.
        track: the whole sound.
        quiet: where it is silence for the model, with short fades.
    """
    per_s = float(audio_vae.first_stage_model.latents_per_second)
    count = audio_latents_for(window.length, fps, per_s)
    rate = sound_rate_of(audio_vae)
    # One sample over, so that the last latent's end is inside however the rates round.
    needed = math.ceil((count / per_s * rate + 1) / VAE_BLOCK) * VAE_BLOCK
    first, end = (nearest_sample(frame, track.sample_rate, fps) for frame in window.audio)
    piece = track.waveform[:, first:end]
    if quiet:
        times_s = np.arange(first, first + piece.shape[1]) / track.sample_rate
        piece = piece * torch.from_numpy(heard_at(quiet, times_s))
    if piece.shape[0] > 2:
        piece = piece.mean(0, keepdim=True)
    piece = torch.nn.functional.pad(piece, (0, end - first - piece.shape[1]))
    sound = resample(piece, track.sample_rate, rate)[:, :needed]
    sound = torch.nn.functional.pad(sound, (0, needed - sound.shape[1]))
    latents: torch.Tensor = audio_vae.encode(sound[None].movedim(1, -1))
    return latents[:, :, :count].contiguous()
