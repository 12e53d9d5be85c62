"""``analyze``: sound and video files in, words, JSON and pictures out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sound_files import ffmpeg, write, write_video

from longtalk.audio.reading.source import FileSource
from longtalk.audio.report.analysis import analyse
from longtalk.audio.report.findings import find
from longtalk.audio.report.picture import draw_report
from longtalk.infinitetalk.cli.main import main

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def clip(root: Path) -> Path:
    return root / "scripts" / "assets" / "speech.flac"


@pytest.fixture
def hiss(tmp_path: Path) -> Path:
    sound = 0.1 * np.random.default_rng(0).standard_normal((1, 2 * RATE_HZ)).astype(np.float32)
    return write(tmp_path / "hiss.wav", sound, RATE_HZ)


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(["analyze", *map(str, arguments)])
    text = out.getvalue() + errors.getvalue()
    assert all(character == "\n" or character.isprintable() for character in text), repr(text)
    assert "Traceback" not in text
    return code, out.getvalue(), errors.getvalue()


def test_words(clip: Path, hiss: Path) -> None:
    code, out, errors = call(clip, hiss)
    assert (code, errors) == (0, "")
    first, second = out.split("hiss.wav, 0:02.00, 16000 Hz mono")
    assert first.startswith("speech.flac, 0:09.91, 48000 Hz mono\n\nFindings: none\n")
    assert "loudness         -23.0 LUFS" in first
    assert "1. error: no speech: no speech in 2.00 s." in second


def test_json(clip: Path, hiss: Path) -> None:
    code, out, errors = call(clip, hiss, "--json")
    assert (code, errors) == (0, "")
    first, second = json.loads(out)
    assert (first["name"], first["rate_hz"], first["findings"]) == ("speech.flac", 48000, [])
    assert first["duration_s"] == pytest.approx(9.9098125)
    assert [finding["kind"] for finding in second["findings"]] == ["no speech"]


def test_strict_tells_by_the_exit_code(clip: Path, hiss: Path) -> None:
    assert call(clip, "--strict")[0] == 0
    assert call(clip, hiss, "--strict")[0] == 1


def test_picture(clip: Path, tmp_path: Path) -> None:
    picture = tmp_path / "new folder" / "report.png"
    code, out, errors = call(clip, "--png", picture)
    assert (code, errors) == (0, "")
    assert f"picture: {picture}" in out
    analysis = analyse(FileSource(clip))
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
        assert (np.asarray(drawn) == draw_report(analysis, find(analysis))).all()


def test_pictures_of_several(clip: Path, hiss: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    assert call(clip, hiss, "--png", folder)[0] == 0
    assert sorted(file.name for file in folder.iterdir()) == ["hiss.wav.png", "speech.flac.png"]


def test_a_picture_that_is_there_stays(hiss: Path, tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    picture.write_bytes(b"mine")
    code, out, errors = call(hiss, "--png", picture)
    assert (code, out) == (1, "")
    assert "add --force to replace it" in errors
    assert picture.read_bytes() == b"mine"
    assert call(hiss, "--png", picture, "--force")[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pictures_that_have_no_place(clip: Path, hiss: Path, tmp_path: Path) -> None:
    code, out, errors = call(clip, hiss, "--png", tmp_path / "report.png")
    assert (code, out) == (1, "")
    assert "expected a folder for the pictures of 2 files, got no folder. Make the folder first" in errors
    code, out, errors = call(clip, clip, "--png", tmp_path)
    assert (code, out) == (1, "")
    assert "two of the same name" in errors


def test_a_video_has_a_sound_too(hiss: Path, tmp_path: Path) -> None:
    code, out, _ = call(write_video(tmp_path / "film.mkv", hiss))
    assert code == 0
    assert out.startswith("film.mkv, 0:02.00, 16000 Hz mono")


def test_bad_files_are_told_and_the_others_heard(hiss: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.wav"
    text = tmp_path / "words.wav"
    text.write_text("These are words and no sound at all. " * 9)
    silent = tmp_path / "silent.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=32x32:d=1", silent)
    broken = np.zeros((1, RATE_HZ), np.float32)
    broken[0, 700] = np.nan
    nan = write(tmp_path / "nan.wav", broken, RATE_HZ, "-c:a", "pcm_f32le")
    code, out, errors = call(missing, text, hiss, silent, nan, tmp_path, "https://example.com/speech.wav")
    assert code == 1
    assert out.startswith("hiss.wav, 0:02.00")
    told = errors.splitlines()
    words = ("none of this name", "ffmpeg can read", "one without", "NaN", "a folder", "Download it first")
    for line, word in zip(told, words, strict=True):
        assert line.startswith("error: ")
        assert word in line


def test_it_starts_as_a_program(hiss: Path, root: Path) -> None:
    """With the folder's path, as people call it, and with nothing but its own words on the output."""
    command = [sys.executable, str(root / "infinitetalk" / "cli"), "analyze", str(hiss), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["name"] == "hiss.wav"
