"""The LTX sampler: the video of exactly the sound's length, seamless pieces, and rules that hold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from comfy_runs import ltx_settings, make_ltx_renderer
from ltx_chain import decoded

MakeAudio = Callable[..., dict[str, Any]]


def run(settings: dict[str, Any]) -> tuple[Path, Any, str]:
    """The file, the images and the report of one run of the node."""
    from longtalk.nodes.ltx import LongTalkLTXSampler

    with torch.inference_mode():
        video, images, report = LongTalkLTXSampler.execute(**settings).result
    return Path(video.get_stream_source()), images, report


def rendered(renderer: Any, plan: Any) -> tuple[torch.Tensor, list[Any]]:
    """All frames that come out, and what each window rendered."""
    carry: Any = {}
    frames, windows = [], []
    for window in plan.windows:
        made = renderer.render(window, carry)
        frames.append(made.frames[window.put_out])
        windows.append(made)
        carry = renderer.hand_on(window, carry, made)
    return torch.cat(frames), windows


def joined(windows: list[Any], plan: Any) -> torch.Tensor:
    """The latents of the whole video."""
    pieces = [
        made.latents[:, :, window.pinned_latents if window.number > 1 else 0 :]
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
        renderer, plan = make_ltx_renderer(ltx, audio, portrait, window_s=81 / 25, overlap_s=41 / 25, late=late)
        with torch.inference_mode():
            frames, windows = rendered(renderer, plan)
            whole = decoded(ltx, joined(windows, plan))[: plan.frames]
        assert frames.shape == whole.shape
        seam = plan.windows[1].output[0]
        off[late] = [float((frames[at] - whole[at]).abs().mean()) for at in range(seam - 3, seam + 3)]
    assert max(off[3]) < 0.5 * max(off[0]), off


def small(ltx: SimpleNamespace, image: torch.Tensor, audio: Any, **changes: Any) -> dict[str, Any]:
    """Four windows of 33 frames."""
    return ltx_settings(ltx, image, audio=audio, codec="ffv1", **changes)


def test_a_stopped_run_goes_on_to_the_same_frames(
    ltx: SimpleNamespace,
    portrait: torch.Tensor,
    make_audio: MakeAudio,
    output_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from longtalk.infinitetalk.host.ltx.renderer import LtxRenderer

    settings = small(ltx, portrait, make_audio(3.0), adain=0.3, overlap_mode="crossfade", return_images=True)
    _, whole, report = run({**settings, "finished_runs": "video only"})
    assert "in 4 windows" in report
    shutil.rmtree(output_folder / "longtalk")

    rendered_windows: list[int] = []
    render = LtxRenderer.render

    def stop_at_third(self: Any, window: Any, carry: Any) -> Any:
        if window.number == 3 and len(rendered_windows) == 2:
            rendered_windows.append(-1)
            raise RuntimeError("pulled the plug")
        rendered_windows.append(window.number)
        return render(self, window, carry)

    monkeypatch.setattr(LtxRenderer, "render", stop_at_third)
    with pytest.raises(RuntimeError, match="plug"):
        run(settings)
    _, images, report = run(settings)
    assert rendered_windows == [1, 2, -1, 3, 4]
    assert "windows 1 to 2 were finished before and kept" in report
    assert float((images - whole).abs().max()) < 0.003  # the kept ones come from 8-bit files


@pytest.mark.parametrize(
    "change",
    [
        {"adain": 0.5},
        {"overlap_mode": "crossfade"},
        {"reanchor_seconds": 1.0},
        {"img_compression": 0},
        {"image_strength": 0.9},
        {"fps": 24},
        {"overlap_seconds": 1.0},
        {"cfg": 2.0},
    ],
    ids=str,
)
def test_each_setting_makes_another_run(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio, change: dict[str, Any]
) -> None:
    audio = make_audio(2.0)
    path, before, _ = run(small(ltx, portrait, audio, return_images=True))
    again, _, report = run(small(ltx, portrait, audio))
    assert again == path
    assert "nothing had to be made" in report
    other, after, _ = run(small(ltx, portrait, audio, return_images=True, **change))
    assert other.parent != path.parent
    assert before.shape != after.shape or float((after - before).abs().max()) > 1e-3


def test_out_of_memory_costs_time_only(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    from longtalk.infinitetalk.host.ltx.renderer import LtxRenderer

    sample, failed = LtxRenderer.sample, []

    def short(self: Any, window: Any, *args: Any) -> Any:
        if window.number == 2 and not failed:
            failed.append(window.number)
            raise comfy.model_management.OOM_EXCEPTION("out of memory, says the test")
        return sample(self, window, *args)

    monkeypatch.setattr(LtxRenderer, "sample", short)
    _, images, report = run(small(ltx, portrait, make_audio(2.0), return_images=True))
    assert failed == [2]
    assert "memory level 1" in report
    assert images.shape[0] == 50


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vae": None}, "LTX's video VAE"),
        ({"audio_vae": None}, "LTX's audio VAE"),
        ({"model": None}, "LTX-2"),
        ({"positive": None}, "text encoder"),
        ({"overlap_seconds": 2.0}, "overlap_seconds"),
        ({"window_seconds": 0.2}, "window_seconds"),
        ({"keyframes": "0:01: 0"}, "keyframe_images"),
        ({"keyframes": "0:01 0"}, "line 1"),
        ({"fps": 0}, "fps"),
        ({"adain": 1.5}, "adain"),
        ({"overlap_mode": "glue"}, "overlap_mode"),
        ({"width": 8}, "32x32"),
        ({"rerender_from": "9:1"}, "rerender_from"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_work_is_refused_with_words(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio, change: dict[str, Any], words: str
) -> None:
    from longtalk.base.errors import LongTalkError

    with pytest.raises(LongTalkError) as caught:
        run(small(ltx, portrait, make_audio(2.0), **change))
    assert words in str(caught.value)


def masked(conditioning: Any) -> Any:
    import nodes

    return nodes.ConditioningSetMask().append(conditioning, torch.ones(1, 8, 8), "default", 1.0)[0]


def in_an_area(conditioning: Any) -> Any:
    import nodes

    return nodes.ConditioningSetArea().append(conditioning, 64, 64, 0, 0, 1.0)[0]


def in_a_share_of_the_video(conditioning: Any) -> Any:
    from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo

    return ConditioningSetAreaPercentageVideo().append(conditioning, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 1.0)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (masked, "one with 'mask'"),
        (in_an_area, "one with 'area'"),
        (in_a_share_of_the_video, "one with 'area'"),
        (lambda entries: [[entries[0][0] * torch.nan, {}]], "got NaN or infinity"),
        (lambda entries: [[entries[0][0][:, :0], {}]], "one text"),
        (lambda entries: [[entries[0][0], {"strength": "1"}]], "strength in positive"),
    ],
    ids=["mask", "area", "share", "nan", "no token", "strength"],
)
def test_a_prompt_that_cannot_work_is_refused_before_anything_runs(
    ltx: SimpleNamespace,
    portrait: torch.Tensor,
    make_audio: MakeAudio,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], Any],
    words: str,
) -> None:
    import comfy.model_management

    from longtalk.base.errors import LongTalkError

    settings = small(ltx, portrait, make_audio(2.0))
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: pytest.fail("a model is loaded"))
    with pytest.raises(LongTalkError, match=words):
        run({**settings, "positive": change(settings["positive"])})


@pytest.mark.parametrize(
    "made", [lambda x: x[:, :, :-1], lambda x: x.long(), lambda _: None], ids=["less", "int", "none"]
)
def test_a_sampler_that_gives_back_something_else_is_named(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio, made: Callable[[torch.Tensor], Any]
) -> None:
    """ComfyUI takes picture and sound apart right behind the sampler: it is checked before that."""
    import comfy.samplers

    from longtalk.base.errors import LongTalkError

    class Other(comfy.samplers.Sampler):
        def sample(self, *given: Any) -> Any:
            return made(given[4])  # the noise

    with pytest.raises(LongTalkError, match=r"sampler: expected float values of shape .* Connect another node"):
        run(small(ltx, portrait, make_audio(2.0), sampler=Other()))


def test_wan_and_ltx_are_not_mixed_up(
    ltx: SimpleNamespace, parts: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio
) -> None:
    from longtalk.base.errors import LongTalkError

    for change in ({"model": parts.model}, {"vae": parts.vae}, {"audio_vae": parts.vae}):
        with pytest.raises(LongTalkError):
            run(small(ltx, portrait, make_audio(2.0), **change))


def test_overlap_zero_starts_each_window_from_the_picture(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio
) -> None:
    _, images, report = run(small(ltx, portrait, make_audio(3.0), overlap_seconds=0.0, return_images=True))
    assert images.shape[0] == 75
    assert "in 3 windows" in report
    # The decoder looks ahead, so equal first latents do not make equal first frames.
    first, last = ((images[at] - images[0]).abs().mean() for at in (33, 32))
    assert first < 0.75 * last


def test_keyframes_and_reanchoring_reach_the_report(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio
) -> None:
    pictures = torch.cat([portrait, portrait.flip(1)])
    changes = {"keyframe_images": pictures, "keyframes": "0:01: 1\n1.6: 0, 0.5", "reanchor_seconds": 0.8}
    _, _, report = run(small(ltx, portrait, make_audio(2.0), **changes))
    assert "4 keyframes" in report  # two of the user's, and the reference at 0.8 and 1.6 s
