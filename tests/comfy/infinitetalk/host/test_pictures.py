"""What the models see of a picture: nothing of what the video shows is cut off, nothing of it flickers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import ltx_settings, sampler_settings
from PIL import Image
from torchvision.transforms import functional as vision

WAN_WORKFLOWS = ("portrait", "portrait_12gb", "portrait_16gb", "sound")


def picture_of(image: Image.Image) -> torch.Tensor:
    """An IMAGE ``[1, H, W, 3]``."""
    return vision.to_tensor(image).movedim(0, -1)[None]


def hair(width: int, height: int) -> torch.Tensor:
    """A picture of fine detail at every scale: noise that Pillow has enlarged in octaves, ``[1, height, width, 3]``."""
    generator = torch.Generator().manual_seed(3)
    octaves = []
    for level in range(6):
        shape = (3, max(1, height >> level), max(1, width >> level))
        octaves.append(vision.resize(torch.rand(shape, generator=generator), [height, width]))
    return torch.stack(octaves).mean(0).movedim(0, -1)[None]


def decibels(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Peak signal to noise ratio of values from 0 to 1."""
    return float(-10 * torch.log10((ours - theirs).square().mean()))


class Watched:
    """A CLIP vision model that keeps the picture it is shown, as ComfyUI prepares it."""

    def __init__(self) -> None:
        self.seen: torch.Tensor | None = None

    def encode_image(self, image: torch.Tensor, crop: bool = True) -> str:
        from comfy.clip_vision import clip_preprocess

        self.seen = clip_preprocess(image, size=224, mean=[0, 0, 0], std=[1, 1, 1], crop=crop)
        return "seen"


def run_upwards(graph: dict[str, Any], node: int, slot: int, given: dict[str, Any]) -> Any:
    """What comes out of a node of a saved canvas, by ComfyUI's own nodes; ``given`` replaces whole kinds of them."""
    import nodes

    [entry] = [each for each in graph["nodes"] if each["id"] == node]
    if entry["type"] in given:
        return given[entry["type"]]
    kind = nodes.NODE_CLASS_MAPPINGS[entry["type"]]
    links = {link[0]: link for link in graph["links"]}
    inputs = {
        each["name"]: run_upwards(graph, *links[each["link"]][1:3], given)
        for each in entry["inputs"]
        if each["link"] is not None
    }
    widgets = iter(entry["widgets_values"])
    inputs |= {name: next(widgets) for name in kind.INPUT_TYPES()["required"] if name not in inputs}
    return getattr(kind(), kind.FUNCTION)(**inputs)[slot]


@pytest.mark.parametrize("name", WAN_WORKFLOWS)
@pytest.mark.parametrize("size", [(1600, 900), (700, 1400)], ids=["wide", "tall"])
def test_clip_vision_sees_all_that_the_video_shows(
    comfy: ModuleType, root: Path, name: str, size: tuple[int, int]
) -> None:
    """As in the official code: the picture is cut to the video's shape, and that is squashed into CLIP's square."""
    graph = json.loads((root / "workflows" / f"longtalk_{name}.json").read_text())
    [encode] = [node for node in graph["nodes"] if node["type"] == "CLIPVisionEncode"]
    picture, clip = hair(*size), Watched()
    run_upwards(graph, encode["id"], 0, {"LoadImage": picture, "CLIPVisionLoader": clip})
    width, height = 832, 480
    shape = vision.center_crop(
        picture[0].movedim(-1, 0),
        [min(size[1], round(size[0] * height / width)), min(size[0], round(size[1] * width / height))],
    )
    whole = vision.resize(shape, [224, 224], antialias=True)
    assert clip.seen is not None
    assert decibels(clip.seen[0], whole) > 30


@pytest.mark.parametrize("name", WAN_WORKFLOWS)
def test_clip_vision_and_the_sampler_see_the_same_picture(comfy: ModuleType, root: Path, name: str) -> None:
    """Of one size, which is said in one place."""
    graph = json.loads((root / "workflows" / f"longtalk_{name}.json").read_text())
    links = {link[0]: link for link in graph["links"]}
    [sampler] = [node for node in graph["nodes"] if node["type"] == "LongTalkSampler"]
    [encode] = [node for node in graph["nodes"] if node["type"] == "CLIPVisionEncode"]
    sources = {entry["name"]: links[entry["link"]][1:3] for entry in sampler["inputs"] if entry["link"] is not None}
    [seen] = [links[entry["link"]][1:3] for entry in encode["inputs"] if entry["name"] == "image"]
    assert sources["image"] == seen
    [scale] = [node for node in graph["nodes"] if node["id"] == seen[0]]
    scale["widgets_values"][1:3] = [320, 512]
    given = {"LoadImage": hair(640, 400), "GetImageSize": None}
    shown = run_upwards(graph, *seen, given)
    assert shown.shape == (1, 512, 320, 3)
    [measure] = [node for node in graph["nodes"] if node["type"] == "GetImageSize"]
    assert (sources["width"], sources["height"]) == ([measure["id"], 0], [measure["id"], 1])
    [measured] = [links[entry["link"]][1:3] for entry in measure["inputs"]]
    assert measured == seen


@pytest.fixture
def first_frame(parts: SimpleNamespace, make_audio: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the VAE is shown as the first frame of the sampler's reference."""
    import longtalk.nodes

    def run(image: torch.Tensor, **size: int) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        encode = type(parts.vae).encode

        def watch(self: Any, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(pixels[:1].clone())
            return encode(self, pixels)

        with monkeypatch.context() as patch:
            patch.setattr(type(parts.vae), "encode", watch)
            settings = sampler_settings(parts, image, audio=make_audio(0.2), steps=1, window_frames=5, motion_frames=1)
            longtalk.nodes.LongTalkSampler.execute(**{**settings, **size})
        return seen[0]

    return run


@pytest.mark.parametrize("size", [(1512, 1008), (1000, 1700), (96, 64), (60, 40)])
def test_a_picture_is_scaled_as_the_official_code_does(first_frame: Any, size: tuple[int, int]) -> None:
    """Pillow's bilinear, which averages over all pixels that one of the result covers."""
    image = vision.to_pil_image(hair(*size)[0].movedim(-1, 0))
    seen = first_frame(picture_of(image), width=96, height=64)
    scale = max(96 / size[0], 64 / size[1])
    left, top = (size[0] - 96 / scale) / 2, (size[1] - 64 / scale) / 2
    theirs = image.resize((96, 64), Image.Resampling.BILINEAR, box=(left, top, size[0] - left, size[1] - top))
    assert decibels(seen, picture_of(theirs)) > 45


def test_a_picture_of_another_shape_keeps_a_row(first_frame: Any) -> None:
    """4096x16 of 96x64 is less than one row."""
    assert first_frame(hair(96, 64), width=4096, height=16).shape == (1, 16, 4096, 3)


def test_ltx_compresses_a_picture_before_it_is_scaled(
    ltx: SimpleNamespace, make_audio: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ComfyUI's template video_ltx2_3_ia2v: longer side 1536, one frame of video, then the size of the video.

    By core's nodes: compression after scaling is another picture.
    """
    from comfy_extras.nodes_lt import LTXVPreprocess

    import longtalk.nodes
    from nodes import ImageScale

    picture, seen = hair(1920, 1280), []
    encode = type(ltx.vae).encode

    def watch(self: Any, pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.clone())
        return encode(self, pixels)

    monkeypatch.setattr(type(ltx.vae), "encode", watch)
    settings = ltx_settings(ltx, picture, audio=make_audio(0.2), steps=1, img_compression=30)
    longtalk.nodes.LongTalkLTXSampler.execute(**settings)

    (large,) = ImageScale().upscale(picture, "lanczos", 1536, 1024, "center")
    (compressed,) = LTXVPreprocess.execute(large, 30).result
    (theirs,) = ImageScale().upscale(compressed, "area", 96, 64, "center")
    (small,) = ImageScale().upscale(picture, "lanczos", 96, 64, "center")
    (other,) = LTXVPreprocess.execute(small, 30).result
    assert seen[0].shape == theirs.shape
    assert decibels(seen[0], theirs) > 38
    assert decibels(seen[0], theirs) > decibels(seen[0], other) + 6


def test_the_default_lets_an_ltx_picture_move(comfy: ModuleType) -> None:
    """0.7, as ComfyUI's template has it where motion is made."""
    import longtalk.nodes
    from longtalk.infinitetalk.host.ltx.run import LtxOptions

    [strength] = [
        each for each in longtalk.nodes.LongTalkLTXSampler.define_schema().inputs if each.id == "image_strength"
    ]
    assert strength.default == LtxOptions().image_strength == 0.7
    assert "stand still" in strength.tooltip


def test_the_ltx_workflow_has_the_template_s_strength(root: Path) -> None:
    from comfyui_workflow_templates_json import __file__ as package

    template = json.loads((Path(package).parent / "templates" / "video_ltx2_3_ia2v.json").read_text())
    strengths = {
        node["widgets_values"][0]
        for subgraph in template["definitions"]["subgraphs"]
        for node in subgraph["nodes"]
        if node["type"] == "LTXVImgToVideoInplace"
    }
    assert strengths == {0.7, 1}, "of the first stage, which makes the motion, and of the second, which sharpens it"
    graph = json.loads((root / "workflows" / "longtalk_ltx.json").read_text())
    [sampler] = [node for node in graph["nodes"] if node["type"] == "LongTalkLTXSampler"]
    assert sampler["widgets_values"][12] == min(strengths)
