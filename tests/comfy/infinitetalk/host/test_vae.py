"""Decoded frames stay on the GPU exactly when ComfyUI has room for them there, and are the same either way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import sampler_settings

ON_GPU, ON_CPU = torch.device("cpu", 0), torch.device("cpu")


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn((1, 16, 3, 8, 12), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def watched(parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The tiny VAE as if it were on a GPU, with what was asked of it: (method, output device)."""
    import comfy.model_management
    import comfy.sd

    from longtalk.base.grid import WAN_GRID
    from longtalk.infinitetalk.host.vae import VideoVae

    vae = copy.copy(parts.vae)
    vae.device, vae.output_device = ON_GPU, ON_CPU
    asked: list[tuple[str, torch.device]] = []
    for name in ("decode", "decode_tiled"):
        method = getattr(comfy.sd.VAE, name)

        def record(self: Any, *args: Any, name: str = name, method: Any = method, **named: Any) -> Any:
            asked.append((name, self.output_device))
            return method(self, *args, **named)

        monkeypatch.setattr(comfy.sd.VAE, name, record)
    free: dict[str, float] = {}
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: device == ON_CPU)
    real = comfy.model_management.get_free_memory
    monkeypatch.setattr(
        comfy.model_management,
        "get_free_memory",
        lambda device=None, *rest: free["bytes"] if device == ON_GPU else real(ON_CPU, *rest),
    )
    return SimpleNamespace(vae=vae, clip=VideoVae(vae, WAN_GRID), asked=asked, free=free)


def need(watched: SimpleNamespace, latents: torch.Tensor) -> int:
    """The least free memory with which frames stay on the GPU, by bisection."""
    low, high = 0, 2**45
    while high - low > 1:
        middle = (low + high) // 2
        watched.free["bytes"] = middle
        low, high = (low, middle) if watched.clip._has_room(latents) else (middle, high)
    return high


def test_frames_stay_where_there_is_room_and_are_the_same(watched: SimpleNamespace, latents: torch.Tensor):
    enough = need(watched, latents)
    decoded = []
    for free, where in ((enough, ON_GPU), (enough - 1, ON_CPU)):
        watched.asked.clear()
        watched.free["bytes"] = free
        decoded.append(watched.clip.decode(latents))
        assert watched.asked == [("decode", where)]
    assert decoded[0].shape == (9, 64, 96, 3)
    assert torch.equal(*decoded)


def test_the_room_asked_for_holds_decoder_and_frames(watched: SimpleNamespace):
    shape = (1, 16, 21, 60, 104)  # 81 frames of 832x480
    decoder = watched.vae.memory_used_decode(shape, watched.vae.vae_dtype)
    frames = 81 * 480 * 832 * 3 * 4
    assert decoder + 3 * frames < need(watched, torch.empty(shape, device="meta")) < decoder + 5 * frames


def test_a_vae_on_the_cpu_asks_no_gpu(watched: SimpleNamespace, latents: torch.Tensor):
    watched.vae.device = ON_CPU  # `free` is empty: asking for the GPU's memory would raise
    watched.clip.decode(latents)
    assert watched.asked == [("decode", ON_CPU)]


def test_short_memory_means_tiles_and_frames_on_the_cpu(watched: SimpleNamespace, latents: torch.Tensor):
    watched.free["bytes"] = 2**45
    for level in (1, 2):
        watched.clip.memory_level = level
        with torch.inference_mode():  # as every node runs; tiled decoding asks for it
            frames = watched.clip.decode(latents)
        assert frames.shape == (9, 64, 96, 3)
    assert {asked for asked in watched.asked if asked[0] == "decode_tiled"} == {("decode_tiled", ON_CPU)}


@pytest.mark.parametrize(("evictable", "where"), [(2**40, ON_GPU), (0, ON_CPU)])
def test_what_can_be_evicted_is_room(
    watched: SimpleNamespace,
    parts: SimpleNamespace,
    portrait: torch.Tensor,
    make_audio: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    evictable: int,
    where: torch.device,
) -> None:
    """Dynamic VRAM fills a GPU with weights that can go; the patcher knows of them, model management does not.

    The patcher's method is a stand-in: no GPU with dynamic VRAM ran here.
    """
    import longtalk.nodes

    watched.free["bytes"] = 1
    monkeypatch.setattr(watched.vae.patcher, "get_free_memory", lambda device: watched.free["bytes"] + evictable)
    settings = sampler_settings(
        parts, portrait, vae=watched.vae, audio=make_audio(0.2), steps=1, window_frames=5, motion_frames=1
    )
    longtalk.nodes.LongTalkSampler.execute(**settings)
    assert ("decode", where) in watched.asked
    assert len(set(watched.asked)) == 1
