"""Encoding speech with ComfyUI's AUDIO_ENCODER."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch

from ....audio.encoder.features import RATE_HZ, FeatureMode, check_encoder, feature_mode, speech_features
from ....audio.reading.resample import naming, resampler, resampling_note
from ....audio.tracks import mono, normalize_loudness
from ....base.errors import ModelError
from ....base.values import check_flag
from ...model.speakers import Speakers, Speech
from ...run.store.fingerprint import fingerprint, weights_fingerprint
from ..events import check_interrupt

log = logging.getLogger(__name__)


SILENCE_S = 8
"""Silence that is encoded; half of it is more than the encoder's position convolution reaches (64 frames at 25 fps)."""

#: Weights that published encoder files leave out because nothing reads them.
UNUSED = ("masked_spec_embed",)


def _check_complete(model: torch.nn.Module) -> None:
    """Refuse an encoder whose file lacked weights.

    ComfyUI's loader logs missing weights and goes on with whatever lies in memory: zeros, mostly, or not even numbers.
    A trained matrix is never all zero.
    """
    empty = [
        name
        for name, weight in model.named_parameters()
        if name not in UNUSED and (not bool(weight.isfinite().all()) or (weight.ndim > 1 and not bool(weight.any())))
    ]
    if empty:
        raise ModelError(
            "audio_encoder",
            expected="a complete wav2vec2-chinese-base",
            actual=f"{len(empty)} weights without values, such as {empty[0]}",
            action="Download the file again; ComfyUI's log lists them as 'missing audio encoder'",
        )


def _checked_model(audio_encoder: Any) -> torch.nn.Module:
    """The wav2vec2 inside an AUDIO_ENCODER, complete, and with what ComfyUI loads it by."""
    model: Any = getattr(audio_encoder, "model", None)
    if model is not None:
        check_encoder(model)
    patcher = getattr(audio_encoder, "patcher", None)
    device = getattr(audio_encoder, "load_device", None)
    loadable = isinstance(patcher, comfy.model_patcher.ModelPatcher) and isinstance(device, torch.device)
    if model is None or not loadable:
        raise ModelError(
            "audio_encoder",
            expected="wav2vec2-chinese-base",
            actual="nothing" if audio_encoder is None else type(audio_encoder).__name__,
            action="Load wav2vec2-chinese-base_fp16.safetensors with Load Audio Encoder and connect it",
        )
    _check_complete(model)
    checked: torch.nn.Module = model
    return checked


def encode_speech(
    audio_encoder: Any,
    speakers: Speakers,
    mode: FeatureMode | str = FeatureMode.OFFICIAL,
    normalize: bool = True,
    *,
    with_silence: bool = False,
) -> Speech:
    """Features of every speaker, 25 per second.

    Args:
        audio_encoder: AUDIO_ENCODER holding wav2vec2-base.
        speakers: whose tracks.
        mode: where the features are brought to 25 per second, see :mod:`~....audio.features`.
        normalize: bring each track to -23 LUFS for the encoder; the sound in the video stays as it is.
        with_silence: also encode silence, for speech that is to be gated.

    Raises:
        LongTalkError: no encoder, or not wav2vec2-base; an unknown mode.
    """
    mode = feature_mode(mode)
    normalize = check_flag(normalize, "normalize_loudness")
    model = _checked_model(audio_encoder)
    comfy.model_management.load_model_gpu(audio_encoder.patcher)
    notes = list(speakers.arrangement.notes)
    features = []
    device = audio_encoder.load_device
    for track in speakers.arrangement.tracks:
        note = resampling_note(track.name, track.sample_rate, RATE_HZ)
        if note:
            notes.append(note)
        samples = mono(track, RATE_HZ)
        if normalize:
            samples, notice = normalize_loudness(samples, RATE_HZ)
            if notice:
                notes.append(f"{track.name}: {notice}")
        features.append(speech_features(model, samples, mode=mode, device=device, check=check_interrupt))
    resampled_by = naming(resampler(track.sample_rate, RATE_HZ) for track in speakers.arrangement.tracks)
    encoded_by = fingerprint([weights_fingerprint(model.named_parameters()), mode, normalize, *resampled_by])
    silence = None
    if with_silence:
        silent = torch.zeros(SILENCE_S * RATE_HZ)
        encoded = speech_features(model, silent, mode=mode, device=device, check=check_interrupt)
        silence = encoded[encoded.shape[0] // 2].clone()
    return Speech(speakers, tuple(features), tuple(notes), encoded_by, silence)
