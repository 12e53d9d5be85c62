"""Writes the models for :mod:`benchmarks.cards`, in a process of its own, so that no GPU memory stays taken."""

from __future__ import annotations

import sys
from pathlib import Path

from . import comfyui
from .cards import write_files

if __name__ == "__main__":
    comfyui.start()
    write_files(Path(sys.argv[1]), set(sys.argv[2:]))
