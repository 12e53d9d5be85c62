"""Models of the same family that cannot talk: each is refused by the name that its users know."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import sampler_settings

from longtalk.base.errors import LongTalkError

Weights = dict[str, torch.Tensor]


def without_image_embedding(weights: Weights) -> Weights:
    """WAN 2.2's 14B models, high noise and low noise alike: what an image-to-video file of 2.2 leaves out."""
    return {name: weight for name, weight in weights.items() if "img" not in name}


def text_to_video(weights: Weights) -> Weights:
    """Only noise goes in."""
    weights = without_image_embedding(weights)
    return {**weights, "patch_embedding.weight": weights["patch_embedding.weight"][:, :16].contiguous()}


def five_billion(weights: Weights) -> Weights:
    """WAN 2.2 5B: latents of 48 channels, in and out."""
    weights = without_image_embedding(weights)
    patches, head, bias = (weights[name] for name in ("patch_embedding.weight", "head.head.weight", "head.head.bias"))
    return {
        **weights,
        "patch_embedding.weight": torch.cat([patches, patches[:, :12]], dim=1),
        "head.head.weight": head.repeat(3, 1),
        "head.head.bias": bias.repeat(3),
    }


@pytest.fixture(scope="module")
def load(tiny: SimpleNamespace, tiny_models: Any) -> Callable[[Callable[[Weights], Weights]], Any]:
    """The tiny image-to-video model with other weights in its file, by ComfyUI's loader."""
    import comfy.sd
    import comfy.utils

    [file] = tiny_models.glob("*/longtalk_tiny_wan_i2v.safetensors")

    def load(change: Callable[[Weights], Weights]) -> Any:
        weights = change(comfy.utils.load_torch_file(str(file)))
        model = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": torch.float32})
        assert model is not None
        return model

    return load


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (without_image_embedding, "WAN 2.2 image-to-video 14B, the high or the low noise model"),
        (text_to_video, r"WAN text-to-video \(wan2.1_t2v, or wan2.2_t2v's high or low noise model\)"),
        (five_billion, r"WAN 2.2 5B \(wan2.2_ti2v_5B\)"),
    ],
)
def test_other_wan_models_are_refused_by_name(
    nodes: ModuleType,
    parts: SimpleNamespace,
    portrait: torch.Tensor,
    make_audio: Callable[..., Any],
    load: Callable[..., Any],
    change: Callable[[Weights], Weights],
    name: str,
) -> None:
    """By the samplers, whichever way the model comes, and by the guider."""
    import comfy.samplers

    from longtalk.infinitetalk.host.wan.checks import check_guider

    model = load(change)
    words = rf"model: expected a WAN 2.1 image-to-video model .*, got {name}"
    settings = sampler_settings(parts, portrait, model=model, audio=make_audio(0.2))
    with pytest.raises(LongTalkError, match=words):
        nodes.LongTalkSampler.execute(**settings)
    with pytest.raises(LongTalkError, match=words):
        nodes.LongTalkGuider.execute(model, parts.positive, parts.negative, 1.0, 1.0)

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(parts.positive, parts.negative)
    with pytest.raises(LongTalkError, match=words):
        check_guider(guider)


def test_wan_2_1_image_to_video_passes(nodes: ModuleType, parts: SimpleNamespace, load: Callable[..., Any]) -> None:
    """The same loader with the file as it is, so that what is refused above is the weights' doing."""
    assert nodes.LongTalkGuider.execute(load(dict), parts.positive, parts.negative, 1.0, 1.0)[0] is not None


def test_guiders(parts: SimpleNamespace) -> None:
    import comfy.samplers

    from longtalk.infinitetalk.host.wan import checks

    def guider(**changes: Any) -> Any:
        made = comfy.samplers.CFGGuider(parts.model)
        made.set_conds(parts.positive, parts.negative)
        vars(made).update(changes)
        return made

    checks.check_guider(guider())
    for value, words in (
        (None, "a GUIDER"),
        (comfy.samplers.CFGGuider, "a GUIDER"),
        (guider(original_conds={}), "a GUIDER with its prompts"),
        (guider(model_patcher=None), "WAN 2.1"),
        (guider(original_conds={"positive": [{}]}), "positive: .*umt5"),
    ):
        with pytest.raises(LongTalkError, match=words):
            checks.check_guider(value)
