"""What CONDITIONING and CLIP_VISION_OUTPUT must hold for WAN 2.1 image-to-video, extras of other nodes included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.conds
import comfy.controlnet
import comfy.hooks

from ....base.errors import LongTalkError
from ....base.grid import WAN_GRID
from ....base.tensors import described, is_finite, is_plain
from ....base.values import check_number

TEXT_WIDTH = 4096
CLIP_VISION_WIDTH = 1280

_TEXT = f"text conditioning [1, tokens, {TEXT_WIDTH}] from umt5-xxl"
_LOAD_TEXT = "Load umt5_xxl with Load CLIP (type wan) and connect its CLIP Text Encode"

#: Extras that core calculates with.
_NUMBERS = (
    *("strength", "mask_strength", "start_percent", "end_percent", "clip_start_percent", "clip_end_percent"),
    *("timestep_start", "timestep_end"),
)
#: Extras that cut the picture or change the model's input, which the windows decide here.
_OTHER_RUNS = ("area", "set_area_to_bounds", "gligen", "noise_concat", "time_dim_concat", "context_latents")


def _is_mask(value: object) -> bool:
    if not is_plain(value) or not value.is_floating_point() or value.ndim != 3:
        return False
    return value.shape[0] == 1 and value.numel() > 0 and is_finite(value)


def _is_latents(value: object) -> bool:
    return is_plain(value) and value.is_floating_point() and value.ndim == 5 and value.shape[1] == WAN_GRID.channels


def _are_latents(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_latents, value))


def _are_model_inputs(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, comfy.conds.CONDRegular) for each in value.values())


#: Further extras that core reads: what they must be, in words and as a test.
_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "mask": ("a mask [1, H, W]", _is_mask),
    "control": ("a ControlNet", lambda value: isinstance(value, comfy.controlnet.ControlBase)),
    "hooks": ("hooks", lambda value: isinstance(value, comfy.hooks.HookGroup)),
    "model_conds": ("a dictionary of model inputs", _are_model_inputs),
    "cross_attn_controlnet": ("a tensor", is_plain),
    "reference_latents": (f"latents [1, {WAN_GRID.channels}, T, h, w]", _are_latents),
    "concat_mask_index": ("a whole number", lambda value: isinstance(value, int)),
}


def _check_extra(extra: Mapping[str, Any], name: str) -> None:
    for key, value in extra.items():
        if not isinstance(key, str):
            raise LongTalkError(
                name, expected="extras with names", actual=f"one named {described(key)}", action=_LOAD_TEXT
            )
        if key in _OTHER_RUNS and value is not None and value is not False:
            raise LongTalkError(
                name,
                expected="a prompt for the whole picture and every frame",
                actual=f"one with '{key}'",
                action="Remove the node that adds it; for a part of the picture use a mask",
            )
        if key in _NUMBERS:
            check_number(value, f"{key} in {name}", -1e6, 1e6)
        what, good = _KINDS.get(key, ("", None))
        if good is not None and value is not None and not good(value):
            raise LongTalkError(
                f"{key} in {name}",
                expected=what,
                actual=described(value),
                action=f"Remove the node that adds '{key}', or connect the right kind to it",
            )
    check_clip_vision(extra.get("clip_vision_output"), f"clip_vision_output in {name}")


def check_text(conditioning: Any, name: str) -> None:
    """Text conditioning must come from umt5-xxl (4096 wide), one text per entry.

    Args:
        conditioning: CONDITIONING, or a guider's converted list of dictionaries.

    Raises:
        LongTalkError
    """
    if not isinstance(conditioning, (list, tuple)) or not conditioning:
        actual = "nothing" if isinstance(conditioning, (list, tuple)) else described(conditioning)
        raise LongTalkError(name, expected=_TEXT, actual=actual, action=_LOAD_TEXT)
    for entry in conditioning:
        if isinstance(entry, dict):
            text, extra = entry.get("cross_attn"), entry
        elif isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], dict):
            text, extra = entry
        else:
            raise LongTalkError(
                name, expected="entries of a text and a dictionary", actual=described(entry), action=_LOAD_TEXT
            )
        if not is_plain(text) or not text.is_floating_point() or text.ndim != 3 or text.shape[-1] != TEXT_WIDTH:
            actual = described(text)
            if is_plain(text) and text.ndim > 0:
                actual = f"{text.shape[-1]} wide ({actual})"
            raise LongTalkError(name, expected=_TEXT, actual=actual, action=_LOAD_TEXT)
        if text.shape[0] != 1 or text.shape[1] < 1:
            raise LongTalkError(
                name,
                expected="one text [1, tokens, 4096] per entry",
                actual=described(text),
                action="Encode one prompt; join several with Conditioning (Combine)",
            )
        if not is_finite(text):
            raise LongTalkError(
                name,
                expected="finite values from the text encoder",
                actual="NaN or infinity",
                action="Load umt5_xxl in another precision (bf16 or fp8 scaled), or its file again",
            )
        _check_extra(extra, name)


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
        raise LongTalkError(name, expected=expected, actual=actual, action=action)
    if hidden.shape[-1] != CLIP_VISION_WIDTH or hidden.shape[1] < 1:
        raise LongTalkError(
            name, expected=expected, actual=f"{hidden.shape[-1]} wide ({described(hidden)})", action=action
        )
    if hidden.shape[0] != 1:
        raise LongTalkError(
            name,
            expected="one picture",
            actual=f"a batch of {hidden.shape[0]}",
            action="Encode the reference image by itself (Get Image from Batch)",
        )
    if not is_finite(hidden):
        raise LongTalkError(
            name,
            expected="finite values",
            actual="NaN or infinity",
            action="Check the image, or download clip_vision_h.safetensors again",
        )
