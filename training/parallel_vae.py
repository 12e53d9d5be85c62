"""ComfyUI's WAN VAE over whole clips at once, for training: the same weights and, to rounding, the same numbers.

ComfyUI's encode and decode walk through a clip two frames at a time with a cache, which keeps memory small and a GPU
idle. Here every layer sees all frames, which are a batch of pictures ``[B * T, C, H, W]``; a convolution over three
frames is one over three pictures stacked in the channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from .common import say


def _clips_of(x: torch.Tensor, frames: int) -> torch.Tensor:
    """``[B * T, C, H, W]`` to ``[B, T, H, W, C]``: as the pictures lie in memory, channels last."""
    return x.permute(0, 2, 3, 1).unflatten(0, (-1, frames))


def _pictures_of(clips: torch.Tensor) -> torch.Tensor:
    return clips.flatten(0, 1).permute(0, 3, 1, 2)


def _stacked(x: torch.Tensor, frames: int, taps: int) -> torch.Tensor:
    """Each frame behind those before it (zeros before the first), ``[B * T, taps * C, H, W]``."""
    clips = _clips_of(x, frames)
    padded = torch.cat([torch.zeros_like(clips[:, :1]).expand(-1, taps - 1, -1, -1, -1), clips], dim=1)
    return _pictures_of(torch.cat([padded[:, by : by + frames] for by in range(taps)], dim=4))


def look_back(layer: Any, taps: int) -> None:
    """Let a convolution over time see so many frames, its own the last of them; the older weights are zero."""
    with torch.no_grad():
        layer.weight[:, :, :-taps] = 0.0
    layer.taps = taps


def _conv(layer: Any, x: torch.Tensor, frames: int) -> torch.Tensor:
    weight = layer.weight  # [O, C, kt, kh, kw]
    taps = getattr(layer, "taps", weight.shape[2])
    weight = weight[:, :, -taps:]
    if taps > 1:
        x = _stacked(x, frames, taps)
    weight = weight.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, layer.bias, padding=layer.padding[1:])


def _norm_silu(x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(dim=1, keepdim=True) + 1e-12)
    return F.silu(y * gamma.reshape(1, -1, 1, 1)).to(x.dtype)


_compiled = None


def fuse() -> None:
    """Compile the norms and activations into one kernel each, where the machine can."""
    global _compiled
    try:
        torch._dynamo.config.recompile_limit = 4
        compiled = torch.compile(_norm_silu, dynamic=True)
        for shape in ((6, 8, 4, 10), (12, 16, 8, 6)):
            probe = torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            probe = probe.contiguous(memory_format=torch.channels_last)
            compiled(probe, torch.ones(shape[1], 1, 1, 1, device="cuda", requires_grad=True)).sum().backward()
        _compiled = compiled
    except Exception as error:
        say("not compiled:", str(error)[:200])


def _activated(x: torch.Tensor, norm: Any) -> torch.Tensor:
    if _compiled is not None and torch.is_grad_enabled():
        return _compiled(x.contiguous(memory_format=torch.channels_last), norm.gamma)
    return _norm_silu(x, norm.gamma)


def _residual(block: Any, x: torch.Tensor, frames: int) -> torch.Tensor:
    layers = block.residual
    y = _conv(layers[2], _activated(x, layers[0]), frames)
    y = _conv(layers[6], _activated(y, layers[3]), frames)
    shortcut = block.shortcut
    return y + (x if isinstance(shortcut, torch.nn.Identity) else _conv(shortcut, x, frames))


def _attend(block: Any, x: torch.Tensor) -> torch.Tensor:
    y = block.norm(x)
    q, k, v = (part.flatten(2).transpose(1, 2)[:, None] for part in block.to_qkv(y).chunk(3, dim=1))
    out = F.scaled_dot_product_attention(q, k, v)[:, 0]
    return x + block.proj(out.transpose(1, 2).reshape(x.shape))


def _resample(layer: Any, x: torch.Tensor, frames: int) -> tuple[torch.Tensor, int]:
    if layer.mode == "upsample3d" and frames > 1:
        clips = _clips_of(x, frames)
        doubled = _clips_of(_conv(layer.time_conv, _pictures_of(clips[:, 1:]), frames - 1), frames - 1)
        doubled = doubled.unflatten(4, (2, -1)).permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
        x, frames = _pictures_of(torch.cat([clips[:, :1], doubled], dim=1)), 2 * frames - 1
    x = layer.resample(x)
    if layer.mode == "downsample3d" and frames > 1:
        later = _clips_of(_conv(layer.time_conv, x, frames), frames)[:, 2::2]
        x = _pictures_of(torch.cat([_clips_of(x, frames)[:, :1], later], dim=1))
        frames = (frames + 1) // 2
    return x, frames


def _run(layers: Any, x: torch.Tensor, frames: int) -> tuple[torch.Tensor, int]:
    for layer in layers:
        if hasattr(layer, "residual"):
            x = _residual(layer, x, frames)
        elif hasattr(layer, "mode"):
            x, frames = _resample(layer, x, frames)
        else:
            x = _attend(layer, x)
    return x, frames


def _flat(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _clips(x: torch.Tensor, frames: int) -> torch.Tensor:
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


def encode(net: Any, clips: torch.Tensor) -> torch.Tensor:
    """``[B, 3, 4n + 1, H, W]`` in -1..1 to ``[B, 16, n + 1, H / 8, W / 8]``, as the VAE gives them."""
    frames, encoder = clips.shape[2], net.encoder
    x = _conv(encoder.conv1, _flat(clips), frames)
    x, frames = _run(encoder.downsamples, x, frames)
    x, frames = _run(encoder.middle, x, frames)
    x = _conv(encoder.head[2], _activated(x, encoder.head[0]), frames)
    return _clips(_conv(net.conv1, x, frames).chunk(2, dim=1)[0], frames)


def decode(net: Any, latents: torch.Tensor) -> torch.Tensor:
    frames, decoder = latents.shape[2], net.decoder
    x = _conv(decoder.conv1, _conv(net.conv2, _flat(latents), frames), frames)
    x, frames = _run(decoder.middle, x, frames)
    x, frames = _run(decoder.upsamples, x, frames)
    return _clips(_conv(decoder.head[2], _activated(x, decoder.head[0]), frames), frames)
