"""The parts of hand-wired LTX loops through their nodes, beside core's own nodes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from written_video import grainy, make_video, smooth

from longtalk.base.errors import LongTalkError

SETTINGS: dict[str, Any] = {"window_seconds": 19.88, "overlap_seconds": 2.0, "fps": 25}


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


@pytest.fixture(scope="module")
def core(comfy: ModuleType) -> ModuleType:
    import comfy_extras.nodes_lt

    return comfy_extras.nodes_lt


def control(nodes: ModuleType, audio: Any, iteration: int, **changes: Any) -> SimpleNamespace:
    """What the controller gives, by the names of its outputs."""
    node = nodes.LongTalkLoopController
    given = {"iteration": iteration, "audio": audio, "base_seed": 100, **SETTINGS, **changes}
    names = [output.display_name for output in node.define_schema().outputs]
    return SimpleNamespace(**dict(zip(names, node.execute(**given).result, strict=True)))


def one(output: Any) -> Any:
    """The first output of one of our nodes, or of core's."""
    return getattr(output, "result", output)[0]


def video_latent(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 128, (frames - 1) // 8 + 1, 2, 2, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- the loop


def test_one_iteration_in_all_its_outputs(nodes: ModuleType, make_audio: Callable[..., Any]) -> None:
    audio = make_audio(60, rate=44100, channels=2)
    found = control(nodes, audio, 1)
    sound = found.audio
    del found.audio
    assert found == SimpleNamespace(
        start_s=pytest.approx(17.92),
        should_stop=False,
        iteration_seed=101,
        stride_s=pytest.approx(17.92),
        overlap_frames=49,
        overlap_latents=7,
        overlap_s=pytest.approx(1.96),
        total_iterations=4,
        window_frames=497,
        pinned_latents=7,
    )
    assert sound["sample_rate"] == 44100
    assert torch.equal(sound["waveform"], audio["waveform"][..., 448 * 1764 : (448 + 497) * 1764])
    sound["waveform"].zero_()
    assert audio["waveform"][..., 448 * 1764 :].any()


@pytest.mark.parametrize("overlap", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("fps", [24, 25])
def test_a_loop_over_a_minute(
    nodes: ModuleType, core: ModuleType, make_audio: Callable[..., Any], fps: int, overlap: float
) -> None:
    """Controller, context and trim around a stand-in for the sampler, driven as a loop that stops after its body.

    Each latent's value is the time of its first frame, so the joined latents show every hole and every repeat.
    """
    audio = make_audio(60, rate=44100, channels=2)
    settings = {"overlap_seconds": overlap, "fps": fps}
    whole, heard, seeds, iteration = None, [], [], 0
    while True:
        now = control(nodes, audio, iteration, **settings)
        empty = one(core.EmptyLTXVLatentVideo.execute(64, 64, now.window_frames, 1))
        latents = empty["samples"].shape[2]
        first_latent = round(now.start_s * fps) // 8
        sampled = empty["samples"].clone()
        sampled += (first_latent + torch.arange(latents).float())[:, None, None]
        if whole is not None:
            taken = one(nodes.LongTalkLatentContext.execute(whole, now.overlap_latents))["samples"]
            assert torch.equal(taken, sampled[:, :, : now.overlap_latents])  # what is pinned is of the same time
            sampled[:, :, : now.overlap_latents] = taken
        mask = torch.ones(1, 1, latents, 1, 1)
        mask[:, :, : now.pinned_latents] = 0
        made = one(nodes.LongTalkLatentTrim.execute({"samples": sampled, "noise_mask": mask}, now.pinned_latents))
        whole = made if whole is None else {"samples": torch.cat([whole["samples"], made["samples"]], dim=2)}
        heard.append((now.start_s, now.audio["waveform"]))
        seeds.append(now.iteration_seed)
        iteration += 1
        if now.should_stop:
            break
    assert iteration == now.total_iterations
    assert seeds == list(range(100, 100 + iteration))
    count = whole["samples"].shape[2]
    assert torch.equal(whole["samples"][0, 0, :, 0, 0], torch.arange(count).float())
    decoded = 8 * (count - 1) + 1
    assert 60 * fps <= decoded < 60 * fps + 8

    # The sound: each window's begins at its frame, to the sample, and they tile the whole.
    joined = audio["waveform"][..., :0]
    for start_s, piece in heard:
        start = round(round(start_s * fps) * 44100 / fps)
        assert torch.equal(piece[..., : joined.shape[-1] - start], joined[..., start:])
        joined = torch.cat([joined[..., :start], piece], dim=-1)
    assert torch.equal(joined, audio["waveform"])

    # The body runs once more: the same window and sound again, and still a seed of its own.
    late = control(nodes, audio, iteration, **settings)
    assert (late.should_stop, late.start_s, late.window_frames) == (True, now.start_s, now.window_frames)
    assert torch.equal(late.audio["waveform"], now.audio["waveform"])
    assert late.audio["waveform"].shape[-1] >= 44100 / 2
    assert late.iteration_seed == 100 + iteration


def test_there_is_always_half_a_second_of_sound(nodes: ModuleType, make_audio: Callable[..., Any]) -> None:
    audio = make_audio(20.0, rate=16000)
    last = control(nodes, audio, 9, overlap_seconds=0.0)  # 0.12 s are left after 19.88 s
    assert last.window_frames == 9
    assert last.audio["waveform"].shape == (1, 1, 8000)
    assert torch.equal(last.audio["waveform"][..., :1920], audio["waveform"][..., -1920:])
    assert not last.audio["waveform"][..., 1920:].any()


def test_seeds_go_round(nodes: ModuleType, make_audio: Callable[..., Any]) -> None:
    assert control(nodes, make_audio(60), 2, base_seed=2**64 - 1).iteration_seed == 1


def test_the_plan_of_a_loop(nodes: ModuleType, make_audio: Callable[..., Any]) -> None:
    audio = make_audio(60, rate=16000)
    picture, report, total, frames = nodes.LongTalkLoopPlan.execute(audio, **SETTINGS).result
    assert (total, frames) == (4, 1500)
    assert picture.shape[0] == 1
    assert picture.shape[2:] == (1600, 3)
    assert "Stride 17.92 s" in report
    capped, report, total, frames = nodes.LongTalkLoopPlan.execute(audio, **SETTINGS, max_iterations=2).result
    assert (total, frames) == (2, 945)
    assert "Iterations: 2 of the 4" in report
    assert not torch.equal(capped, picture)
    stops = [control(nodes, audio, iteration, max_iterations=2).should_stop for iteration in range(3)]
    assert stops == [False, True, True]


# ---------------------------------------------------------------- stale masks


def sampled_by_core(latent: dict[str, Any], noise: torch.Tensor) -> torch.Tensor:
    """Core's masking around a model that answers 1 everywhere, at a latent's only step."""
    from comfy.samplers import KSamplerX0Inpaint

    class Model:
        inner_model = SimpleNamespace(scale_latent_inpaint=lambda latent_image, **_: latent_image)

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.ones_like(x)

    sampler = KSamplerX0Inpaint(Model(), torch.tensor([1.0, 0.0]))
    sampler.latent_image, sampler.noise = latent["samples"], noise
    return sampler(noise, torch.ones(1), latent.get("noise_mask"))


@pytest.mark.parametrize("part", ["context", "trim", "crossfade"])
def test_a_stale_mask_would_hold_free_latents_fixed(nodes: ModuleType, core: ModuleType, part: str) -> None:
    """The last window pinned its first 5 latents. Through core's own nodes that mask reaches the next pass."""
    mask = torch.ones(1, 1, 9, 1, 1)
    mask[:, :, :5] = 0
    stale = {"samples": video_latent(65), "noise_mask": mask}
    sound = {"samples": torch.zeros(1, 8, 65, 16), "noise_mask": torch.zeros(1, 1, 1, 1)}
    joint = one(core.LTXVConcatAVLatent.execute(stale, sound))
    kept, _ = core.LTXVSeparateAVLatent.execute(joint).result
    noise = torch.randn(kept["samples"].shape)
    held = sampled_by_core(kept, noise) != 1
    assert held[:, :, :5].any()  # with the mask left on, what is to be made anew comes out as it went in
    assert not held[:, :, 5:].any()

    for source in (kept, joint):
        if part == "context":
            fresh = one(nodes.LongTalkLatentContext.execute(source, 9))
        elif part == "trim":
            fresh = one(nodes.LongTalkLatentTrim.execute(source, 0))
        else:
            fresh = one(nodes.LongTalkLatentCrossfade.execute(source, source, 9, "cosine"))
        assert torch.equal(fresh["samples"], stale["samples"])
        assert (sampled_by_core(fresh, noise) == 1).all()
        assert (core.get_noise_mask(fresh) == 1).all()
        again = one(core.LTXVConcatAVLatent.execute(fresh, sound))
        assert (again["noise_mask"].unbind()[0] == 1).all()


# ---------------------------------------------------------------- one window's inputs


@pytest.mark.parametrize(("rate", "channels", "fps"), [(44100, 2, 25), (16000, 1, 24)])
def test_sound_of_an_iteration(
    nodes: ModuleType, ltx: SimpleNamespace, make_audio: Callable[..., Any], rate: int, channels: int, fps: int
) -> None:
    """As many latents as the window has time, all given; what the sampler hears; past the end the last window's."""
    from longtalk.audio.tracks import track_from_audio
    from longtalk.infinitetalk.host.ltx.sound import encode_sound
    from longtalk.infinitetalk.plan.ltx_windows import geometry, plan_ltx

    audio = make_audio(80 / fps, rate=rate, channels=channels)
    lengths = {"window_seconds": 33 / fps, "overlap_seconds": 17 / fps, "fps": fps}
    plan = plan_ltx(80, geometry(**{"window_s": 33 / fps, "overlap_s": 17 / fps, "fps": fps}))
    given = {"audio": audio, "audio_vae": ltx.audio_vae, **lengths}
    found = [one(nodes.LongTalkLTXEncodeSound.execute(iteration=index, **given)) for index in range(6)]
    assert [window.length for window in plan.windows] == [33, 33, 33, 33]
    for index, latent in enumerate(found):
        window = plan.windows[min(index, 3)]
        assert set(latent) == {"samples", "noise_mask"}
        assert latent["samples"].shape == (1, 8, round(33 / fps * 25), 16)
        assert torch.equal(latent["samples"], encode_sound(ltx.audio_vae, track_from_audio(audio), window, fps))
        assert torch.equal(latent["noise_mask"], torch.zeros(1, 1, 1, 1))
    assert not torch.allclose(found[0]["samples"], found[1]["samples"], atol=1e-3)
    capped = one(nodes.LongTalkLTXEncodeSound.execute(iteration=5, max_iterations=2, **given))
    assert torch.equal(capped["samples"], found[1]["samples"])


def test_sound_needs_the_audio_vae(nodes: ModuleType, ltx: SimpleNamespace, make_audio: Callable[..., Any]) -> None:
    with pytest.raises(LongTalkError, match=r"audio_vae: expected LTX's audio VAE, got .*Load LTXV Audio VAE"):
        nodes.LongTalkLTXEncodeSound.execute(audio=make_audio(2), audio_vae=ltx.vae, iteration=0, **SETTINGS)


def test_a_pinned_window_through_cores_masking(nodes: ModuleType, core: ModuleType) -> None:
    """What is pinned comes out as it went in, the rest is made; the first window keeps its own mask."""
    empty = one(core.EmptyLTXVLatentVideo.execute(64, 64, 65, 1))
    whole = {"samples": video_latent(33), "noise_mask": torch.zeros(1, 1, 5, 1, 1)}
    given = one(nodes.LongTalkLatentContext.execute(whole, 3))
    pinned = one(nodes.LongTalkLatentPin.execute(empty, given, 3, 1.0))
    made = sampled_by_core(pinned, torch.randn(pinned["samples"].shape))
    assert torch.equal(made[:, :, :3], whole["samples"][:, :, -3:])
    assert (made[:, :, 3:] == 1).all()
    sound = {"samples": torch.zeros(1, 8, 65, 16), "noise_mask": torch.zeros(1, 1, 1, 1)}
    masks = one(core.LTXVConcatAVLatent.execute(pinned, sound))["noise_mask"].unbind()
    assert masks[0].flatten().tolist() == [0.0] * 3 + [1.0] * 6
    first = {**empty, "noise_mask": torch.ones(1, 1, 9, 1, 1)}
    first["noise_mask"][:, :, 0] = 0
    assert one(nodes.LongTalkLatentPin.execute(first, given, 0, 1.0))["noise_mask"] is first["noise_mask"]


# ---------------------------------------------------------------- conditioning


def test_conditioning_of_an_iteration(nodes: ModuleType) -> None:
    prompts = [[[torch.full((1, 2, 4), float(index)), {}]] for index in range(3)]
    chosen = [one(nodes.LongTalkConditioningAt.execute(prompts, [iteration])) for iteration in range(5)]
    assert all(each is prompts[min(iteration, 2)] for iteration, each in enumerate(chosen))
    for wrong in (([], [0]), (prompts, [0, 1])):
        with pytest.raises(LongTalkError, match="at least one conditioning"):
            nodes.LongTalkConditioningAt.execute(*wrong)
    with pytest.raises(LongTalkError, match="iteration"):
        nodes.LongTalkConditioningAt.execute(prompts, [-1])


def test_blend_is_cores_average_where_that_cuts_nothing(nodes: ModuleType) -> None:
    import nodes as core_nodes

    long = [[torch.randn(1, 7, 4), {"pooled_output": torch.randn(1, 3), "frame_rate": 25.0}]]
    short = [[torch.randn(1, 5, 4), {"pooled_output": torch.randn(1, 3)}]]
    ours = one(nodes.LongTalkConditioningBlend.execute(long, short, 0.25))
    theirs = core_nodes.ConditioningAverage().addWeighted(long, short, 0.75)[0]
    assert torch.allclose(ours[0][0], theirs[0][0], atol=1e-6)
    assert torch.allclose(ours[0][1]["pooled_output"], theirs[0][1]["pooled_output"], atol=1e-6)
    assert ours[0][1]["frame_rate"] == 25.0
    for weight, expected in ((0.0, long), (1.0, short)):
        alone = one(nodes.LongTalkConditioningBlend.execute(long, short, weight))
        assert alone[0][0] is expected[0][0]


# ---------------------------------------------------------------- keyframes and frames


def test_keyframes_of_each_window(nodes: ModuleType, make_audio: Callable[..., Any], caplog: Any) -> None:
    images = torch.rand(3, 8, 8, 3)
    audio = make_audio(60)
    text = "0: 2\n0:05: 0\n0:20: 1, 0.5\n1:10: 0"
    given = {"keyframes": text, "images": images, "strength": 0.9, **SETTINGS}

    def at(iteration: int, **more: Any) -> tuple[Any, ...]:
        return nodes.LongTalkKeyframes.execute(**{**given, "iteration": iteration, **more}).result

    for more in ({}, {"audio": audio}):
        image, *rest = at(0, **more)
        assert torch.equal(image, images[2:])
        assert rest == [0, 0.9, True, 2]
        image, *rest = at(0, number=1, **more)
        assert torch.equal(image, images[:1])
        assert rest == [125, 0.9, True, 2]
        image, *rest = at(1, **more)
        assert torch.equal(image, images[1:2])
        assert rest == [500 - 448, 0.5, True, 1]
        image, *rest = at(2, **more)
        assert torch.equal(image, images[:1])
        assert rest == [0, 0.0, False, 0]
    assert "line 4 of the keyframes lies past the end of the audio, 1:00.00" in caplog.text
    assert at(7, audio=audio)[1:] == at(3, audio=audio)[1:]  # past the end: the last window again
    with pytest.raises(LongTalkError, match="line 1 of the keyframes"):
        at(0, images=images[:2])
    with pytest.raises(LongTalkError, match="images: expected pictures"):
        at(0, images=images[0])


def test_a_frame_of_a_batch_or_of_a_video(nodes: ModuleType, tmp_path: Path) -> None:
    from fractions import Fraction

    from comfy_api.latest import InputImpl, Types

    pictures = torch.from_numpy(grainy(40)).float() / 255
    file = InputImpl.VideoFromFile(str(make_video(tmp_path, grainy(40), codec="ffv1").path))
    parts = InputImpl.VideoFromComponents(Types.VideoComponents(images=pictures, frame_rate=Fraction(25)))
    for seconds, index in ((0.0, 0), (0.4, 10), (1.56, 39)):
        for found in (
            nodes.LongTalkFrameAt.execute(seconds, 25.0, images=pictures),
            nodes.LongTalkFrameAt.execute(seconds, 1.0, video=file),
            nodes.LongTalkFrameAt.execute(seconds, 1.0, video=parts),
        ):
            assert torch.equal(one(found), pictures[index : index + 1])
    trimmed = file.as_trimmed(0.4, 0.8)
    first = one(nodes.LongTalkFrameAt.execute(0.0, 25.0, video=trimmed))
    assert torch.equal(first, pictures[10:11])
    assert float((first[0] - trimmed.get_components().images[0]).abs().max()) < 0.01
    for wrong in ({}, {"images": pictures, "video": file}):
        with pytest.raises(LongTalkError, match="either 'images' or 'video'"):
            nodes.LongTalkFrameAt.execute(0.0, 25.0, **wrong)
    with pytest.raises(LongTalkError, match="video: expected a VIDEO"):
        nodes.LongTalkFrameAt.execute(0.0, 25.0, video=pictures)


def test_a_frame_looks_as_in_core(nodes: ModuleType, tmp_path: Path) -> None:
    from comfy_api.latest import InputImpl

    file = InputImpl.VideoFromFile(str(make_video(tmp_path, smooth(30)).path))
    images = file.get_components().images
    for index in (0, 17, 29):
        found = one(nodes.LongTalkFrameAt.execute(index / 25, 25.0, video=file))
        assert float((found[0] - images[index]).abs().mean()) < 1 / 255
        assert float((found[0] - images[index]).abs().max()) < 6 / 255


# ---------------------------------------------------------------- memory


def loaded(tiny: SimpleNamespace) -> Any:
    import comfy.model_management

    model = tiny.model()
    comfy.model_management.load_models_gpu([model])
    return model


def test_purge_passes_on_and_unloads(nodes: ModuleType, tiny: SimpleNamespace) -> None:
    import comfy.model_management as management

    model = loaded(tiny)
    assert any(entry.model is model for entry in management.current_loaded_models)
    thing = object()
    passed, report = nodes.LongTalkPurgeVRAM.execute(thing).result
    assert passed is thing
    assert "0 dropped" in report
    assert management.current_loaded_models == []
    management.load_models_gpu([model])  # and it works again
    assert any(entry.model is model for entry in management.current_loaded_models)


def test_purge_drops_models_that_are_gone(nodes: ModuleType, tiny: SimpleNamespace) -> None:
    """The patcher was thrown away and something still holds the model it patched: core's own error, then none."""
    import comfy.model_management as management

    nodes.LongTalkPurgeVRAM.execute(None)
    model = loaded(tiny)
    held = model.model
    del model
    gc.collect()
    [entry] = management.current_loaded_models
    assert entry.is_dead()
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'model_size'"):
        entry.model_memory()
    _, report = nodes.LongTalkPurgeVRAM.execute(None).result
    assert "1 dropped" in report
    assert management.current_loaded_models == []
    assert held is not None
    loaded(tiny)
