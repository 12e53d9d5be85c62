"""Checks of numbers, choices and switches that another node delivers: only what the widget would allow passes.

ComfyUI holds what a user sets in a widget to the widget's range and list, but not what another node sends into it.
"""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

import numpy as np

from .errors import SettingError

Member = TypeVar("Member", bound=Enum)

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 60
_shorten.maxlong = 30


def shown(value: object) -> str:
    """A value as a message names it: as Python writes it, but short whatever it is."""
    try:
        return " ".join(_shorten.repr(value).split())
    except ValueError:  # Python refuses to write whole numbers of thousands of digits
        return f"a very long {type(value).__name__}"


def as_whole(value: object) -> int | None:
    """A plain int from a whole number of any type (numpy's too), or None. 81.0 is one: nodes that calculate give such.

    True and texts are not.
    """
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        floor = math.floor(value) if math.isfinite(value) else None
        return int(floor) if floor is not None and floor == value else None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):  # RuntimeError: a tensor without values
        return None


def check_whole(value: object, name: str, lowest: int, highest: int) -> int:
    """The value as a whole number, which must lie within its widget's range.

    Raises:
        LongTalkError
    """
    found = as_whole(value)
    if found is None or not lowest <= found <= highest:
        raise SettingError(
            name,
            expected=f"a whole number from {lowest} to {highest}",
            actual=shown(value),
            action=f"Set {name} within that range, or link a node that gives whole numbers",
        )
    return found


def check_number(value: object, name: str, lowest: float, highest: float) -> float:
    """The value as a number, which must lie within its widget's range.

    Raises:
        LongTalkError
    """
    found = math.nan
    if not isinstance(value, (bool, str, bytes, bytearray)):
        try:
            found = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError):
            found = math.nan
    if not lowest <= found <= highest:
        raise SettingError(
            name,
            expected=f"a number from {lowest:g} to {highest:g}",
            actual=shown(value),
            action=f"Set {name} within that range, or link a node that gives numbers",
        )
    return found


def check_choice(value: object, name: str, options: Iterable[str]) -> str:
    """The value, which must be one of a widget's options.

    Raises:
        LongTalkError
    """
    known = list(options)
    if not isinstance(value, str) or value not in known:
        listed = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
        raise SettingError(name, expected=f"one of {listed}", actual=shown(value), action="Choose one of the list")
    return value


def check_member(value: object, name: str, kind: type[Member]) -> Member:
    """The member of an enumeration that a value is, or names by its own value.

    Raises:
        LongTalkError
    """
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(repr(each.value) for each in kind)
        raise SettingError(name, expected=known, actual=shown(value), action="Choose one of them") from None


def check_flag(value: object, name: str) -> bool:
    """The value as a switch; it must be true or false, or the number 1 or 0.

    Raises:
        LongTalkError
    """
    if isinstance(value, bool) or as_whole(value) in (0, 1):
        return bool(value)
    raise SettingError(
        name, expected="true or false", actual=shown(value), action=f"Turn {name} on or off, or link a boolean"
    )
