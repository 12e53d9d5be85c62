"""wav2vec2 in the shape that ComfyUI gives it, beside transformers' own with the same seeded weights: an oracle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import Wav2Vec2Config
from transformers import Wav2Vec2Model as Reference

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
