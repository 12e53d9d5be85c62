"""The columns of a picture, made while a sound is heard: a bounded number of them, however long the sound becomes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Reduce = Callable[[np.ndarray], np.ndarray]


def mean(groups: np.ndarray) -> np.ndarray:
    """Reduce ``[n, k, R]`` to ``[n, R]`` by the mean."""
    return groups.mean(axis=1)


def extremes(groups: np.ndarray) -> np.ndarray:
    """Reduce ``[n, k, 3]`` of lowest sample, highest sample and mean square to ``[n, 3]``."""
    return np.stack([groups[..., 0].min(axis=1), groups[..., 1].max(axis=1), groups[..., 2].mean(axis=1)], axis=1)


class Columns:
    """Keeps rows of numbers that arrive in order. When there are too many, every two neighbours become one.

    So every column but the last stands for a stretch of the same length, and of a long sound there are between half the
    limit and the limit of them.

    Args:
        width: numbers per row.
        each_s: how many seconds a row stands for.
        reduce: makes one row of ``k`` rows: ``[n, k, width]`` -> ``[n, width]``.
        limit: the most columns; even.
    """

    def __init__(self, width: int, each_s: float, reduce: Reduce, limit: int) -> None:
        self._kept = np.zeros((limit, width), np.float32)
        self._count = 0
        self._rows_each = 1
        self._waiting = np.zeros((0, width), np.float32)
        self._each_s, self._reduce = each_s, reduce

    @property
    def each_s(self) -> float:
        """How many seconds a column stands for."""
        return self._each_s * self._rows_each

    def push(self, rows: np.ndarray) -> None:
        """Take the next rows, ``[n, width]``."""
        self._waiting = np.concatenate([self._waiting, rows])
        while len(self._waiting) >= self._rows_each:
            if self._count == len(self._kept):
                self._halve()
                continue
            whole = min(len(self._waiting) // self._rows_each, len(self._kept) - self._count)
            used = whole * self._rows_each
            groups = self._waiting[:used].reshape(whole, self._rows_each, -1)
            self._kept[self._count : self._count + whole] = self._reduce(groups)
            self._count += whole
            self._waiting = self._waiting[used:]

    def _halve(self) -> None:
        half = len(self._kept) // 2
        self._kept[:half] = self._reduce(self._kept.reshape(half, 2, -1))
        self._count = half
        self._rows_each *= 2

    def finish(self) -> np.ndarray:
        """All columns ``[n, width]``; the last may stand for a shorter stretch than the others."""
        rest = self._reduce(self._waiting[None]) if len(self._waiting) else self._waiting
        return np.concatenate([self._kept[: self._count], rest])
