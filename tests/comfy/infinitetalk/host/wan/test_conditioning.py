"""What a CONDITIONING of WAN may hold beside its text, and what is refused with which words."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from longtalk.base.errors import LongTalkError


@pytest.fixture(scope="module")
def conditioning(comfy: ModuleType) -> ModuleType:
    from longtalk.infinitetalk.host.wan import conditioning

    return conditioning


TEXT = torch.zeros(1, 7, 4096)


@pytest.mark.parametrize(
    "extra",
    [
        {"strength": 0.5, "start_percent": 0, "set_area_to_bounds": False, "pooled_output": None, "anything": object()},
        {"mask": torch.ones(1, 8, 8), "mask_strength": 1.0},
        {"reference_latents": [torch.zeros(1, 16, 1, 4, 4)], "control": None, "area": None},
    ],
)
def test_extras_that_pass(conditioning: ModuleType, extra: dict[str, Any]) -> None:
    conditioning.check_text([[TEXT, extra], (TEXT.half(), {})], "positive")
    conditioning.check_text([{"cross_attn": TEXT, **extra}], "positive")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"area": (8, 8, 0, 0)}, "whole picture and every frame, got one with 'area'"),
        ({"set_area_to_bounds": True, "mask": torch.ones(1, 8, 8)}, "set_area_to_bounds"),
        ({"noise_concat": TEXT}, "noise_concat"),
        ({"strength": "1"}, "strength in positive: expected a number"),
        ({"strength": torch.nan}, "strength in positive"),
        ({"start_percent": None}, "start_percent in positive"),
        ({"mask": torch.ones(2, 8, 8)}, r"mask in positive: .*\[2, 8, 8\]"),
        ({"mask": torch.full((1, 8, 8), torch.nan)}, "mask in positive"),
        ({"control": object()}, "control in positive: expected a ControlNet"),
        ({"hooks": []}, "hooks in positive"),
        ({"model_conds": {"c_crossattn": TEXT}}, "model_conds in positive"),
        ({"reference_latents": []}, "reference_latents in positive"),
        ({"reference_latents": [torch.zeros(1, 4, 4, 4)]}, "reference_latents in positive"),
        ({"clip_vision_output": object()}, "clip_vision_output in positive"),
        ({1: 2}, "extras with names"),
    ],
)
def test_extras_that_are_refused(conditioning: ModuleType, extra: dict[Any, Any], words: str) -> None:
    with pytest.raises(LongTalkError, match=words):
        conditioning.check_text([[TEXT, extra]], "positive")
