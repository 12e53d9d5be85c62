"""Folders of runs from somebody who means harm, through the real sampler node: the right video comes out, or LongTalk's
own error; nothing outside the runs is touched, and nothing hangs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from amounts import LONG_TIMEOUT_S, cases
from comfy_runs import sampler_settings
from hostile_folders import Hostile, in_time, make_outside, snapshot
from ledger import check_words, one_thread
from watched import frames_hash

from longtalk.base.errors import LongTalkError

#: Folders, in a run with --long and in one without; and with what settings they are gone on with.
MANY, FEW = 1000, 16
ASKED: tuple[dict[str, Any], ...] = (
    {},
    {"resume": "start over"},
    {"rerender_from": "2:77"},
    {"finished_runs": "video only"},
)


@pytest.mark.timeout(LONG_TIMEOUT_S)
def test_going_on_with_hostile_folders(
    parts: SimpleNamespace,
    portrait: torch.Tensor,
    make_audio: Callable[..., Any],
    output_folder: Path,
    tmp_path: Path,
) -> None:
    import longtalk.nodes

    small = {"width": 48, "height": 32, "steps": 1, "window_frames": 13, "motion_frames": 5}
    settings = sampler_settings(parts, portrait, audio=make_audio(0.8), **small)

    def run(changes: dict[str, Any]) -> tuple[int, str]:
        with torch.inference_mode():
            video, _, report = longtalk.nodes.LongTalkSampler.execute(**{**settings, **changes}).result
        assert report
        return frames_hash(video.get_stream_source())

    with one_thread():
        expected = []
        for changes in ASKED:
            shutil.rmtree(output_folder / "longtalk", ignore_errors=True)
            expected.append(run(changes))
        shutil.rmtree(output_folder / "longtalk")
        assert run({}) == expected[0] == expected[1] != expected[2]
        [made] = (output_folder / "longtalk").iterdir()
        whole = tmp_path / "whole"
        shutil.move(made, whole)
        outside = make_outside(tmp_path)
        before = snapshot(outside)
        worked = refused = 0
        for number in range(cases(FEW, MANY)):
            shutil.rmtree(made, ignore_errors=True)
            shutil.copytree(whole, made)
            hostile = Hostile(number, outside)
            hostile.harm(made)
            changes, frames = ASKED[number % len(ASKED)], expected[number % len(ASKED)]
            label = f"{hostile}; {changes}"
            try:
                assert in_time(lambda changes=changes: run(changes), label) == frames, label
                worked += 1
            except LongTalkError as error:
                check_words(error)
                refused += 1
            assert snapshot(outside) == before, label
    assert worked > refused > 0
