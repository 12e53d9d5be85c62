"""Audio Report in ComfyUI: its outputs, what it shows, how it is cancelled, and every bad sound seen in the wild."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from bad_audio import BAD

from longtalk.audio.reading.source import FileSource
from longtalk.base.errors import LongTalkError


@pytest.fixture(scope="module")
def node(comfy: ModuleType) -> Any:
    import longtalk.nodes

    return longtalk.nodes.LongTalkAudioReport


@pytest.fixture(scope="module")
def speech(root: Path) -> dict[str, Any]:
    source = FileSource(root / "scripts" / "assets" / "speech.flac")
    waveform = torch.from_numpy(np.concatenate(list(source.blocks()), axis=1))[None]
    return {"waveform": waveform, "sample_rate": source.rate_hz}


def audio(waveform: torch.Tensor, rate: int = 16000) -> dict[str, Any]:
    return {"waveform": waveform, "sample_rate": rate}


def tone(samples: int = 16000, channels: int = 1) -> torch.Tensor:
    return 0.3 * torch.sin(torch.arange(samples) * 0.05).expand(1, channels, samples).clone()


def test_outputs(node: Any, speech: dict[str, Any]) -> None:
    before = speech["waveform"].clone()
    done = node.execute(speech)
    passed, picture, report, told = done.result
    assert passed is speech
    assert torch.equal(speech["waveform"], before)
    assert picture.shape[0] == 1
    assert picture.shape[2:] == (1600, 3)
    assert 0 <= picture.min() < 0.1 < 0.9 < picture.max() <= 1
    assert report.startswith("audio, 0:09.91, 48000 Hz mono\n\nFindings: none")
    assert json.loads(told)["integrated_lufs"] == pytest.approx(-23.0, abs=0.1)
    assert done.ui["text"] == (report,)
    assert len(done.ui["images"]) == 1


def test_findings_are_told(node: Any, speech: dict[str, Any]) -> None:
    both = torch.cat([speech["waveform"], -speech["waveform"]], dim=1)
    report, told = node.execute(audio(both, 48000)).result[2:]
    assert "1. error: channels cancel out: " in report
    assert "invert it back" in report
    (finding,) = json.loads(told)["findings"]
    assert finding["kind"] == "channels cancel out"


def test_cancel_stops_it(node: Any, speech: dict[str, Any]) -> None:
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            node.execute(speech)
    finally:
        management.interrupt_current_processing(False)


@pytest.mark.parametrize("name", BAD)
def test_bad_sounds_are_refused(node: Any, name: str) -> None:
    given, words = BAD[name]
    with pytest.raises(LongTalkError) as caught:
        node.execute(given)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (audio(tone(channels=8)), "8 channels"),
        (audio((tone() * 127 + 128).to(torch.uint8)), "16000 Hz mono"),
        (audio(tone(192_000), 192_000), "192000 Hz mono"),
        (audio(tone() * 6), "dB above full scale"),
        (audio(torch.zeros(1, 2, 16000)), "nothing but silence"),
        (audio(tone(700)), "less than 1 s"),
        (audio(tone().double()), "no speech"),
    ],
)
def test_odd_sounds_are_handled(node: Any, given: Any, word: str) -> None:
    assert word in node.execute(given).result[2]
