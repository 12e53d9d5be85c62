"""What is measured of a sound: against ffmpeg, pyloudnorm and scipy, whatever the blocks are, in flat memory."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import psutil
import pyloudnorm
import pytest
import scipy.signal
import torch
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sound_files import write

from longtalk.audio.reading.source import FileSource, TrackSource
from longtalk.audio.reading.track import Track
from longtalk.audio.report.analysis import Analysis, analyse
from longtalk.audio.report.channels import LevelMeter
from longtalk.audio.report.clipping import Clipping, ClippingMeter
from longtalk.audio.report.columns import Columns, extremes, mean
from longtalk.audio.report.spectrum import AVERAGE_DB, BANDS_HZ, FLOOR_DB, SpectrumMeter, decibels, mel_edges
from longtalk.audio.voice import speech_segments
from longtalk.benchmarks.spoiled_sounds import RATE_HZ, at, gated, noise, with_sound


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the analysis itself has it: what it computes is too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clip(root: Path) -> Path:
    return root / "scripts" / "assets" / "speech.flac"


@pytest.fixture(scope="module")
def speech(clip: Path) -> np.ndarray:
    """The demo's speech, ``[1, N]`` at 48 kHz."""
    return np.concatenate(list(FileSource(clip).blocks()), axis=1)


@pytest.fixture(scope="module")
def analysis(clip: Path) -> Analysis:
    return analyse(FileSource(clip))


def measured(sound: np.ndarray, rate_hz: int = RATE_HZ) -> Analysis:
    return analyse(TrackSource(Track(torch.from_numpy(np.ascontiguousarray(sound, dtype=np.float32)), rate_hz)))


def sine(hz: float, seconds: float, rate_hz: int, level: float = 1.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)[None]


class Cut:
    """A sound that comes in blocks of these lengths, over and over."""

    name = "cut"
    duration_s = None

    def __init__(self, sound: np.ndarray, rate_hz: int, lengths: list[int]) -> None:
        self.sound, self.rate_hz, self.channels, self.lengths = sound, rate_hz, sound.shape[0], lengths

    def blocks(self) -> Iterator[np.ndarray]:
        start, turn = 0, 0
        while start < self.sound.shape[1]:
            end = start + self.lengths[turn % len(self.lengths)]
            yield self.sound[:, start:end]
            start, turn = end, turn + 1


# ---------------------------------------------------------------- against others


def test_loudness_is_that_of_pyloudnorm(analysis: Analysis, speech: np.ndarray) -> None:
    expected = pyloudnorm.Meter(RATE_HZ, filter_class="DeMan").integrated_loudness(speech[0].astype(np.float64))
    assert analysis.loudness.integrated_lufs == pytest.approx(expected, abs=0.1)


def test_range_and_peaks_are_those_of_ffmpeg(analysis: Analysis, clip: Path, speech: np.ndarray) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", clip, "-af", "ebur128=peak=true", "-f", "null", "-"]
    summary = subprocess.run(command, check=True, capture_output=True, text=True).stderr.rpartition("Summary:")[2]
    spread, peak = (float(re.search(rf"{name}:\s+(-?[0-9.]+)", summary)[1]) for name in ("LRA", "Peak"))
    assert analysis.loudness_range_lu == pytest.approx(spread, abs=0.11)
    assert analysis.true_peak_dbtp == pytest.approx(peak, abs=0.06)
    assert analysis.peak_dbfs == pytest.approx(20 * np.log10(np.abs(speech).max()), abs=1e-4)
    assert analysis.rms_dbfs == pytest.approx(10 * np.log10(np.mean(speech.astype(np.float64) ** 2)), abs=1e-4)


def test_true_peak_lies_between_the_samples() -> None:
    # A quarter of the rate, an eighth of a turn off: every sample is 3 dB below the wave's crest.
    wave = np.sin(np.pi / 2 * np.arange(48_000) + np.pi / 4) * scipy.signal.windows.tukey(48_000, 0.2)
    found = measured(wave[None])
    assert found.peak_dbfs == pytest.approx(-3.01, abs=0.01)
    assert found.true_peak_dbtp == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("rate_hz", [11_025, 16_000, 44_100, 48_000, 96_000])
def test_bands_are_those_of_welch(rate_hz: int) -> None:
    sound = noise(rate_hz * 6, 1)[None] * 0.1
    found = measured(sound, rate_hz)
    assert not found.speech  # so the bands are those of everything
    hz, density = scipy.signal.welch(sound[0].astype(np.float64), rate_hz, nperseg=8192)
    for (low, high), level in zip(BANDS_HZ, found.bands_dbfs, strict=True):
        inside = (hz >= low) & (hz < high)
        assert level == pytest.approx(10 * np.log10(density[inside].sum() * hz[1]), abs=0.5)


def test_bands_are_those_of_the_speech_alone(speech: np.ndarray) -> None:
    """Noise of sibilance, as loud as the speech, in a long pause changes no band."""
    hiss = scipy.signal.lfilter(*scipy.signal.butter(4, 5000, "high", fs=RATE_HZ), noise(6 * RATE_HZ, 0)) * 0.1
    noisy = np.concatenate([speech, hiss[None]], axis=1)
    before, after = measured(speech), measured(noisy)
    assert after.speech[-1].end_s < 10
    assert after.bands_dbfs == pytest.approx(before.bands_dbfs, abs=0.3)
    assert measured(hiss[None]).bands_dbfs[4] > before.bands_dbfs[4] + 10


def test_a_full_scale_sine_has_minus_three_decibels_everywhere() -> None:
    found = measured(sine(1000, 2, 48_000))
    assert found.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert found.bands_dbfs[2] == pytest.approx(-3.01, abs=0.05)
    assert found.noise.speech_dbfs == pytest.approx(-3.01, abs=0.1)
    assert max(found.bands_dbfs[:2] + found.bands_dbfs[3:]) < -60


def test_average_speech_is_that_of_byrne() -> None:
    """The third octaves of table II, summed anew."""
    men_and_women = (
        "38.6 43.5 54.4 57.7 56.8 60.2 60.3 59.0 62.1 62.1 60.5 56.8 53.7 53.0 52.0 48.7 48.1 46.8 45.6 44.5"
    )
    levels = np.array(f"{men_and_women} 44.3 43.7 43.4".split(), dtype=float)
    centres = 1000 * 10 ** (np.arange(-12, 11) / 10)
    low, high = centres * 10**-0.05, centres * 10**0.05
    sums = []
    for left, right in BANDS_HZ:
        part = np.clip(np.minimum(high, right) - np.maximum(low, left), 0, None) / (high - low)
        sums.append(10 * np.log10((part * 10 ** (levels / 10)).sum()))
    assert pytest.approx(np.array(sums) - max(sums), abs=0.06) == AVERAGE_DB


# ---------------------------------------------------------------- speech and noise


def test_speech_and_silence_fill_the_sound(analysis: Analysis, clip: Path) -> None:
    assert analysis.speech == speech_segments(FileSource(clip))
    parts = sorted([*analysis.speech, *analysis.silences], key=lambda part: part.start_s)
    assert parts[0].start_s == 0
    assert parts[-1].end_s == pytest.approx(analysis.duration_s)
    assert all(one.end_s == other.start_s for one, other in pairwise(parts))
    assert analysis.speech_s == pytest.approx(8.85, abs=0.2)


@pytest.mark.parametrize("below_db", [20.0, 10.0])
def test_noise_is_as_far_below_as_it_was_put(speech: np.ndarray, below_db: float) -> None:
    hiss = at(16_000)(noise(speech.shape[1], 0)[None])
    power = np.mean(np.square(hiss))
    noisy = with_sound(below_db, lambda samples: hiss[0] / np.sqrt(power))(speech)
    # The loudest tenth of speech lies 4 to 6 dB above its mean.
    assert below_db + 3 < measured(noisy).noise.ratio_db < below_db + 6.5


def test_long_pauses_change_nothing_about_the_noise(speech: np.ndarray) -> None:
    noisy = with_sound(15, lambda samples: noise(samples, 0))(speech)
    waiting = np.concatenate([noisy, noise(60 * RATE_HZ, 0, 1)[None] * noisy[:, -3000:].std()], axis=1)
    assert measured(waiting).noise.ratio_db == pytest.approx(measured(noisy).noise.ratio_db, abs=1.0)


def test_digital_silence_is_no_noise_floor(speech: np.ndarray) -> None:
    """A gate between the words does not make a noisy recording a clean one."""
    noisy = with_sound(8, lambda samples: noise(samples, 0))(speech)
    shut = noisy.copy()
    for part in measured(speech).silences:
        shut[:, round(part.start_s * RATE_HZ) : round(part.end_s * RATE_HZ)] = 0
    open_ratio, gated_ratio = measured(noisy).noise, measured(shut).noise
    assert gated_ratio.digital_part > 0.05
    assert open_ratio.digital_part == 0
    assert gated_ratio.ratio_db == pytest.approx(open_ratio.ratio_db, abs=1.5)


def test_frames_that_reach_into_digital_silence_are_no_noise_floor(speech: np.ndarray) -> None:
    """A nervous gate has a hundred of them."""
    noisy = with_sound(8, lambda samples: noise(samples, 0))(speech)
    gated_ratio = measured(gated(8)(speech)).noise
    assert gated_ratio.digital_part > 0.02
    assert gated_ratio.ratio_db == pytest.approx(measured(noisy).noise.ratio_db, abs=2.5)


def test_silence_has_no_noise_and_no_loudness() -> None:
    found = measured(np.zeros((2, RATE_HZ)))
    assert found.noise.ratio_db is None
    assert found.noise.digital_part == 1
    assert found.loudness.integrated_lufs is None
    assert found.loudness_range_lu is None
    assert found.bands_dbfs == pytest.approx([FLOOR_DB] * 5)
    assert found.silences[0].duration_s == 1


# ---------------------------------------------------------------- bandwidth


@pytest.mark.parametrize(
    ("hz", "lowest", "highest"), [(8000, 3300, 5000), (11_025, 4800, 6600), (16_000, 7000, 10_000)]
)
def test_bandwidth_of_what_was_at_a_lower_rate(speech: np.ndarray, hz: int, lowest: float, highest: float) -> None:
    assert lowest < measured(at(hz)(speech)).bandwidth_hz < highest


def test_what_falls_off_slowly_has_its_whole_bandwidth(speech: np.ndarray) -> None:
    noisy = with_sound(40, lambda samples: noise(samples, 0))(speech)
    dull = scipy.signal.lfilter(*scipy.signal.butter(1, 1500, fs=RATE_HZ), noisy)
    assert measured(dull).bandwidth_hz == RATE_HZ / 2


# ---------------------------------------------------------------- clipping


def clipping(sound: np.ndarray, rate_hz: int = RATE_HZ, block: int | None = None) -> Clipping:
    meter = ClippingMeter(rate_hz, sound.shape[0])
    for start in range(0, sound.shape[1], block or rate_hz):
        meter.push(sound[:, start : start + (block or rate_hz)])
    return meter.finish()


@pytest.mark.parametrize("rate_hz", [8000, 44_100, 192_000])
@pytest.mark.parametrize("level", [1.0, 0.2, -0.05])
def test_every_cut_crest_counts(rate_hz: int, level: float) -> None:
    # Half a second of 500 Hz, 6 dB over: 250 crests above and 250 below.
    wave = np.clip(2 * np.sin(2 * np.pi * 500 * np.arange(rate_hz // 2) / rate_hz + 0.1), -1, 1).astype(np.float32)
    found = clipping(level * wave[None], rate_hz)
    assert found.runs == 500
    assert found.samples == (np.abs(wave) >= 1).sum()
    assert found.ceiling == pytest.approx(abs(level))
    assert found.times_s[0] == pytest.approx(0.000136, abs=0.0003)
    assert len(found.times_s) == 1


def test_times_of_clipping_lie_a_second_apart() -> None:
    wave = np.zeros((2, 80 * 8000), np.float32)
    for channel, start in ((0, 10.0), (1, 3.0), (1, 3.9), (0, 4.1), (0, 5.5)):
        wave[channel, round(start * 8000) : round(start * 8000) + 5] = -0.5
    found = clipping(wave, 8000)
    assert found.times_s == (3.0, 4.1, 5.5, 10.0)
    assert (found.runs, found.samples) == (5, 25)
    wave[0, ::800] = wave[0, 1::800] = wave[0, 2::800] = 0.5
    assert clipping(wave, 8000).times_s == tuple(float(second) for second in range(50))


def test_one_side_may_be_cut_alone() -> None:
    wave = np.minimum(sine(440, 1, 48_000), 0.5)
    found = clipping(wave)
    assert (found.runs, found.ceiling) == (440, 0.5)


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param(lambda speech: speech, id="speech"),
        pytest.param(lambda speech: speech / np.abs(speech).max(), id="speech that fills the scale"),
        pytest.param(lambda speech: np.round(speech * 127) / 128, id="8 bits"),
        pytest.param(lambda speech: np.round(speech * 0.01 * 32768) / 32768, id="quiet"),
        pytest.param(lambda speech: sine(50, 2, 48_000), id="hum"),
        pytest.param(lambda speech: np.round(sine(100, 2, 48_000) * 32767) / 32768, id="hum of 16 bits"),
        pytest.param(lambda speech: sine(200, 2, 192_000), id="a low tone at a high rate"),
        pytest.param(lambda speech: speech * 0, id="silence"),
        pytest.param(lambda speech: speech * 0 + 0.5, id="a constant"),
    ],
)
def test_what_is_not_cut_does_not_count(speech: np.ndarray, whole: Callable[[np.ndarray], np.ndarray]) -> None:
    assert clipping(whole(speech).astype(np.float32)).runs <= 1


def test_runs_below_the_highest_sample_are_no_ceiling() -> None:
    wave = np.clip(2 * sine(500, 1, 48_000), -1, 1) * 0.5
    wave[0, 20_000] = wave[0, 20_010] = 0.9
    wave[0, 20_020] = -0.9
    assert clipping(wave).runs == 0


# ---------------------------------------------------------------- channels


def test_channels_are_measured_one_by_one(speech: np.ndarray) -> None:
    found = measured(np.concatenate([speech, 0.25 * speech + np.float32(0.1)])).levels
    first, second = found.channels
    assert second.sound_power == pytest.approx(first.sound_power / 16, rel=1e-3)
    assert second.offset - 0.25 * first.offset == pytest.approx(0.1, abs=1e-5)
    assert first.peak == np.abs(speech).max()


@pytest.mark.parametrize(("factor", "together"), [(1, 2), (-1, 0), (0, 1), (0.5, 1.8)])
def test_what_is_left_of_two_channels_added(speech: np.ndarray, factor: float, together: float) -> None:
    found = measured(np.concatenate([speech, factor * speech]).astype(np.float32)).levels
    assert found.together_whole == pytest.approx(together, abs=1e-3)
    assert found.together == pytest.approx(np.full(10, together), abs=1e-3)


def test_an_offset_is_no_sound_that_adds_up(speech: np.ndarray) -> None:
    found = measured(np.concatenate([speech, -speech]) + np.float32(0.3)).levels
    assert found.together_whole == pytest.approx(0, abs=1e-3)


def test_what_cancels_only_in_a_part_is_seen_there(speech: np.ndarray) -> None:
    other = speech.copy()
    other[:, 3 * RATE_HZ : 5 * RATE_HZ] *= -1
    together = measured(np.concatenate([speech, other])).levels.together
    assert np.flatnonzero(together < 0.1).tolist() == [3, 4]


def test_silence_has_no_togetherness() -> None:
    assert np.isnan(measured(np.zeros((2, 2 * RATE_HZ))).levels.together).all()


# ---------------------------------------------------------------- columns, blocks, memory


@settings(max_examples=examples(60), deadline=None)
@given(
    rows=st.integers(1, 300),
    limit=st.sampled_from([2, 4, 10, 64]),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=9),
)
def test_columns_are_few_and_hold_everything(rows: int, limit: int, cuts: list[int]) -> None:
    values = np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)
    for reduce in (mean, extremes):
        columns = Columns(3, 0.5, reduce, limit)
        for block in Cut(values.T, 1, cuts).blocks():
            columns.push(block.T)
        found = columns.finish()
        each = round(columns.each_s / 0.5)
        assert each & (each - 1) == 0
        assert -(-rows // each) == len(found) <= limit + 1
        for place, column in enumerate(found):
            part = values[place * each : (place + 1) * each]
            assert column == pytest.approx(reduce(part[None])[0], rel=1e-4, abs=1e-5)
        assert rows < limit or len(found) >= limit // 2


@settings(max_examples=examples(10), deadline=None)
@given(cuts=st.lists(st.integers(1, 9000), min_size=1, max_size=5).filter(lambda cuts: sum(cuts) > 100 * len(cuts)))
def test_the_blocks_change_nothing(cuts: list[int]) -> None:
    rate_hz = 8000
    sound = np.clip(2 * noise(3 * rate_hz + 123, 2).reshape(1, -1) * np.array([[0.4], [0.3]], np.float32), -1, 1)
    found = []
    for lengths in (cuts, [sound.shape[1]]):
        levels, clips, spectrum = LevelMeter(rate_hz, 2), ClippingMeter(rate_hz, 2), SpectrumMeter(rate_hz)
        for block in Cut(sound, rate_hz, lengths).blocks():
            levels.push(block)
            clips.push(block)
            spectrum.push(block.mean(axis=0))
        found.append((levels.finish(), clips.finish(), spectrum.finish()))
    (levels, clips, spectra), (whole_levels, whole_clips, whole_spectra) = found
    assert clips == whole_clips
    assert clips.runs > 5
    assert levels.channels[0].peak == whole_levels.channels[0].peak
    assert levels.power == pytest.approx(whole_levels.power, rel=1e-5)
    assert np.allclose(levels.together, whole_levels.together, rtol=1e-4)
    assert np.allclose(levels.envelope, whole_levels.envelope, rtol=1e-5)
    assert np.allclose(spectra.bands, whole_spectra.bands, rtol=1e-3, atol=1e-9)
    assert np.allclose(spectra.spectrogram, whole_spectra.spectrogram, rtol=1e-3, atol=1e-9)


def test_the_whole_analysis_does_not_depend_on_the_blocks(speech: np.ndarray, analysis: Analysis) -> None:
    other = analyse(Cut(speech, RATE_HZ, [7001, 90_000, 333]))
    assert other.speech == analysis.speech
    assert other.loudness == analysis.loudness
    assert other.bands_dbfs == pytest.approx(analysis.bands_dbfs, abs=1e-3)
    assert other.duration_s == analysis.duration_s


def test_twenty_minutes_take_hardly_more_memory_than_half_a_minute() -> None:
    rate_hz = 16_000
    block = (0.1 * np.random.default_rng(0).standard_normal((2, rate_hz))).astype(np.float32)
    levels, clips, spectrum = LevelMeter(rate_hz, 2), ClippingMeter(rate_hz, 2), SpectrumMeter(rate_hz)
    process, used = psutil.Process(), []
    for second in range(1200):
        for meter in (levels, clips):
            meter.push(block)
        spectrum.push(block[0])
        if second in (30, 1199):
            used.append(process.memory_info().rss)
    assert used[1] - used[0] < 30_000_000
    assert len(spectrum.finish().spectrogram) <= 2049
    assert len(levels.finish().envelope) <= 4097


def test_progress_is_told_and_may_stop(speech: np.ndarray) -> None:
    told: list[float] = []
    source = TrackSource(Track(torch.from_numpy(speech), RATE_HZ))
    analyse(source, progress=told.append)
    assert len(told) >= 10
    assert told == sorted(told)
    assert told[-1] == pytest.approx(speech.shape[1] / RATE_HZ)

    def stop(heard_s: float) -> None:
        if heard_s > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(source, progress=stop)


@pytest.mark.parametrize(("rate_hz", "channels"), [(1000, 1), (8000, 3), (22_050, 6), (48_000, 9), (192_000, 8)])
def test_any_rate_and_any_channels(tmp_path: Path, rate_hz: int, channels: int) -> None:
    sound = np.concatenate([sine(200 + 10 * place, 1.3, rate_hz, 0.3) for place in range(channels)])
    found = analyse(FileSource(write(tmp_path / "sound.wav", sound, rate_hz, "-c:a", "pcm_f32le")))
    assert found.channels == channels
    assert found.duration_s == pytest.approx(1.3)
    assert found.rms_dbfs == pytest.approx(20 * np.log10(0.3) - 3.01, abs=0.05)
    assert found.loudness.integrated_lufs is not None


def test_the_spectrogram_shows_a_tone_in_its_row() -> None:
    spectrogram = measured(sine(3000, 1, 16_000, 0.5), 16_000).spectra.spectrogram
    row = int(spectrogram.sum(axis=0).argmax())
    low, high = mel_edges(spectrogram.shape[1])[row : row + 2]
    assert low - 30 <= 3000 <= high + 30
    assert decibels(spectrogram[len(spectrogram) // 2].sum()) == pytest.approx(20 * np.log10(0.5) - 3.01, abs=0.1)


@pytest.mark.parametrize("samples", [2000, 5000, 100])
def test_very_short_sounds(samples: int) -> None:
    found = measured(noise(samples, 0)[None] * 0.1)
    assert found.duration_s == samples / RATE_HZ
    assert found.loudness.integrated_lufs is None
    assert np.isfinite(found.bands_dbfs).all()


class Counted(Cut):
    """Counts how often it is read."""

    times = 0

    def blocks(self) -> Iterator[np.ndarray]:
        self.times += 1
        return super().blocks()


def test_a_sound_is_read_once_and_a_faint_one_heard_again_louder(speech: np.ndarray, analysis: Analysis) -> None:
    sounds = [Counted(speech * np.float32(10 ** (db / 20)), RATE_HZ, [RATE_HZ]) for db in (0, -40)]
    usual, faint = (analyse(sound) for sound in sounds)
    assert [sound.times for sound in sounds] == [1, 2]
    assert usual.speech == analysis.speech
    assert faint.speech_s == pytest.approx(usual.speech_s, abs=0.5)
    assert faint.levels.peak == pytest.approx(usual.levels.peak / 100)
    silence = Counted(speech * 0, RATE_HZ, [RATE_HZ])
    analyse(silence)
    assert silence.times == 1
