"""The convolutions of wav2vec2 in chunks: no longer than they should be, and what they reach."""

from __future__ import annotations

from comfy_shaped import make_pair, speech, tiny_config

from longtalk.audio.encoder.features import speech_features
from longtalk.audio.encoder.front_end import Reach, reach_of


def test_no_pass_is_longer_than_a_chunk() -> None:
    _, model = make_pair(tiny_config(layers=1))
    lengths: list[int] = []
    first = model.feature_extractor.conv_layers[0].conv
    first.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[-1]))
    samples = 16_000 * 6
    features = speech_features(model, speech(samples), chunk_frames=30)
    assert features.shape[0] == 150
    assert max(lengths) <= 30 * 320 + 80
    assert sum(lengths) < 2.1 * samples, "two passes, hardly anything twice"


def test_reach() -> None:
    assert reach_of(make_pair(tiny_config())[1].feature_extractor.conv_layers) == Reach(hop=320, span=400)
    assert [Reach(320, 400).frames(n) for n in (0, 399, 400, 719, 720)] == [0, 0, 1, 1, 2]
