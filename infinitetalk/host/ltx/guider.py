"""The guider of an LTX run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.samplers

from ....base.errors import LongTalkError
from ....base.values import check_number
from ..wan.guider import CFG_MAX
from .checks import check_ltx_guider, check_ltx_model, check_ltx_text


def make_ltx_guider(model: Any, positive: Any, negative: Any, cfg: float) -> Any:
    """ComfyUI's CFGGuider over ``model`` with the two prompts.

    Raises:
        LongTalkError: not an LTX audio/video model, no prompts, cfg out of range.
    """
    cfg = check_number(cfg, "cfg", 0.0, CFG_MAX)
    check_ltx_model(model)
    check_ltx_text(positive, "positive", model)
    check_ltx_text(negative, "negative", model)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def the_guider(guider: Any, model: Any, make: Callable[[], Any]) -> Any:
    """The guider that is connected, checked, or the one that ``make`` makes of a model and its prompts.

    Raises:
        LongTalkError: both are connected.
    """
    if guider is None:
        return make()
    if model is not None:
        raise LongTalkError(
            "guider",
            expected="either a guider, or a model with its prompts",
            actual="both connected",
            action="Disconnect one; a guider brings its own model and prompts",
        )
    check_ltx_guider(guider)
    return guider
