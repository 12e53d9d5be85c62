"""The parts wired into a loop, in the real server, beside the LTX sampler: one video, made in two ways.

The loop is a node expansion that looks at its condition after the body ran, as the loop packs' nodes do; everything in
its body is a part of LongTalk or a node of ComfyUI. Both ways get the same model, wrapped so that what each window's
sampling gave is kept.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import demo_client
import numpy as np
import pytest
import torch
from demo_server import ComfyServer, run_workflow
from PIL import Image
from safetensors.torch import load_file

from longtalk.infinitetalk.plan.ltx_windows import geometry, plan_ltx

WIDTH, HEIGHT, FPS, SEED, STEPS = 96, 64, 25, 3, 2
#: 85 frames: windows of 33 frames, 3 latents pinned, a new one every 16 frames: five, the last of 25 frames.
SOUND_S = 3.4
LENGTHS = {"window_seconds": 33 / FPS, "overlap_seconds": 17 / FPS, "fps": FPS}
PLAN = plan_ltx(round(SOUND_S * FPS), geometry(33 / FPS, 17 / FPS, FPS))

Prompt = dict[str, Any]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sources(name: str) -> Prompt:
    """What both ways begin with; the model's samplings are written to the folder `name`."""
    return {
        "loaded": node("UNETLoader", unet_name="longtalk_tiny_ltx.safetensors", weight_dtype="default"),
        "model": node("TestRecordSampling", model=["loaded", 0], name=name),
        "vae": node("VAELoader", vae_name="longtalk_tiny_ltx_video_vae.safetensors"),
        "audio_vae": node("LTXVAudioVAELoader", ckpt_name="longtalk_tiny_ltx_audio.safetensors"),
        "positive": node("LongTalkLoadConditioning", name="longtalk_tiny_ltx_positive.safetensors"),
        "negative": node("LongTalkLoadConditioning", name="longtalk_tiny_ltx_negative.safetensors"),
        "image": node("LoadImage", image="portrait.png"),
        "speech": node("LoadAudio", audio="speech.flac"),
        "audio": node("TrimAudioDuration", audio=["speech", 0], start_index=0.0, duration=SOUND_S),
    }


def sampler_prompt() -> Prompt:
    """The one node."""
    sampler = node(
        "LongTalkLTXSampler",
        **{name: [name, 0] for name in ("model", "vae", "audio_vae", "positive", "negative", "image", "audio")},
        **LENGTHS,
        width=WIDTH,
        height=HEIGHT,
        overlap_mode="trim",
        seed=SEED,
        steps=STEPS,
        cfg=1.0,
        sampler_name="euler",
        scheduler="linear_quadratic",
        image_strength=1.0,
        img_compression=18,
        adain=0.0,
        reanchor_seconds=0.0,
        codec="ffv1",
        crf=18,
        return_images=True,
    )
    save = node("SaveImage", images=["talk", 1], filename_prefix="one/one")
    return {**sources("sampler"), "talk": sampler, "save": save}


def loop_prompt(name: str, once_more: int = 0) -> Prompt:
    """The parts: before the loop, its body from `begin` to `end`, and after it."""
    lengths = {"audio": ["audio", 0], **LENGTHS}
    before = {
        "guided": node("LTXVConditioning", positive=["positive", 0], negative=["negative", 0], frame_rate=float(FPS)),
        "guider": node("CFGGuider", model=["model", 0], positive=["guided", 0], negative=["guided", 1], cfg=1.0),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="linear_quadratic", steps=STEPS, denoise=1.0),
        # 832x480 cut to the video's shape, then in the order of ComfyUI's template: compressed large, scaled down.
        "cut": node("ImageCrop", image=["image", 0], width=720, height=480, x=56, y=0),
        "large": node("TestResize", image=["cut", 0], width=1536, height=1024),
        "compressed": node("LTXVPreprocess", image=["large", 0], img_compression=18),
        "picture": node("TestResize", image=["compressed", 0], width=WIDTH, height=HEIGHT),
        "settings": node("LongTalkLoopController", iteration=0, base_seed=SEED, **lengths),
        "nothing": node("EmptyLTXVLatentVideo", width=WIDTH, height=HEIGHT, length=["settings", 4], batch_size=1),
    }
    body = {
        "begin": node("TestLoopOpen", iteration=0, whole=["nothing", 0], earlier=["nothing", 0]),
        "now": node("LongTalkLoopController", iteration=["begin", 1], base_seed=SEED, **lengths),
        "empty": node("EmptyLTXVLatentVideo", width=WIDTH, height=HEIGHT, length=["now", 8], batch_size=1),
        "first": node(
            "LTXVImgToVideoInplace",
            vae=["vae", 0],
            image=["picture", 0],
            latent=["empty", 0],
            strength=1.0,
            bypass=False,
        ),
        "context": node("LongTalkLatentContext", latent=["begin", 2], latents=["now", 5]),
        "window": node(
            "LongTalkLatentPin", latent=["first", 0], given=["context", 0], latents=["now", 10], strength=1.0
        ),
        "sound": node("LongTalkLTXEncodeSound", audio_vae=["audio_vae", 0], iteration=["begin", 1], **lengths),
        "joint": node("LTXVConcatAVLatent", video_latent=["window", 0], audio_latent=["sound", 0]),
        "noise": node("RandomNoise", noise_seed=["now", 2]),
        "sampled": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["joint", 0],
        ),
        "apart": node("LTXVSeparateAVLatent", av_latent=["sampled", 0]),
        "cropped": node("LTXVCropGuides", positive=["guided", 0], negative=["guided", 1], latent=["apart", 0]),
        "new": node("LongTalkLatentTrim", latent=["cropped", 2], latents=["now", 10]),
        "joined": node("LatentConcat", samples1=["begin", 2], samples2=["new", 0], dim="t"),
        "end": node(
            "TestLoopClose",
            flow=["begin", 0],
            stop=["now", 1],
            once_more=once_more,
            whole=["joined", 0],
            earlier=["cropped", 2],
        ),
    }
    after = {
        "whole": node("LongTalkLatentTrim", latent=["end", 0], latents=["settings", 5]),
        "save": node("SaveLatent", samples=["whole", 0], filename_prefix=f"{name}/{name}"),
    }
    return {**sources(name), **before, **body, **after}


def decode_windows() -> Prompt:
    """The frames of the joined latents by the sampler's own rule.

    Each window is decoded alone, with the latents it was pinned to, and puts out what the plan says; its last frames
    come out of the next window, as the decoder looks ahead.
    """
    prompt: Prompt = {}
    last: list[Any] | None = None
    for window in PLAN.windows:
        number, out = window.number, window.put_out
        latents = {"index": window.start // 8, "amount": (window.length - 1) // 8 + 1}
        prompt |= {
            f"cut{number}": node("LatentCut", samples=["whole", 0], dim="t", **latents),
            f"decoded{number}": node("VAEDecode", samples=[f"cut{number}", 0], vae=["vae", 0]),
            f"put_out{number}": node(
                "ImageFromBatch", image=[f"decoded{number}", 0], batch_index=out.start, length=out.stop - out.start
            ),
        }
        here = [f"put_out{number}", 0]
        if last is not None:
            prompt[f"frames{number}"] = node("ImageBatch", image1=last, image2=here)
            here = [f"frames{number}", 0]
        last = here
    return {**prompt, "save_frames": node("SaveImage", images=last, filename_prefix="loop/loop")}


class Made(NamedTuple):
    """What one of the two ways made.

    whole: video latents `[1, 128, T, h, w]`, joined.
    windows: what the sampling of each window gave `[1, 128, window.latents, h, w]`.
    """

    whole: torch.Tensor
    windows: list[torch.Tensor]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


def pictures(folder: Path) -> np.ndarray:
    """Saved frames, int16 `[F, H, W, 3]`."""
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.png"))]).astype("i2")


def film(path: Path) -> np.ndarray:
    """A video's frames, int16 `[F, H, W, 3]`."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype("i2")


@pytest.fixture(scope="module")
def looping_base(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    folder = tmp_path_factory.mktemp("looping_base")
    demo_client.make_base(folder, tiny_models)
    shutil.copy(root / "tests" / "support" / "loop_pack.py", folder / "custom_nodes" / "loop_pack.py")
    return folder


@pytest.fixture(scope="module")
def looping_server(comfyui_path: Path, looping_base: Path) -> Iterator[ComfyServer]:
    cpu = not torch.cuda.is_available()
    server = ComfyServer(comfyui_path, looping_base, looping_base / "server.log", cpu=cpu, threads=1)
    server.command.insert(server.command.index("LongTalk"), "loop_pack.py")
    with server:
        yield server


@pytest.fixture(scope="module")
def output(looping_base: Path) -> Path:
    return looping_base / "output"


@pytest.fixture(scope="module")
def one(looping_server: ComfyServer, output: Path) -> Made:
    """The sampler's latents: of each window what is new."""
    asyncio.run(run_workflow(looping_server, sampler_prompt()))
    windows = [load_file(output / "sampler" / f"{SEED + w.number - 1}.safetensors")["video"] for w in PLAN.windows]
    pinned = [window.pinned_latents if window.number > 1 else 0 for window in PLAN.windows]
    new = [made[:, :, count:] for made, count in zip(windows, pinned, strict=True)]
    return Made(torch.cat(new, dim=2), windows)


@pytest.fixture(scope="module")
def loop(looping_server: ComfyServer, output: Path) -> Callable[..., Made]:
    def run(prompt: Prompt, name: str) -> Made:
        asyncio.run(run_workflow(looping_server, prompt))
        [saved] = (output / name).glob("*.latent")
        windows = [load_file(output / name / f"{SEED + w.number - 1}.safetensors")["video"] for w in PLAN.windows]
        return Made(load_file(saved)["latent_tensor"], windows)

    return run


def test_the_loop_makes_the_samplers_video(loop: Callable[..., Made], one: Made, output: Path) -> None:
    """Latents of every window and of the whole, then frame for frame."""
    assert [window.length for window in PLAN.windows] == [33, 33, 33, 33, 25]
    made = loop({**loop_prompt("loop"), **decode_windows()}, "loop")
    for ours, theirs in zip(made.windows, one.windows, strict=True):
        assert relative(ours, theirs) < 1e-4
    assert relative(made.whole, one.whole) < 1e-4

    [video] = (output / "longtalk").glob("*/talk_*.mkv")
    theirs, ours = film(video), pictures(output / "loop")
    assert ours.shape == theirs.shape == (PLAN.frames, HEIGHT, WIDTH, 3)
    assert np.abs(ours - theirs).max() <= 1  # the file rounds, Save Image cuts off
    assert np.abs(ours - pictures(output / "one")).max() <= 1
    # The frames differ from each other by far more than that, so a video that is late by one frame would be seen.
    assert min(np.abs(ours[1:] - theirs[:-1]).reshape(PLAN.frames - 1, -1).max(axis=1)) > 10


def test_a_loop_that_runs_its_body_once_more(loop: Callable[..., Made], one: Made, output: Path) -> None:
    """The last window comes again behind the end, where it is cut off; no pass fails for want of sound."""
    made = loop(loop_prompt("late", once_more=1), "late")
    assert (output / "late" / f"{SEED + len(PLAN.windows)}.safetensors").exists()
    surplus = PLAN.windows[-1].latents - PLAN.windows[-1].pinned_latents
    assert made.whole.shape[2] == one.whole.shape[2] + surplus
    assert relative(made.whole[:, :, :-surplus], one.whole) < 1e-4


def without_trim(prompt: Prompt) -> None:
    prompt["joined"]["inputs"]["samples2"] = ["cropped", 2]


def with_a_stale_mask(prompt: Prompt) -> None:
    prompt["stale"] = node("TestStaleMask", latent=["window", 0], earlier=["begin", 3])
    prompt["joint"]["inputs"]["video_latent"] = ["stale", 0]


def with_another_sound(prompt: Prompt) -> None:
    """The whole sound an eighth of a second late, as long as before."""
    prompt["late"] = node("TrimAudioDuration", audio=["speech", 0], start_index=0.125, duration=SOUND_S)
    prompt["sound"]["inputs"]["audio"] = ["late", 0]


@pytest.mark.parametrize(
    ("mistake", "first", "whole"),
    [(without_trim, True, 0.3), (with_a_stale_mask, True, 0.1), (with_another_sound, False, 1e-3)],
)
def test_a_loop_that_is_wired_wrong_makes_another_video(
    loop: Callable[..., Made], one: Made, mistake: Callable[[Prompt], None], first: bool, whole: float
) -> None:
    """The same comparison, which would tell nothing if it held for these too; `first`: the first window is right."""
    prompt = loop_prompt(mistake.__name__)
    mistake(prompt)
    made = loop(prompt, mistake.__name__)
    length = PLAN.windows[0].latents
    assert (relative(made.whole[:, :, :length], one.whole[:, :, :length]) < 1e-4) == first
    assert relative(made.whole[:, :, : one.whole.shape[2]], one.whole) > whole
