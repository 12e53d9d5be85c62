"""Many guides: each picture is hashed once and encoded once."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_ltx_run, renderer_of


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of every tensor whose bytes were read for a name; of weights only samples are."""
    from longtalk.infinitetalk.run.store import fingerprint as module

    shapes: list[tuple[int, ...]] = []
    plain = module._bytes_of

    def counted(tensor: torch.Tensor) -> Any:
        shapes.append(tuple(tensor.shape))
        return plain(tensor)

    monkeypatch.setattr(module, "_bytes_of", counted)
    return shapes


def test_the_reference_comes_back_often_and_is_hashed_and_encoded_once(
    ltx: SimpleNamespace,
    make_audio: Callable[..., Any],
    portrait: torch.Tensor,
    hashed: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from longtalk.infinitetalk.host.ltx.renderer import LtxRenderer
    from longtalk.infinitetalk.host.ltx.run import guides_from

    run = make_ltx_run(ltx, make_audio(4.0), portrait, reanchor_s=0.2)
    lines = "\n".join(f"{second}: {second % 2}" for second in range(4))
    guides = guides_from(torch.rand(2, 64, 96, 3), lines, 1.0, run.plan)
    run = make_ltx_run(ltx, make_audio(4.0), portrait, reanchor_s=0.2, guides=guides)
    assert len(run.all_guides) > 20
    run.parts()
    assert hashed.count(tuple(portrait.shape)) == 3  # the reference and two pictures
    encoded = []
    plain = LtxRenderer._encode
    monkeypatch.setattr(LtxRenderer, "_encode", lambda self, image: encoded.append(image) or plain(self, image))
    renderer = renderer_of(run)
    assert len(encoded) == 3
    assert len(renderer._guides) == len(run.all_guides)


def test_an_hour_with_1800_guides_is_named_in_a_moment(
    ltx: SimpleNamespace, portrait: torch.Tensor, hashed: list[tuple[int, ...]]
) -> None:
    """benchmarks.queue has the limit in seconds; here only what must not grow with the guides is counted."""
    sound = {"waveform": torch.rand(1, 1, 3600 * 16000) - 0.5, "sample_rate": 16000}
    run = make_ltx_run(ltx, sound, portrait, reanchor_s=2.0, window_s=10.0)
    assert len(run.all_guides) >= 1799
    began = time.process_time()
    run.parts()
    took_s = time.process_time() - began
    assert hashed.count(tuple(portrait.shape)) == 1
    assert sum(shape == tuple(run.track.waveform.shape) for shape in hashed) == 1
    assert took_s < 30
