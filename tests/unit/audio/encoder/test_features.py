"""Speech features against transformers' wav2vec2 with the same seeded weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import Wav2Vec2Config
from transformers import Wav2Vec2Model as Reference

from longtalk.audio.encoder.features import FeatureMode, check_encoder, speech_features
from longtalk.audio.encoder.front_end import Reach, reach_of
from longtalk.audio.encoder.transformer import attention_dtype, plain_attention, run_layer
from longtalk.base.errors import LongTalkError

# --- wav2vec2 in the shape ComfyUI gives it: same attribute names, same signatures -----------------------------------


class Plain:
    """torch's own layers."""

    Conv1d, GroupNorm, LayerNorm, Linear = nn.Conv1d, nn.GroupNorm, nn.LayerNorm, nn.Linear


class CastConv1d(nn.Conv1d):
    comfy_cast_weights = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight.to(x), None if self.bias is None else self.bias.to(x))


class CastGroupNorm(nn.GroupNorm):
    comfy_cast_weights = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.group_norm(x, self.num_groups, self.weight.to(x), self.bias.to(x), self.eps)


class CastLayerNorm(nn.LayerNorm):
    comfy_cast_weights = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, self.normalized_shape, self.weight.to(x), self.bias.to(x), self.eps)


class CastLinear(nn.Linear):
    comfy_cast_weights = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x), self.bias.to(x))


class Casting:
    """Layers that bring their weights to the input's dtype, as ComfyUI's manual_cast does."""

    Conv1d, GroupNorm, LayerNorm, Linear = CastConv1d, CastGroupNorm, CastLayerNorm, CastLinear


class ConvLayer(nn.Module):
    def __init__(self, ops: type, sizes: tuple[int, int, int, int], norm: str, bias: bool) -> None:
        super().__init__()
        inside, out, kernel, stride = sizes
        self.conv = ops.Conv1d(inside, out, kernel, stride, bias=bias)
        self.norm = norm
        if norm == "group":
            self.layer_norm = ops.GroupNorm(out, out)
        elif norm == "layer":
            self.layer_norm = ops.LayerNorm(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.norm == "group":
            x = self.layer_norm(x)
        elif self.norm == "layer":
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        return functional.gelu(x)


class PositionalConv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        conv = nn.Conv1d(width, width, 128, padding=64, groups=16)
        self.conv = nn.utils.parametrizations.weight_norm(conv, name="weight", dim=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.conv(x.transpose(1, 2))[:, :, :-1]).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, ops: type, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, ops.Linear(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, ops: type, width: int) -> None:
        super().__init__()
        self.intermediate_dense = ops.Linear(width, 4 * width)
        self.output_dense = ops.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output_dense(functional.gelu(self.intermediate_dense(x)))


class EncoderLayer(nn.Module):
    def __init__(self, ops: type, width: int, heads: int, stable: bool) -> None:
        super().__init__()
        self.do_stable_layer_norm = stable
        self.attention = Attention(ops, width, heads)
        self.layer_norm = ops.LayerNorm(width)
        self.feed_forward = FeedForward(ops, width)
        self.final_layer_norm = ops.LayerNorm(width)

    def forward(self, x: torch.Tensor, mask: None = None) -> torch.Tensor:
        if self.do_stable_layer_norm:
            x = x + self.attention(self.layer_norm(x))
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.layer_norm(x + self.attention(x))
        return self.final_layer_norm(x + self.feed_forward(x))


class Projection(nn.Module):
    def __init__(self, ops: type, inside: int, width: int) -> None:
        super().__init__()
        self.layer_norm = ops.LayerNorm(inside)
        self.projection = ops.Linear(inside, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(self.layer_norm(x))


class ConvStack(nn.Module):
    def __init__(self, layers: list[ConvLayer]) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(1)
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, ops: type, config: Wav2Vec2Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.pos_conv_embed = PositionalConv(width)
        self.layers = nn.ModuleList(
            EncoderLayer(ops, width, config.num_attention_heads, config.do_stable_layer_norm)
            for _ in range(config.num_hidden_layers)
        )
        self.layer_norm = ops.LayerNorm(width)
        self.do_stable_layer_norm = config.do_stable_layer_norm

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = x + self.pos_conv_embed(x)
        if not self.do_stable_layer_norm:
            x = self.layer_norm(x)
        states: tuple[torch.Tensor, ...] = ()
        for layer in self.layers:
            states += (x,)
            x = layer(x)
        return (*states, self.layer_norm(x) if self.do_stable_layer_norm else x)


class ComfyShaped(nn.Module):
    def __init__(self, config: Wav2Vec2Config, ops: type = Plain, do_normalize: bool = False) -> None:
        super().__init__()
        dims = [1, *config.conv_dim]
        self.feature_extractor = ConvStack(
            [
                ConvLayer(
                    ops,
                    (dims[i], dims[i + 1], config.conv_kernel[i], config.conv_stride[i]),
                    config.feat_extract_norm if config.feat_extract_norm == "layer" or i == 0 else "",
                    config.conv_bias,
                )
                for i in range(len(config.conv_dim))
            ]
        )
        self.feature_projection = Projection(ops, dims[-1], config.hidden_size)
        self.encoder = Encoder(ops, config)
        self.do_normalize = do_normalize

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.encoder(self.feature_projection(self.feature_extractor(x)))


# --- the reference ----------------------------------------------------------------------------------------------------


def tiny_config(kind: str = "base", layers: int = 3) -> Wav2Vec2Config:
    large = kind == "large"
    return Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=256,
        conv_dim=(32,) * 7,
        feat_extract_norm="layer" if large else "group",
        conv_bias=large,
        do_stable_layer_norm=large,
        mask_time_prob=0.0,
    )


def make_pair(config: Wav2Vec2Config, ops: type = Plain, **options: bool) -> tuple[Reference, ComfyShaped]:
    """transformers' model with seeded weights (norms included) and the ComfyUI-shaped one with the same."""
    config._attn_implementation = "eager"  # the textbook formula, unlike the module under test
    torch.manual_seed(0)
    reference = Reference(config).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif name.endswith("weight") and "conv_layers" in name:
                parameter.mul_(3.0)
    model = ComfyShaped(config, ops, **options).eval()
    weights = {key: value for key, value in reference.state_dict().items() if key != "masked_spec_embed"}
    model.load_state_dict(weights)
    return reference, model


@torch.no_grad()
def hidden_states(reference: Reference, samples: torch.Tensor) -> torch.Tensor:
    """Outputs of all layers, float64 [L, F, C]; the last one as the encoder gives it, normalised or not."""
    output = reference.double()(samples.double()[None], output_hidden_states=True)
    return torch.cat([*output.hidden_states[1:-1], output.last_hidden_state])


def official(reference: Reference, samples: torch.Tensor) -> torch.Tensor:
    """The convolution features brought to 25 per second on their way into the projection: [T, L, C]."""
    frames = int(len(samples) / 16000 * 25 + 1e-9)
    # Interpolated in float32 as the official code does: it finds its positions in the dtype of its input.
    hook = reference.feature_extractor.register_forward_hook(
        lambda _, __, x: functional.interpolate(x.float(), size=frames, mode="linear", align_corners=True).double()
    )
    try:
        return hidden_states(reference, samples).transpose(0, 1).float()
    finally:
        hook.remove()


def core(reference: Reference, samples: torch.Tensor) -> torch.Tensor:
    """The whole model at 50 per second, each layer's output interpolated by numpy: [T, L, C]."""
    states = hidden_states(reference, samples).transpose(0, 1).numpy()  # [F, L, C]
    where = np.linspace(0, len(states) - 1, int(len(states) / 50 * 25))
    lower = np.minimum(where.astype(int), len(states) - 2)
    part = (where - lower)[:, None, None]
    return torch.from_numpy(states[lower] * (1 - part) + states[lower + 1] * part).float()


TOLERANCE = {"official": 1e-5, "core": 5e-5}
"""Core's positions are float32, the oracle's are float64: 2e-5 frames apart at 300 frames."""

ORACLES: dict[str, Callable[[Reference, torch.Tensor], torch.Tensor]] = {"official": official, "core": core}


def speech(samples: int, seed: int = 0) -> torch.Tensor:
    """A voice that changes over time, so that statistics of a part are not those of the whole."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16000
    phase = 2 * np.pi * np.cumsum(110 + 60 * t / max(t[-1], 1e-9)) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 20)) * np.clip(np.sin(2 * np.pi * 2.7 * t), 0, 1)
    return torch.from_numpy(voice * np.linspace(0.02, 0.6, samples) + 0.003 * rng.standard_normal(samples)).float()


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    return float((found - wanted).abs().max() / wanted.abs().max())


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
        assert 1e-4 < error(speech_features(model.bfloat16(), sound), wanted) < 0.1
        double = make_pair(tiny_config())[1].double()
        assert error(speech_features(double, sound), wanted) < 1e-5


class TestLongSound:
    def test_no_pass_is_longer_than_a_chunk(self) -> None:
        _, model = make_pair(tiny_config(layers=1))
        lengths: list[int] = []
        first = model.feature_extractor.conv_layers[0].conv
        first.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[-1]))
        samples = 16_000 * 6
        features = speech_features(model, speech(samples), chunk_frames=30)
        assert features.shape[0] == 150
        assert max(lengths) <= 30 * 320 + 80
        assert sum(lengths) < 2.1 * samples, "two passes, hardly anything twice"

    def test_reach(self) -> None:
        assert reach_of(make_pair(tiny_config())[1].feature_extractor.conv_layers) == Reach(hop=320, span=400)
        assert [Reach(320, 400).frames(n) for n in (0, 399, 400, 719, 720)] == [0, 0, 1, 1, 2]

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
            f"got {actual}. Load wav2vec2-chinese-base_fp16.safetensors in Load Audio Encoder."
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
