"""The layers of wav2vec2 one by one, in pieces: the same as the module."""

from __future__ import annotations

import pytest
import torch
from comfy_shaped import error, make_pair, official, speech, tiny_config

from longtalk.audio.encoder.features import speech_features
from longtalk.audio.encoder.transformer import attention_dtype, plain_attention, run_layer


class TestLayers:
    @pytest.mark.parametrize("kind", ["base", "large"])
    @pytest.mark.parametrize("piece_frames", [1, 10, 25, 1000])
    def test_pieces_do_not_show(self, kind: str, piece_frames: int) -> None:
        _, model = make_pair(tiny_config(kind))
        layer = model.encoder.layers[1]
        x = torch.randn(1, 25, model.encoder.layer_norm.normalized_shape[0], generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            wanted = layer(x)
            run_layer(layer, x, piece_frames=piece_frames)
        assert error(x, wanted) < 1e-6

    def test_all_but_attention_sees_few_frames_at_a_time(self) -> None:
        _, model = make_pair(tiny_config())
        seen: list[int] = []
        for name, module in model.encoder.layers[0].named_modules():
            if name.startswith(("attention.", "feed_forward", "layer_norm", "final_layer_norm")):
                module.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
        attended: list[int] = []

        def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            attended.append(query.shape[2])
            return plain_attention(query, key, value)

        width = model.encoder.layer_norm.normalized_shape[0]
        with torch.no_grad():
            run_layer(model.encoder.layers[0], torch.randn(1, 100, width), attention=attention, piece_frames=30)
        assert max(seen) == 30
        assert attended == [100]

    def test_attention_is_computed_in_half_on_a_gpu_only(self) -> None:
        cuda, cpu = torch.device("cuda"), torch.device("cpu")
        assert attention_dtype(torch.float32, cuda) == torch.float16
        assert attention_dtype(torch.bfloat16, cuda) == torch.bfloat16
        assert attention_dtype(torch.float32, cpu) == torch.float32

    def test_attention_in_half_stays_close(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a GPU does, on the CPU: float16 queries, keys and values, float32 around them."""
        import longtalk.audio.encoder.transformer as transformer

        reference, model = make_pair(tiny_config())
        sound = speech(20_000)
        wanted = official(reference, sound)
        dtypes = set()

        def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            dtypes.add(query.dtype)
            return plain_attention(query, key, value)

        monkeypatch.setattr(transformer, "attention_dtype", lambda dtype, device: torch.float16)
        found = speech_features(model, sound, attention=attention)
        assert dtypes == {torch.float16}
        assert 1e-6 < error(found, wanted) < 2e-3
