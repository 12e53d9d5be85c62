"""What wav2vec2-base is, whose features InfiniteTalk was trained with."""

from __future__ import annotations

LAYERS = 12
"""Transformer layers; the features of a frame are the outputs of all of them."""
WIDTH = 768
"""Numbers in the output of a layer for one frame."""
