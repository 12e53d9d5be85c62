"""The LTX sampler: the video of exactly the sound's length, seamless pieces, and rules that hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch
from comfy_runs import ltx_settings, make_ltx_family
from ltx_chain import decoded

MakeAudio = Callable[..., dict[str, Any]]


def run(settings: dict[str, Any]) -> tuple[Path, Any, str]:
    """The file, the images and the report of one run of the node."""
    from longtalk.nodes.ltx import LongTalkLTXSampler

    with torch.inference_mode():
        video, images, report = LongTalkLTXSampler.execute(**settings).result
    return Path(video.get_stream_source()), images, report


def rendered(family: Any, plan: Any) -> tuple[torch.Tensor, list[Any]]:
    """All frames that come out, and what each window rendered."""
    carry: Any = {}
    frames, windows = [], []
    for window in plan.windows:
        made = family.render(window, carry)
        frames.append(made.frames[window.put_out])
        windows.append(made)
        carry = made.carry
    return torch.cat(frames), windows


def joined(windows: list[Any], plan: Any) -> torch.Tensor:
    """The latents of the whole video."""
    pieces = [
        made.latents[:, :, window.pinned_latents if window.index else 0 :]
        for window, made in zip(plan.windows, windows, strict=True)
    ]
    return torch.cat(pieces, dim=2)


def test_a_minute_with_the_original_sound(ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio) -> None:
    audio = make_audio(60.0, rate=32000, channels=2)
    path, _, report = run(
        ltx_settings(ltx, portrait, audio=audio, window_seconds=5.0, overlap_seconds=2.0, width=64, codec="ffv1")
    )
    with av.open(str(path)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 1500
    with av.open(str(path)) as file:
        sound = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
    heard = audio["waveform"][0].numpy()
    if sound.dtype != np.float32:
        sound = sound.astype(np.float32) / np.iinfo(sound.dtype).max
    sound = sound.reshape(-1, 2).T if sound.shape[0] == 1 else sound
    assert sound.shape == heard.shape == (2, 60 * 32000)
    assert np.abs(sound - heard).max() < 1e-4  # FLAC or PCM: the original, not what the VAE made of it
    # Windows of 121 frames, 49 pinned, so new material begins every 72 frames; the last 3 latents that a window shares
    # with the next are decoded there.
    spans = [
        tuple(int(number.replace(",", "")) for number in span)
        for span in re.findall(r"\[([\d,]+), ([\d,]+)\)  ", report)
    ]
    assert spans[:3] == [(0, 97), (97, 169), (169, 241)]
    assert spans[-1] == (1465, 1500)
    assert "windows of 4.84 s, overlap 1.96 s" in report


def test_late_latents_bring_the_whole_videos_decode(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio
) -> None:
    """The decoder looks ahead: a window's last frames are nearer to the whole video's decode from the next window."""
    audio, off = make_audio(4.5), {}
    for late in (0, 3):
        family, plan = make_ltx_family(ltx, audio, portrait, window_s=81 / 25, overlap_s=41 / 25, late=late)
        with torch.inference_mode():
            frames, windows = rendered(family, plan)
            whole = decoded(ltx, joined(windows, plan))[: plan.frames]
        assert frames.shape == whole.shape
        seam = plan.windows[1].output[0]
        off[late] = [float((frames[at] - whole[at]).abs().mean()) for at in range(seam - 3, seam + 3)]
    assert max(off[3]) < 0.5 * max(off[0]), off
