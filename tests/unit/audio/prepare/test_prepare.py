"""Sounds made ready for a model, judged by ffmpeg's own command line and by meters that are not ffmpeg's."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import torch
import torchaudio
from scipy.signal import resample_poly
from sound_files import drums, ffmpeg, read, voice, write

from longtalk.audio.prepare.filters import Meter
from longtalk.audio.prepare.prepare import Prepared, prepare, prepare_track
from longtalk.audio.prepare.stages import INFINITETALK, LTX, PRESETS, SETTINGS, Stages, stages_from
from longtalk.audio.reading.source import FileSource, Source
from longtalk.audio.reading.track import Track
from longtalk.base.errors import LongTalkError

LTX_TONE = (
    "aformat=sample_fmts=dblp,highpass=f=80,equalizer=f=200:t=q:w=1:g=-3,equalizer=f=400:t=q:w=1.2:g=-2,"
    "equalizer=f=3000:t=q:w=1:g=4,equalizer=f=6500:t=q:w=0.7:g=3"
)


def prepared(sound: np.ndarray, rate_hz: int, stages: Stages) -> tuple[np.ndarray, Prepared]:
    result, _, done = prepare_track(Track(torch.from_numpy(np.ascontiguousarray(sound)), rate_hz), stages)
    assert result.sample_rate == rate_hz
    return result.waveform.numpy(), done


def loudness(sound: np.ndarray, rate_hz: int) -> float:
    return pyloudnorm.Meter(rate_hz).integrated_loudness(sound.T.astype(np.float64))


def true_peak_db(sound: np.ndarray) -> float:
    return 20 * np.log10(np.abs(resample_poly(sound.astype(np.float64), 4, 1, axis=1)).max())


@pytest.fixture(scope="module")
def speech(root: Path) -> np.ndarray:
    """Ten seconds of a voice at 48 kHz."""
    return np.concatenate(list(FileSource(root / "scripts" / "assets" / "speech.flac").blocks()), axis=1)


def at(sound: np.ndarray, rate_hz: int) -> np.ndarray:
    return torchaudio.functional.resample(torch.from_numpy(sound), 48000, rate_hz).numpy()


def quiet(speech: np.ndarray) -> np.ndarray:
    """As from far away: peaks at -50 dB, with the hiss of the microphone."""
    hiss = np.random.default_rng(0).standard_normal(speech.shape) * 2e-5
    return (0.004 * speech + hiss).astype(np.float32)


def two_people(speech: np.ndarray) -> np.ndarray:
    """One near the microphone, one across the room, four seconds each."""
    near, far = speech[:, : 4 * 48000], speech[:, 4 * 48000 : 8 * 48000] * np.float32(0.15)
    return np.concatenate([near, far] * 3, axis=1)


SOUNDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "speech": (lambda speech: speech, 48000),
    "speech at 16 kHz": (lambda speech: at(speech, 16000), 16000),
    "speech at 8 kHz": (lambda speech: at(speech, 8000), 8000),
    "speech at 192 kHz": (lambda speech: at(speech[:, :240000], 192000), 192000),
    "speech far too loud": (lambda speech: 30 * speech, 48000),
    "quiet recording": (quiet, 48000),
    "music": (lambda speech: drums(44100, 8.0), 44100),
    "two people": (two_people, 48000),
}


class TestLevel:
    @pytest.mark.matrix(strength=1)
    @pytest.mark.parametrize("preset", ["LTX", "InfiniteTalk"])
    @pytest.mark.parametrize("name", SOUNDS)
    def test_reaches_its_target_and_never_clips(self, speech: np.ndarray, name: str, preset: str) -> None:
        make, rate_hz = SOUNDS[name]
        sound, stages = make(speech), PRESETS[preset]
        result, done = prepared(sound, rate_hz, stages)
        assert result.shape == sound.shape
        assert np.isfinite(result).all()
        assert stages.loudness_lufs is not None
        assert loudness(result, rate_hz) == pytest.approx(stages.loudness_lufs, abs=0.5)
        assert true_peak_db(result) <= -2.0
        assert np.abs(result).max() < 1.0
        # What the report says is what came out.
        assert done.after.integrated_lufs == pytest.approx(loudness(result, rate_hz), abs=0.3)
        assert done.before.integrated_lufs == pytest.approx(loudness(sound, rate_hz), abs=0.3)
        if stages.range_lu:
            assert done.after.range_lu <= stages.range_lu + 0.5

    def test_a_wide_range_is_narrowed(self) -> None:
        sound = np.concatenate([drums(16000, 6.0), 0.1 * drums(16000, 6.0)] * 2, axis=1)
        _, free = prepared(sound, 16000, stages_from("InfiniteTalk", {}))
        result, done = prepared(sound, 16000, stages_from("InfiniteTalk", {"range_lu": 8}))
        assert free.after.range_lu > 15
        assert done.after.range_lu <= 8.5
        assert any(re.match(r"loudness range of 2\d.\d LU compressed \d.\d to 1, then", note) for note in done.notes)
        assert loudness(result, 16000) == pytest.approx(-23, abs=0.5)

    def test_limiting_may_narrow_a_range_enough(self, speech: np.ndarray) -> None:
        _, done = prepared(two_people(speech), 48000, LTX)
        assert done.before.range_lu > 14
        assert done.after.range_lu <= 11.5
        assert "acompressor" not in done.af_text

    def test_a_plain_gain_where_the_peaks_allow(self) -> None:
        sound = voice(48000, 3.0, 2, level=0.9)
        result, done = prepared(sound, 48000, INFINITETALK)
        gain = np.abs(result).max() / np.abs(sound).max()
        assert np.allclose(result, sound * gain, rtol=1e-5, atol=1e-7)
        assert "alimiter" not in done.af_text

    def test_a_sound_that_is_right_is_left_alone(self) -> None:
        sound, _ = prepared(voice(48000, 3.0, 2), 48000, INFINITETALK)
        again, done = prepared(sound, 48000, INFINITETALK)
        assert np.array_equal(again, sound)
        assert (done.af_text, done.notes) == ("", ())
        assert "nothing was changed" in done.report()

    def test_the_ceiling_alone(self) -> None:
        result, done = prepared(2 * drums(44100, 4.0), 44100, Stages(ceiling_db=-3.0))
        assert true_peak_db(result) <= -3.0
        assert "volume" not in done.af_text.replace("volume=volume=0.00dB", "")
        assert any("peaks held at -3 dB" in note for note in done.notes)

    def test_without_a_ceiling_peaks_may_pass_and_it_is_said(self, speech: np.ndarray) -> None:
        result, done = prepared(speech, 48000, stages_from("LTX", {"ceiling_db": "off", "loudness_lufs": -10}))
        assert loudness(result, 48000) == pytest.approx(-10, abs=0.5)
        assert np.abs(result).max() > 1
        assert any("above full scale" in note for note in done.notes)

    @pytest.mark.parametrize(
        ("sound", "words"),
        [
            (voice(16000, 0.39), "0.39 s is too short to measure loudness"),
            (np.zeros((2, 32000), np.float32), "silent"),
            (1e-5 * voice(16000, 2.0), "silent"),
        ],
    )
    def test_skipped_where_loudness_is_not_defined(self, sound: np.ndarray, words: str) -> None:
        result, done = prepared(sound, 16000, LTX)
        assert any(words in note for note in done.notes)
        assert done.af_text == LTX_TONE
        assert result.shape == sound.shape
        # Only the tone was changed: the level is about what it was.
        assert np.abs(result).max() <= 1.3 * np.abs(sound).max()

    def test_a_rate_too_low_for_loudness(self) -> None:
        result, done = prepared(voice(4000, 2.0), 4000, INFINITETALK)
        assert np.array_equal(result, voice(4000, 2.0))
        assert done.notes == ("4000 Hz sound has no loudness (8000 Hz are needed): level unchanged",)

    def test_stereo_stays_where_it_is(self, speech: np.ndarray) -> None:
        """Limiter and compressor turn both channels down together."""
        one = np.concatenate([speech[:, :240000], 0.1 * speech[:, :240000]] * 2, axis=1)
        sound = np.concatenate([one, 0.5 * one])
        result, done = prepared(sound, 48000, stages_from("LTX", {"range_lu": 5}))
        assert "acompressor" in done.af_text
        assert "alimiter" in done.af_text
        assert np.allclose(result[1], 0.5 * result[0], atol=1e-5)


class TestTone:
    @pytest.mark.parametrize("channels", [1, 2, 6, 8])
    def test_as_ffmpegs_own_command_line(self, tmp_path: Path, channels: int) -> None:
        rng = np.random.default_rng(channels)
        steps = np.clip(rng.standard_normal((channels, 66150)) * 4000, -32768, 32767).astype(np.int16)
        sound = steps.astype(np.float32) / 32768
        tone = stages_from("LTX", {"loudness_lufs": "off", "range_lu": "off", "ceiling_db": "off"})
        result, done = prepared(sound, 44100, tone)
        assert done.af_text == LTX_TONE
        path = write(tmp_path / "in.wav", sound, 44100)
        ffmpeg("-i", path, "-af", done.af_text, tmp_path / "out.wav")
        meant = read(tmp_path / "out.wav", channels)
        assert meant.shape == result.shape
        assert np.abs(np.clip(result, -1, 1) - meant).max() <= 2**-15

    @pytest.mark.parametrize("name", ["speech", "wide", "speech at 16 kHz"])
    def test_the_whole_chain_is_what_the_report_says(self, speech: np.ndarray, name: str, tmp_path: Path) -> None:
        """Trim, tone, compressor and limiter; the compressor where the range is wide."""
        make, rate_hz = SOUNDS.get(name, (lambda speech: speech * np.linspace(0.05, 1, speech.shape[1]), 48000))
        sound = make(speech).astype(np.float32)
        settings = {"range_lu": 2} if name == "wide" else {}
        result, done = prepared(sound, rate_hz, stages_from("LTX", settings, 0.5, sound.shape[1] / rate_hz - 0.25))
        assert ("acompressor" in done.af_text) == (name == "wide")
        path = write(tmp_path / "in.wav", sound, rate_hz, "-c:a", "pcm_f32le")
        written = re.search(r'-af "(.+)"', done.report())
        assert written
        meant = read(path, 1, "-af", written[1])
        assert meant.shape == result.shape
        assert np.abs(result - meant).max() < 2**-15

    def test_each_band_does_what_it_says(self) -> None:
        """The response at every centre, from an impulse."""
        impulse = np.zeros((1, 48000), np.float32)
        impulse[0, 1000] = 0.5
        for setting in SETTINGS:
            if setting.band is None:
                continue
            result, done = prepared(impulse, 48000, stages_from("off", {setting.name: 6.0}))
            hz = float(re.search(r"equalizer=f=([\d.]+)", done.af_text)[1])
            response = np.abs(np.fft.rfft(result[0])) / 0.5
            assert 20 * np.log10(response[int(hz)]) == pytest.approx(6.0, abs=0.05)
            assert setting.name == f"eq_{hz:g}_hz"
        result, _ = prepared(impulse, 48000, stages_from("off", {"high_pass_hz": "100"}))
        response = 20 * np.log10(np.abs(np.fft.rfft(result[0])) / 0.5)
        assert response[[50, 100, 1000]] == pytest.approx([-12.3, -3.0, 0.0], abs=0.1)

    def test_bands_that_the_rate_does_not_have_are_left_out(self) -> None:
        result, done = prepared(voice(8000, 1.0), 8000, LTX)
        assert np.isfinite(result).all()
        assert "f=6500" not in done.af_text
        assert "f=3000" in done.af_text
        assert "equalizer at 6500 Hz left out: 8000 Hz sound has nothing above 4000 Hz" in done.notes

    @pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])
    def test_nothing_is_delayed_or_lost(self, rate_hz: int) -> None:
        rng = np.random.default_rng(0)
        sound = (0.05 * rng.standard_normal((1, int(2.337 * rate_hz) + 1))).astype(np.float32)
        sound[0, rate_hz :: rate_hz // 4] = 0.9  # so that the limiter works
        result, done = prepared(sound, rate_hz, stages_from("off", {"loudness_lufs": -14, "ceiling_db": -2}))
        assert result.shape == sound.shape
        assert "alimiter" in done.af_text
        size = 2 * sound.shape[1]
        product = np.fft.irfft(np.fft.rfft(result[0], size) * np.conj(np.fft.rfft(sound[0], size)))
        assert np.argmax(product) == 0


class TestTrim:
    def test_exact_to_the_sample(self) -> None:
        track = Track(torch.from_numpy(voice(44100, 3.0, 2)), 44100, "talk")
        result, original, done = prepare_track(track, stages_from("off", {}, 0.5, 2.25))
        meant = track.waveform[:, 22050:99225]
        assert torch.equal(result.waveform, meant)
        assert torch.equal(original.waveform, meant)
        assert original.waveform.data_ptr() == meant.data_ptr(), "no copy"
        assert done.samples == 77175
        assert done.af_text == "atrim=start_sample=22050:end_sample=99225,asetpts=expr=PTS-STARTPTS"

    def test_seconds_that_are_no_binary_fractions(self) -> None:
        """0.35 s at 44.1 kHz is 15434.999... samples in floating point."""
        result, _ = prepared(voice(44100, 1.0), 44100, stages_from("off", {}, 0.35))
        assert result.shape == (1, 44100 - 15435)

    def test_an_end_past_the_sound_is_its_end(self) -> None:
        result, done = prepared(voice(16000, 2.0), 16000, stages_from("off", {}, 0.5, 9.0))
        assert result.shape == (1, 24000)
        assert "the sound ends before 9 s and is kept up to its end" in done.notes

    def test_what_cannot_be_kept(self) -> None:
        sound = voice(16000, 2.0)
        with pytest.raises(LongTalkError, match=r"start: expected a time before the end of audio \(2.00 s\)"):
            prepared(sound, 16000, stages_from("off", {}, 2.5))
        with pytest.raises(LongTalkError, match=r"at least 0.04 s of sound.*got 0.0100 s \(160 samples from 1 s on\)"):
            prepared(sound, 16000, stages_from("off", {}, 1.0, 1.01))
        with pytest.raises(LongTalkError, match=r"end: expected a time after the start \(1 s\)"):
            stages_from("off", {}, 1.0, 0.5)
        with pytest.raises(LongTalkError, match="start: expected a number from 0"):
            stages_from("off", {}, -1.0)


class TestStages:
    def test_presets(self) -> None:
        assert stages_from("LTX", {}) == LTX
        assert stages_from("InfiniteTalk", {"loudness_lufs": "as preset"}) == INFINITETALK
        assert stages_from("off", {}) == Stages()
        with pytest.raises(LongTalkError, match="preset: expected one of LTX, InfiniteTalk, off, got 'ltx'"):
            stages_from("ltx", {})

    def test_single_stages(self) -> None:
        changed = stages_from(
            "LTX", {"high_pass_hz": " Off ", "eq_3000_hz": "2.5", "loudness_lufs": -18, "range_lu": 8.0}
        )
        assert changed.high_pass_hz is None
        assert changed.gains_db == (-3.0, -2.0, 2.5, 3.0)
        assert (changed.loudness_lufs, changed.range_lu, changed.ceiling_db) == (-18.0, 8.0, -2.0)
        assert stages_from("LTX", {"eq_200_hz": "off"}).gains_db == (0.0, -2.0, 4.0, 3.0)

    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
    @pytest.mark.parametrize("value", ["on", "nan", "1e9", "-1e9", None, True, [1], float("nan"), float("inf")])
    def test_what_is_no_setting(self, setting: object, value: object) -> None:
        with pytest.raises(LongTalkError, match="expected 'as preset', 'off' or a number from"):
            stages_from("LTX", {setting.name: value})


def test_a_long_file_is_never_in_memory(tmp_path: Path) -> None:
    """A minute from a file into a writer, in two rounds: as much as for three seconds."""
    block = drums(48000, 2.0)
    path = write(tmp_path / "long.flac", np.concatenate([block] * 30, axis=1), 48000)
    written: list[int] = []

    def write_nothing(blocks: Iterator[np.ndarray]) -> None:
        written.append(sum(part.shape[1] for part in blocks))

    source: Source = FileSource(path)
    tracemalloc.start()
    done = prepare(source, stages_from("off", {"loudness_lufs": -23}), write_nothing)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written == [60 * 48000] * 2
    assert done.samples == 60 * 48000
    assert peak_bytes < 6_000_000  # the whole sound: 23 MB


def test_the_report(speech: np.ndarray) -> None:
    _, done = prepared(speech, 48000, LTX)
    lines = done.report().splitlines()
    assert lines[0] == "audio: 9.91 s, 48000 Hz, 1 channel"
    assert lines[1] == "before: -23.0 LUFS, range 1.3 LU, true peak -3.1 dB"
    assert re.fullmatch(r"after:  -1[56]\.\d LUFS, range 0.\d LU, true peak -2.\d dB", lines[2])
    assert re.fullmatch(r"note: gain \+9\.\d dB", lines[3])
    assert re.fullmatch(r"note: peaks held at -2 dB; the highest was 9\.\d dB above", lines[4])
    assert lines[5].startswith(f'the same with ffmpeg: -af "{LTX_TONE},volume=')
    assert Meter().measure([speech], 48000, 1) == done.before
