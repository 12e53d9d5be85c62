"""InfiniteTalk's audio cross-attention: picture tokens of each latent frame attend to that frame's audio tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .audio_projection import AudioProjection
from .speaker_map import Attention, by_speaker, rotate, token_positions

#: Heads of the audio attention in every published file, whatever the model's own head count.
AUDIO_HEADS = 40


class AudioCrossAttention(nn.Module):
    """The weights of ``audio_cross_attn``, under the names of the published files."""

    def __init__(
        self,
        width: int,
        audio_width: int = 768,
        heads: int = AUDIO_HEADS,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        settings = {"device": device, "dtype": dtype}
        self.num_heads = heads
        self.q_linear = operations.Linear(width, width, **settings)
        self.kv_linear = operations.Linear(audio_width, 2 * width, **settings)
        self.proj = operations.Linear(width, width, **settings)


class AudioBlock(nn.Module):
    """What InfiniteTalk adds to one transformer block: a norm and the audio cross-attention."""

    def __init__(self, width: int, audio_width: int = 768, **settings: Any) -> None:
        super().__init__()
        operations = settings.get("operations", nn)
        self.audio_cross_attn = AudioCrossAttention(width, audio_width, **settings)
        self.norm_x = operations.LayerNorm(width, device=settings.get("device"), dtype=settings.get("dtype"))


class InfiniteTalkModel(nn.Module):
    """All weights of an InfiniteTalk file: ``audio_proj.*`` and ``blocks.N.*``.

    Args:
        width: hidden size of the diffusion model (5120 for WAN 14B); divisible by 40.
        layers: how many transformer blocks there are.
        operations: the layer classes to build from (``torch.nn`` or ComfyUI's casting ones).
    """

    def __init__(
        self,
        width: int,
        layers: int,
        *,
        intermediate: int = 512,
        tokens: int = 32,
        audio_width: int = 768,
        device: Any = None,
        dtype: torch.dtype | None = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        settings: dict[str, Any] = {"device": device, "dtype": dtype, "operations": operations}
        self.audio_proj = AudioProjection(intermediate, tokens, audio_width, **settings)
        self.blocks = nn.ModuleList([AudioBlock(width, audio_width, **settings) for _ in range(layers)])


def cross_attend(
    layers: Any,
    x: torch.Tensor,
    context: torch.Tensor,
    tokens_per_frame: int,
    attention: Attention,
    mapped: torch.Tensor | None = None,
) -> torch.Tensor:
    """What the audio adds to the picture tokens, before scaling.

    Args:
        layers: an :class:`AudioCrossAttention`, or any module with the same layers and ``num_heads``.
        x: normalised picture tokens ``[B, N, C]``. The first ``F * S`` of them are ``F`` latent frames of ``S``;
            tokens behind them (reference tokens of other extensions) get nothing.
        context: audio tokens ``[B or 1, F, M, audio_width]``.
        tokens_per_frame: ``S``.
        attention: computes attention over ``[B, H, N, D]``.
        mapped: the speaker map ``[B, classes, F * S]`` when there is more than one speaker.

    Returns:
        ``[B, N, C]``
    """
    batch, tokens, width = x.shape
    frames = context.shape[1]
    heads = layers.num_heads
    used = tokens_per_frame * frames

    query = layers.q_linear(x[:, :used]).unflatten(-1, (heads, -1))  # [B, F*S, H, D]
    key, value = layers.kv_linear(context).unflatten(-1, (2, heads, -1)).unbind(3)  # [B or 1, F, M, H, D]
    if mapped is not None:
        query = rotate(query.transpose(1, 2), token_positions(mapped)[:, None]).transpose(1, 2)
        attention = by_speaker(attention, mapped, tokens_per_frame)

    query = query.reshape(batch * frames, tokens_per_frame, heads, -1).transpose(1, 2)
    key, value = (
        part.expand(batch, -1, -1, -1, -1).flatten(0, 1).transpose(1, 2) for part in (key, value)
    )  # [B*F, H, M, D]
    attended = attention(query, key, value).transpose(1, 2).reshape(batch, used, width)
    out: torch.Tensor = layers.proj(attended)
    if used < tokens:
        out = torch.cat([out, out.new_zeros(batch, tokens - used, width)], dim=1)
    return out
