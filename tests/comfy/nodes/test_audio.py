"""Audio Prepare in ComfyUI: what its outputs are, and every bad sound that was seen in the wild."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pyloudnorm
import pytest
import torch
from bad_audio import BAD, sound

from longtalk.base.errors import LongTalkError


@pytest.fixture(scope="module")
def prepare(comfy: ModuleType) -> Callable[..., tuple[Any, ...]]:
    """The node's outputs."""
    import longtalk.nodes

    def run(audio: Any, preset: str = "LTX", start: float = 0.0, end: float = 0.0, **settings: Any) -> tuple[Any, ...]:
        return longtalk.nodes.LongTalkAudioPrepare.execute(audio, preset, start, end, **settings).result

    return run


def test_outputs(prepare: Callable[..., tuple[Any, ...]]) -> None:
    given = sound(96000, 48000, 2)
    before = given["waveform"].clone()
    audio, original, report = prepare(given, "LTX", 0.25, 1.75)
    assert audio["sample_rate"] == original["sample_rate"] == 48000
    assert audio["waveform"].shape == original["waveform"].shape == (1, 2, 72000)
    assert torch.equal(original["waveform"], before[..., 12000:84000])
    assert torch.equal(given["waveform"], before)
    heard = pyloudnorm.Meter(48000).integrated_loudness(audio["waveform"][0].T.double().numpy())
    assert heard == pytest.approx(-16, abs=0.5)
    assert 'the same with ffmpeg: -af "atrim=' in report


def test_single_stages(prepare: Callable[..., tuple[Any, ...]]) -> None:
    _, _, report = prepare(sound(), "off", high_pass_hz="100", loudness_lufs=-20, eq_200_hz="as preset")
    assert "highpass=f=100" in report
    assert "equalizer" not in report
    assert "after:  -20.0 LUFS" in report


def test_off_changes_nothing(prepare: Callable[..., tuple[Any, ...]]) -> None:
    given = sound(value=2.0)
    audio, original, report = prepare(given, "off")
    assert torch.equal(audio["waveform"], given["waveform"])
    assert original["waveform"].data_ptr() == given["waveform"].data_ptr()
    assert "nothing was changed" in report
    assert "above full scale" in report


def test_cancel(prepare: Callable[..., tuple[Any, ...]]) -> None:
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        prepare(sound())


@pytest.mark.parametrize("name", BAD)
def test_bad_sound_is_refused_with_words(prepare: Callable[..., tuple[Any, ...]], name: str) -> None:
    audio, words = BAD[name]
    with pytest.raises(LongTalkError) as caught:
        prepare(audio)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        sound(channels=8),
        sound(192000, 192000),
        sound(value=3.0),
        {"waveform": (128 + 60 * torch.sin(torch.arange(16000) / 9)).to(torch.uint8)[None, None], "sample_rate": 16000},
        {"waveform": (8000 * torch.sin(torch.arange(16000) / 9)).to(torch.int16)[None, None], "sample_rate": 16000},
        sound(22050 * 2, 22051),
    ],
    ids=["8 channels", "192 kHz", "beyond 1", "8 bits", "16 bits", "an odd rate"],
)
@pytest.mark.parametrize("preset", ["LTX", "InfiniteTalk"])
def test_odd_sound_is_taken(prepare: Callable[..., tuple[Any, ...]], given: dict[str, Any], preset: str) -> None:
    audio, original, report = prepare(given, preset)
    assert audio["waveform"].shape == original["waveform"].shape == given["waveform"].shape
    assert audio["sample_rate"] == given["sample_rate"]
    assert torch.isfinite(audio["waveform"]).all()
    assert audio["waveform"].abs().max() < 0.8
    assert ("after:  -16." if preset == "LTX" else "after:  -23.") in report


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "loud"}, "preset: expected one of LTX, InfiniteTalk, off"),
        ({"loudness_lufs": "loud"}, "loudness_lufs: expected 'as preset', 'off' or a number from -40 to -5"),
        ({"start": 2.5}, "start: expected a time before the end of audio"),
        ({"start": 1.0, "end": 0.5}, "end: expected a time after the start"),
    ],
)
def test_bad_settings(prepare: Callable[..., tuple[Any, ...]], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(LongTalkError) as caught:
        prepare(sound(), **settings)
    assert words in str(caught.value)
