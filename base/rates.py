"""Frames per second, and how exact a time in seconds is."""

from __future__ import annotations

FPS = 25
"""Frames per second the model was trained on."""

FRAME_SLACK = 1e-6
"""A part of a frame by which a time in seconds may be off: 40 ns, far above the rounding error of a double, far below
one sample at 192 kHz (0.00013 frames)."""
