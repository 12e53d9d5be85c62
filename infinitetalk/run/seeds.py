"""The seed of each window, and windows made again with another one."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ...base.errors import LongTalkError, TextError
from ...base.values import shown

SEED_LIMIT = 2**64

_ENTRY = re.compile(r"([0-9]{1,7})\s*:\s*([0-9]{1,20})")


def parse_rerender(text: str, windows: int) -> tuple[tuple[int, int], ...]:
    """Read "40:7, 70:9": window 40 and those after it in its shot with seed 7, then 70 and on with seed 9.

    Args:
        text: pairs of a window (counted from 1) and a seed; empty for none.
        windows: how many there are.

    Returns:
        ``(window, seed)`` pairs in ascending order of windows.

    Raises:
        LongTalkError: it is anything else, a window does not exist, or the windows are not in ascending order.
    """
    if not isinstance(text, str):
        raise _wrong(windows, shown(text))
    pairs = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _ENTRY.fullmatch(entry)
        if match is None or int(match[2]) >= SEED_LIMIT:
            raise _wrong(windows, repr(entry[:40]))
        pairs.append((int(match[1]), int(match[2])))
    numbers = [number for number, _ in pairs]
    if numbers != sorted(set(numbers)):
        raise _wrong(windows, f"windows {', '.join(map(str, numbers))}, which are not in ascending order")
    if numbers and not 1 <= numbers[0] <= numbers[-1] <= windows:
        raise _wrong(windows, f"window {numbers[-1] if numbers[-1] > windows else numbers[0]}")
    return tuple(pairs)


def _wrong(windows: int, actual: str) -> LongTalkError:
    return TextError(
        "rerender_from",
        expected=f"'window:seed' with a window from 1 to {windows}, as in '{min(2, windows)}:7', or several of them, "
        "separated by commas and in ascending order",
        actual=actual,
        action="Look up in the report which window holds the second you mean, and give it a new seed; leave it empty "
        "to make the video as first made",
    )


def window_seed(base: int, number: int) -> int:
    """The seed of a window, counted from 1: ``base`` for the first, and one more for each that follows."""
    return (base + number - 1) % SEED_LIMIT


def base_of(seed: int, number: int) -> int:
    """The base from which :func:`window_seed` comes to this seed."""
    return (seed - number + 1) % SEED_LIMIT


def window_seeds(
    base: int, windows: int, rerender: Sequence[tuple[int, int]] = (), shots: Collection[int] = ()
) -> tuple[int, ...]:
    """The seed of each window, from ``base`` or from the seed of the last pair that covers it.

    Args:
        base: the seed of the run.
        windows: how many there are.
        rerender: ``(window, seed)`` pairs; each covers the windows from its own to the end of its shot.
        shots: the windows that begin a shot, counted from 1.
    """
    changes = dict(rerender)
    seeds = []
    used = base
    for number in range(1, windows + 1):
        used = changes.get(number, base if number in shots else used)
        seeds.append(window_seed(used, number))
    return tuple(seeds)
