"""What CONDITIONING and CLIP_VISION_OUTPUT must hold for WAN 2.1 image-to-video, extras of other nodes included."""

from __future__ import annotations

from typing import Any

from ....base.errors import ModelError, PictureError, ResultError
from ....base.grid import WAN_GRID
from ....base.tensors import described, is_finite, is_plain
from ..conditioning import Prompts

TEXT_WIDTH = 4096
CLIP_VISION_WIDTH = 1280


def _is_latents(value: object) -> bool:
    return is_plain(value) and value.is_floating_point() and value.ndim == 5 and value.shape[1] == WAN_GRID.channels


def _are_latents(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_latents, value))


PROMPTS = Prompts(
    expected=f"text conditioning [1, tokens, {TEXT_WIDTH}] from umt5-xxl",
    widths=frozenset({TEXT_WIDTH}),
    load="Load umt5_xxl with Load CLIP (type wan) and connect its CLIP Text Encode",
    reload="Load umt5_xxl in another precision (bf16 or fp8 scaled), or its file again",
    kinds={"reference_latents": (f"latents [1, {WAN_GRID.channels}, T, h, w]", _are_latents)},
)


def check_text(conditioning: Any, name: str) -> None:
    """Prompts must come from umt5-xxl (4096 wide), with extras that WAN can use; see :meth:`Prompts.check`.

    Raises:
        LongTalkError
    """
    PROMPTS.check(conditioning, name)
    for entry in conditioning:
        extra = entry if isinstance(entry, dict) else entry[1]
        check_clip_vision(extra.get("clip_vision_output"), f"clip_vision_output in {name}")


def check_clip_vision(output: Any, name: str = "clip_vision_output") -> None:
    """CLIP vision must be clip_vision_h (1280 wide), of one picture. None is fine: the model also runs without.

    Raises:
        LongTalkError
    """
    if output is None:
        return
    hidden = getattr(output, "penultimate_hidden_states", None)
    expected = f"hidden states [1, tokens, {CLIP_VISION_WIDTH}] from clip_vision_h"
    action = "Load clip_vision_h.safetensors with Load CLIP Vision"
    if not is_plain(hidden) or not hidden.is_floating_point() or hidden.ndim != 3:
        actual = "no hidden states" if hidden is None else described(hidden)
        raise ModelError(name, expected=expected, actual=actual, action=action)
    if hidden.shape[-1] != CLIP_VISION_WIDTH or hidden.shape[1] < 1:
        raise ModelError(
            name, expected=expected, actual=f"{hidden.shape[-1]} wide ({described(hidden)})", action=action
        )
    if hidden.shape[0] != 1:
        raise PictureError(
            name,
            expected="one picture",
            actual=f"a batch of {hidden.shape[0]}",
            action="Encode the reference image by itself (Get Image from Batch)",
        )
    if not is_finite(hidden):
        raise ResultError(
            name,
            expected="finite values",
            actual="NaN or infinity",
            action="Check the image, or download clip_vision_h.safetensors again",
        )
