"""The tiny LTX-2.3 files, in ComfyUI's own loaders and in the chain of its own nodes (support: ltx_chain)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ltx_chain
import pytest
import tiny_ltx_models
import torch
from ltx_chain import Settings, Window
from safetensors.torch import load_file

#: Three steps are enough to see that sampling moves what is free and leaves what is given.
SETTINGS = Settings(sigmas=torch.tensor([1.0, 0.9, 0.4, 0.0]), width=96, height=64, frames=33, overlap=2)

#: What the mask keeps has noise added and taken off again at every step.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def sound(make_audio: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Mono sound for two windows, at a rate that is neither the audio VAE's nor its spectrogram's."""
    return make_audio(3.0, rate=24000)


@pytest.fixture(scope="module")
def windows(ltx: SimpleNamespace, portrait: torch.Tensor, sound: dict[str, Any]) -> list[Window]:
    first = ltx_chain.first_window(ltx, SETTINGS, portrait, sound)
    return [first, ltx_chain.next_window(ltx, SETTINGS, first.video, sound)]


def largest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


# The files


@pytest.fixture
def loaders(comfy: ModuleType, tiny_models: Path) -> Iterator[None]:
    """The folders of the tiny models, among those that ComfyUI's loader nodes look into."""
    import folder_paths

    kinds = ("diffusion_models", "vae", "checkpoints")
    for kind in kinds:
        folder_paths.add_model_folder_path(kind, str(tiny_models / kind))
    yield
    for kind in kinds:
        folder_paths.folder_names_and_paths[kind][0].remove(str(tiny_models / kind))
        folder_paths.filename_list_cache.pop(kind, None)


def holds(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """A loader only warns of names and passes over some: all that the file holds is in the model, and nothing else."""
    loaded = module.state_dict()
    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(loaded[name], tensor.to(loaded[name].dtype)), name


@pytest.mark.usefixtures("loaders")
def test_comfyui_s_loader_nodes_load_the_files(tiny_models: Path) -> None:
    from comfy_extras.nodes_lt_audio import LTXVAudioVAELoader

    from nodes import UNETLoader, VAELoader

    def weights(key: str) -> dict[str, torch.Tensor]:
        return load_file(str(tiny_models / tiny_ltx_models.FILES[key]))

    def name(key: str) -> str:
        return Path(tiny_ltx_models.FILES[key]).name

    (model,) = UNETLoader().load_unet(name("ltx_diffusion"), "default")
    assert type(model.model).__name__ == "LTXAV"
    holds(model.model.diffusion_model, weights("ltx_diffusion"))
    config = model.model.model_config.unet_config
    assert {key: config[key] for key in tiny_ltx_models.TRANSFORMER} == tiny_ltx_models.TRANSFORMER

    (vae,) = VAELoader().load_vae(name("ltx_video_vae"))
    assert type(vae.first_stage_model).__name__ == "VideoVAE"
    holds(vae.first_stage_model, weights("ltx_video_vae"))

    (audio_vae,) = LTXVAudioVAELoader.execute(name("ltx_audio")).result
    assert type(audio_vae.first_stage_model).__name__ == "AudioVAE"
    checkpoint = weights("ltx_audio")
    holds(
        audio_vae.first_stage_model,
        {name.replace("audio_vae.", "autoencoder.", 1): tensor for name, tensor in checkpoint.items()},
    )
    assert audio_vae.first_stage_model.latents_per_second == ltx_chain.AUDIO_LATENTS_PER_SECOND
    assert audio_vae.first_stage_model.output_sample_rate == 48000


def test_everything_is_in_fp32(ltx: SimpleNamespace) -> None:
    for module in (ltx.model.model.diffusion_model, ltx.vae.first_stage_model, ltx.audio_vae.first_stage_model):
        assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    for ((text, extra),) in (ltx.positive, ltx.negative):
        assert text.dtype == torch.float32
        assert extra == {"pooled_output": None, "unprocessed_ltxav_embeds": True}
    assert not torch.equal(ltx.positive[0][0], ltx.negative[0][0])


def test_files_are_the_same_bytes_in_every_process_and_comfyui(
    comfy: ModuleType, tiny_models: Path, tmp_path: Path
) -> None:
    tiny_ltx_models.make_all(tmp_path)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == sorted(tiny_ltx_models.FILES.values())
    for name in written:
        assert (tmp_path / name).read_bytes() == (tiny_models / name).read_bytes(), name


# The VAEs


def test_different_latents_are_different_pictures_with_contrast(ltx: SimpleNamespace) -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = (
        ltx_chain.decoded(ltx, torch.randn((1, 128, 4, 2, 3), generator=generator) * scale) for scale in (1.0, 0.5)
    )
    for frames in (one, other):
        assert frames.shape == (25, 64, 96, 3)
        assert frames.min() >= 0
        assert frames.max() <= 1
        assert frames.std(dim=(1, 2, 3)).min() > 0.1
    assert (one - other).abs().mean(dim=(1, 2, 3)).min() > 0.1


def test_latents_are_about_as_large_as_noise(
    ltx: SimpleNamespace, portrait: torch.Tensor, sound: dict[str, Any]
) -> None:
    picture = ltx_chain.picture_latent(ltx, SETTINGS, portrait)["samples"][:, :, :1]
    speech = ltx_chain.audio_latent(ltx, SETTINGS, sound, 0)["samples"]
    assert 0.5 < picture.std() < 2
    assert 0.5 < speech.std() < 2
    assert speech.std(dim=2).mean() > 0.1, "the same at every moment"


def test_compression_changes_the_picture(ltx: SimpleNamespace, portrait: torch.Tensor) -> None:
    plain, compressed = (
        ltx_chain.picture_latent(ltx, dataclasses.replace(SETTINGS, img_compression=value), portrait)["samples"]
        for value in (0, 40)
    )
    exact = ltx.vae.encode(portrait)
    assert largest(plain[:, :, :1], exact) == 0
    assert largest(compressed[:, :, :1], exact) > 0.1


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0])
def test_sound_is_cut_where_the_window_is(ltx: SimpleNamespace, sound: dict[str, Any], fps: float) -> None:
    """A window that starts later hears what it would hear if the sound began there; its length is the frames'."""
    settings = dataclasses.replace(SETTINGS, fps=fps)
    start = settings.stride
    latent = ltx_chain.audio_latent(ltx, settings, sound, start)
    assert latent["samples"].shape == (1, 8, round(33 / fps * 25), 16)
    assert latent["noise_mask"].count_nonzero() == 0
    begun = {**sound, "waveform": sound["waveform"][..., round(start / fps * 24000) :]}
    assert torch.equal(ltx_chain.audio_latent(ltx, settings, begun, 0)["samples"], latent["samples"])
    late = {**sound, "waveform": sound["waveform"][..., round(start / fps * 24000) + 480 :]}
    assert largest(ltx_chain.audio_latent(ltx, settings, late, 0)["samples"], latent["samples"]) > 0.1


def test_after_its_end_the_sound_is_silent(ltx: SimpleNamespace, sound: dict[str, Any]) -> None:
    half = SETTINGS.frames / SETTINGS.fps / 2
    wave = sound["waveform"][..., : round(half * sound["sample_rate"])]
    silence = torch.nn.functional.pad(wave, (0, sound["sample_rate"]))
    ended, silent, going_on = (
        ltx_chain.audio_latent(ltx, SETTINGS, {**sound, "waveform": each}, 0)["samples"]
        for each in (wave, silence, sound["waveform"])
    )
    # Not quite the same: where the samples end, the resampling filter is cut off.
    assert largest(ended, silent) < 0.01
    assert largest(ended, going_on) > 0.1


# The chain


def test_two_windows(windows: list[Window]) -> None:
    assert (SETTINGS.latents, SETTINGS.audio_latents, SETTINGS.stride) == (5, 33, 24)
    for window in windows:
        assert window.video.shape == (1, 128, 5, 2, 3)
        assert window.audio.shape == (1, 8, 33, 16)
        assert window.frames.shape == (33, 64, 96, 3)
        for tensor in window:
            assert torch.isfinite(tensor).all()
        assert window.frames.std(dim=(1, 2, 3)).min() > 0.1
        assert 0.5 < window.video.std() < 4


def test_what_is_given_comes_back(
    ltx: SimpleNamespace, windows: list[Window], portrait: torch.Tensor, sound: dict[str, Any]
) -> None:
    first, second = windows
    picture = ltx_chain.picture_latent(ltx, SETTINGS, portrait)["samples"]
    assert largest(first.video[:, :, :1], picture[:, :, :1]) < ROUNDING
    assert largest(second.video[:, :, :2], first.video[:, :, -2:]) < ROUNDING
    for index, window in enumerate(windows):
        given = ltx_chain.audio_latent(ltx, SETTINGS, sound, index * SETTINGS.stride)
        assert largest(window.audio, given["samples"]) < ROUNDING
    assert largest(first.audio, second.audio) > 0.1


def test_windows_join(ltx: SimpleNamespace, windows: list[Window]) -> None:
    first, second = windows
    video = ltx_chain.joined(windows, SETTINGS.overlap)
    assert torch.equal(video[:, :, :5], first.video)
    assert torch.equal(video[:, :, 5:], second.video[:, :, 2:])
    frames = ltx_chain.decoded(ltx, video)
    assert frames.shape == (33 + SETTINGS.stride, 64, 96, 3)
    # A window decoded alone knows nothing of what follows; that shows at its end, and hardly at its beginning.
    apart = (frames[:33] - first.frames).abs().mean(dim=(1, 2, 3))
    assert apart[-1] > 0.03
    assert apart[0] < apart[-1] / 4


def test_the_same_window_again_is_the_same(ltx: SimpleNamespace, windows: list[Window], sound: dict[str, Any]) -> None:
    first, second = windows
    again = ltx_chain.next_window(ltx, SETTINGS, first.video, sound)
    for ours, theirs in zip(again, second, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("changed", ["seed", "sigmas", "cfg", "fps", "text", "sound", "earlier"])
def test_every_input_shows_in_the_new_latents(
    ltx: SimpleNamespace,
    windows: list[Window],
    sound: dict[str, Any],
    make_audio: Callable[..., dict[str, Any]],
    changed: str,
) -> None:
    """By at least half a percent, where two runs of the same differ by nothing: enough to see a mix-up."""
    first, second = windows
    fields: dict[str, Any] = {"seed": 4, "sigmas": torch.tensor([1.0, 0.5, 0.0]), "cfg": 3.0, "fps": 30.0}
    settings = dataclasses.replace(SETTINGS, **{name: fields[name] for name in fields if name == changed})
    parts = SimpleNamespace(**{**vars(ltx), **({"positive": ltx.negative} if changed == "text" else {})})
    audio = make_audio(3.0, rate=24000, seed=5) if changed == "sound" else sound
    earlier = first.video.flip(1) if changed == "earlier" else first.video
    new = ltx_chain.next_window(parts, settings, earlier, audio).video[:, :, 2:]
    wanted = second.video[:, :, 2:]
    assert (new - wanted).norm() / wanted.norm() > 0.005
