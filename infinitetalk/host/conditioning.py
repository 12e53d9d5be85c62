"""What CONDITIONING must hold for any family: texts that its model takes, and extras of other nodes that core reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.conds
import comfy.controlnet
import comfy.hooks

from ...base.errors import PromptError
from ...base.tensors import described, is_finite, is_plain
from ...base.values import check_number

#: Extras that core calculates with.
_NUMBERS = (
    *("strength", "mask_strength", "start_percent", "end_percent", "clip_start_percent", "clip_end_percent"),
    *("timestep_start", "timestep_end"),
)
#: Extras that cut the picture or change the model's input, which the windows decide here.
_OTHER_RUNS = frozenset({"area", "set_area_to_bounds", "gligen", "noise_concat", "time_dim_concat", "context_latents"})


def _is_mask(value: object) -> bool:
    if not is_plain(value) or not value.is_floating_point() or value.ndim != 3:
        return False
    return value.shape[0] == 1 and value.numel() > 0 and is_finite(value)


def _are_model_inputs(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, comfy.conds.CONDRegular) for each in value.values())


Kind = tuple[str, Callable[[object], bool]]
"""What an extra must be, in words and as a test."""

_KINDS: Mapping[str, Kind] = {
    "mask": ("a mask [1, H, W]", _is_mask),
    "control": ("a ControlNet", lambda value: isinstance(value, comfy.controlnet.ControlBase)),
    "hooks": ("hooks", lambda value: isinstance(value, comfy.hooks.HookGroup)),
    "model_conds": ("a dictionary of model inputs", _are_model_inputs),
    "cross_attn_controlnet": ("a tensor", is_plain),
    "concat_mask_index": ("a whole number", lambda value: isinstance(value, int)),
}


@dataclass(frozen=True)
class Prompts:
    """What a family's prompts must be.

    Attributes:
        expected: the text in words, its encoder included.
        widths: the widths ``C`` of a text ``[1, tokens, C]`` that the model takes.
        load: how the user gets such a text.
        reload: how the user gets another one when its values are not finite.
        refused: extras that this family cannot use, beside those that no family can.
        kinds: what extras of this family must be.
    """

    expected: str
    widths: frozenset[int]
    load: str
    reload: str
    refused: frozenset[str] = frozenset()
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def check(self, conditioning: Any, name: str) -> None:
        """Each entry must hold one text, finite and as wide as the model takes, and extras that can be used.

        Args:
            conditioning: CONDITIONING, or a guider's converted list of dictionaries.
            name: of the input, for messages.

        Raises:
            LongTalkError
        """
        if not isinstance(conditioning, (list, tuple)) or not conditioning:
            actual = "nothing" if isinstance(conditioning, (list, tuple)) else described(conditioning)
            raise PromptError(name, expected=self.expected, actual=actual, action=self.load)
        for entry in conditioning:
            if isinstance(entry, dict):
                text, extra = entry.get("cross_attn"), entry
            elif isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], dict):
                text, extra = entry
            else:
                raise PromptError(
                    name, expected="entries of a text and a dictionary", actual=described(entry), action=self.load
                )
            self._check_text(text, name)
            self._check_extra(extra, name)

    def _check_text(self, text: Any, name: str) -> None:
        shaped = is_plain(text) and text.is_floating_point() and text.ndim == 3
        if not shaped or text.shape[-1] not in self.widths:
            actual = described(text)
            if is_plain(text) and text.ndim > 0:
                actual = f"{text.shape[-1]} wide ({actual})"
            raise PromptError(name, expected=self.expected, actual=actual, action=self.load)
        if text.shape[0] != 1 or text.shape[1] < 1:
            raise PromptError(
                name,
                expected=f"one text [1, tokens, {text.shape[-1]}] per entry",
                actual=described(text),
                action="Encode one prompt; join several with Conditioning (Combine)",
            )
        if not is_finite(text):
            raise PromptError(
                name,
                expected="finite values from the text encoder",
                actual="NaN or infinity",
                action=self.reload,
            )

    def _check_extra(self, extra: Mapping[str, Any], name: str) -> None:
        kinds = {**_KINDS, **self.kinds}
        for key, value in extra.items():
            if not isinstance(key, str):
                raise PromptError(
                    name, expected="extras with names", actual=f"one named {described(key)}", action=self.load
                )
            if key in _OTHER_RUNS | self.refused and value is not None and value is not False:
                raise PromptError(
                    name,
                    expected="a prompt for the whole picture and every frame",
                    actual=f"one with '{key}'",
                    action="Remove the node that adds it"
                    + ("" if "mask" in self.refused else "; for a part of the picture use a mask"),
                )
            if key in _NUMBERS:
                check_number(value, f"{key} in {name}", -1e6, 1e6)
            what, good = kinds.get(key, ("", None))
            if good is not None and value is not None and not good(value):
                raise PromptError(
                    f"{key} in {name}",
                    expected=what,
                    actual=described(value),
                    action=f"Remove the node that adds '{key}', or connect the right kind to it",
                )
