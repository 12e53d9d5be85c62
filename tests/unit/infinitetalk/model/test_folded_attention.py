"""The folded audio attention: in half precision no further from float64 than plain attention is, times a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from longtalk.infinitetalk.model.audio_attention import AudioCrossAttention, cross_attend
from longtalk.infinitetalk.model.folded_attention import add_audio

FRAMES, PER_FRAME = 2, 48
VOICE_TOKENS, AUDIO_WIDTH = 32, 768
HEAD = 128
SMALL = 8 * HEAD
REAL = 40 * HEAD
#: How much further than plain attention in the same type.
LIMIT = 1.5
HALVES = [torch.float16, torch.bfloat16]


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@contextmanager
def weights(layer: nn.Linear, like: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """As the layers have them."""
    assert layer.weight.dtype == like.dtype
    yield layer.weight, layer.bias


def seeded(width: int) -> AudioCrossAttention:
    """Layers whose queries and keys are about one in size."""
    layers = AudioCrossAttention(width, AUDIO_WIDTH, width // HEAD, device="meta").to_empty(device="cpu")
    for seed, layer in enumerate((layers.q_linear, layers.kv_linear, layers.proj)):
        layer.weight.data = randn(*layer.weight.shape, seed=seed) * layer.in_features**-0.5
        layer.bias.data = randn(layer.out_features, seed=10 + seed) * 0.1
    return layers.requires_grad_(False)


def heard(speakers: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Audio tokens ``[1, F, M, audio_width]``, and the speaker map where there are several speakers."""
    context = randn(1, FRAMES, speakers * VOICE_TOKENS, AUDIO_WIDTH, seed=20)
    mapped = randn(1, speakers + 1, FRAMES * PER_FRAME, seed=21).softmax(1) if speakers > 1 else None
    return context, mapped


def errors(
    layers: AudioCrossAttention, context: torch.Tensor, mapped: torch.Tensor | None, dtype: torch.dtype
) -> tuple[float, float]:
    """How far plain and folded attention in ``dtype`` are from plain attention in float64, on the same numbers.

    float64 begins with the rounded weights and tokens. Turning is in float32 everywhere, 8192 times as fine as float16.
    """
    rounded = deepcopy(layers).to(dtype)
    normed = randn(1, FRAMES * PER_FRAME, layers.q_linear.in_features, seed=22).to(dtype)
    context = context.to(dtype)
    exact = cross_attend(deepcopy(rounded).double(), normed.double(), context.double(), PER_FRAME, attention, mapped)
    plain = cross_attend(rounded, normed, context, PER_FRAME, attention, mapped)
    folded = add_audio(rounded, torch.zeros_like(normed), normed, context, PER_FRAME, 1.0, weights, mapped)
    assert folded.dtype == plain.dtype == dtype
    of_plain, of_folded = (float((found - exact).norm() / exact.norm()) for found in (plain, folded))
    return of_plain, of_folded


@pytest.fixture(scope="module")
def small() -> AudioCrossAttention:
    return seeded(SMALL)


@pytest.fixture(scope="module")
def real() -> AudioCrossAttention:
    """As wide as WAN 2.1 14B."""
    return seeded(REAL)


def with_common(layers: AudioCrossAttention, offset: float) -> AudioCrossAttention:
    """The same layers, but all keys have a common part: ``offset`` in every number."""
    out = deepcopy(layers)
    out.kv_linear.bias[: out.q_linear.in_features] += offset
    return out


@pytest.mark.matrix(strength=2)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("speakers", [1, 2, 3, 4])
@pytest.mark.parametrize("offset", [0, 20, 60, 120])
def test_keys_with_a_common_part(small: AudioCrossAttention, dtype: torch.dtype, speakers: int, offset: int) -> None:
    plain, folded = errors(with_common(small, offset), *heard(speakers), dtype)
    assert folded <= LIMIT * plain


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("speakers", "offset"), [(1, 0), (1, 60), (2, 60)])
def test_keys_with_a_common_part_at_the_real_width(
    real: AudioCrossAttention, dtype: torch.dtype, speakers: int, offset: int
) -> None:
    plain, folded = errors(with_common(real, offset), *heard(speakers), dtype)
    assert folded <= LIMIT * plain


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_audio_tokens_with_a_common_part(small: AudioCrossAttention, dtype: torch.dtype, speakers: int) -> None:
    """As the projection's norm adds it."""
    context, mapped = heard(speakers)
    plain, folded = errors(small, context + 20 * randn(AUDIO_WIDTH, seed=23), mapped, dtype)
    assert folded <= LIMIT * plain


@pytest.mark.parametrize("dtype", HALVES)
def test_one_speaker_is_as_exact_with_any_common_part(small: AudioCrossAttention, dtype: torch.dtype) -> None:
    without, much = (errors(with_common(small, offset), *heard(1), dtype)[1] for offset in (0, 120))
    assert much <= 1.01 * without


@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_layers_without_bias(speakers: int) -> None:
    def linear(inputs: int, outputs: int, seed: int) -> nn.Linear:
        layer = nn.Linear(inputs, outputs, bias=False)
        layer.weight.data = randn(outputs, inputs, seed=seed) * inputs**-0.5
        return layer.requires_grad_(False)

    layers: Any = SimpleNamespace(
        num_heads=SMALL // HEAD,
        q_linear=linear(SMALL, SMALL, 0),
        kv_linear=linear(AUDIO_WIDTH, 2 * SMALL, 1),
        proj=linear(SMALL, SMALL, 2),
    )
    normed = randn(1, FRAMES * PER_FRAME, SMALL, seed=22)
    context, mapped = heard(speakers)
    plain = cross_attend(layers, normed, context, PER_FRAME, attention, mapped)
    folded = add_audio(layers, torch.zeros_like(normed), normed, context, PER_FRAME, 1.0, weights, mapped)
    assert float((folded - plain).norm() / plain.norm()) < 1e-6
