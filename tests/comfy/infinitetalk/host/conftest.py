"""Small runs of the sampler."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import sampler_settings

Run = Callable[..., tuple[Path, str]]


@pytest.fixture
def run(parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> Run:
    """Runs the sampler, with four windows of 13 frames at 48x32 of two steps each; the video's path and the report."""
    import longtalk.nodes

    small = {"width": 48, "height": 32, "steps": 2, "window_frames": 13, "motion_frames": 5}
    settings = sampler_settings(parts, portrait, audio=make_audio(37 / 25), **small)

    def go(**changes: Any) -> tuple[Path, str]:
        with torch.inference_mode():  # as ComfyUI runs nodes
            video, _, report = longtalk.nodes.LongTalkSampler.execute(**{**settings, **changes}).result
        return Path(video.get_stream_source()), report

    return go


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Lets the system refuse to write files beyond a size: a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)
