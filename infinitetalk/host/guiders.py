"""What guiders of all families have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...base.errors import LinkError

CFG_MAX = 100.0
"""Where the range of guidance widgets ends."""


def text_forwards(guider: Any) -> int:
    """How many forwards of the model one step takes for the guidance by text."""
    return 1 if math.isclose(getattr(guider, "cfg", 1.0), 1.0) else 2


def one_guider(guider: Any, model: Any, make: Callable[[], Any]) -> Any:
    """The guider that is connected, or the one that ``make`` makes of a model and its prompts.

    Raises:
        LongTalkError: both are connected; also what ``make`` raises.
    """
    if guider is None:
        return make()
    if model is not None:
        raise LinkError(
            "guider",
            expected="either a guider or a model with its prompts",
            actual="both connected",
            action="Disconnect one; the guider already carries its model",
        )
    return guider
