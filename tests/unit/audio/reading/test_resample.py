"""Sample rates: SciPy where torchaudio is missing or broken gives what torchaudio gives, and says so."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchaudio
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio_states import hide_torchaudio, replace_torchaudio

from longtalk.audio.reading.resample import Resampler, naming, resample, resampler, resampling_note
from longtalk.audio.reading.track import Track
from longtalk.audio.tracks import arrange, mono

PAIRS = [
    *((rate_hz, 16000) for rate_hz in (8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000)),
    (16000, 44100),
    (48000, 44100),
    (44100, 48000),
]


def noise(rate_hz: int, channels: int = 2, samples: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rate_hz)
    return torch.randn(channels, samples or rate_hz, generator=generator) * 0.1


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_scipy_gives_torchaudios_samples(monkeypatch: pytest.MonkeyPatch, from_hz: int, to_hz: int) -> None:
    """Against torchaudio in float64 the rounding of float32 is left; against its float32 also how it places filters."""
    sound = noise(from_hz)
    exact = torchaudio.functional.resample(sound.double(), from_hz, to_hz)
    usual = torchaudio.functional.resample(sound, from_hz, to_hz)
    hide_torchaudio(monkeypatch)
    ours = resample(sound, from_hz, to_hz)
    assert resampler(from_hz, to_hz) is Resampler.SCIPY
    assert (ours.shape, ours.dtype) == (usual.shape, torch.float32)
    peak = float(usual.abs().max())
    assert float((ours - exact).abs().max()) < 1e-6 * peak
    assert float((ours - usual).abs().max()) < 4e-5 * peak


@settings(max_examples=examples(40), deadline=None)
@given(
    from_hz=st.sampled_from([1000, 8000, 11025, 16000, 22050, 44100, 48000]),
    to_hz=st.sampled_from([1000, 8000, 16000, 24000, 44100, 48000]),
    samples=st.integers(1, 3000),
    channels=st.integers(1, 3),
)
def test_any_length_of_sound(from_hz: int, to_hz: int, samples: int, channels: int) -> None:
    sound = noise(from_hz, channels, samples)
    exact = torchaudio.functional.resample(sound.double(), from_hz, to_hz)
    with pytest.MonkeyPatch.context() as patched:
        hide_torchaudio(patched)
        ours = resample(sound, from_hz, to_hz)
    assert ours.shape == exact.shape
    assert float((ours - exact).abs().max()) < 1e-6


def test_rates_that_torchaudio_has_no_memory_for() -> None:
    assert resampler(44101, 16000) is Resampler.SCIPY
    assert resampling_note("anna", 44101, 16000) == (
        "anna: resampled from 44101 to 16000 Hz with scipy (these two rates would take torchaudio too much memory)"
    )


def test_the_note_names_what_was_used_if_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resampling_note("anna", 48000, 16000) == "anna: resampled from 48000 to 16000 Hz with torchaudio"
    hide_torchaudio(monkeypatch)
    assert resampling_note("anna", 48000, 16000) == (
        "anna: resampled from 48000 to 16000 Hz with scipy (torchaudio is not installed)"
    )
    sound = noise(16000)
    assert resample(sound, 16000, 16000) is sound
    assert resampling_note("anna", 16000, 16000) is None
    tracks = [Track(noise(48000), 48000, "a"), Track(noise(16000), 16000, "b")]
    assert "mix: b resampled from 16000 to 48000 Hz with scipy" in arrange(tracks).notes


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("OSError('libtorchaudio.so: undefined symbol: _ZN3c10')", "OSError: libtorchaudio.so: undefined symbol"),
        ("ImportError('DLL load failed\\nwhile importing')", "ImportError: DLL load failed while importing"),
        ("RuntimeError('compiled with different CUDA versions')", "RuntimeError: compiled with different CUDA"),
        ("ModuleNotFoundError('No module named torchcodec', name='torchcodec')", "ModuleNotFoundError: No module"),
    ],
)
def test_a_broken_torchaudio_counts_as_missing_and_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: str, words: str
) -> None:
    tried = tmp_path / "tried"
    replace_torchaudio(monkeypatch, tmp_path, f"open({str(tried)!r}, 'a').write('x')\nraise {error}\n")
    sound = noise(48000)
    with caplog.at_level(logging.WARNING):
        assert mono(Track(sound, 48000)).shape == (16000,)
        assert mono(Track(sound, 48000)).shape == (16000,)
    note = resampling_note("anna", 48000, 16000)
    assert note is not None
    assert note.startswith("anna: resampled from 48000 to 16000 Hz with scipy (torchaudio cannot be imported: " + words)
    assert "\n" not in note
    assert len(note) < 250
    [warning] = caplog.messages
    assert words in warning
    assert torch.__version__ in warning
    assert tried.read_text() == "x", "a failing import is tried once"


def test_what_is_left_of_an_uninstalled_torchaudio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with caches stays behind: it can be imported, and has nothing in it."""
    replace_torchaudio(monkeypatch, tmp_path, "")
    assert resampler(48000, 16000) is Resampler.SCIPY
    assert "torchaudio cannot be imported" in str(resampling_note("anna", 48000, 16000))


def test_only_scipy_adds_to_a_runs_name() -> None:
    assert naming([None, None]) == naming([None, Resampler.TORCHAUDIO]) == []
    first, second = naming([Resampler.SCIPY, Resampler.TORCHAUDIO]), naming([Resampler.SCIPY, Resampler.SCIPY])
    assert first != second
    assert first
    assert second


def test_nothing_imports_torchaudio_before_it_is_wanted() -> None:
    """Not even where it is installed; SciPy's filters, which take long to import, wait too."""
    code = (
        "import importlib, pkgutil, sys\n"
        "for name in ('audio', 'infinitetalk.plan', 'infinitetalk.run', 'infinitetalk.model', 'metrics'):\n"
        "    package = importlib.import_module(f'longtalk.{name}')\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "watched = ('longtalk.audio.reading.resample', 'scipy.signal', 'torchaudio')\n"
        "print([name for name in watched if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=sys.prefix, capture_output=True, text=True)
    assert done.stdout.strip() == "['longtalk.audio.reading.resample']", done.stderr
