"""A process whose torchaudio is missing, or broken, until the test ends."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

from longtalk.audio.reading import resample

HIDDEN = "torchaudio"


def hide_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, importing torchaudio fails as if it were not installed."""
    _forget(monkeypatch)
    monkeypatch.setitem(sys.modules, HIDDEN, None)


def replace_torchaudio(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """From now on, torchaudio is a package in this folder that consists of this code."""
    _forget(monkeypatch)
    (folder / HIDDEN).mkdir()
    (folder / HIDDEN / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == HIDDEN]:
        monkeypatch.delitem(sys.modules, name)
    # What was found out about torchaudio is kept for the life of a process.
    monkeypatch.setattr(resample, "_torchaudio", cache(resample._torchaudio.__wrapped__))
