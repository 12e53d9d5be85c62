"""Speech at other rates than the encoder's: its features without torchaudio, and what the run's name makes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import ltx_settings, make_speech, relative
from torchaudio_states import hide_torchaudio

MakeAudio = Callable[..., dict[str, Any]]


def encoded(parts: SimpleNamespace, audio: Any) -> Any:
    return make_speech(parts, audio, features="official", normalize=True)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000, 96000, 192000])
def test_features_without_torchaudio(
    parts: SimpleNamespace, make_audio: MakeAudio, monkeypatch: pytest.MonkeyPatch, rate_hz: int
) -> None:
    audio = make_audio(0.6, rate=rate_hz)
    usual = encoded(parts, audio)
    hide_torchaudio(monkeypatch)
    ours = encoded(parts, audio)
    assert usual.notes[0] == f"audio: resampled from {rate_hz} to 16000 Hz with torchaudio"
    assert ours.notes[0] == f"audio: resampled from {rate_hz} to 16000 Hz with scipy (torchaudio is not installed)"
    assert ours.features[0].shape == usual.features[0].shape == (15, 12, 768)
    assert relative(ours.features[0], usual.features[0]) < 1e-4  # measured: 2e-5 at most
    assert ours.encoded_by != usual.encoded_by


def test_only_speech_that_scipy_converted_has_another_name(
    parts: SimpleNamespace, make_audio: MakeAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have the name from before there was a choice, so runs of that time go on."""
    from longtalk.audio.encoder.features import FeatureMode
    from longtalk.infinitetalk.run.store.fingerprint import fingerprint, weights_fingerprint

    weights = weights_fingerprint(parts.audio_encoder.model.named_parameters())
    before = fingerprint([weights, FeatureMode.OFFICIAL, True])
    plain, high = make_audio(0.6), make_audio(0.6, rate=48000)
    assert encoded(parts, high).encoded_by == before
    hide_torchaudio(monkeypatch)
    speech = encoded(parts, plain)
    assert speech.encoded_by == before
    assert not any("resampled" in note for note in speech.notes)
    assert encoded(parts, high).encoded_by != before


def test_ltx_says_what_converted_its_sound_and_names_its_run_by_it(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtalk.nodes.ltx import LongTalkLTXSampler

    def run(rate_hz: int) -> tuple[Path, str]:
        audio = make_audio(0.6, rate=rate_hz)
        with torch.inference_mode():
            video, _, report = LongTalkLTXSampler.execute(**ltx_settings(ltx, portrait, audio=audio, steps=1)).result
        return Path(video.get_stream_source()).parent, report

    rate_hz = ltx.audio_vae.audio_sample_rate
    usual, said = run(48000)
    plain, nothing = run(rate_hz)
    assert f"audio: resampled from 48000 to {rate_hz} Hz with torchaudio" in said
    assert "resampled" not in nothing
    hide_torchaudio(monkeypatch)
    other, said = run(48000)
    assert f"audio: resampled from 48000 to {rate_hz} Hz with scipy (torchaudio is not installed)" in said
    assert other != usual
    again, nothing = run(rate_hz)
    assert again == plain, "where nothing is converted, the run goes on"
    assert "resampled" not in nothing


def test_a_node_without_a_report_says_it_in_the_log(
    ltx: SimpleNamespace, make_audio: MakeAudio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from longtalk.nodes.ltx_sound import LongTalkLTXEncodeSound

    def said(rate_hz: int, iteration: int) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO), torch.inference_mode():
            LongTalkLTXEncodeSound.execute(make_audio(3.0, rate=rate_hz), ltx.audio_vae, iteration, 1.4, 0.7, 25)
        return [message for message in caplog.messages if "resampled" in message]

    hide_torchaudio(monkeypatch)
    own_hz = ltx.audio_vae.audio_sample_rate
    assert said(48000, 0) == [f"audio: resampled from 48000 to {own_hz} Hz with scipy (torchaudio is not installed)"]
    assert said(48000, 1) == [], "once per loop"
    assert said(own_hz, 0) == []
