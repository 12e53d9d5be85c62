"""The tiny model that really talks, through LongTalk's nodes: its mouths follow their voices.

Everything else in the tests shows that LongTalk does what it should; here its outcome is looked at. The second half
breaks LongTalk on purpose, and the same checks complain.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from longtalk.infinitetalk.plan.windows import Window
from longtalk.metrics import look, sync
from longtalk.metrics.mouth import resting
from longtalk.metrics.opening import RATE_HZ
from longtalk.training import faces, talking
from longtalk.training.clips import decode
from longtalk.training.estimate import estimate

FPS = 25
LEAST_R, MOST_LAG = 0.9, 1
OWN_R, OTHERS_R = 0.8, 0.25
RECORDED_R = 0.75
NONE_R = 0.2
MOST_SEAM, MOST_PULSE = 1.3, 1.6


@pytest.fixture(scope="module")
def parts(comfy: ModuleType, tiny_models: Path) -> SimpleNamespace:
    def file(name: str) -> Path:
        return next(tiny_models.glob(f"*/longtalk_talker_{name}.safetensors"))

    names = {"diffusion": "wan_i2v", "patch": "infinitetalk", "vae": "wan_vae", "audio_encoder": "wav2vec2"}
    return talking.load({part: file(name) for part, name in names.items()})


@pytest.fixture(scope="module")
def clips(root: Path) -> list[torch.Tensor]:
    """Voices that were not trained on, one after the other."""
    return [decode(path) for path in sorted((root / "tests" / "assets").glob("voice_*.opus"))]


def seconds(clip: torch.Tensor, begin: float, end: float) -> torch.Tensor:
    return clip[round(begin * RATE_HZ) : round(end * RATE_HZ)]


@pytest.fixture(scope="module")
def face() -> faces.Faces:
    return talking.draw_faces(50, 1)


# A minute of one face


@pytest.fixture(scope="module")
def minute(clips: list[torch.Tensor]) -> torch.Tensor:
    """One voice, two seconds of silence, another voice."""
    return torch.cat([seconds(clips[0], 0, 29), torch.zeros(2 * RATE_HZ), seconds(clips[1], 0, 29)])


@pytest.fixture(scope="module")
def talk(parts: SimpleNamespace, face: faces.Faces, minute: torch.Tensor, module_output: Path) -> talking.Talk:
    return talking.make(parts, talking.portrait(face), [minute])


@pytest.fixture(scope="module")
def module_output(comfy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs of fixtures go; what tests make goes to a folder of the test."""
    import folder_paths

    folder = tmp_path_factory.mktemp("output")
    folder_paths.set_output_directory(str(folder))
    return folder


@pytest.mark.parametrize("half", [0, 1])
def test_an_unseen_voice_is_followed(talk: talking.Talk, minute: torch.Tensor, half: int) -> None:
    stretch = slice(0, 30 * FPS) if half == 0 else slice(30 * FPS, None)
    found = sync.follow(talk.mouth()[stretch], talking.voice(minute)[stretch])
    assert found.r >= LEAST_R, found
    assert abs(found.lag) <= MOST_LAG, found


def test_it_is_this_voice_that_is_followed(talk: talking.Talk, minute: torch.Tensor) -> None:
    """Against the same sound in another order of its seconds there is nothing."""
    voice = talking.voice(minute)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = voice[: 60 * FPS].unflatten(0, (60, FPS))[order].flatten()
    assert abs(sync.correlation(talk.mouth(), shuffled)) < NONE_R


def test_the_mouth_rests_in_silence(talk: talking.Talk, minute: torch.Tensor) -> None:
    rest = resting(talk.mouth(), talking.voice(minute), at_least=40)
    assert rest.frames >= 35
    assert rest.height < 1.5
    assert rest.spread < 0.3
    assert talk.mouth().max() > 8  # and is wide open elsewhere


def test_no_seam(talk: talking.Talk) -> None:
    assert len(talk.starts) >= 10
    assert look.seam_ratio(talk.frames, talk.starts) <= MOST_SEAM


def test_what_every_latent_does_is_no_seam(parts: SimpleNamespace, face: faces.Faces, minute: torch.Tensor) -> None:
    """Drawn faces, once through the VAE in one piece: there are no windows, and nothing to complain about."""
    voice = torch.nn.functional.pad(talking.voice(minute)[:241], (faces.HISTORY, 0), value=0.03)
    drawn = (faces.render(face, faces.motion(voice[None], torch.zeros(1)))[0].movedim(0, -1) + 1) / 2
    frames = parts.vae.decode(parts.vae.encode(drawn))[0]
    assert look.seam_ratio(frames, range(33, 240, 16)) == pytest.approx(1, abs=0.2)
    assert look.pulse(drawn) < 1.1 < look.pulse(frames)


def test_no_drift(talk: talking.Talk) -> None:
    assert len(talk.frames) == 60 * FPS
    assert look.colour_drift(talk.frames) <= 4


def test_no_flicker(talk: talking.Talk) -> None:
    assert look.flicker(talk.frames) < 1
    assert look.pulse(talk.frames) < MOST_PULSE


def test_it_is_the_face_of_the_reference(talk: talking.Talk, face: faces.Faces) -> None:
    """Its parameters, from the pixels of the last two seconds: lengths within half a pixel, colours within 4 %.

    But for the iris: four pixels, a quarter of a latent.
    """
    found = estimate(talk.frames[-50::5])
    assert found.residual < 5
    off = found.off(face)
    iris = off.pop("iris")
    assert iris < 50
    assert {name: by for name, by in off.items() if by > (0.5 if name in faces.LENGTHS else 10)} == {}


def test_what_does_not_move_stays(talk: talking.Talk, face: faces.Faces) -> None:
    still = torch.zeros(80, 64, dtype=torch.bool)
    still[:, :4], still[:, -4:] = True, True
    assert look.still_difference(talk.frames, talking.portrait(face)[0], still).max() < 6


def test_frame_0_is_the_reference(parts: SimpleNamespace, talk: talking.Talk, face: faces.Faces) -> None:
    """What the VAE makes of it, and nothing that a model predicted."""
    through = parts.vae.decode(parts.vae.encode(talking.portrait(face)))
    assert (talk.frames[0] - through.reshape(talk.frames[0].shape)).abs().max() * 255 < 1


# A recording, where one is named

if recording := os.environ.get("LONGTALK_RECORDING"):

    def test_a_recording_is_followed(parts: SimpleNamespace, face: faces.Faces) -> None:
        """A person's voice; synthetic ones are all that was learnt from."""
        sound = decode(Path(recording))
        talk = talking.make(parts, talking.portrait(face), [sound])
        assert sync.correlation(talk.mouth(), talking.voice(sound)) >= RECORDED_R


# Short ones


@pytest.fixture(scope="module")
def short(clips: list[torch.Tensor]) -> torch.Tensor:
    """Two windows."""
    return seconds(clips[2], 3, 8)


@pytest.fixture
def make(parts: SimpleNamespace) -> Callable[..., talking.Talk]:
    def run(image: torch.Tensor, sounds: list[torch.Tensor], **changes: Any) -> talking.Talk:
        return talking.make(parts, image, sounds, **changes)

    return run


def complaints(talk: talking.Talk, voices: list[torch.Tensor], tiles: tuple[int, ...] = (0,)) -> set[str]:
    """What is wrong: "sync", "lag", "own voice", "other's voice"."""
    found = set()
    table = sync.who_follows([talk.mouth(tile) for tile in tiles], voices)
    for place, tile in enumerate(tiles):
        if table[place][place] < (LEAST_R if len(tiles) == 1 else OWN_R):
            found.add("sync" if len(tiles) == 1 else "own voice")
        if any(abs(r) >= OTHERS_R for other, r in enumerate(table[place]) if other != place):
            found.add("other's voice")
        if abs(sync.follow(talk.mouth(tile), voices[place]).lag) > MOST_LAG:
            found.add("lag")
    return found


def test_nothing_to_complain_about(make: Callable[..., talking.Talk], face: faces.Faces, short: torch.Tensor) -> None:
    assert complaints(make(talking.portrait(face), [short]), [talking.voice(short)]) == set()


def test_deaf_with_an_audio_scale_of_0(
    make: Callable[..., talking.Talk], face: faces.Faces, short: torch.Tensor
) -> None:
    mouth = make(talking.portrait(face), [short], audio_scale=0.0).mouth()
    assert abs(sync.correlation(mouth, talking.voice(short))) < NONE_R


def test_the_silence_gate_lets_the_mouth_rest_in_noise(
    make: Callable[..., talking.Talk], face: faces.Faces, short: torch.Tensor
) -> None:
    """A noise as loud as the voice, in the pause between words: by itself it opens the mouth."""
    from longtalk.nodes.silence import LongTalkSilence

    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(2 * RATE_HZ, generator=generator)
    sound = torch.cat([short[: 2 * RATE_HZ], noise, short[2 * RATE_HZ : 3 * RATE_HZ]])
    timing = LongTalkSilence.execute(True, 0.6, "as heard", 0.0, audio=talking.as_audio(sound)).result[0]
    noisy = slice(round(2.8 * FPS), round(3.7 * FPS))
    image = talking.portrait(face)
    assert make(image, [sound]).mouth()[noisy].mean() > 5
    assert make(image, [sound], timing=timing).mouth()[noisy].max() < 2.5


@pytest.fixture(scope="module")
def two(clips: list[torch.Tensor]) -> list[torch.Tensor]:
    """Stretches of two voices that have nothing in common."""
    sounds = [seconds(clips[0], 19, 24), seconds(clips[3], 1, 6)]
    assert abs(sync.correlation(*map(talking.voice, sounds))) < 0.05
    return sounds


def test_two_faces_speak_together(make: Callable[..., talking.Talk], two: list[torch.Tensor]) -> None:
    talk = make(talking.portrait(talking.draw_faces(72, 2)), two, tiles=(0, 1))
    assert complaints(talk, [talking.voice(sound) for sound in two], (0, 1)) == set()


def test_two_faces_speak_in_turn_and_the_other_rests(
    make: Callable[..., talking.Talk], two: list[torch.Tensor]
) -> None:
    """The right one first."""
    first, second = (sound[: 3 * RATE_HZ] for sound in two)
    talk = make(talking.portrait(talking.draw_faces(72, 2)), [first, second], tiles=(1, 0), mode="add")
    silence = torch.zeros(3 * FPS)
    right = torch.cat([talking.voice(first), silence])
    left = torch.cat([silence, talking.voice(second)])
    assert sync.correlation(talk.mouth(1), right) >= OWN_R
    assert sync.correlation(talk.mouth(0), left) >= OWN_R
    for tile, voice in ((0, left), (1, right)):
        rest = resting(talk.mouth(tile), voice, at_least=70)
        assert rest.frames >= 70
        assert rest.height < 2
        assert rest.spread < 0.5


def test_a_face_outside_the_masks_rests(make: Callable[..., talking.Talk], two: list[torch.Tensor]) -> None:
    talk = make(talking.portrait(talking.draw_faces(73, 3)), two, tiles=(2, 0))
    assert complaints(talk, [talking.voice(sound) for sound in two], (2, 0)) == set()
    bystander = talk.mouth(1)
    assert bystander.std() < 0.3
    assert bystander.max() < 3.5
    assert all(abs(sync.correlation(bystander, talking.voice(sound))) < OTHERS_R for sound in two)


# Broken on purpose


def test_sound_that_is_late_is_noticed(
    make: Callable[..., talking.Talk], face: faces.Faces, short: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import longtalk.infinitetalk.host.wan.renderer as wan

    whole = wan.audio_context

    def late(projection: Any, features: Any, start: int, end: int, **others: Any) -> torch.Tensor:
        return whole(projection, [torch.cat([f[:1].expand(3, -1, -1), f[:-3]]) for f in features], start, end, **others)

    monkeypatch.setattr(wan, "audio_context", late)
    talk = make(talking.portrait(face), [short])
    assert {"sync", "lag"} <= complaints(talk, [talking.voice(short)])
    assert sync.follow(talk.mouth(), talking.voice(short)).lag == 3


def test_windows_that_hear_what_comes_an_overlap_later_are_noticed(
    make: Callable[..., talking.Talk], face: faces.Faces, short: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Window.audio.fget
    assert heard is not None

    def off(window: Window) -> tuple[int, int]:
        start, end = heard(window)
        return start + window.pinned, end + window.pinned

    monkeypatch.setattr(Window, "audio", property(off))
    assert "sync" in complaints(make(talking.portrait(face), [short]), [talking.voice(short)])


def test_windows_that_are_not_pinned_are_noticed(
    make: Callable[..., talking.Talk], face: faces.Faces, clips: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In short windows, so that there are many."""
    from longtalk.infinitetalk.host.wan.renderer import WanRenderer

    sound = seconds(clips[2], 3, 11)
    pinned = make(talking.portrait(face), [sound], window_frames=33)
    assert len(pinned.starts) >= 7
    assert look.seam_ratio(pinned.frames, pinned.starts) <= MOST_SEAM
    whole = WanRenderer.sample
    monkeypatch.setattr(WanRenderer, "sample", lambda renderer, window, carry: whole(renderer, window, {}))
    free = make(talking.portrait(face), [sound], window_frames=33)
    assert look.seam_ratio(free.frames, free.starts) > MOST_SEAM


def test_speakers_that_are_swapped_are_noticed(make: Callable[..., talking.Talk], two: list[torch.Tensor]) -> None:
    talk = make(talking.portrait(talking.draw_faces(72, 2)), two, tiles=(1, 0))
    assert {"own voice", "other's voice"} <= complaints(talk, [talking.voice(sound) for sound in two], (0, 1))


def test_features_at_another_rate_are_noticed(
    make: Callable[..., talking.Talk], face: faces.Faces, short: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 per second, which is what the encoder gives, taken for 25."""
    import longtalk.infinitetalk.host.wan.sound as speech

    whole = speech.speech_features

    def twice_as_many(*given: Any, **others: Any) -> torch.Tensor:
        features = whole(*given, **others)
        return features.repeat_interleave(2, dim=0)[: len(features)]

    monkeypatch.setattr(speech, "speech_features", twice_as_many)
    assert "sync" in complaints(make(talking.portrait(face), [short]), [talking.voice(short)])
