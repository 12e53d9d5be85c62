"""ffmpeg's filters and meter over blocks, beside ffmpeg's own command line and other people's meters."""

from __future__ import annotations

import re
import subprocess
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from scipy.signal import resample_poly
from sound_files import drums, read, voice, write

from longtalk.audio.prepare.filters import Filter, Meter, af_text, through

CHAIN = [
    Filter("aformat", (("sample_fmts", "dblp"),)),
    Filter("highpass", (("f", 80.0),)),
    Filter("equalizer", (("f", 3000.0), ("t", "q"), ("w", 1.0), ("g", 4.0))),
]


def cut(sound: np.ndarray, *lengths: int) -> Iterator[np.ndarray]:
    """In blocks of these lengths, over and over."""
    start = number = 0
    while start < sound.shape[1]:
        length = lengths[number % len(lengths)]
        yield sound[:, start : start + length]
        start += length
        number += 1


def joined(blocks: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(blocks), axis=1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 12])
@pytest.mark.parametrize("rate_hz", [8000, 44100])
def test_no_filter_changes_nothing(rate_hz: int, channels: int) -> None:
    sound = voice(rate_hz, 1.234, channels, level=3.0)
    assert np.array_equal(joined(through(cut(sound, rate_hz), [], rate_hz, channels)), sound)
    # The meter neither, not even at an end that is no whole tenth of a second.
    assert np.array_equal(joined(Meter().through(cut(sound, rate_hz), [], rate_hz, channels)), sound)


def test_blocks_of_any_length_give_the_same() -> None:
    sound = voice(16000, 2.0, 2)
    whole = joined(through([sound], CHAIN, 16000, 2))
    assert whole.shape == sound.shape
    assert np.array_equal(joined(through(cut(sound, 1, 7, 16000, 333), CHAIN, 16000, 2)), whole)
    assert not np.allclose(whole, sound, atol=1e-2)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_as_ffmpeg_itself(tmp_path: Path, channels: int) -> None:
    sound = voice(44100, 2.0, channels)
    path = write(tmp_path / "a.wav", sound, 44100, "-c:a", "pcm_f32le")
    meant = read(path, channels, "-af", af_text(CHAIN))
    found = joined(through(cut(sound, 44100), CHAIN, 44100, channels))
    assert found.shape == meant.shape
    assert np.abs(found - meant).max() < 2**-20


def test_the_text_for_the_command_line() -> None:
    assert af_text(CHAIN) == "aformat=sample_fmts=dblp,highpass=f=80,equalizer=f=3000:t=q:w=1:g=4"
    assert af_text([Filter("anull")]) == "anull"
    assert af_text([]) == ""


def said_by_ffmpeg(path: Path) -> dict[str, float]:
    """The summary of ``ebur128`` on ffmpeg's own command line."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-af", "ebur128=peak=true:framelog=quiet"]
    text = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    summary = text[text.index("Summary:") :]
    return {name: float(re.search(rf"{name}: +(\S+)", summary)[1]) for name in ("I", "LRA", "LRA low", "Peak")}


@pytest.mark.parametrize("level", [1.0, 0.05])
def test_the_meter_reads_what_ffmpeg_says(tmp_path: Path, level: float) -> None:
    # Loud and soft in turn, so that there is a range.
    sound = np.concatenate([drums(44100, 5) * level, drums(44100, 5) * 0.2 * level] * 2, axis=1)
    path = write(tmp_path / "a.wav", sound, 44100, "-c:a", "pcm_f32le")
    meter = Meter()
    found = meter.measure(cut(sound, 44100), 44100, 2)
    assert meter.loudness is found
    meant = said_by_ffmpeg(path)
    assert found.integrated_lufs == pytest.approx(meant["I"], abs=0.06)
    assert found.range_lu == pytest.approx(meant["LRA"], abs=0.06)
    assert found.range_lu > 5
    assert found.low_lufs == pytest.approx(meant["LRA low"], abs=0.06)
    assert found.true_peak_db == pytest.approx(meant["Peak"], abs=0.2)


def test_true_peaks_lie_between_the_samples() -> None:
    # A quarter of the rate, an eighth of a turn off the samples: their peak is 3 dB below the true one.
    swell = np.hanning(48000) * np.sin(np.pi / 2 * np.arange(48000) + np.pi / 4)
    found = Meter().measure([swell.astype(np.float32)[None]], 48000, 1)
    assert np.abs(swell).max() == pytest.approx(0.707, abs=1e-3)
    assert found.true_peak == pytest.approx(1.0, abs=0.005)
    assert found.true_peak == pytest.approx(np.abs(resample_poly(swell, 4, 1)).max(), abs=0.005)
    assert Meter(peaks=False).measure([swell.astype(np.float32)[None]], 48000, 1).true_peak == 0


@pytest.mark.parametrize("samples", [1, 100, 6399])
def test_what_is_too_short_has_no_loudness(samples: int) -> None:
    found = Meter().measure([voice(16000, 1)[:, :samples]], 16000, 1)
    assert (found.integrated_lufs, found.range_lu) == (None, 0)


@pytest.mark.parametrize("seconds", [3.0, 3.3, 3.9])
def test_what_is_too_short_has_no_range(seconds: float) -> None:
    found = Meter().measure([voice(16000, seconds)], 16000, 1)
    assert found.integrated_lufs is not None
    assert found.range_lu == 0


def test_a_reader_that_stops_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    blocks = Meter().through(cut(voice(16000, 5), 16000), CHAIN, 16000, 1)
    next(blocks)
    assert len(list(tmp_path.iterdir())) == 1
    blocks.close()
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_length() -> None:
    block = voice(48000, 1, 2)
    tracemalloc.start()
    Meter().measure((block for _ in range(120)), 48000, 2, CHAIN)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 * block.nbytes
