"""How much the tests try: enough in every run, far more in one with --long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations

#: How many times as many examples are generated in a long run.
LONG_TIMES = 5
#: Of one test in a long run, where the usual limit stands in pyproject.toml.
LONG_TIMEOUT_S = 3600

_long = False


def choose(*, long: bool) -> None:
    """Say which run this is, before the modules of the tests are imported."""
    global _long
    _long = long


def examples(count: int) -> int:
    """So many generated examples, or those of a long run."""
    return count * LONG_TIMES if _long else count


def cases(count: int, in_a_long_run: int) -> int:
    """So many cases, or those of a long run, where a number is asked for."""
    return in_a_long_run if _long else count


class Thinning:
    """Which cases of matrices stay in a run without --long: those that bring something new.

    With strength 1 every value of every axis is tried with some value of the others, with strength 2 every pair of
    values of two axes.
    """

    def __init__(self) -> None:
        self._seen: defaultdict[str, set[tuple[tuple[str, int], ...]]] = defaultdict(set)

    def stays(self, test: str, case: Mapping[str, int], strength: int) -> bool:
        """Whether this case stays, after those that were asked about before.

        Args:
            test: the test that the case belongs to.
            case: a number for its value on each axis.
        """
        new = set(combinations(sorted(case.items()), strength)) - self._seen[test]
        self._seen[test] |= new
        return bool(new)
