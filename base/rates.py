"""Rates and lengths that the models were trained on, and how exact a time in seconds is."""

from __future__ import annotations

FPS = 25
"""Frames per second of the videos that WAN and InfiniteTalk were trained on."""

WINDOW_FRAMES = 81
"""Frames of a window, as WAN and InfiniteTalk were trained."""

SPEECH_HZ = 16_000
"""The sample rate that every network here that hears speech was trained on: wav2vec2 and Silero VAD."""

FRAME_SLACK = 1e-6
"""A part of a frame by which a time in seconds may be off: 40 ns, far above the rounding error of a double, far below
one sample at 192 kHz (0.00013 frames)."""
