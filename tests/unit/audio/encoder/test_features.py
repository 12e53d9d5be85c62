"""Speech features against transformers' wav2vec2 with the same seeded weights."""

from __future__ import annotations

import pytest
import torch
from comfy_shaped import ORACLES, TOLERANCE, Casting, ComfyShaped, core, error, make_pair, official, speech, tiny_config
from torch import nn
from torch.nn import functional
from transformers import Wav2Vec2Config

from longtalk.audio.encoder.features import FeatureMode, check_encoder, speech_features
from longtalk.base.errors import LongTalkError


class TestAgainstTransformers:
    def test_the_base_model_at_full_size(self) -> None:
        config = Wav2Vec2Config(mask_time_prob=0.0)  # the defaults are wav2vec2-base
        reference, model = make_pair(config)
        check_encoder(model)
        samples = speech(16_923)
        found = speech_features(model, samples)
        assert found.shape == (26, 12, 768)
        assert error(found, official(reference, samples)) < 1e-5
        assert error(speech_features(model, samples, mode="core"), core(reference, samples)) < TOLERANCE["core"]

    @pytest.mark.parametrize("mode", list(FeatureMode))
    @pytest.mark.parametrize("kind", ["base", "large"])
    @pytest.mark.parametrize("samples", [640, 16_000, 50_001])
    def test_small_models(self, mode: FeatureMode, kind: str, samples: int) -> None:
        reference, model = make_pair(tiny_config(kind))
        sound = speech(samples)
        if mode is FeatureMode.CORE and samples == 640:
            with pytest.raises(LongTalkError, match=r"at least 0\.045 s at 16000 Hz, got 0\.040 s"):
                speech_features(model, sound, mode=mode)
            return
        found = speech_features(model, sound, mode=mode)
        assert error(found, ORACLES[mode.value](reference, sound)) < TOLERANCE[mode.value]

    @pytest.mark.matrix(strength=2)
    @pytest.mark.parametrize("mode", list(FeatureMode))
    @pytest.mark.parametrize("kind", ["base", "large"])
    @pytest.mark.parametrize("chunk_frames", [1, 7, 64, 10**6])
    def test_chunks_do_not_show(self, mode: FeatureMode, kind: str, chunk_frames: int) -> None:
        reference, model = make_pair(tiny_config(kind, layers=1))
        sound = speech(20_239)  # 319 samples past the last frame: no frame sees them, the statistics do
        found = speech_features(model, sound, mode=mode, chunk_frames=chunk_frames)
        assert error(found, ORACLES[mode.value](reference, sound)) < TOLERANCE[mode.value]

    def test_input_normalised_where_the_model_wants_it(self) -> None:
        reference, model = make_pair(tiny_config("large"), do_normalize=True)
        sound = speech(20_000) * 0.01 + 0.2
        normal = (sound - sound.mean()) / torch.sqrt(sound.var() + 1e-7)
        assert error(speech_features(model, sound, chunk_frames=9), official(reference, normal)) < 1e-5
        assert error(speech_features(model, sound), official(reference, sound)) > 1e-2

    @pytest.mark.parametrize("kind", ["base", "large"])
    def test_layer_by_layer_equals_the_module(self, kind: str) -> None:
        _, model = make_pair(tiny_config(kind, layers=4))
        sound = speech(16_400)
        with torch.no_grad():
            whole = torch.cat(model(sound[None])[1:])  # [L, 51, C]
        wanted = functional.interpolate(whole.transpose(1, 2), size=25, mode="linear", align_corners=True)
        assert error(speech_features(model, sound, mode="core"), wanted.permute(2, 0, 1)) < 1e-6


class TestDtypes:
    def test_modules_that_cast_their_weights(self) -> None:
        """fp16 weights computed in float32, the positional convolution left in float32, as in ComfyUI."""
        reference, model = make_pair(tiny_config(), Casting)
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter.copy_(parameter.half())
            model.load_state_dict({k: v for k, v in reference.state_dict().items() if k != "masked_spec_embed"})
        for name, module in model.named_modules():
            if "pos_conv_embed" not in name and not list(module.children()):
                module.half()
        assert model.encoder.layers[0].attention.q_proj.weight.dtype == torch.float16
        assert model.encoder.pos_conv_embed.conv.weight.dtype == torch.float32
        sound = speech(20_000)
        assert error(speech_features(model, sound), official(reference, sound)) < 1e-5

    def test_computing_in_half_where_asked(self) -> None:
        reference, model = make_pair(tiny_config(), Casting)
        sound = speech(20_000)
        seen = []
        model.encoder.layers[1].attention.q_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
        found = speech_features(model, sound, dtype=torch.bfloat16)
        assert seen == [torch.bfloat16]
        assert 1e-4 < error(found, official(reference, sound)) < 0.1

    def test_plain_modules_run_in_the_dtype_of_their_weights(self) -> None:
        reference, model = make_pair(tiny_config())
        sound = speech(20_000)
        wanted = official(reference, sound)
        # oneDNN's bfloat16 convolutions on processors with AMX are off by a fifth, transformers' model with them, too.
        with torch.backends.mkldnn.flags(enabled=False):
            found = speech_features(model.bfloat16(), sound)
        assert 1e-4 < error(found, wanted) < 0.1
        double = make_pair(tiny_config())[1].double()
        assert error(speech_features(double, sound), wanted) < 1e-5


class TestLongSound:
    def test_check_is_called_and_may_stop(self) -> None:
        _, model = make_pair(tiny_config(layers=3))
        calls = 0

        def check() -> None:
            nonlocal calls
            calls += 1

        speech_features(model, speech(32_000), check=check, chunk_frames=20)
        chunks = -(-99 // 20)  # 99 frames of 20 ms
        assert calls == 2 * chunks + 3, "each chunk of both passes, each layer"

        class Stop(Exception):  # noqa: N818
            pass

        remaining = 7

        def stop() -> None:
            nonlocal remaining
            remaining -= 1
            if remaining == 0:
                raise Stop

        ran = []
        model.encoder.layers[0].attention.q_proj.register_forward_hook(lambda *_: ran.append(1))
        with pytest.raises(Stop):
            speech_features(model, speech(32_000), check=stop, chunk_frames=20)
        assert ran == []


class TestRefusals:
    @pytest.mark.parametrize("samples", [0, 100, 399, 639])
    @pytest.mark.parametrize("mode", list(FeatureMode))
    def test_too_short(self, samples: int, mode: FeatureMode) -> None:
        _, model = make_pair(tiny_config(layers=1))
        with pytest.raises(LongTalkError, match=f"{samples} samples"):
            speech_features(model, torch.zeros(samples), mode=mode)

    def test_mode(self) -> None:
        with pytest.raises(LongTalkError, match="'official' or 'core'"):
            speech_features(make_pair(tiny_config(layers=1))[1], speech(16_000), mode="native")

    def test_damaged_weights(self) -> None:
        _, model = make_pair(tiny_config())
        with torch.no_grad():
            model.encoder.layers[1].attention.v_proj.weight[3, 3] = float("nan")
        with pytest.raises(LongTalkError, match="NaN or infinite values from the audio encoder"):
            speech_features(model, speech(16_000))

    def test_silence_is_finite(self) -> None:
        _, model = make_pair(tiny_config())
        assert torch.isfinite(speech_features(model, torch.zeros(16_000))).all()


class TestCheckEncoder:
    @pytest.mark.parametrize(
        ("layers", "width", "actual"), [(24, 1024, "24 layers, 1024 wide"), (11, 768, "11 layers, 768 wide")]
    )
    def test_other_sizes(self, layers: int, width: int, actual: str) -> None:
        with torch.device("meta"):
            config = Wav2Vec2Config(hidden_size=width, num_hidden_layers=layers, num_attention_heads=16)
            model = ComfyShaped(config)
        with pytest.raises(LongTalkError) as caught:
            check_encoder(model)
        assert str(caught.value) == (
            "audio encoder: expected wav2vec2-chinese-base (12 layers, 768 wide), "
            f"got {actual}. Load wav2vec2-chinese-base_fp16.safetensors in Load Audio Encoder. [LT-MODEL]"
        )

    def test_other_models(self) -> None:
        class WhisperLargeV3(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.feature_extractor = object()
                self.encoder = nn.Module()
                self.encoder.layers = nn.ModuleList(nn.Identity() for _ in range(32))
                self.encoder.layer_norm = nn.LayerNorm(1280)

        for model, actual in (
            (WhisperLargeV3(), "32 layers, 1280 wide"),
            (None, "nothing"),
            (7, "int"),
            (nn.ReLU(), "ReLU"),
        ):
            with pytest.raises(LongTalkError, match=actual):
                check_encoder(model)
