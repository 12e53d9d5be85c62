"""The nodes end to end, in the ComfyUI process: guidance, speakers, scales, overrides, interrupt, output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import av
import pytest
import torch
from comfy_runs import make_renderer, make_speech, relative, sampler_settings
from watched import forwards_of, sound_seconds

SIZE = {"width": 96, "height": 64}


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


def halves() -> tuple[torch.Tensor, torch.Tensor]:
    left = torch.zeros(1, 64, 96)
    left[:, 8:56, 4:40] = 1
    return left, left.flip(-1)


def run_sampler(nodes: ModuleType, parts: SimpleNamespace, image: torch.Tensor, **changes: Any) -> Any:
    return nodes.LongTalkSampler.execute(**sampler_settings(parts, image, **changes))


def count_frames(path: str) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def test_one_speaker_gives_a_video_of_exactly_the_audios_length(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    from comfy_api.latest import Input

    audio = make_audio(1.5, rate=44100, channels=2)
    video, images, report = run_sampler(nodes, parts, portrait, audio=audio, return_images=True).result
    assert isinstance(video, Input.Video)
    path = video.get_stream_source()
    assert isinstance(path, str)
    assert count_frames(path) == 38  # ceil(1.5 * 25)
    assert abs(sound_seconds(path) - 1.5) < 0.04
    assert video.get_dimensions() == (96, 64)
    assert images.shape == (38, 64, 96, 3)
    assert "38 frames" in report


def test_lossless_video_holds_exactly_the_returned_images(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    import folder_paths

    output = run_sampler(nodes, parts, portrait, audio=make_audio(1.0), codec="ffv1", steps=1, return_images=True)
    video, images, report = output.result
    with av.open(video.get_stream_source()) as container:
        decoded = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert torch.equal(torch.stack(decoded), (images.clamp(0, 1) * 255 + 0.5).to(torch.uint8))  # halves up
    assert video.get_stream_source().startswith(folder_paths.get_output_directory())
    assert video.get_stream_source() in report


def test_images_are_blocked_unless_asked_for(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    from comfy_execution.graph_utils import ExecutionBlocker

    output = run_sampler(nodes, parts, portrait, audio=make_audio(0.5), steps=1)
    assert isinstance(output.result[1], ExecutionBlocker)
    assert "return_images" in output.result[1].message


def test_images_that_do_not_fit_are_refused(
    nodes: ModuleType,
    parts: SimpleNamespace,
    make_audio: Callable[..., Any],
    portrait: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import comfy.model_management

    from longtalk.base.errors import LongTalkError

    original = comfy.model_management.get_free_memory

    def little(device: torch.device | None = None, torch_free_too: bool = False) -> Any:
        return original(device, True) if torch_free_too else 1e5  # attention asks with True

    monkeypatch.setattr(comfy.model_management, "get_free_memory", little)
    with pytest.raises(LongTalkError, match="return_images"):
        run_sampler(nodes, parts, portrait, audio=make_audio(0.5), return_images=True)


def test_a_soundtrack_of_its_own_is_muxed_and_its_length_noted(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    """The voice makes the features, the original goes into the video (cut where the video ends)."""
    music = make_audio(2.0, rate=48000, channels=2, seed=4)
    video, _, report = run_sampler(nodes, parts, portrait, audio=make_audio(1.0), soundtrack=music, steps=1).result
    path = video.get_stream_source()
    assert count_frames(path) == 25
    assert abs(sound_seconds(path) - 1.0) < 0.04
    with av.open(path) as container:
        assert container.streams.audio[0].layout.nb_channels == 2
    assert "soundtrack is 2.00 s, the video 1.00 s" in report


def test_aligned_down_cuts_picture_and_sound(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    audio = make_audio(1.2)  # 30 frames; 21 is the largest aligned count of 21 + 12 k
    video, _, report = run_sampler(nodes, parts, portrait, audio=audio, plan_mode="aligned_down", steps=1).result
    path = video.get_stream_source()
    assert count_frames(path) == 21
    assert abs(sound_seconds(path) - 21 / 25) < 0.04
    assert "cut at its end" in report


@pytest.mark.parametrize("mode", ["para", "add"])
def test_two_speakers_with_text_guidance_batched(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor, mode: str
) -> None:
    """CFG 3 batches the positive and negative forwards; core's own modules crash there."""
    mask_1, mask_2 = halves()
    speakers = nodes.LongTalkSpeakers.execute(
        make_audio(0.9), mode, mask_1, make_audio(0.6, rate=24000, seed=2), mask_2
    )[0]
    with forwards_of(parts) as seen:
        video, images, _ = run_sampler(nodes, parts, portrait, speakers=speakers, cfg=3.0, return_images=True).result
    assert set(seen) == {2}
    assert images.shape[0] == count_frames(video.get_stream_source()) == (23 if mode == "para" else 38)
    assert bool(torch.isfinite(images).all())


def two_speaker_speech(nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any]) -> Any:
    mask_1, mask_2 = halves()
    speakers = nodes.LongTalkSpeakers.execute(make_audio(0.8), "para", mask_1, make_audio(0.8, seed=2), mask_2)[0]
    return nodes.LongTalkEncodeSpeech.execute(parts.audio_encoder, "official", True, speakers=speakers)[0]


def test_batched_guidance_equals_one_by_one(
    nodes: ModuleType,
    parts: SimpleNamespace,
    make_audio: Callable[..., Any],
    portrait: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The result must not depend on whether the forwards fit into one batch."""
    speech = two_speaker_speech(nodes, parts, make_audio)
    renderer, plan = make_renderer(parts, speech, portrait, cfg=3.0, audio_cfg=2.0)
    together = renderer.sample(plan.windows[0], {})
    monkeypatch.setattr(parts.model.model, "memory_required", lambda *args, **kwargs: 1e18)
    renderer, plan = make_renderer(parts, speech, portrait, cfg=3.0, audio_cfg=2.0)
    alone = renderer.sample(plan.windows[0], {})
    assert relative(together, alone) < 1e-5


def test_swapped_masks_change_the_picture(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    mask_1, mask_2 = halves()
    tracks = make_audio(0.8), make_audio(0.8, seed=2)
    latents = []
    for masks in ((mask_1, mask_2), (mask_2, mask_1)):
        speakers = nodes.LongTalkSpeakers.execute(tracks[0], "para", masks[0], tracks[1], masks[1])[0]
        speech = nodes.LongTalkEncodeSpeech.execute(parts.audio_encoder, "official", True, speakers=speakers)[0]
        renderer, plan = make_renderer(parts, speech, portrait)
        latents.append(renderer.sample(plan.windows[0], {}))
    assert relative(latents[0][:, :, 1:], latents[1][:, :, 1:]) > 1e-4


@pytest.mark.parametrize(("cfg", "audio_cfg", "forwards"), [(1.0, 1.0, 1), (3.0, 1.0, 2), (1.0, 2.5, 2), (5.0, 4.0, 3)])
def test_guidance_equals_the_formula_by_hand(
    parts: SimpleNamespace,
    make_audio: Callable[..., Any],
    portrait: torch.Tensor,
    cfg: float,
    audio_cfg: float,
    forwards: int,
) -> None:
    """One step from sigma 1 to 0 returns the guided prediction itself; each term is predicted on its own."""
    speech = make_speech(parts, make_audio(0.5), features="official")
    sigmas = torch.tensor([1.0, 0.0])

    def predict(positive: Any, hears: bool, **scales: float) -> torch.Tensor:
        swapped = SimpleNamespace(**{**vars(parts), "positive": positive})
        features = speech.features if hears else tuple(torch.zeros_like(track) for track in speech.features)
        heard = replace(speech, features=features)
        renderer, plan = make_renderer(swapped, heard, portrait, sigmas=sigmas, **scales)
        return renderer.sample(plan.windows[0], {})[:, :, 1:].double()

    told = predict(parts.positive, True)
    untold = predict(parts.negative, True)
    told_deaf = predict(parts.positive, False)
    untold_deaf = predict(parts.negative, False)
    if audio_cfg == 1.0:
        expected = untold + cfg * (told - untold)
    elif cfg == 1.0:
        expected = told_deaf + audio_cfg * (told - told_deaf)
    else:
        expected = untold_deaf + cfg * (told - untold) + audio_cfg * (untold - untold_deaf)

    with forwards_of(parts) as seen:
        ours = predict(parts.positive, True, cfg=cfg, audio_cfg=audio_cfg)
    assert sum(seen) == forwards
    assert relative(ours, expected) < 1e-5
    # Every term counts: leaving the deaf prediction out would be seen.
    if audio_cfg != 1.0:
        assert relative(ours, told) > 1e-3


def test_audio_scale_zero_costs_nothing(
    parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    speech = make_speech(parts, make_audio(0.5))
    calls = []
    hook = parts.patch.model.register_forward_pre_hook(lambda *args: calls.append(1))
    hooks = [layer.register_forward_pre_hook(lambda *args: calls.append(1)) for layer in parts.patch.model.modules()]
    try:
        renderer, plan = make_renderer(parts, speech, portrait, audio_scale=0.0, audio_cfg=3.0, cfg=2.0)
        silent = renderer.sample(plan.windows[0], {})
        assert not calls
        assert renderer._model.model_patches_models() == []
        renderer, plan = make_renderer(parts, speech, portrait, audio_scale=1.0)
        renderer.sample(plan.windows[0], {})
        assert calls
    finally:
        for entry in (hook, *hooks):
            entry.remove()
    assert bool(torch.isfinite(silent).all())


def test_audio_attention_follows_overrides(
    parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    seen = Mock()  # one for all windows, where a list would be fresh in each

    def override(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        seen(kwargs.get("heads", args[3] if len(args) > 3 else None))
        return function(*args, **kwargs)

    model = parts.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    renderer, plan = make_renderer(
        SimpleNamespace(**{**vars(parts), "model": model}), make_speech(parts, make_audio(0.5)), portrait, steps=2
    )
    renderer.sample(plan.windows[0], {})
    assert seen.call_args_list.count(call(40)) == 2 * len(
        parts.patch.model.blocks
    )  # the audio attention has 40 heads, the model 5


def test_model_is_left_as_it_was(
    parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    def state() -> tuple[Any, ...]:
        options = parts.model.model_options["transformer_options"]
        return (
            sorted(options),
            {name: len(entries) for name, entries in options.get("patches", {}).items()},
            dict(parts.model.wrappers),
        )

    before = state()
    renderer, plan = make_renderer(parts, make_speech(parts, make_audio(0.5)), portrait)
    renderer.sample(plan.windows[0], {})
    assert state() == before


def test_pinned_latents_come_back_unchanged(
    parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    renderer, plan = make_renderer(parts, make_speech(parts, make_audio(1.2)), portrait, sampler_name="dpmpp_sde")
    rendered = renderer.render(plan.windows[0], {})
    out = renderer.sample(plan.windows[1], renderer.hand_on(plan.windows[0], {}, rendered))
    pinned = parts.vae.encode(rendered.frames[-plan.motion_frames :])
    assert pinned.shape[2] == plan.windows[1].pinned_latents == 3
    torch.testing.assert_close(out[:, :, :3], pinned)


def test_interrupt_stops_within_one_step(
    parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    import comfy.model_management

    renderer, plan = make_renderer(parts, make_speech(parts, make_audio(0.5)), portrait, steps=6)

    def interrupt_in_third(count: int) -> None:
        if count == 3:
            comfy.model_management.interrupt_current_processing()

    try:
        with (
            forwards_of(parts, interrupt_in_third) as steps,
            pytest.raises(comfy.model_management.InterruptProcessingException),
        ):
            renderer.sample(plan.windows[0], {})
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert len(steps) == 3


def test_preview_shows_a_frame_that_moves(
    parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import latent_preview

    shown = []

    class Previewer:
        def decode_latent_to_preview_image(self, preview_format: str, x0: torch.Tensor) -> None:
            shown.append(x0.clone())

    monkeypatch.setattr(latent_preview, "get_previewer", lambda *args: Previewer())
    renderer, plan = make_renderer(parts, make_speech(parts, make_audio(1.2)), portrait, steps=2)
    carry = renderer.hand_on(plan.windows[0], {}, renderer.render(plan.windows[0], {}))
    shown.clear()
    out = renderer.sample(plan.windows[1], carry)
    last = parts.model.model.process_latent_out(shown[-1])
    assert last.shape[2] == 1
    distances = [relative(last, out[:, :, frame : frame + 1]) for frame in range(out.shape[2])]
    nearest = distances.index(min(distances))
    assert distances[nearest] < 1e-4
    assert nearest >= plan.windows[1].pinned_latents


def test_advanced_equals_the_simple_sampler(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: Callable[..., Any], portrait: torch.Tensor
) -> None:
    """The same run through NOISE, SAMPLER, SIGMAS and a core CFGGuider, or our guider, or model and prompts."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import CFGGuider, RandomNoise

    audio = make_audio(1.0)
    simple = run_sampler(nodes, parts, portrait, audio=audio, cfg=2.0, return_images=True).result[1]
    speech = nodes.LongTalkEncodeSpeech.execute(parts.audio_encoder, "official", True, audio=audio)[0]
    model = parts.model
    ways = [
        {"guider": CFGGuider.execute(model, parts.positive, parts.negative, 2.0)[0]},
        {"guider": nodes.LongTalkGuider.execute(model, parts.positive, parts.negative, 2.0, 1.0)[0]},
        {"model": model, "positive": parts.positive, "negative": parts.negative, "cfg": 2.0},
    ]
    for way in ways:
        settings = {
            "model_patch": parts.patch,
            "speech": speech,
            "vae": parts.vae,
            "image": portrait,
            "noise": RandomNoise.execute(3)[0],
            "sampler": comfy.samplers.sampler_object("euler"),
            "sigmas": comfy.samplers.KSampler(model, 2, model.load_device, "euler", "simple").sigmas,
            **SIZE,
            "cfg": 1.0,
            "audio_cfg": 1.0,
            "audio_scale": 1.0,
            "window_frames": 21,
            "motion_frames": 9,
            "plan_mode": "exact",
            "codec": "h264",
            "crf": 18,
            "return_images": True,
            "clip_vision_output": parts.vision,
            "resume": "start over",  # the last two ways are the same run
            **way,
        }
        images = nodes.LongTalkSamplerAdvanced.execute(**settings).result[1]
        torch.testing.assert_close(images, simple, rtol=0, atol=1e-4)


class SeedlessNoise:
    """A NOISE object that always returns the same noise."""

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        return torch.randn(latent["samples"].shape, generator=torch.Generator().manual_seed(9))


class NestedNoise:
    """A NOISE object that wraps another, as noise-injection packs do."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        return self.inner.generate_noise(latent) * 0.5


def window_noise(source: Any) -> Any:
    """The noise of four windows."""
    from longtalk.infinitetalk.host.noise import WindowNoise, base_seed
    from longtalk.infinitetalk.run.seeds import window_seeds

    return WindowNoise(source, window_seeds(base_seed(source), 4))


def test_every_window_has_its_own_noise(comfy: ModuleType) -> None:
    from comfy_extras.nodes_custom_sampler import DisableNoise, RandomNoise

    empty = torch.zeros(1, 16, 3, 4, 6)
    for source in (RandomNoise.execute(11)[0], SeedlessNoise(), NestedNoise(RandomNoise.execute(4)[0])):
        noise = window_noise(source)
        drawn = [noise.generate(number, empty) for number in range(1, 5)]
        for first in range(4):
            for second in range(first):
                correlation = torch.corrcoef(torch.stack([drawn[first].flatten(), drawn[second].flatten()]))[0, 1]
                assert abs(float(correlation)) < 0.15
        again = window_noise(source)
        assert all(torch.equal(again.generate(number, empty), drawn[number - 1]) for number in range(1, 5))
    seeded = window_noise(RandomNoise.execute(11)[0])
    assert torch.equal(seeded.generate(3, empty), RandomNoise.execute(13)[0].generate_noise({"samples": empty}))
    assert [seeded.seed(number) for number in (1, 2, 3)] == [11, 12, 13]
    off = window_noise(DisableNoise.execute()[0])
    assert all(torch.count_nonzero(off.generate(number, empty)) == 0 for number in (1, 2, 3))


def test_seed_wraps_at_64_bits(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.noise import SeedNoise

    assert window_noise(SeedNoise(2**64 - 1)).seed(2) == 0
