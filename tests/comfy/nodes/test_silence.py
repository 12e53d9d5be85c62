"""Pauses, endings and shots in real runs of the tiny models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from comfy_runs import ltx_settings, make_speech, sampler_settings
from watched import forwards_of, raising, sound_seconds

from longtalk.base.errors import LongTalkError
from longtalk.base.segment import Segment
from longtalk.infinitetalk.plan.timing import Ending, Timing

MakeAudio = Callable[..., dict[str, Any]]
FRAMES = 37  # windows hear frames [0, 13), [8, 21), [16, 29), [24, 37), and two more on either side
STEPS = 2


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


def timing(*spoken: tuple[float, float], frames: int = FRAMES, **changes: Any) -> Timing:
    """One speaker's; shots may be shorter than the node allows."""
    segments = tuple(Segment(*each) for each in spoken)
    return Timing(("audio",), (segments,), frames / 25, **{"pause_s": 0.4, **changes})


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def sound_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(blocks, axis=1).astype(np.float64) / 2**31


@pytest.fixture
def small(parts: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio) -> dict[str, Any]:
    """Four windows of 13 frames at 48x32, two steps each, lossless."""
    return sampler_settings(
        parts,
        portrait,
        audio=make_audio(FRAMES / 25),
        width=48,
        height=32,
        steps=STEPS,
        window_frames=13,
        motion_frames=5,
        codec="ffv1",
    )


Run = Callable[..., tuple[Path, str]]


@pytest.fixture
def run(nodes: ModuleType, small: dict[str, Any]) -> Run:
    """Runs the sampler; the video's path and the report."""

    def go(**changes: Any) -> tuple[Path, str]:
        with torch.inference_mode():
            video, _, report = nodes.LongTalkSampler.execute(**{**small, **changes}).result
        return Path(video.get_stream_source()), report

    return go


@pytest.fixture
def advanced(nodes: ModuleType, small: dict[str, Any], parts: SimpleNamespace) -> Run:
    """Runs the advanced sampler on encoded speech."""
    import comfy.samplers

    from longtalk.infinitetalk.host.noise import SeedNoise

    own = ("audio", "audio_encoder", "seed", "steps", "sampler_name", "scheduler", "features")
    settings = {name: value for name, value in small.items() if name not in own}

    def go(seed: int = 3, **changes: Any) -> tuple[Path, str]:
        more = {
            "noise": SeedNoise(seed),
            "sampler": comfy.samplers.sampler_object("euler"),
            "sigmas": torch.tensor([1.0, 0.5, 0.0]),
        }
        with torch.inference_mode():
            video, _, report = nodes.LongTalkSamplerAdvanced.execute(**{**settings, **more, **changes}).result
        return Path(video.get_stream_source()), report

    return go


def encoded(nodes: ModuleType, parts: SimpleNamespace, audio: Any) -> Any:
    with torch.inference_mode():
        return nodes.LongTalkEncodeSpeech.execute(parts.audio_encoder, "official", True, audio=audio).result[0]


# The gate.


def test_only_windows_that_hear_the_pause_change(run: Run) -> None:
    """Silence from 1.15 s on: frame 28 is whole, frame 29 the first that is fading; window 3 hears up to frame 30."""
    plain = frames_of(run()[0])
    assert "this video was finished before" in run(timing=timing((0.0, 1.48)))[1]  # nothing to silence: the same run
    path, report = run(timing=timing((0.0, 1.0)))
    gated = frames_of(path)
    assert np.array_equal(gated[:21], plain[:21])
    assert all((gated[at] != plain[at]).any() for at in range(21, FRAMES))
    assert "timing: the model hears silence in 1 pause, 0.33 s together" in report
    # Without the gate what comes after the last word can still be silence, and nothing before it.
    rest = timing((0.0, 0.2), (0.7, 1.0), gate=False, ending=Ending.REST)
    assert np.array_equal(frames_of(run(timing=rest)[0]), gated)


def test_it_is_as_if_the_features_were_replaced_by_hand(
    nodes: ModuleType, parts: SimpleNamespace, advanced: Run, make_audio: MakeAudio
) -> None:
    speech = encoded(nodes, parts, make_audio(13 / 25))
    assert speech.silence.shape == (12, 768)
    replaced = speech.features[0].clone()
    for frame in range(13):  # speech ends at 0.04 s, silence begins at 0.19 s
        share = min(max(1 - ((frame + 0.5) / 25 - 0.19) / 0.12, 0.0), 1.0)
        replaced[frame] = share * speech.features[0][frame] + (1 - share) * speech.silence
    by_hand = frames_of(advanced(speech=replace(speech, features=(replaced,), encoded_by=""))[0]).astype(int)
    gated = frames_of(advanced(speech=speech, timing=timing((0.0, 0.04), frames=13))[0]).astype(int)
    plain = frames_of(advanced(speech=speech)[0]).astype(int)
    assert np.abs(gated - by_hand).max() <= 1
    assert np.abs(gated - plain).max() > 10


def test_silence_has_no_borders(parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, make_audio: MakeAudio) -> None:
    """More of it gives the same features of silence; those at its edge are others."""
    from longtalk.audio.encoder.features import speech_features
    from longtalk.audio.tracks import track_from_audio
    from longtalk.infinitetalk.host.wan import sound as host
    from longtalk.infinitetalk.model.speakers import make_speakers

    speakers = make_speakers([track_from_audio(make_audio(0.2))], [None])
    found = []
    for seconds in (host.SILENCE_S, host.SILENCE_S + 4):
        monkeypatch.setattr(host, "SILENCE_S", seconds)
        found.append(host.encode_speech(parts.audio_encoder, speakers, with_silence=True).silence)
    edge = speech_features(parts.audio_encoder.model, torch.zeros(16000))[0]
    off = float((found[0] - found[1]).norm() / found[1].norm())
    assert off < 0.01 < float((edge - found[1]).norm() / found[1].norm())


def test_each_speaker_has_pauses_of_his_own(
    nodes: ModuleType, parts: SimpleNamespace, make_audio: MakeAudio, run: Run
) -> None:
    left, right = torch.zeros(1, 64, 96), torch.zeros(1, 64, 96)
    left[..., :48], right[..., 48:] = 1.0, 1.0
    audio = [make_audio(FRAMES / 25, seed=seed) for seed in (1, 2)]
    two = nodes.LongTalkSpeakers.execute(audio[0], "para", left, audio[1], right).result[0]
    spoken = ((Segment(0.0, 1.48),), (Segment(0.0, 1.0),))
    both = Timing(("speaker 1", "speaker 2"), spoken, FRAMES / 25, pause_s=0.4)
    with torch.inference_mode():
        speech = nodes.LongTalkEncodeSpeech.execute(parts.audio_encoder, "official", True, speakers=two).result[0]
    first, second = speech.timed(both).gates
    assert bool((first.heard == 1).all())
    assert second.heard.tolist()[:29] == [1.0] * 29
    assert bool((second.heard[33:] == 0).all())
    with pytest.raises(LongTalkError, match=r"one made for 1 speaker"):
        run(audio=None, speakers=two, timing=timing((0.0, 1.0)))


# Endings.


def test_hold_and_cut(run: Run, parts: SimpleNamespace, small: dict[str, Any], nodes: ModuleType) -> None:
    """What is made ends 0.6 s behind the last word; the last frame of it stands to the end, also as IMAGE."""
    settings = {**small, "timing": timing((0.0, 0.3), ending=Ending.HOLD), "return_images": True}
    with forwards_of(parts) as forwards, torch.inference_mode():
        video, images, report = nodes.LongTalkSampler.execute(**settings).result
    assert len(forwards) == 3 * STEPS  # 13 + 13 + 9 frames
    path = Path(video.get_stream_source())
    frames = frames_of(path)
    assert len(frames) == FRAMES
    assert all(np.array_equal(frame, frames[22]) for frame in frames[23:])
    assert not np.array_equal(frames[21], frames[22])
    assert abs(sound_seconds(path) - FRAMES / 25) < 0.04
    assert "Held: the last frame stands still for 14 frames (0.56 s) to the end" in report
    assert np.abs((images * 255 + 0.5).to(torch.uint8).numpy().astype(int) - frames).max() <= 1
    # A run that is finished is read from its file, the held frames too.
    with torch.inference_mode():
        again = nodes.LongTalkSampler.execute(**settings).result[1]
    assert np.array_equal((again * 255 + 0.5).to(torch.uint8).numpy(), frames)

    path, _ = run(timing=timing((0.0, 0.3), ending=Ending.CUT))
    assert np.array_equal(frames_of(path), frames[:23])
    sound, whole = sound_of(path)[0], small["audio"]["waveform"][0, 0].numpy()
    assert len(sound) == 23 * 640
    fade = round(0.2 * 16000)
    assert np.abs(sound[:-fade] - whole[: len(sound) - fade]).max() < 1e-4
    assert np.abs(sound[-fade:] - whole[len(sound) - fade : len(sound)] * np.arange(fade, 0, -1) / fade).max() < 1e-4


# Shots.

SHOTS = timing((0.0, 0.5), (1.0, 1.48), shot_s=0.5, gate=False)
CUT = 19
"""Round the middle of the pause; each shot has two windows of 13 frames."""


def test_a_shot_is_what_a_run_of_its_own_makes(
    nodes: ModuleType, parts: SimpleNamespace, advanced: Run, make_audio: MakeAudio
) -> None:
    """With features that do not change around the cut, which windows of both shots hear a little beyond."""
    speech = encoded(nodes, parts, make_audio(FRAMES / 25))
    features = speech.features[0].clone()
    features[CUT - 5 : CUT + 5] = features[CUT]
    path, report = advanced(speech=replace(speech, features=(features,), encoded_by=""), timing=SHOTS)
    both = frames_of(path)
    assert len(both) == FRAMES
    assert "Shots: 2, each from the reference image on, at 0:00.00 (window 1), 0:00.76 (window 3)" in report
    seams = [line.split()[-1] for line in report.splitlines() if "[" in line and " s  " in line]
    assert [seam == "shot" for seam in seams] == [False, False, True, False]
    for begin, end, windows in ((0, CUT, 0), (CUT, FRAMES, 2)):
        alone = make_speech(parts, make_audio((end - begin) / 25))
        alone = replace(alone, features=(features[begin:end],), encoded_by="")
        assert np.array_equal(frames_of(advanced(seed=3 + windows, speech=alone)[0]), both[begin:end])


def test_a_stopped_run_goes_on_and_one_shot_is_made_again_alone(
    run: Run, parts: SimpleNamespace, output_folder: Path, tmp_path: Path
) -> None:
    import folder_paths

    first = frames_of(run(timing=SHOTS)[0])
    folder_paths.set_output_directory(str(tmp_path))
    at = 3 * STEPS + 1  # in the middle of the second shot
    with (
        forwards_of(parts, raising(lambda: RuntimeError("pulled the plug"), lambda count: count == at)),
        pytest.raises(RuntimeError, match="plug"),
    ):
        run(timing=SHOTS)
    with forwards_of(parts) as forwards:
        path, _ = run(timing=SHOTS)
    assert len(forwards) == STEPS
    assert np.array_equal(frames_of(path), first)

    with forwards_of(parts) as forwards:
        path, report = run(timing=SHOTS, rerender_from="1:77")
    assert len(forwards) == 2 * STEPS
    assert "windows 3 to 4 were finished before and kept" in report
    again = frames_of(path)
    assert np.array_equal(again[CUT:], first[CUT:])
    assert not np.array_equal(again[:CUT], first[:CUT])
    with forwards_of(parts) as forwards:
        both = frames_of(run(timing=SHOTS, rerender_from="1:77, 4:5")[0])
        back = frames_of(run(timing=SHOTS)[0])
    assert len(forwards) == STEPS
    assert np.array_equal(both[:32], again[:32])  # window 4 begins at frame 27, with 5 of window 3
    assert not np.array_equal(both[32:], again[32:])
    assert np.array_equal(back, first)

    [folder] = (tmp_path / "longtalk").iterdir()
    for path in [*folder.glob("window_00001_*.mkv"), *folder.glob("talk_*.json")]:
        path.unlink()
    with forwards_of(parts) as forwards:
        path, report = run(timing=SHOTS)
    assert len(forwards) == 2 * STEPS
    assert "it and what follows in its shot were made again" in report
    assert np.array_equal(frames_of(path), first)


# LTX.


@pytest.fixture
def ltx_run(nodes: ModuleType, ltx: SimpleNamespace, portrait: torch.Tensor) -> Run:
    def go(audio: Any, **changes: Any) -> tuple[Path, str]:
        settings = ltx_settings(
            ltx, portrait, audio=audio, codec="ffv1", window_seconds=17 / 25, overlap_seconds=9 / 25
        )
        with torch.inference_mode():
            video, _, report = nodes.LongTalkLTXSampler.execute(**{**settings, **changes}).result
        return Path(video.get_stream_source()), report

    return go


def test_ltx_hears_silence_in_pauses_and_the_video_keeps_the_sound(ltx_run: Run, make_audio: MakeAudio) -> None:
    """Windows of 17 begin every 8 frames. Silence from frame 28.75 on, which the third is first to hear."""
    audio = make_audio(49 / 25)
    plain_path, _ = ltx_run(audio)
    plain = frames_of(plain_path)
    path, _ = ltx_run(audio, timing=timing((0.0, 1.0), frames=49))
    gated = frames_of(path)
    same = [np.array_equal(a, b) for a, b in zip(gated, plain, strict=True)]
    assert same == [True] * 17 + [False] * (49 - 17)
    assert np.array_equal(sound_of(path), sound_of(plain_path))
    # The same as a sound that is silent there, but for the fade.
    silent = {**audio, "waveform": audio["waveform"].clone()}
    fade = round(0.12 * 16000)
    at = round(1.15 * 16000)
    silent["waveform"][..., at : at + fade] *= torch.linspace(1, 0, fade + 1)[:-1]
    silent["waveform"][..., at + fade :] = 0
    by_hand = frames_of(ltx_run(silent)[0]).astype(int)
    assert np.abs(by_hand - gated).max() <= 1 < np.abs(by_hand - plain).max()


def test_an_ltx_shot_is_what_a_run_of_its_own_makes(
    ltx_run: Run, make_audio: MakeAudio, portrait: torch.Tensor
) -> None:
    audio = make_audio(52 / 25)
    audio["waveform"][..., 20 * 640 : 34 * 640] = 0
    shots = timing((0.0, 0.8), (1.28, 2.08), frames=52, shot_s=0.8, gate=False)
    cut = 26
    path, report = ltx_run(audio, timing=shots)
    both = frames_of(path)
    assert len(both) == 52
    assert "Shots: 2, each from the reference image on, at 0:00.00 (window 1), 0:01.04 (window 4)" in report
    for begin, end, windows in ((0, cut, 0), (cut, 52, 3)):
        alone = {**audio, "waveform": audio["waveform"][..., begin * 640 : end * 640]}
        assert np.array_equal(frames_of(ltx_run(alone, seed=3 + windows)[0]), both[begin:end])
    # A keyframe of one shot, to which the window before the cut reaches, is not seen in the other.
    guided = frames_of(ltx_run(audio, timing=shots, keyframe_images=portrait.flip(2), keyframes="1.08: 0")[0])
    assert np.array_equal(guided[:cut], both[:cut])
    assert not np.array_equal(guided[cut:], both[cut:])


def test_ltx_stretch_at_the_end_of_a_shot_is_retaken(ltx_run: Run, make_audio: MakeAudio) -> None:
    audio = make_audio(66 / 25)
    shots = timing((0.0, 1.0), (1.6, 2.64), frames=66, shot_s=0.8, gate=False)
    settings = {"timing": shots, "window_seconds": 25 / 25, "overlap_seconds": 8 / 25}
    cut = 32  # 1.3 s is frame 32.5
    first = frames_of(ltx_run(audio, **settings)[0])
    path, report = ltx_run(audio, **settings, retake="1.0-1.28: 9")
    again = frames_of(path)
    assert "windows 1, 3 to 4 were finished before and kept" in report
    assert np.array_equal(again[cut:], first[cut:])
    assert not np.array_equal(again[25:cut], first[25:cut])
    assert np.array_equal(again[:17], first[:17])


def test_ltx_holds_its_last_frame(ltx_run: Run, make_audio: MakeAudio) -> None:
    audio = make_audio(49 / 25)
    path, report = ltx_run(audio, timing=timing((0.0, 0.4), frames=49, ending=Ending.HOLD))
    frames = frames_of(path)
    assert len(frames) == 49
    assert all(np.array_equal(frame, frames[24]) for frame in frames[25:])
    assert not np.array_equal(frames[23], frames[24])
    assert "Held: the last frame stands still for 24 frames" in report


# The node.


@pytest.fixture(scope="module")
def talk_audio(root: Path) -> dict[str, Any]:
    """Two sentences of speech with 1.6 s between them, 0.5 s before and 1.5 s behind."""
    with av.open(str(root / "scripts" / "assets" / "speech.flac")) as container:
        decoded = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    spoken = torch.from_numpy(decoded).float() / 2**31
    spoken = 0.5 * spoken / spoken.abs().max()
    gap = torch.zeros(1, 48000)
    pieces = [gap[:, :24000], spoken[:, :92000], gap, gap[:, :28800], spoken[:, 92000:], gap, gap[:, :24000]]
    return {"waveform": torch.cat(pieces, dim=1)[None], "sample_rate": 48000}


def test_the_node_finds_speech_and_the_plan_shows_it(nodes: ModuleType, talk_audio: dict[str, Any]) -> None:
    found, report = nodes.LongTalkSilence.execute(True, 0.6, "hold", 2.0, audio=talk_audio).result
    [segments] = found.speech
    assert 0.4 < segments[0].start_s < 0.65
    assert any(2.0 < a.end_s < 2.5 and 3.9 < b.start_s < 4.2 for a, b in pairwise(segments))
    seconds = talk_audio["waveform"].shape[-1] / 48000
    assert seconds - 2.0 < segments[-1].end_s < seconds - 1.2
    assert "Ending: hold, the picture stands still from" in report
    quiet = {**talk_audio, "waveform": talk_audio["waveform"] * 1e-3}
    [again] = nodes.LongTalkSilence.execute(True, 0.6, "hold", 2.0, audio=quiet).result[0].speech
    assert again == segments  # however quiet the recording

    settings = {"window_frames": 81, "motion_frames": 9, "plan_mode": "exact", "audio": talk_audio}
    picture, _, frames, _ = nodes.LongTalkPlan.execute(**settings).result
    shown, text, frames_timed, _ = nodes.LongTalkPlan.execute(**settings, timing=found).result
    assert frames == frames_timed
    assert "Shots: 2, each" in text
    assert "Held:" in text
    assert picture.shape[2] == shown.shape[2]
    assert not torch.equal(picture[:, :200], shown[:, :200])


def test_nobody_speaks(nodes: ModuleType) -> None:
    hum = 0.1 * torch.sin(torch.arange(48000) / 48000 * 2 * torch.pi * 50)
    with pytest.raises(LongTalkError, match=r"somebody who speaks, got none found in 1\.00 s"):
        nodes.LongTalkSilence.execute(True, 0.6, "rest", 0.0, audio={"waveform": hum[None, None], "sample_rate": 48000})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (timing((0.0, 1.0), frames=60), r"one made from 2\.40 s"),
        ("timing", "the output of Silence and Shots"),
    ],
)
def test_what_is_no_timing_of_this_sound(
    run: Run, ltx_run: Run, small: dict[str, Any], nodes: ModuleType, wrong: Any, words: str
) -> None:
    for execute in (run, lambda **settings: ltx_run(small["audio"], **settings)):
        with pytest.raises(LongTalkError, match=words):
            execute(timing=wrong)
    with pytest.raises(LongTalkError, match=words):
        nodes.LongTalkPlan.execute(13, 5, "exact", audio=small["audio"], timing=wrong)
