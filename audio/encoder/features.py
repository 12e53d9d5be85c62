"""Speech features for the audio attention: the layer outputs of wav2vec2, 25 per second of video.

The module is the one ComfyUI builds for AUDIO_ENCODER (taken by its attribute names, so nothing of ComfyUI is
imported). Its parts are run one by one, for two reasons: the official features change the frame rate between two of
them, and one pass over an hour would hold 23 GB in the first convolution and all layer outputs on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...base.errors import LongTalkError, ModelError, ResultError, SoundError
from ...base.rates import FPS, SPEECH_HZ
from ...base.values import check_member
from ...base.wav2vec2 import LAYERS, WIDTH
from .front_end import conv_features, reach_of
from .transformer import Attention, LayerOutputs, plain_attention, run_layer

RATE_HZ = SPEECH_HZ
"""The sample rate that wav2vec2 hears."""


_CORE_RATE_HZ = 50.0
"""The frame rate that ComfyUI takes wav2vec2 to have (one frame per 320 samples)."""

_WANTED = f"wav2vec2-chinese-base ({LAYERS} layers, {WIDTH} wide)"
_LOAD_IT = "Load wav2vec2-chinese-base_fp16.safetensors in Load Audio Encoder"


class FeatureMode(str, Enum):
    """Where the 50 frames per second of wav2vec2 become the 25 of the video."""

    OFFICIAL = "official"
    """Before the transformer, as the model was trained: attention is four times cheaper."""
    CORE = "core"
    """After the transformer, as ComfyUI's own InfiniteTalk node does."""


def feature_mode(name: FeatureMode | str) -> FeatureMode:
    """The mode of this name.

    Raises:
        LongTalkError: there is no mode of this name.
    """
    return check_member(name, "feature mode", FeatureMode)


def check_encoder(model: object) -> None:
    """Refuse any audio encoder but wav2vec2-base.

    Raises:
        LongTalkError: another encoder (wav2vec2-large, whisper) or none.
    """
    encoder = getattr(model, "encoder", None) if isinstance(model, nn.Module) else None
    layers = getattr(encoder, "layers", None)
    norm = getattr(encoder, "layer_norm", None)
    if isinstance(layers, nn.ModuleList) and isinstance(norm, nn.LayerNorm) and hasattr(model, "feature_extractor"):
        found = len(layers), int(norm.normalized_shape[0])
        if found == (LAYERS, WIDTH) and hasattr(encoder, "pos_conv_embed") and hasattr(model, "feature_projection"):
            return
        actual = f"{found[0]} layers, {found[1]} wide"
    else:
        count = f" with {len(layers)} layers" if isinstance(layers, nn.ModuleList) else ""
        actual = "nothing" if model is None else f"a {type(model).__name__}{count}"
    raise ModelError("audio encoder", expected=_WANTED, actual=actual, action=_LOAD_IT)


def _compute_dtype(model: nn.Module) -> torch.dtype:
    """Float32 where the modules cast their weights to the input (ComfyUI's do, and ComfyUI feeds them so).

    Plain modules insist on the dtype of their weights.
    """
    if any(getattr(module, "comfy_cast_weights", False) for module in model.modules()):
        return torch.float32
    return next(model.parameters()).dtype


def _interpolate(x: torch.Tensor, frames: int) -> torch.Tensor:
    """Interpolate ``[1, T, C]`` to ``[1, frames, C]``, linearly; the first and the last frame stay as they are."""
    return functional.interpolate(x.transpose(1, 2), size=frames, mode="linear", align_corners=True).transpose(1, 2)


def _embed_positions(encoder: Any, x: torch.Tensor) -> torch.Tensor:
    """The input of the first layer. Even in ComfyUI the convolution is a plain one, so it gets its own dtype."""
    convolution = encoder.pos_conv_embed
    x = x + convolution(x.to(next(convolution.parameters()).dtype)).to(x.dtype)
    return x if encoder.do_stable_layer_norm else encoder.layer_norm(x)


def _too_short(samples: int, needed: int) -> LongTalkError:
    return SoundError(
        "speech",
        expected=f"at least {needed / RATE_HZ:.3f} s at {RATE_HZ} Hz",
        actual=f"{samples / RATE_HZ:.3f} s ({samples} samples)",
        action="Connect a longer clip",
    )


@torch.no_grad()
def speech_features(
    model: nn.Module,
    samples: torch.Tensor,
    *,
    mode: FeatureMode | str = FeatureMode.OFFICIAL,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    check: Callable[[], None] = lambda: None,
    chunk_frames: int = 2000,
    attention: Attention = plain_attention,
) -> torch.Tensor:
    """The outputs of all transformer layers, 25 per second.

    Args:
        model: wav2vec2 as ComfyUI builds it, on ``device`` and in eval mode; see :func:`check_encoder`.
        samples: mono, 16 kHz, float32 ``[N]`` on the CPU.
        mode: ``official`` interpolates the convolution features to ``N * 25 // 16000`` frames before the projection
            and the transformer (MeiGen-AI/InfiniteTalk, ``wav2vec2.py``); ``core`` interpolates each layer's output
            to ``int(frames / 50 * 25)`` (ComfyUI, ``linear_interpolation``).
        device: where to compute; by default where the model is.
        dtype: what to compute in; None takes float32 for modules that cast their weights (ComfyUI's, and ComfyUI runs
            them so), otherwise the dtype of the weights.
        check: called between chunks and layers; may raise to stop.
        chunk_frames: frames of 20 ms the convolutions make at a time; changes the memory, not the result.
        attention: computes attention over ``[1, H, T, D]``, see :mod:`.transformer`.

    Returns:
        float32 ``[T, L, C]`` on the CPU, L layers without the embedding before the first, ``[T, 12, 768]`` for the
        base model.

    Raises:
        LongTalkError: too short for one frame, an unknown mode, or values that are not finite.
    """
    mode = feature_mode(mode)
    net: Any = model
    place = torch.device(device) if device is not None else next(model.parameters()).device
    dtype = dtype or _compute_dtype(model)

    x = conv_features(net, samples, device=place, dtype=dtype, chunk_frames=chunk_frames, check=check)  # [1, F, C]
    if mode is FeatureMode.OFFICIAL:
        frames = samples.shape[0] * FPS // RATE_HZ
    else:
        frames = int(x.shape[1] / _CORE_RATE_HZ * FPS)
    if frames < 1:
        reach = reach_of(net.feature_extractor.conv_layers)
        raise _too_short(samples.shape[0], max(RATE_HZ // FPS, reach.span + (mode is FeatureMode.CORE) * reach.hop))
    if mode is FeatureMode.OFFICIAL:
        x = _interpolate(x, frames)

    encoder = net.encoder
    x = _embed_positions(encoder, net.feature_projection(x))
    layers = len(encoder.layers)
    outputs = LayerOutputs(layers, frames, x.shape[-1])
    for index, layer in enumerate(encoder.layers):
        check()
        run_layer(layer, x, attention=attention)
        output = encoder.layer_norm(x) if index == layers - 1 and encoder.do_stable_layer_norm else x
        outputs.put(index, output[0] if mode is FeatureMode.OFFICIAL else _interpolate(output, frames)[0])
    features = outputs.finish()
    if not bool(torch.isfinite(torch.stack(features.aminmax())).all()):
        raise ResultError(
            "speech features",
            expected="finite values",
            actual="NaN or infinite values from the audio encoder",
            action=f"{_LOAD_IT} again: the file in use is incomplete or damaged",
        )
    return features
