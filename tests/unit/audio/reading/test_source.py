"""Sounds read second by second: every kind of file ffmpeg reads, and clear words about those that are no sound."""

from __future__ import annotations

import logging
import re
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from sound_files import ffmpeg, read, voice, write, write_video

from longtalk.audio.reading.source import FileSource, Source, TrackSource
from longtalk.audio.reading.track import Track
from longtalk.base.errors import LongTalkError


def whole(source: Source) -> np.ndarray:
    return np.concatenate(list(source.blocks()), axis=1)


def refusal(path: Path) -> str:
    """The words with which a file is refused, when it is opened or on the way."""
    with pytest.raises(LongTalkError) as caught:
        whole(FileSource(path))
    return str(caught.value)


def joined(path: Path) -> Path:
    """Two sounds of another rate and channel count, one after the other in one file."""
    kinds = ((44100, 2), (48000, 1))
    parts = [write(path.with_name(f"{rate}{path.suffix}"), voice(rate, 2, channels), rate) for rate, channels in kinds]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


class TestKinds:
    @pytest.mark.parametrize(
        ("name", "rate_hz", "channels", "options", "step"),
        [
            ("8bit.wav", 16000, 1, ["-c:a", "pcm_u8"], 2**-7),
            ("16bit.wav", 44100, 2, [], 2**-15),
            ("24bit.wav", 48000, 2, ["-c:a", "pcm_s24le"], 2**-23),
            ("32bit.wav", 48000, 1, ["-c:a", "pcm_s32le"], 2**-23),
            ("double.wav", 22050, 1, ["-c:a", "pcm_f64le"], 0),
            ("fast.wav", 192000, 2, ["-c:a", "pcm_f32le"], 0),
            ("planar.flac", 96000, 6, ["-sample_fmt", "s32"], 2**-23),
            ("eight.wav", 48000, 8, ["-c:a", "pcm_f32le"], 0),
            ("eight_planar.wv", 48000, 8, ["-sample_fmt", "fltp"], 0),
            ("three.wav", 11025, 3, ["-c:a", "pcm_f32le"], 0),
        ],
    )
    def test_samples_are_those_in_the_file(
        self, tmp_path: Path, name: str, rate_hz: int, channels: int, options: list[str], step: float
    ) -> None:
        sound = voice(rate_hz, 2.3, channels)
        path = write(tmp_path / name, sound, rate_hz, *options)
        source = FileSource(path)
        assert (source.name, source.rate_hz, source.channels) == (name, rate_hz, channels)
        assert source.duration_s == pytest.approx(2.3, abs=1e-3)
        heard = whole(source)
        assert heard.dtype == np.float32
        assert heard.shape == sound.shape
        assert np.array_equal(heard, read(path, channels))
        assert np.abs(heard - sound).max() <= step

    @pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.ogg", "a.opus", "a.mkv"])
    def test_compressed_files_are_as_ffmpeg_decodes_them(self, tmp_path: Path, name: str) -> None:
        sound = voice(48000, 3.2, 2)
        path = write(tmp_path / name, sound, 48000)
        heard = whole(FileSource(path))
        meant = read(path, 2)
        # PyAV does not know how long the last packet is meant to be (docs/video-output.md), ffmpeg does.
        assert 0 <= heard.shape[1] - meant.shape[1] < 2048
        assert np.abs(heard[:, : meant.shape[1]] - meant).max() < 1e-4

    def test_beyond_full_scale_is_kept(self, tmp_path: Path) -> None:
        sound = voice(16000, 1, level=3.0)
        heard = whole(FileSource(write(tmp_path / "hot.wav", sound, 16000, "-c:a", "pcm_f32le")))
        assert np.array_equal(heard, sound)

    def test_a_video_given_as_sound(self, tmp_path: Path) -> None:
        sound = voice(48000, 1, 2)
        path = write_video(tmp_path / "talk.mkv", write(tmp_path / "a.flac", sound, 48000))
        source = FileSource(path)
        assert (source.rate_hz, source.channels) == (48000, 2)
        assert np.array_equal(whole(source), read(path, 2))

    def test_two_sounds_of_other_rates_and_lengths_in_one_video(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.wav", voice(16000, 0.5, 1), 16000)
        second = write(tmp_path / "b.wav", voice(44100, 1.5, 2), 44100)
        path = write_video(tmp_path / "two.mov", first, second)
        # One of them, whole: which, ffmpeg decides (it goes by the file's default).
        source = FileSource(path)
        assert (source.rate_hz, source.duration_s, whole(source).shape) == (16000, 0.5, (1, 8000))

    def test_a_sound_that_changes_on_the_way(self, tmp_path: Path) -> None:
        source = FileSource(joined(tmp_path / "joined.aac"))
        assert (source.rate_hz, source.channels) == (44100, 2)
        heard = whole(source)
        assert heard.shape[1] / 44100 == pytest.approx(4.0, abs=0.15)
        assert np.abs(heard[:, 3 * 44100 :]).max() > 0.2

    def test_files_that_were_joined_by_hand(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The tag of the second lies in the middle of the sound."""
        with caplog.at_level(logging.WARNING):
            heard = whole(FileSource(joined(tmp_path / "joined.mp3")))
        assert heard.shape[1] / 44100 == pytest.approx(4.0, abs=0.15)
        assert "joined.mp3: left out what cannot be read: damage at 2.0" in caplog.text

    @pytest.mark.parametrize("name", ["12:30.wav", "höhö 話.wav", "100%.wav"])
    def test_odd_names(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "a.wav", voice(16000, 1), 16000).rename(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert whole(FileSource(name)).shape == (1, 16000)

    def test_tags_in_an_old_encoding(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.wav", voice(16000, 1), 16000, "-metadata", "title=XXXX")
        data = path.read_bytes()
        assert b"XXXX" in data
        path.write_bytes(data.replace(b"XXXX", b"\xe4\xf6\xfc\xff"))
        assert whole(FileSource(path)).shape == (1, 16000)


class TestBlocks:
    def test_about_a_second_each_and_as_often_as_wanted(self, tmp_path: Path) -> None:
        source = FileSource(write(tmp_path / "a.flac", voice(16000, 3.7, 2), 16000))
        lengths = [block.shape[1] / 16000 for block in source.blocks()]
        assert sum(lengths) == pytest.approx(3.7)
        assert all(1 <= length < 1.5 for length in lengths[:-1])
        assert np.array_equal(whole(source), whole(source))

    def test_a_long_file_is_never_in_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "long.flac"
        ffmpeg("-f", "lavfi", "-i", "anoisesrc=r=48000:d=120:a=0.1", "-ac", 2, "-compression_level", 0, path)
        tracemalloc.start()
        samples = sum(block.shape[1] for block in FileSource(path).blocks())
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert samples == 120 * 48000
        assert peak_bytes < 4_000_000  # the whole sound: 46 MB

    def test_a_track_in_memory_is_not_copied(self) -> None:
        track = Track(torch.from_numpy(voice(16000, 2.5, 2)), 16000, "voice")
        source = TrackSource(track)
        blocks = list(source.blocks())
        assert [block.shape for block in blocks] == [(2, 16000), (2, 16000), (2, 8000)]
        assert np.shares_memory(blocks[2], track.waveform.numpy())
        assert np.array_equal(whole(source), track.waveform.numpy())
        assert (source.name, source.rate_hz, source.channels, source.duration_s) == ("voice", 16000, 2, 2.5)


class TestRefusals:
    def test_no_such_file(self, tmp_path: Path) -> None:
        assert f"file {tmp_path / 'a.wav'}: expected a sound or video file, got none of" in refusal(tmp_path / "a.wav")
        assert "got a folder" in refusal(tmp_path)

    def test_no_sound_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.wav"
        path.write_bytes(b"")
        assert "can read, got an empty file" in refusal(path)
        path.write_text("not a sound " * 1000)
        assert "ffmpeg can read, got Invalid data" in refusal(path)

    def test_a_silent_video(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "silent.mp4")
        assert "expected a file with sound, got one without: it holds video only" in refusal(path)

    def test_an_empty_track(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(44100)
        assert "empty.wav: expected a sound, got an empty track (of 2 channels at 44100 Hz)" in refusal(path)

    def test_one_sample(self, tmp_path: Path) -> None:
        path = write(tmp_path / "one.wav", np.full((2, 1), 0.25, np.float32), 16000)
        text = refusal(path)
        assert "expected at least 0.04 s of sound" in text
        assert "got 0.0001 s (1 samples of 2 channels at 16000 Hz, peak 0.25)" in text

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_broken_samples_are_named_with_their_time(self, tmp_path: Path, bad: float) -> None:
        sound = voice(16000, 5, 2)
        sound[1, 56000] = bad
        path = write(tmp_path / "bad.wav", sound, 16000, "-c:a", "pcm_f32le")
        assert "bad.wav: expected finite samples, got 1 NaN or infinite values, the first at 3.500 s" in refusal(path)

    def test_samples_on_another_scale(self, tmp_path: Path) -> None:
        path = write(tmp_path / "big.wav", voice(16000, 2, level=32767.0), 16000, "-c:a", "pcm_f32le")
        assert "got a peak of 32767" in refusal(path)

    @pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.ogg", "a.opus", "a.mkv"])
    def test_damage_is_named_with_its_time(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / name, voice(48000, 10, 2), 48000)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 12000] = np.random.default_rng(1).bytes(12000)
        path.write_bytes(data)
        text = refusal(path)
        found = re.search(r"got (?:damage|a gap of [\d.]+ s) at ([\d.]+) s", text)
        assert found, text
        assert float(found[1]) == pytest.approx(5, abs=1)

    def test_a_fifth_of_a_second_of_broken_packets(self, tmp_path: Path) -> None:
        """Too short for a gap, and enough for two syllables to be out of time."""
        path = write(tmp_path / "a.m4a", voice(48000, 10, 2), 48000)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 3000] = bytes(3000)
        path.write_bytes(data)
        assert re.search(r"got damage at [45]\.\d\d s \(Invalid data", refusal(path))

    def test_a_gap_is_filled_as_the_message_says(self, tmp_path: Path) -> None:
        path = tmp_path / "gap.mkv"
        ffmpeg("-f", "lavfi", "-i", "sine=d=6:r=48000", "-af", "aselect='lt(t,2)+gt(t,4)'", "-c:a", "flac", path)
        text = refusal(path)
        assert "expected a sound in one piece, got a gap of 2.0" in text
        command = re.search(r"\(ffmpeg -i FILE (.*) sound.wav\)", text)
        assert command
        ffmpeg("-i", path, *command[1].split(), tmp_path / "filled.wav")
        assert FileSource(tmp_path / "filled.wav").duration_s == pytest.approx(6, abs=0.1)

    def test_a_sound_that_ends_early_is_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = write(tmp_path / "cut.mp3", voice(44100, 10, 2), 44100)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with caplog.at_level(logging.WARNING):
            assert whole(FileSource(path)).shape[1] / 44100 == pytest.approx(5, abs=0.1)
        assert re.search(r"cut.mp3 ends at 4.\d\d s, its header says 10.\d\d s", caplog.text)
