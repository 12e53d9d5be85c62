"""Hooks on a model clone: audio cross-attention, the speaker map and the pinned latents of the current window.

All of it lives in the clone's options and ends with the clone; nothing global is touched.

torch.compile does not look into the two patches. They read values that change with every call (the block's number, the
window's audio), and ComfyUI's TorchCompileModel drops all guards on transformer_options, where they lie: traced, the
first block's audio layers would be used in all of them.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.modules.attention import optimized_attention

from ...model.audio_attention import cross_attend
from ...model.folded_attention import add_audio, is_worth_folding
from ...model.speaker_map import Attention, angles_of, speaker_map
from ..fresh import Lasting
from .layer_weights import layer_weights

#: transformer_options: per conditioning of the current call, whether it hears the audio (set by the guider).
AUDIO_ON = "longtalk_audio_on"
SPEAKER_MAP = "longtalk_speaker_map"


def attention_for(transformer_options: dict[str, Any]) -> Attention:
    """ComfyUI's attention, with any override that a node put on the model."""

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = optimized_attention(
            query,
            key,
            value,
            heads=query.shape[1],
            skip_reshape=True,
            skip_output_reshape=True,
            transformer_options=transformer_options,
        )
        return out

    return attention


def turn_by_comfyui(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The rotary embedding by ComfyUI's kernel, see :func:`~...model.speaker_map.rotate`.

    Args:
        x: ``[B, N, H, D]``.
        positions: ``[B, N]``.
    """
    angles = angles_of(positions, x.shape[-1])[:, :, None]  # [B, N, 1, D / 2]
    cos, sin = angles.cos(), angles.sin()
    out: torch.Tensor = apply_rope1(x, torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2)))
    return out


def hearing(options: dict[str, Any], batch: int) -> list[tuple[bool, slice]]:
    """Which items of the current call's batch hear the audio: ``(hears, items)`` for each stretch of equal ones.

    ComfyUI puts several conditionings into one batch, each with the same number of items.
    """
    chunks: list[int] = options.get("cond_or_uncond") or [0]
    hears: tuple[bool, ...] | None = options.get(AUDIO_ON)
    each = batch // len(chunks)
    stretches, start = [], 0
    for flag, alike in itertools.groupby(chunks, key=lambda chunk: hears is None or hears[chunk]):
        stop = start + each * len(list(alike))
        stretches.append((flag, slice(start, stop)))
        start = stop
    return stretches


class AudioPatch(Lasting):
    """``attn2_patch``: adds the audio cross-attention behind each block's text cross-attention.

    Attributes:
        heard: tokens of the current window's audio ``[latents, M, width]``; set before each window.
        silent: tokens of absent audio, of one person and for at least as many latents; only needed by audio guidance.
            What sees them sees no speaker map either, as in the official code, where absent audio is one person's.
    """

    def __init__(self, model_patch: Any, scale: float) -> None:
        self.model_patch = model_patch
        self.scale = scale
        self.heard: torch.Tensor | None = None
        self.silent: torch.Tensor | None = None

    @torch.compiler.disable
    def __call__(self, args: dict[str, Any]) -> torch.Tensor:
        x: torch.Tensor = args["x"]
        options: dict[str, Any] = args["transformer_options"]
        assert self.heard is not None, "set before sampling"
        mapped = options.pop(SPEAKER_MAP, None)
        out, done = [], 0
        for hears, items in hearing(options, x.shape[0]):
            if hears:
                count = items.stop - items.start
                speakers = None if mapped is None else mapped[done : done + count]
                done += count
                out.append(self._added(x[items], self.heard, speakers, options))
            else:
                assert self.silent is not None, "audio guidance prepares it"
                out.append(self._added(x[items], self.silent[: self.heard.shape[0]], None, options))
        return out[0] if len(out) == 1 else torch.cat(out)

    def _added(
        self, x: torch.Tensor, tokens: torch.Tensor, mapped: torch.Tensor | None, options: dict[str, Any]
    ) -> torch.Tensor:
        """``x`` ``[B, N, C]`` with what the audio ``tokens`` ``[F, M, W]`` add to it, by the speaker map or by none."""
        block = self.model_patch.model.blocks[options["block_index"]]
        _, rows, columns = options["grid_sizes"]
        context = tokens[None].to(device=x.device, dtype=x.dtype)
        layers, normed = block.audio_cross_attn, block.norm_x(x)
        if is_worth_folding(layers, x.shape[-1], context.shape[-2]):
            return add_audio(
                layers, x, normed, context, rows * columns, self.scale, layer_weights, mapped, turn_by_comfyui
            )
        added = cross_attend(layers, normed, context, rows * columns, attention_for(options), mapped)
        return torch.add(x, added, alpha=self.scale)

    def models(self) -> list[Any]:
        """ComfyUI loads these together with the model."""
        return [self.model_patch]

    def to(self, device_or_dtype: Any) -> AudioPatch:
        if isinstance(device_or_dtype, torch.device):
            self.heard = None if self.heard is None else self.heard.to(device_or_dtype)
            self.silent = None if self.silent is None else self.silent.to(device_or_dtype)
        return self


class SpeakerMapPatch(Lasting):
    """``attn1_patch``: computes the speaker map from the self-attention's query and key, for :class:`AudioPatch`.

    Only for the items of the batch that hear the audio, one behind the other.

    Args:
        masks: bool ``[speakers + 1, tokens per latent frame]``, the background last.
    """

    def __init__(self, masks: torch.Tensor) -> None:
        self.masks = masks

    @torch.compiler.disable
    def __call__(self, args: dict[str, Any]) -> torch.Tensor:
        options: dict[str, Any] = args["transformer_options"]
        frames, rows, columns = options["grid_sizes"]
        masks = self.masks.to(args["q"].device)
        maps = [
            speaker_map(args["q"][items, : frames * rows * columns], args["k"][items], masks, attention_for(options))
            for hears, items in hearing(options, args["q"].shape[0])
            if hears
        ]
        if maps:
            options[SPEAKER_MAP] = torch.cat(maps)
        x: torch.Tensor = args["x"]
        return x

    def to(self, device_or_dtype: Any) -> SpeakerMapPatch:
        if isinstance(device_or_dtype, torch.device):
            self.masks = self.masks.to(device_or_dtype)
        return self


class PinnedLatents(Lasting):
    """``APPLY_MODEL`` wrapper: the model always sees the clean motion latents at the window's start, at every step.

    Attributes:
        latents: in the model's latent space, ``[1, 16, pinned, h, w]``; set before each window.
    """

    def __init__(self) -> None:
        self.latents: torch.Tensor | None = None

    def __call__(self, executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        assert self.latents is not None, "set before sampling"
        pinned = self.latents.to(x).expand(x.shape[0], -1, -1, -1, -1)
        return executor(torch.cat([pinned, x[:, :, pinned.shape[2] :]], dim=2), *args, **kwargs)
