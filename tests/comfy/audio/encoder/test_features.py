"""Speech features from ComfyUI's real AUDIO_ENCODER against transformers' wav2vec2 with the same weights, fp32."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_speech, relative
from transformers import Wav2Vec2Config
from transformers import Wav2Vec2Model as Reference


@pytest.fixture(scope="module")
def reference(parts: SimpleNamespace) -> Reference:
    """transformers' own model; the published encoder files carry its names, so ComfyUI's module does, too."""
    net = Reference(Wav2Vec2Config(do_stable_layer_norm=False, feat_extract_norm="group", conv_bias=False)).eval()
    weights = {name: tensor.float() for name, tensor in parts.audio_encoder.model.state_dict().items()}
    net.load_state_dict(weights, strict=True)
    return net


def test_official_features_equal_transformers(
    parts: SimpleNamespace, reference: Reference, make_audio: Callable[..., Any]
) -> None:
    audio = make_audio(2.3)
    [ours] = make_speech(parts, audio, features="official").features

    hidden = reference.feature_extractor(audio["waveform"][0])
    frames = audio["waveform"].shape[-1] * 25 // 16000
    hidden = torch.nn.functional.interpolate(hidden, size=frames, mode="linear", align_corners=True)
    hidden, _ = reference.feature_projection(hidden.transpose(1, 2))
    layers: list[torch.Tensor] = []
    for layer in reference.encoder.layers:
        layer.register_forward_hook(lambda module, args, out: layers.append(out[0] if isinstance(out, tuple) else out))
    reference.encoder(hidden)
    expected = torch.stack(layers, dim=2)[0]

    assert ours.shape == expected.shape == (57, 12, 768)
    assert relative(ours, expected) < 1e-3
    assert float((ours - expected).abs().max()) < 1e-3


def test_loudness_is_for_the_encoder_alone(parts: SimpleNamespace, make_audio: Callable[..., Any]) -> None:
    """Normalised, a quiet and a loud take give the same features; the sound for the video keeps its level."""
    loud = make_audio(1.0)
    quiet = {**loud, "waveform": loud["waveform"] * 0.05}
    speeches = [make_speech(parts, audio, features="official", normalize=True) for audio in (loud, quiet)]
    assert relative(speeches[1].features[0], speeches[0].features[0]) < 1e-3
    assert torch.equal(speeches[1].speakers.arrangement.mix.waveform, quiet["waveform"][0])
    raw = make_speech(parts, quiet, features="official", normalize=False)
    assert relative(raw.features[0], speeches[0].features[0]) > 1e-2
