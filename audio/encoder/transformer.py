"""wav2vec2's transformer over hours of sound: attention over everything at once, all else in pieces.

Attention is global, so it cannot be cut; but it is all that the length makes quadratic, and in half precision the
fused kernels never hold its scores. The rest works frame by frame and runs on a bounded number of frames at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

#: ``softmax(q k / sqrt(D)) v`` over ``[1, H, T, D]``.
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

#: The feed-forward's hidden layer is four times as wide as the frames: 200 MB in float32 for so many of them.
PIECE_FRAMES = 16384


def plain_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """PyTorch's own choice of kernel."""
    return functional.scaled_dot_product_attention(query, key, value)


def attention_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype that attention is computed in: float16 instead of float32 on a GPU, where float32 has no fast kernel.

    For 30 minutes of sound the attention of a layer takes 14 ms on an H200, where float32 takes 177 ms. The output of
    the layer differs by 5e-4 of its size.
    """
    return torch.float16 if dtype == torch.float32 and device.type == "cuda" else dtype


def _pieces(frames: int, piece_frames: int) -> Iterator[slice]:
    for start in range(0, frames, piece_frames):
        yield slice(start, min(start + piece_frames, frames))


def run_layer(
    layer: Any, x: torch.Tensor, *, attention: Attention = plain_attention, piece_frames: int = PIECE_FRAMES
) -> None:
    """Run one transformer layer in place.

    Args:
        layer: with ``attention`` (``q_proj``, ``k_proj``, ``v_proj``, ``out_proj``, ``num_heads``), ``layer_norm``,
            ``feed_forward``, ``final_layer_norm`` and ``do_stable_layer_norm``, as ComfyUI builds it.
        x: ``[1, T, C]``; becomes the layer's output.
        attention: how attention is computed; it gets tensors in :func:`attention_dtype`.
        piece_frames: how many frames go through everything else at a time.
    """
    _attend(layer, x, attention, piece_frames)
    for piece in _pieces(x.shape[1], piece_frames):
        frames = x[:, piece]
        if layer.do_stable_layer_norm:
            frames += layer.feed_forward(layer.final_layer_norm(frames))
        else:
            normed = layer.layer_norm(frames)
            frames.copy_(layer.final_layer_norm(normed + layer.feed_forward(normed)))


def _attend(layer: Any, x: torch.Tensor, attention: Attention, piece_frames: int) -> None:
    """Add the output of the layer's attention to ``x``."""
    net = layer.attention
    half = attention_dtype(x.dtype, x.device)
    projections = net.q_proj, net.k_proj, net.v_proj
    parts = [torch.empty_like(x, dtype=half) for _ in projections]
    for piece in _pieces(x.shape[1], piece_frames):
        frames = layer.layer_norm(x[:, piece]) if layer.do_stable_layer_norm else x[:, piece]
        for part, projection in zip(parts, projections, strict=True):
            part[:, piece] = projection(frames)
    query, key, value = (part.unflatten(-1, (net.num_heads, -1)).transpose(1, 2) for part in parts)
    out = attention(query, key, value).transpose(1, 2).flatten(2)
    del parts, query, key, value
    for piece in _pieces(x.shape[1], piece_frames):
        x[:, piece] += net.out_proj(out[:, piece].to(x.dtype))


class LayerOutputs:
    """Collects the outputs of all layers on the CPU; a GPU's are copied while the next layer is computed.

    Args:
        layers, width: of the encoder.
        frames: of the sound.
    """

    def __init__(self, layers: int, frames: int, width: int) -> None:
        self._all = torch.empty(layers, frames, width)
        self._staging: torch.Tensor | None = None
        self._arrives: Any = None
        self._index = 0

    def put(self, index: int, output: torch.Tensor) -> None:
        """Take the output ``[T, C]`` of a layer. It may be overwritten as soon as this returns."""
        self._land()
        if output.device.type != "cuda":
            self._all[index] = output
            return
        if self._staging is None:
            self._staging = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        self._staging.copy_(output, non_blocking=True)
        self._arrives = torch.cuda.Event()
        self._arrives.record()
        self._index = index

    def _land(self) -> None:
        if self._arrives is not None and self._staging is not None:
            self._arrives.synchronize()
            self._all[self._index] = self._staging
            self._arrives = None

    def finish(self) -> torch.Tensor:
        """All outputs, float32 ``[T, layers, C]``."""
        self._land()
        self._staging = None
        return self._all.movedim(0, 1)
