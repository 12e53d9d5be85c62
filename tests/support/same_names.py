"""Functions of one name, from one place, that do different things: what differs is a constant in their code."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

_PLACEHOLDER = 123456.5


def _times(x: Any) -> Any:
    return x * 123456.5


def times(by: float) -> Callable[[Any], Any]:
    """A function that multiplies by a number, which stands in its code as if somebody had written it there."""
    code = _times.__code__
    constants = tuple(by if constant == _PLACEHOLDER else constant for constant in code.co_consts)
    assert constants != code.co_consts
    return types.FunctionType(code.replace(co_consts=constants), globals(), _times.__name__)
