"""The guider of an LTX run."""

from __future__ import annotations

from typing import Any

import comfy.samplers

from ....base.values import check_number
from ..guiders import CFG_MAX
from .checks import check_ltx_model, check_ltx_text


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
