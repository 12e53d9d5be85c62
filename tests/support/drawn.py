"""A sound to draw, and what is read off a picture: columns of a colour, the time axis, texts that do not overlap."""

from __future__ import annotations

import numpy as np

from longtalk.base.canvas import PAPER
from longtalk.infinitetalk.draw.layout import Layout

RATE = 16_000


def hum(frames: int, rate_hz: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone in slow swells with a little noise, float32 [N], as long as the frames."""
    time = np.arange(frames * rate_hz // 25, dtype=np.float32) / rate_hz
    noise = np.random.default_rng(seed).standard_normal(len(time)).astype(np.float32)
    return np.sin(2 * np.pi * 140 * time) * (0.5 + 0.4 * np.sin(2 * np.pi * time)) + 0.02 * noise


def columns_of(pixels: np.ndarray, rows: tuple[int, int], colour: tuple[int, int, int]) -> list[int]:
    """Columns in which the colour occurs within rows [top, bottom)."""
    hit = (pixels[rows[0] : rows[1]] == colour).all(axis=2).any(axis=0)
    return np.flatnonzero(hit).tolist()


def timeline(pixels: np.ndarray, layout: Layout) -> tuple[int, int]:
    """First column and number of columns of the time axis, measured on the picture."""
    line = np.flatnonzero((pixels[layout.axis_top] != PAPER).any(axis=1))
    assert (np.diff(line) == 1).all()
    return int(line[0]), len(line)


def check_texts(boxes: list[tuple[str, tuple[float, ...]]], pixels: np.ndarray) -> None:
    assert boxes
    for text, (left, top, right, bottom) in boxes:
        assert 0 <= left < right <= pixels.shape[1], text
        assert 0 <= top < bottom <= pixels.shape[0], text
    for place, (text, box) in enumerate(boxes):
        for other, rival in boxes[place + 1 :]:
            apart = box[2] <= rival[0] or rival[2] <= box[0] or box[3] <= rival[1] or rival[3] <= box[1]
            assert apart, f"{text!r} at {box} overlaps {other!r} at {rival}"
