"""Three and four speakers, and silences before them, through the real nodes with the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_renderer, relative, sampler_settings
from watched import forwards_of, frames_hash, sound_seconds


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


@pytest.fixture(scope="module")
def tracks(make_audio: Callable[..., Any]) -> list[Any]:
    """Four voices at mixed rates, 0.8 s each."""
    return [make_audio(0.8, rate=rate, seed=seed) for seed, rate in enumerate((16000, 44100, 24000, 16000))]


def stripe(index: int) -> torch.Tensor:
    """A fifth of the picture each; the last fifth is background."""
    mask = torch.zeros(1, 64, 96)
    mask[:, 8:, 18 * index : 18 * index + 18] = 1
    return mask


MASKS = [stripe(index) for index in range(4)]


def make(nodes: ModuleType, tracks: list[Any], masks: list[Any], mode: str = "para", **changes: Any) -> Any:
    """The output of Speakers (LongTalk); None leaves an input unconnected."""
    inputs: dict[str, Any] = {"mode": mode}
    for number, (audio, mask) in enumerate(zip(tracks, masks, strict=True), start=1):
        inputs |= {f"audio_{number}": audio, f"mask_{number}": mask}
    return nodes.LongTalkSpeakers.execute(**{**inputs, **changes})[0]


def latents_of(nodes: ModuleType, parts: SimpleNamespace, image: torch.Tensor, speakers: Any, **scales: float) -> Any:
    speech = nodes.LongTalkEncodeSpeech.execute(parts.audio_encoder, "official", True, speakers=speakers)[0]
    assert len(speech.features) == speakers.count
    renderer, plan = make_renderer(parts, speech, image, window_frames=13, motion_frames=5, steps=1, **scales)
    return renderer.sample(plan.windows[0], {})


@pytest.mark.parametrize(("count", "mode", "frames"), [(3, "add", 63), (4, "para", 23)])
def test_a_video_with_several_speakers(
    nodes: ModuleType,
    parts: SimpleNamespace,
    tracks: list[Any],
    portrait: torch.Tensor,
    count: int,
    mode: str,
    frames: int,
) -> None:
    """The second begins 0.1 s late: 0.9 s side by side, 0.8 s each and the pause one after the other."""
    speakers = make(nodes, tracks[:count], MASKS[:count], mode, start_2=0.1)
    assert speakers.count == count
    settings = sampler_settings(parts, portrait, speakers=speakers, cfg=3.0, steps=1, return_images=True)
    with forwards_of(parts) as seen:
        video, images, report = nodes.LongTalkSampler.execute(**settings).result
    path = video.get_stream_source()
    assert set(seen) == {2}
    assert images.shape[0] == frames_hash(path)[0] == frames
    assert abs(sound_seconds(path) - frames / 25) < 0.04
    assert bool(torch.isfinite(images).all())
    assert f"{count} speaker(s)" in report
    assert "speaker 2 speaks from" in report


def test_exchanged_tracks_change_the_picture(
    nodes: ModuleType, parts: SimpleNamespace, tracks: list[Any], portrait: torch.Tensor
) -> None:
    """No speaker's voice is lost, and each is heard at its own mask."""
    usual = latents_of(nodes, parts, portrait, make(nodes, tracks, MASKS))
    for first, second in ((0, 1), (0, 2), (1, 3), (2, 3)):
        other = list(tracks)
        other[first], other[second] = other[second], other[first]
        changed = latents_of(nodes, parts, portrait, make(nodes, other, MASKS))
        assert relative(changed[:, :, 1:], usual[:, :, 1:]) > 1e-4, (first, second)


@pytest.mark.parametrize(("count", "order"), [(3, [2, 1, 0]), (4, [2, 3, 0, 1])])
def test_the_first_and_the_third_input_are_the_same_kind(
    nodes: ModuleType,
    parts: SimpleNamespace,
    tracks: list[Any],
    portrait: torch.Tensor,
    count: int,
    order: list[int],
) -> None:
    """Voice and mask together on the other input of the same side: the same video."""
    usual = latents_of(nodes, parts, portrait, make(nodes, tracks[:count], MASKS[:count]))
    moved = make(nodes, [tracks[index] for index in order], [MASKS[index] for index in order])
    assert relative(latents_of(nodes, parts, portrait, moved), usual) < 1e-5


def test_a_number_left_out_is_nobody(
    nodes: ModuleType, parts: SimpleNamespace, tracks: list[Any], portrait: torch.Tensor
) -> None:
    """The third speaker without a second is the second of two, under their own name."""
    two = make(nodes, tracks[:2], MASKS[:2], "add", start_2=0.2)
    skipped = make(nodes, [tracks[0], None, None, tracks[1]], [MASKS[0], None, None, MASKS[1]], "add", start_4=0.2)
    assert skipped.names == ("speaker 1", "speaker 4")
    assert skipped.frames == two.frames == 45
    assert torch.equal(latents_of(nodes, parts, portrait, skipped), latents_of(nodes, parts, portrait, two))


def test_batched_guidance_equals_one_by_one(
    nodes: ModuleType,
    parts: SimpleNamespace,
    tracks: list[Any],
    portrait: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speakers = make(nodes, tracks, MASKS)
    together = latents_of(nodes, parts, portrait, speakers, cfg=3.0, audio_cfg=2.0)
    monkeypatch.setattr(parts.model.model, "memory_required", lambda *args, **kwargs: 1e18)
    alone = latents_of(nodes, parts, portrait, speakers, cfg=3.0, audio_cfg=2.0)
    assert relative(together, alone) < 1e-5


def test_a_start_moves_the_voice(
    nodes: ModuleType, parts: SimpleNamespace, tracks: list[Any], portrait: torch.Tensor
) -> None:
    """One speaker too: silence, then exactly the track that was given, in the tracks and in the mix."""
    alone = make(nodes, tracks[:1], [None], start_1=0.4)
    assert (alone.count, alone.masks, alone.frames) == (1, None, 30)
    waveform = alone.arrangement.mix.waveform
    assert torch.count_nonzero(waveform[:, :6400]) == 0
    assert torch.equal(waveform[:, 6400:], tracks[0]["waveform"][0])

    latents = [
        latents_of(nodes, parts, portrait, make(nodes, tracks[:3], MASKS[:3], start_3=start)) for start in (0.0, 0.04)
    ]
    assert relative(latents[0][:, :, 1:], latents[1][:, :, 1:]) > 1e-4


def test_the_schema_only_grew(nodes: ModuleType) -> None:
    """What was there keeps its name and place; starts are widgets, the rest are sockets."""
    inputs = nodes.LongTalkSpeakers.define_schema().inputs
    assert [each.id for each in inputs] == [
        *("audio_1", "mode", "mask_1", "audio_2", "mask_2"),
        *("audio_3", "mask_3", "audio_4", "mask_4"),
        *("start_1", "start_2", "start_3", "start_4"),
    ]
    assert [each.id for each in inputs if not each.optional] == ["audio_1", "mode"]
    starts = [each for each in inputs if each.id.startswith("start")]
    assert {(each.default, each.min, each.max, each.step) for each in starts} == {(0.0, 0.0, 3600.0, 0.01)}


@pytest.fixture(params=["plain", "folded"])
def attention_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of the audio attention: the tiny model takes the plain one, the published ones the folded."""
    from longtalk.infinitetalk.host.wan import audio_patch

    monkeypatch.setattr(audio_patch, "is_worth_folding", lambda *sizes: request.param == "folded")
    return request.param


def deaf_video(nodes: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor, **speech: Any) -> torch.Tensor:
    """Frames of which the sampler takes nothing from the forward that hears: audio_cfg 0 leaves the deaf one."""
    settings = sampler_settings(parts, portrait, audio_cfg=0.0, return_images=True, **speech)
    _, images, _ = nodes.LongTalkSampler.execute(**settings).result
    return images


@pytest.mark.parametrize(("count", "batched"), [(2, True), (3, False)])
def test_absent_audio_is_one_person_s(
    nodes: ModuleType,
    parts: SimpleNamespace,
    tracks: list[Any],
    portrait: torch.Tensor,
    attention_path: str,
    count: int,
    batched: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The official code's forward without audio: zeros of one person, no speaker map, however many people speak."""
    if not batched:
        monkeypatch.setattr(parts.model.model, "memory_required", lambda *args, **kwargs: 1e18)
    alone = deaf_video(nodes, parts, portrait, audio=tracks[0])
    together = deaf_video(nodes, parts, portrait, speakers=make(nodes, tracks[:count], MASKS[:count]))
    assert torch.equal(together, alone) or relative(together, alone) < 1e-6


def test_absent_audio_is_core_s_forward_of_zeros(
    nodes: ModuleType, parts: SimpleNamespace, tracks: list[Any], portrait: torch.Tensor, core_patch: Any
) -> None:
    """Two speakers' forward without audio against core's own node, to which the features of one person are zeros."""
    from comfy_extras.nodes_wan import WanInfiniteTalkToVideo

    import nodes as core

    speech = nodes.LongTalkEncodeSpeech.execute(
        parts.audio_encoder, "official", True, speakers=make(nodes, tracks[:2], MASKS[:2])
    )[0]
    renderer, plan = make_renderer(parts, speech, portrait, steps=2, audio_cfg=0.0)
    ours = renderer.sample(plan.windows[0], {})

    silence = {"encoded_audio_all_layers": [torch.zeros(1, 100, 768)] * 13, "audio_samples": 32000}
    model, positive, negative, latent, _ = WanInfiniteTalkToVideo.execute(
        mode={"mode": "single_speaker"},
        model=parts.model,
        model_patch=core_patch,
        positive=parts.positive,
        negative=parts.negative,
        vae=parts.vae,
        width=96,
        height=64,
        length=plan.windows[0].length,
        audio_encoder_output_1=silence,
        motion_frame_count=9,
        start_image=portrait,
        audio_scale=1.0,
        clip_vision_output=parts.vision,
    ).result
    (theirs,) = core.common_ksampler(model, 5, 2, 1.0, "euler", "simple", positive, negative, latent)
    assert relative(ours[:, :, 1:], theirs["samples"][:, :, 1:]) < 1e-4
    heard, _ = make_renderer(parts, speech, portrait, steps=2, audio_cfg=1.0)
    assert relative(heard.sample(plan.windows[0], {})[:, :, 1:], theirs["samples"][:, :, 1:]) > 1e-3
