"""What users connect wrongly: each gets LongTalk's own error with expected, actual and next action, or simply works."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_renderer, sampler_settings
from safetensors.torch import load_file, save_file

from longtalk.base.errors import LongTalkError


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LongTalkError]:
    """Runs a call that must be refused before any model is loaded, with every word a user needs."""
    import comfy.model_management

    def check(call: Callable[[], Any], *words: str) -> LongTalkError:
        loaded: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(comfy.model_management, "load_models_gpu", lambda *args, **kwargs: loaded.append(args))
            with pytest.raises(LongTalkError) as caught:
                call()
        text = str(caught.value)
        for word in words:
            assert word in text, text
        assert caught.value.expected
        assert caught.value.actual
        assert len(caught.value.action.split()) >= 2
        assert not loaded, "a model was loaded before the input was refused"
        return caught.value

    return check


def sampler(nodes: ModuleType, parts: SimpleNamespace, image: Any, **changes: Any) -> Callable[[], Any]:
    """The sampler with one thing wrong; everything else, the speech included, is in order."""
    small: dict[str, Any] = {"width": 64, "height": 48, "steps": 1, "window_frames": 13, "motion_frames": 5}
    if "speakers" not in changes:
        small["audio"] = audio()
    settings = sampler_settings(parts, image, **{**small, **changes})
    return lambda: nodes.LongTalkSampler.execute(**settings)


def audio(samples: int = 16000, rate: int = 16000, value: float = 0.3) -> dict[str, Any]:
    wave = value * torch.sin(torch.arange(samples) * 0.05)
    return {"waveform": wave[None, None], "sample_rate": rate}


def text(width: int) -> Any:
    return [[torch.zeros(1, 77, width), {}]]


def vision(width: int) -> Any:
    return SimpleNamespace(penultimate_hidden_states=torch.zeros(1, 257, width))


def other_vae() -> Any:
    return SimpleNamespace(latent_channels=48, latent_dim=3, spacial_compression_encode=lambda: 16)


BAD_SETTINGS = {
    "no model": ({"model": None}, ("model", "wan2.1_i2v", "nothing")),
    "not a model": ({"model": "x"}, ("model", "str")),
    "no patch": ({"model_patch": None}, ("model_patch", "infiniteTalk", "nothing")),
    "not a patch": ({"model_patch": SimpleNamespace(model=torch.nn.Linear(1, 1))}, ("model_patch", "Linear")),
    "no vae": ({"vae": None}, ("vae", "nothing")),
    "wan 2.2 vae": ({"vae": other_vae()}, ("vae", "48 channels", "wan2.2_vae", "wan_2.1_vae")),
    "wrong text encoder": ({"positive": text(768)}, ("positive", "768", "umt5")),
    "wrong negative": ({"negative": text(2048)}, ("negative", "2048", "umt5")),
    "no text": ({"positive": []}, ("positive", "nothing")),
    "wrong clip vision": ({"clip_vision_output": vision(1024)}, ("1280", "1024", "clip_vision_h")),
    "no audio": ({"audio": None}, ("audio",)),
    "empty audio": ({"audio": audio(0)}, ("audio",)),
    "one sample": ({"audio": audio(1)}, ("audio", "0.04")),
    "silent audio": ({"audio": audio(value=0.0)}, ("audio", "silence")),
    "nan audio": ({"audio": audio(value=math.nan)}, ("audio", "NaN")),
    "inf audio": ({"audio": audio(value=math.inf)}, ("audio",)),
    "zero rate": ({"audio": audio(rate=0)}, ("rate",)),
    "audio is a path": ({"audio": "speech.wav"}, ("audio", "str")),
    "two audios in a batch": ({"audio": {"waveform": torch.rand(2, 1, 9000), "sample_rate": 16000}}, ("batch", "2")),
    "no encoder": ({"audio": audio(), "audio_encoder": None}, ("audio_encoder", "wav2vec2-chinese-base")),
    "window not 4n+1": ({"audio": audio(), "window_frames": 80}, ("80", "81")),
    "motion not 4k+1": ({"audio": audio(), "motion_frames": 8}, ("8", "9")),
    "motion as long as the window": ({"audio": audio(), "motion_frames": 13}, ("13",)),
    "tiny size": ({"audio": audio(), "width": 8}, ("16",)),
    "bad codec": ({"audio": audio(), "codec": "gif"}, ("gif", "h264")),
    "bad features": ({"audio": audio(), "features": "fast"}, ("fast", "official")),
    "speakers is an audio": ({"speakers": audio()}, ("speakers", "dict")),
    "image batch": ({"audio": audio(), "image": torch.rand(3, 48, 64, 3)}, ("image", "3")),
    "image is a mask": ({"audio": audio(), "image": torch.rand(48, 64, 1)}, ("image",)),
    "image with nan": ({"audio": audio(), "image": torch.full((1, 48, 64, 3), math.nan)}, ("image", "NaN")),
    "no image": ({"audio": audio(), "image": None}, ("image", "NoneType")),
    "soundtrack with nan": ({"audio": audio(), "soundtrack": audio(value=math.nan)}, ("soundtrack", "NaN")),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_sampler_refuses(
    nodes: ModuleType,
    parts: SimpleNamespace,
    portrait: torch.Tensor,
    refused: Callable[..., LongTalkError],
    name: str,
) -> None:
    changes, words = BAD_SETTINGS[name]
    refused(
        sampler(nodes, parts, changes.get("image", portrait), **{k: v for k, v in changes.items() if k != "image"}),
        *words,
    )


def test_both_audio_and_speakers_are_refused(
    nodes: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor, refused: Callable[..., LongTalkError]
) -> None:
    speakers = nodes.LongTalkSpeakers.execute(audio(), "para")[0]
    refused(sampler(nodes, parts, portrait, audio=audio(), speakers=speakers), "both")


def mask(value: float = 1.0, rows: int = 48, columns: int = 64, batch: int = 1) -> torch.Tensor:
    out = torch.zeros(batch, rows, columns)
    out[:, :, : columns // 2] = value
    return out


def top(rows: int = 48) -> torch.Tensor:
    """The upper half, which overlaps both halves."""
    out = torch.zeros(1, rows, 64)
    out[:, : rows // 2] = 1
    return out


TWO = (audio(), "para", mask(), audio(9000), mask().flip(-1))
BAD_SPEAKERS = {
    "no masks": ((audio(), "para", None, audio(9000), None), ("mask of speaker 1", "2 masks")),
    "one mask": ((audio(), "para", mask(), audio(9000), None), ("mask of speaker 2",)),
    "second mask only": ((audio(), "para", None, audio(9000), mask()), ("mask of speaker 1",)),
    "mask without audio": ((audio(), "para", mask(), None, mask()), ("speaker 2",)),
    "black mask": ((audio(), "para", mask(), audio(9000), mask(0.0)), ("mask of speaker 2", "black")),
    "the same mask": ((audio(), "para", mask(), audio(9000), mask()), ("same",)),
    "masks of two sizes": ((audio(), "para", mask(), audio(9000), mask(columns=32).flip(-1)), ("64x48", "32x48")),
    "mask batch": ((audio(), "para", mask(batch=2), audio(9000), mask().flip(-1)), ("batch of 2",)),
    "mask is an image": ((audio(), "para", torch.rand(1, 48, 64, 3), audio(9000), mask()), ("mask of speaker 1",)),
    "nan mask": ((audio(), "para", mask(math.nan), audio(9000), mask().flip(-1)), ("NaN",)),
    "both silent": ((audio(value=0.0), "para", mask(), audio(9000, value=0.0), mask().flip(-1)), ("silence",)),
    "unknown mode": ((audio(), "both", mask(), audio(9000), mask().flip(-1)), ("both", "para")),
    "third mask missing": ((*TWO, audio(9000), None), ("mask of speaker 3", "3 masks", "covers speaker 3")),
    "third audio missing": ((*TWO, None, top()), ("speaker 3", "nothing")),
    "third the same as the first": ((*TWO, audio(9000), mask()), ("masks of speaker 1 and speaker 3", "same")),
    "second left out, the same mask": (
        (audio(), "para", mask(), None, None, audio(9000), mask()),
        ("masks of speaker 1 and speaker 3",),
    ),
    "fourth of another size": (
        (*TWO, None, None, audio(9000), top(24)),
        ("64x48 for speaker 1", "64x24 for speaker 4"),
    ),
    "fourth black": ((*TWO, audio(9000), top(), audio(), mask(0.0)), ("mask of speaker 4", "black")),
}


@pytest.mark.parametrize("name", BAD_SPEAKERS)
def test_speakers_refuse(nodes: ModuleType, refused: Callable[..., LongTalkError], name: str) -> None:
    arguments, words = BAD_SPEAKERS[name]
    refused(lambda: nodes.LongTalkSpeakers.execute(*arguments), *words)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("start_s", [-1.0, 3601.0, math.nan, "2"])
def test_speakers_refuse_a_start(
    nodes: ModuleType, refused: Callable[..., LongTalkError], number: int, start_s: Any
) -> None:
    starts = {f"start_{number}": start_s}
    refused(
        lambda: nodes.LongTalkSpeakers.execute(*TWO, audio(9000), top(), **starts),
        f"start of speaker {number}",
        "0 to 3600",
    )


def test_a_start_of_nobody_is_not_looked_at(nodes: ModuleType) -> None:
    plain = nodes.LongTalkSpeakers.execute(*TWO)[0]
    with_start = nodes.LongTalkSpeakers.execute(*TWO, start_3=7.0, start_4=-1.0)[0]
    assert with_start.frames == plain.frames == 25


def test_a_speaker_outside_the_cropped_picture_is_named(
    nodes: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor, refused: Callable[..., LongTalkError]
) -> None:
    """A wide picture cropped to a square one loses who stands at its edge."""
    edge = torch.zeros(1, 48, 200)
    edge[:, :, 190:] = 1
    middle = torch.zeros(1, 48, 200)
    middle[:, :, 90:110] = 1
    speakers = nodes.LongTalkSpeakers.execute(audio(), "para", middle, audio(9000), edge)[0]
    skipped = nodes.LongTalkSpeakers.execute(audio(), "para", middle, audio_4=audio(9000), mask_4=edge)[0]
    from longtalk.infinitetalk.model.speakers import Speech

    speech = Speech(speakers, tuple(torch.zeros(25, 12, 768) for _ in range(2)), ())
    refused(lambda: make_renderer(parts, speech, portrait, width=48, height=48), "mask of speaker 2", "cropping")
    speech = Speech(skipped, speech.features, ())
    refused(lambda: make_renderer(parts, speech, portrait, width=48, height=48), "mask of speaker 4", "cropping")


def test_wrong_model_width_is_named(
    nodes: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor, refused: Callable[..., LongTalkError]
) -> None:
    from longtalk.infinitetalk.model.audio_attention import InfiniteTalkModel

    wide = SimpleNamespace(model=InfiniteTalkModel(40, 2, intermediate=4))
    refused(sampler(nodes, parts, portrait, audio=audio(), model_patch=wide), "640", "40")
    short = SimpleNamespace(model=InfiniteTalkModel(640, 1, intermediate=4))
    refused(sampler(nodes, parts, portrait, audio=audio(), model_patch=short), "2 blocks", "got 1")


def test_context_windows_are_refused(
    nodes: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor, refused: Callable[..., LongTalkError]
) -> None:
    model = parts.model.clone()
    model.model_options["context_handler"] = object()
    refused(sampler(nodes, parts, portrait, audio=audio(), model=model), "context window")


def test_no_steps_are_refused(
    nodes: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor, refused: Callable[..., LongTalkError]
) -> None:
    import comfy.samplers

    from longtalk.infinitetalk.host.noise import SeedNoise
    from longtalk.infinitetalk.model.speakers import Speech

    speakers = nodes.LongTalkSpeakers.execute(audio(), "para")[0]
    settings = {
        "model_patch": parts.patch,
        "speech": Speech(speakers, (torch.zeros(25, 12, 768),), ()),
        "vae": parts.vae,
        "image": portrait,
        "noise": SeedNoise(1),
        "sampler": comfy.samplers.sampler_object("euler"),
        "sigmas": torch.zeros(0),
        "width": 64,
        "height": 48,
        "cfg": 1.0,
        "audio_cfg": 1.0,
        "audio_scale": 1.0,
        "window_frames": 13,
        "motion_frames": 5,
        "plan_mode": "exact",
        "codec": "h264",
        "crf": 23,
        "return_images": False,
        "model": parts.model,
        "positive": parts.positive,
        "negative": parts.negative,
    }
    refused(lambda: nodes.LongTalkSamplerAdvanced.execute(**settings), "sigmas", "0 steps")
    refused(lambda: nodes.LongTalkSamplerAdvanced.execute(**{**settings, "speech": audio()}), "speech", "Encode Speech")
    refused(lambda: nodes.LongTalkSamplerAdvanced.execute(**{**settings, "model": None}), "model", "nothing")
    guider = nodes.LongTalkGuider.execute(parts.model, parts.positive, parts.negative, 1.0, 1.0)[0]
    refused(lambda: nodes.LongTalkSamplerAdvanced.execute(**{**settings, "guider": guider}), "guider", "both")


def test_large_and_incomplete_encoders_are_refused(comfy: ModuleType, parts: SimpleNamespace) -> None:
    import comfy.ops
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    from longtalk.audio.encoder.features import check_encoder

    with torch.device("meta"):
        large = Wav2Vec2Model(dtype=torch.float32, operations=comfy.ops.manual_cast)
    with pytest.raises(LongTalkError, match=r"24.*1024.*wav2vec2-chinese-base"):
        check_encoder(large)
    with pytest.raises(LongTalkError, match="wav2vec2-chinese-base"):
        check_encoder(torch.nn.Linear(2, 2))
    check_encoder(parts.audio_encoder.model)


def test_an_encoder_file_with_missing_weights_is_refused(
    comfy: ModuleType, tiny_models: Path, parts: SimpleNamespace, nodes: ModuleType
) -> None:
    """Core only logs what is missing and goes on with whatever lies in memory."""
    import comfy.audio_encoders.audio_encoders

    weights = load_file(str(tiny_models / "audio_encoders" / "longtalk_tiny_wav2vec2.safetensors"))
    cut = {name: tensor for name, tensor in weights.items() if not name.startswith("encoder.layers.7.")}
    encoder = comfy.audio_encoders.audio_encoders.load_audio_encoder_from_sd(cut)
    for name, parameter in encoder.model.named_parameters():
        if name.startswith("encoder.layers.7."):
            parameter.zero_()  # what uninitialised memory usually holds; here made certain
    with pytest.raises(LongTalkError, match=r"encoder\.layers\.7"):
        nodes.LongTalkEncodeSpeech.execute(encoder, "official", True, audio=audio())


def test_unusual_but_good_audio_works(nodes: ModuleType) -> None:
    for sound in (
        audio(4410, rate=44100),
        audio(19200, rate=192000),
        {"waveform": torch.rand(1, 8, 5000) * 3 - 1.5, "sample_rate": 48000},
        {"waveform": torch.rand(2, 5000) - 0.5, "sample_rate": 8000},
    ):
        report = nodes.LongTalkPlan.execute(13, 5, "exact", audio=sound)[1]
        assert "frames" in report


def test_odd_size_is_snapped_and_reported(nodes: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor) -> None:
    video, _, report = sampler(nodes, parts, portrait, audio=audio(6400), width=70, height=50)().result
    assert video.get_dimensions() == (64, 48)
    assert "70x50" in report
    assert "64x48" in report


def tiny_patch(tiny_models: Path) -> dict[str, torch.Tensor]:
    return load_file(str(tiny_models / "model_patches" / "longtalk_tiny_infinitetalk.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_patch_keeps_the_files_dtype(comfy: ModuleType, tiny_models: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    path = tmp_path / "patch.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in tiny_patch(tiny_models).items()}, str(path))
    patch = load_patch(path)
    assert {parameter.dtype for parameter in patch.model.parameters()} == {dtype}


def test_half_precision_patch_runs_in_a_full_precision_model(
    nodes: ModuleType, parts: SimpleNamespace, tiny_models: Path, tmp_path: Path, portrait: torch.Tensor
) -> None:
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    path = tmp_path / "half.safetensors"
    save_file({name: tensor.half() for name, tensor in tiny_patch(tiny_models).items()}, str(path))
    images = sampler(
        nodes,
        parts,
        portrait,
        audio=audio(6400),
        model_patch=load_patch(path),
        cfg=2.0,
        audio_cfg=2.0,
        return_images=True,
    )()[1]
    assert bool(torch.isfinite(images).all())


def test_scaled_fp8_patch_is_loaded(comfy: ModuleType, tiny_models: Path, tmp_path: Path) -> None:
    from longtalk.infinitetalk.host.wan.layer_weights import layer_weights
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    original = tiny_patch(tiny_models)
    scaled: dict[str, torch.Tensor] = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    for name, tensor in original.items():
        if tensor.ndim == 2:
            scale = tensor.abs().max() / 448
            scaled["diffusion_model." + name] = (tensor / scale).to(torch.float8_e4m3fn)
            scaled["diffusion_model." + name.removesuffix("weight") + "scale_weight"] = scale
        else:
            scaled["diffusion_model." + name] = tensor.half()
    path = tmp_path / "fp8.safetensors"
    save_file(scaled, str(path))
    model = load_patch(path).model
    assert model.audio_proj.norm.weight.dtype == torch.float16
    for name, tensor in original.items():
        with layer_weights(model.get_submodule(name.rpartition(".")[0]), torch.zeros(1)) as (weight, bias):
            loaded = weight if name.endswith("weight") else bias
        assert float((loaded - tensor).norm() / tensor.norm()) < 0.04


def test_wrong_patch_files_say_what_they_are(comfy: ModuleType, tiny_models: Path, tmp_path: Path) -> None:
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    def expect(path: Path, *words: str) -> None:
        with pytest.raises(LongTalkError) as caught:
            load_patch(path)
        for word in (path.name, *words):
            assert word in str(caught.value), str(caught.value)

    expect(tiny_models / "diffusion_models" / "longtalk_tiny_wan_i2v.safetensors", "a diffusion model", "Diffusion")
    expect(tiny_models / "vae" / "longtalk_tiny_wan_vae.safetensors", "a VAE")
    expect(tiny_models / "audio_encoders" / "longtalk_tiny_wav2vec2.safetensors", "a speech encoder")
    lora = tmp_path / "lora.safetensors"
    save_file({"diffusion_model.blocks.0.self_attn.q.lora_up.weight": torch.zeros(2, 2)}, str(lora))
    expect(lora, "a LoRA")
    gguf = tmp_path / "patch.gguf"
    gguf.write_bytes(b"GGUF" + bytes(64))
    expect(gguf, "GGUF")
    pickled = tmp_path / "patch.pt"
    torch.save({"a": torch.zeros(1)}, pickled)
    expect(pickled, "pickled")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((10**15).to_bytes(8, "little") + b"{}")
    expect(broken, "not valid safetensors")
    empty = tmp_path / "empty.safetensors"
    empty.write_bytes(b"")
    expect(empty, "not valid safetensors")
    cut = tmp_path / "cut.safetensors"
    weights = tiny_patch(tiny_models)
    del weights["blocks.1.norm_x.bias"]
    save_file(weights, str(cut))
    expect(cut, "1 missing", "blocks.1.norm_x.bias")
    other = tmp_path / "other.safetensors"
    weights = tiny_patch(tiny_models)
    weights["audio_proj.proj1.weight"] = torch.zeros(32, 100)
    save_file(weights, str(other))
    expect(other, "wav2vec2-base")
