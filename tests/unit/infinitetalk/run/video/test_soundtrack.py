"""The sound of a video: its length, its place in time and its channels, as ffmpeg and PyAV decode it."""

from __future__ import annotations

import itertools
import logging
import subprocess
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch
import torchaudio
from written_video import make_video, write_segments

from longtalk.audio.reading.writer import carried_rate_hz
from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.run.video.formats import CODECS, VideoFormat
from longtalk.infinitetalk.run.video.join import WrittenVideo, join
from longtalk.infinitetalk.run.video.soundtrack import Soundtrack, write_sound

SIZE = 32
FRAME_S = 1 / 25
RATES_HZ = [8000, 16000, 22050, 37800, 44100, 48000, 96000, 192000]
LOW_FREQUENCY_CHANNEL = 3  # of 5.1; AAC keeps only its bass


def chirps(seconds: float, rate_hz: int, channels: int) -> np.ndarray:
    """A rising or falling tone of its own in every channel, float32 [C, N]; all of it below 4 kHz."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    rows = []
    for channel in range(channels):
        low, high = 200 + 60 * channel, 2600 + 90 * channel
        start, end = (low, high) if channel % 2 == 0 else (high, low)
        rows.append(0.4 * np.sin(2 * np.pi * (start * t + (end - start) * t**2 / (2 * seconds))))
    return np.stack(rows).astype(np.float32)


def written(folder: Path, sound: Soundtrack, frames: int, codec: str = "h264") -> WrittenVideo:
    """A black video of windows of 20 frames, with this sound."""
    return make_video(folder, *np.split(black(frames), range(20, frames, 20)), codec=codec, soundtrack=sound)


def black(frames: int) -> np.ndarray:
    return np.zeros((frames, SIZE, SIZE, 3), np.uint8)


def by_ffmpeg(path: Path) -> np.ndarray:
    """[C, N] at the file's own rate."""
    with av.open(str(path)) as container:
        channels = container.streams.audio[0].codec_context.layout.nb_channels
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", "0:a", "-f", "f32le", "-"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(data, np.float32).reshape(-1, channels).T


def by_pyav(path: Path) -> tuple[np.ndarray, int]:
    """[C, N] and the rate, the way ComfyUI reads a video's sound; silence up to the first sample's time."""
    resampler = av.AudioResampler(format="fltp")
    with av.open(str(path)) as container:
        parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        rate_hz = container.streams.audio[0].codec_context.sample_rate
    sound = np.concatenate([part.to_ndarray() for part in parts], axis=1)
    return np.pad(sound, ((0, 0), (round(float(parts[0].pts * parts[0].time_base) * rate_hz), 0))), rate_hz


def delay_ms(heard: np.ndarray, meant: np.ndarray, rate_hz: int) -> float:
    """Where the cross-correlation of two mono signals peaks."""
    size = 2 * max(len(heard), len(meant))
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(meant, size)), size)
    peak = int(np.argmax(product))
    return (peak if peak < size // 2 else peak - size) * 1000 / rate_hz


def likeness(heard: np.ndarray, meant: np.ndarray) -> float:
    """1 where two signals are the same up to loudness."""
    samples = min(len(heard), len(meant))
    return float(np.corrcoef(heard[:samples], meant[:samples])[0, 1])


def resampled(sound: np.ndarray, rate_hz: int, to_hz: int) -> np.ndarray:
    return torchaudio.functional.resample(torch.from_numpy(sound), rate_hz, to_hz, lowpass_filter_width=64).numpy()


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_aac_keeps_length_and_time(tmp_path: Path, rate_hz: int, channels: int) -> None:
    # An odd length: the last video frame and the last AAC frame are both filled in part.
    sound = Soundtrack(chirps(2.333, rate_hz, channels), rate_hz)
    frames = -(-sound.samples * 25 // rate_hz)
    result = written(tmp_path, sound, frames)
    assert (result.frames, result.audio_codec) == (59, "aac")
    pyav, heard_hz = by_pyav(result.path)
    expected = resampled(sound.waveform, rate_hz, heard_hz)
    for heard in (by_ffmpeg(result.path), pyav):
        assert heard.shape[0] == channels
        assert abs(heard.shape[1] / heard_hz - sound.duration_s) < FRAME_S
        for channel in range(channels):
            if channels == 6 and channel == LOW_FREQUENCY_CHANNEL:
                continue
            assert abs(delay_ms(heard[channel], expected[channel], heard_hz)) < 1
            assert likeness(heard[channel], expected[channel]) > 0.99
            # The end too: its last 50 ms are where padding and cut edges would show.
            tail = slice(-round(0.05 * heard_hz) + expected.shape[1], expected.shape[1])
            assert likeness(heard[channel, tail], expected[channel, tail]) > 0.95
    with av.open(str(result.path)) as container:
        picture, track = container.streams.video[0], container.streams.audio[0]
        assert picture.duration * picture.time_base == Fraction(frames, 25)
        assert float(track.duration * track.time_base) == pytest.approx(sound.duration_s, abs=1e-3)
        assert next(container.decode(video=0)).pts == 0


def test_a_click_stays_with_its_frame(tmp_path: Path) -> None:
    """Picture and sound together: a white frame and a click at the same moment."""
    rate_hz = 16000
    sound = np.zeros((1, 4 * rate_hz), np.float32)
    frames = torch.zeros(100, SIZE, SIZE, 3)
    for frame in (10, 50, 99):
        frames[frame] = 1
        sound[0, frame * rate_hz // 25 : frame * rate_hz // 25 + 32] = 0.8
    path = make_video(tmp_path, *frames.split(30), soundtrack=Soundtrack(sound, rate_hz)).path
    with av.open(str(path)) as container:
        flashes = [frame.time for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 128]
    heard, heard_hz = by_pyav(path)
    loud = np.flatnonzero(np.abs(heard[0]) > 0.4) / heard_hz
    clicks = [loud[0], *(time for before, time in itertools.pairwise(loud) if time - before > 0.1)]
    assert flashes == pytest.approx([0.4, 2.0, 3.96])
    assert clicks == pytest.approx(flashes, abs=1e-3)


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("codec", ["ffv1", "prores"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate_hz", [8000, 37800, 44100, 192000])
def test_editing_formats_keep_every_sample(tmp_path: Path, codec: str, channels: int, rate_hz: int) -> None:
    # Steps of 16 bits: what a WAV file holds comes back exactly, for 24 bits are stored.
    waveform = np.round(chirps(1.111, rate_hz, channels) * 32767).astype(np.float32) / 32768
    result = written(tmp_path, Soundtrack(waveform, rate_hz), 28, codec)
    assert result.audio_codec == {"ffv1": "flac", "prores": "pcm_s24le"}[codec]
    pyav, heard_hz = by_pyav(result.path)
    assert heard_hz == rate_hz
    for heard in (by_ffmpeg(result.path), pyav):
        assert np.array_equal(heard, waveform)


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("codec", ["h264", "ffv1", "prores"])
@pytest.mark.parametrize("channels", [3, 4, 5, 7, 8])
def test_other_channel_counts(tmp_path: Path, codec: str, channels: int, caplog: pytest.LogCaptureFixture) -> None:
    sound = Soundtrack(chirps(1, 48000, channels), 48000)
    with caplog.at_level(logging.INFO):
        path = written(tmp_path, sound, 25, codec).path
    heard, _ = by_pyav(path)
    # PyAV crashes on planar frames of eight channels, so ComfyUI would; they become 5.1, and that is said.
    assert heard.shape[0] == (6 if channels == 8 else channels)
    assert ("8 channels are mixed down to 5.1" in caplog.text) == (channels == 8)
    if channels < 7:
        assert min(likeness(heard[i], sound.waveform[i]) for i in range(channels)) > 0.98
    else:
        assert likeness(heard[0], sound.waveform[0]) > 0.8


def test_rates_are_changed_only_where_they_must_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = [32000, 44100, 48000, 64000, 88200, 96000]
    assert [carried_rate_hz("aac", rate) for rate in kept] == kept
    assert [carried_rate_hz("aac", rate) for rate in (8000, 16000, 24000, 37800, 50000, 192000)] == [48000] * 6
    assert [carried_rate_hz("aac", rate) for rate in (11025, 22050, 176400)] == [44100] * 3
    assert [carried_rate_hz("flac", rate) for rate in (8000, 37801, 96000, 192000)] == [8000, 37801, 96000, 192000]
    assert carried_rate_hz("flac", 100001) == 192000
    assert carried_rate_hz("pcm_s24le", 100001) == 100001
    with caplog.at_level(logging.INFO):
        written(tmp_path, Soundtrack(chirps(0.5, 48000, 1), 48000), 13)
        assert "Hz is written as" not in caplog.text
        written(tmp_path, Soundtrack(chirps(0.5, 37800, 1), 37800), 13)
    assert "37800 Hz is written as 48000 Hz" in caplog.text


def test_an_odd_rate_flac_cannot_carry_is_written_all_the_same(tmp_path: Path) -> None:
    sound = Soundtrack(chirps(1, 100001, 1), 100001)
    heard, heard_hz = by_pyav(written(tmp_path, sound, 25, "ffv1").path)
    assert heard_hz == 192000
    assert abs(heard.shape[1] / heard_hz - 1) < 0.001
    assert likeness(heard[0], chirps(1, heard_hz, 1)[0]) > 0.999


@pytest.mark.parametrize("codec", ["h264", "ffv1", "prores"])
@pytest.mark.parametrize("seconds", [0.7, 9.3])
def test_sound_shorter_or_longer_than_the_picture(
    tmp_path: Path, codec: str, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    sound = Soundtrack(chirps(seconds, 16000, 1), 16000)
    with caplog.at_level(logging.WARNING):
        result = written(tmp_path, sound, 100, codec)
    assert ("cut at the end of the picture (4.000 s)" in caplog.text) == (seconds > 4)
    with av.open(str(result.path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 100
    heard, heard_hz = by_pyav(result.path)
    assert abs(heard.shape[1] / heard_hz - min(seconds, 4)) < FRAME_S
    expected = resampled(sound.waveform[:, : 4 * 16000], 16000, heard_hz)[0]
    assert likeness(heard[0], expected) > 0.99


@pytest.mark.parametrize(("seconds", "fade"), [(1.111, 8000), (0.5, 8000), (1.0, 1), (0.3, 44100)])
def test_a_sound_fades_at_its_end(tmp_path: Path, seconds: float, fade: int) -> None:
    waveform = chirps(seconds, 44100, 2)
    heard, _ = by_pyav(written(tmp_path, Soundtrack(waveform, 44100, fade), 28, "prores").path)
    left = np.arange(waveform.shape[1], 0, -1)
    expected = waveform * np.minimum(left / fade, 1.0)
    assert np.abs(heard - expected).max() < 1e-6
    assert abs(heard[:, -1]).max() <= 1.0 / fade


@pytest.mark.parametrize("samples", [1, 7, 100])
def test_a_sound_of_a_few_samples(tmp_path: Path, samples: int) -> None:
    path = written(tmp_path, Soundtrack(np.full((2, samples), 0.5, np.float32), 44100), 3).path
    assert by_ffmpeg(path).shape[1] / 44100 < FRAME_S
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_sound_and_picture_lie_side_by_side_in_the_file(tmp_path: Path) -> None:
    """A player that streams needs them within a second or so of each other."""
    path = written(tmp_path, Soundtrack(chirps(12, 48000, 2), 48000), 300).path
    with av.open(str(path)) as container:
        packets = [
            (packet.pos, packet.stream.type, float(packet.dts * packet.time_base))
            for packet in container.demux()
            if packet.dts is not None
        ]
    reached = {"video": 0.0, "audio": 0.0}
    for _, stream, time_s in sorted(packets):
        reached[stream] = time_s
        assert abs(reached["video"] - reached["audio"]) < 1.5


def test_no_sound(tmp_path: Path) -> None:
    result = make_video(tmp_path, black(3))
    assert result.audio_codec is None
    with av.open(str(result.path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_samples_beyond_full_scale_are_clipped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loud = 3 * chirps(1, 44100, 2)
    before = loud.copy()
    with caplog.at_level(logging.WARNING):
        path = written(tmp_path, Soundtrack(loud, 44100), 25, "prores").path
    assert [record.message for record in caplog.records if "clipped" in record.message] == [
        "sound: samples beyond full scale are clipped, the first at 0.00 s (peak there 1.20)"
    ]
    assert np.array_equal(loud, before)
    heard, _ = by_pyav(path)
    assert np.abs(heard - np.clip(before, -1, 1)).max() < 2**-22


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_sound_is_refused_at_once(bad: float) -> None:
    waveform = np.zeros((2, 1_500_000), np.float32)
    waveform[1, 1_200_000] = bad
    with pytest.raises(LongTalkError, match=r"NaN or infinity at sample 1200000 \(25\.00 s\)"):
        Soundtrack(waveform, 48000)


@pytest.mark.parametrize(
    ("waveform", "rate_hz", "message"),
    [
        (np.zeros((1, 0), np.float32), 44100, "at least one sample"),
        (np.zeros((0, 5), np.float32), 44100, "1 to 8 channels, got 0"),
        (np.zeros((9, 5), np.float32), 44100, "1 to 8 channels, got 9"),
        (np.zeros(5, np.float32), 44100, r"got float32 \[5\]"),
        (np.zeros((1, 5), np.int16), 44100, "got int16"),
        (np.zeros((1, 5), np.float32), 0, "sample rate"),
        (np.zeros((1, 5), np.float32), 44100.0, "sample rate"),
    ],
)
def test_soundtracks_are_checked(waveform: np.ndarray, rate_hz: int, message: str) -> None:
    with pytest.raises(LongTalkError, match=message):
        Soundtrack(waveform, rate_hz)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_and_strided_memory_are_taken(tmp_path: Path, dtype: type) -> None:
    # [N, C] seen as [C, N], as a sound file is laid out.
    waveform = np.asfortranarray(chirps(1, 16000, 2).astype(dtype))
    heard, _ = by_pyav(written(tmp_path, Soundtrack(waveform, 16000), 25, "prores").path)
    assert np.abs(heard - waveform.astype(np.float32)).max() < 2**-22


# The file of its own, and what joining makes of it


@pytest.mark.parametrize("codec", CODECS)
def test_the_sound_file_holds_only_sound_and_is_the_same_each_time(tmp_path: Path, codec: str) -> None:
    video = VideoFormat(codec)
    paths = [tmp_path / f"{name}{video.suffix}" for name in ("first", "second")]
    for path in paths:
        write_sound(path, Soundtrack(chirps(2.345, 22050, 2), 22050), video, frames=50)
    with av.open(str(paths[0])) as container:
        assert [stream.type for stream in container.streams] == ["audio"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000])
def test_the_joined_sound_is_that_of_the_sound_file(tmp_path: Path, codec: str, rate_hz: int) -> None:
    path = written(tmp_path, Soundtrack(chirps(1.777, rate_hz, 2), rate_hz), 50, codec).path
    alone = tmp_path / "windows" / f"sound{path.suffix}"
    assert np.array_equal(by_ffmpeg(path), by_ffmpeg(alone))
    for heard, meant in zip(by_pyav(path), by_pyav(alone), strict=True):
        assert np.array_equal(heard, meant)


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
def test_a_part_of_the_picture_has_its_part_of_the_sound(tmp_path: Path, codec: str, rate_hz: int) -> None:
    video = VideoFormat(codec)
    whole = tmp_path / f"sound{video.suffix}"
    write_sound(whole, Soundtrack(chirps(8, rate_hz, 2), rate_hz), video, frames=200)
    segments = write_segments(tmp_path / "windows", [black(21), black(12), black(12)], video)
    for count, frames in ((1, 21), (3, 45)):
        path = join(tmp_path / f"part_{count}{video.suffix}", segments[:count], whole, video).path
        pyav, heard_hz = by_pyav(path)
        meant, _ = by_pyav(whole)
        for heard in (pyav, by_ffmpeg(path)):
            assert 0 <= heard.shape[1] / heard_hz - frames / 25 < FRAME_S
        # The last AAC frame overlaps with the next one, which is not there.
        same = round(frames / 25 * heard_hz) - (1024 if video.audio_encoder == "aac" else 0)
        assert np.array_equal(pyav[:, :same], meant[:, :same])
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == frames
        with av.open(str(path)) as container:
            # One millisecond is what Matroska rounds to.
            assert container.duration / av.time_base == pytest.approx(frames / 25, abs=2e-3)


def test_long_sound_is_not_copied_as_a_whole(tmp_path: Path) -> None:
    minutes = 5
    waveform = np.broadcast_to(np.float32(0.1), (2, minutes * 60 * 48000))
    sound = Soundtrack(waveform, 48000)
    tracemalloc.start()
    write_sound(tmp_path / "a.mov", sound, VideoFormat("prores"), frames=minutes * 60 * 25)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2_000_000 < waveform.nbytes / 50
    with av.open(str(tmp_path / "a.mov")) as container:
        assert container.streams.audio[0].duration == waveform.shape[1]
