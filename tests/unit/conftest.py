"""Runs on disk for the tests of the command line, and the texts of drawn pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_runs import NAME
from PIL import Image, ImageDraw
from run_commands import OTHER, Run, call, make_talk

from longtalk.base.canvas import Canvas, _font
from longtalk.infinitetalk.run.store.folder import RunFolder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a finished run (NAME) and an older one of which two windows are made (OTHER)."""
    output = tmp_path_factory.mktemp("made")
    unfinished, _, _ = make_talk(output / "longtalk", name=OTHER, windows=2)
    make_talk(output / "longtalk", finish=True)
    os.utime(unfinished.path, (1, 1))
    return output


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test to change."""
    shutil.copytree(made / "longtalk", tmp_path / "output" / "longtalk")
    return tmp_path / "output"


@pytest.fixture
def finished(output: Path) -> RunFolder:
    return RunFolder(output / "longtalk", NAME, ".mp4")


@pytest.fixture
def unfinished(output: Path) -> RunFolder:
    return RunFolder(output / "longtalk", OTHER, ".mp4")


@pytest.fixture
def runs(output: Path) -> Run:
    return lambda *arguments: call(output, *arguments)


@pytest.fixture
def text_boxes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, ...]]]:
    """Every text of the pictures drawn in a test, with the box it covers."""
    boxes: list[tuple[str, tuple[float, ...]]] = []
    finish = Canvas.finish

    def record(self: Canvas) -> np.ndarray:
        pen = ImageDraw.Draw(Image.new("RGB", (8, 8)))
        boxes.clear()
        for place, text, size, _, anchor in self._texts:
            boxes.append((text, pen.textbbox(place, text, font=_font(size), anchor=anchor)))
        return finish(self)

    monkeypatch.setattr(Canvas, "finish", record)
    return boxes
