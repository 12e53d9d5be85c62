"""Single frames of batches and videos: the right one, upright, without decoding or holding the rest."""

from __future__ import annotations

import io
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from written_video import decoded, grainy, make_video, tone

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.run.video import frames
from longtalk.infinitetalk.run.video.frames import frame_number, video_frame

FRAMES = 40


@pytest.fixture(scope="module")
def lossless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 different frames at 25 fps, exactly as they were."""
    return make_video(tmp_path_factory.mktemp("ffv1"), grainy(FRAMES), codec="ffv1", soundtrack=tone(1.6)).path


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s of H.264 with a keyframe every 2 s and B-frames, each frame a grey level of its own."""
    path = tmp_path_factory.mktemp("h264") / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25, options={"crf": "10", "g": "50", "bf": "3"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(500):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), grey(index), np.uint8), format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def grey(index: int) -> int:
    """Neighbours differ by 40 or more, and no level comes back within five frames."""
    return (20, 180, 60, 220, 100, 140)[index % 6]


@pytest.mark.parametrize("index", [0, 1, 7, 24, 25, 38, 39])
@pytest.mark.parametrize("late_s", [-0.0005, 0.0, 0.01, 0.038])
def test_the_frame_shown_at_a_time(lossless: Path, index: int, late_s: float) -> None:
    found = video_frame(str(lossless), max(0.0, index / 25 + late_s))
    assert found.dtype == np.uint8
    assert np.array_equal(found, grainy(FRAMES)[index])


def test_an_open_file_works_too(lossless: Path) -> None:
    assert np.array_equal(video_frame(io.BytesIO(lossless.read_bytes()), 0.4), grainy(FRAMES)[10])


def test_a_trimmed_video_starts_later(lossless: Path) -> None:
    assert np.array_equal(video_frame(str(lossless), 0.2, 0.4, 0.8), grainy(FRAMES)[15])
    assert np.array_equal(video_frame(str(lossless), 0.7995, 0.4, 0.8), grainy(FRAMES)[29])  # not the one after it
    with pytest.raises(LongTalkError, match=r"before the end of the trimmed video, 0\.800 s"):
        video_frame(str(lossless), 0.8, 0.4, 0.8)


@pytest.mark.parametrize("index", [0, 49, 50, 51, 123, 250, 498, 499])
def test_frames_between_keyframes(long: Path, index: int) -> None:
    assert abs(float(video_frame(str(long), index / 25).mean()) - grey(index)) < 8


def test_only_what_is_needed_is_decoded(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the keyframe before it: at most 50 frames of 500, and what the decoder reorders."""
    seen = []
    timed = frames._timed

    def counted(container: object, stream: object) -> object:
        for frame in timed(container, stream):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(frames, "_timed", counted)
    for index in (3, 249, 499):
        seen.clear()
        video_frame(str(long), index / 25)
        assert 1 <= len(seen) <= 54


@pytest.mark.parametrize("seconds", [20.0, 21, 3600])
def test_past_the_end(long: Path, seconds: float) -> None:
    with pytest.raises(LongTalkError, match=r"before the end of the video, 20\.000 s, got .* Use an earlier time"):
        video_frame(str(long), seconds)


def test_a_video_that_does_not_start_at_zero(long: Path, tmp_path: Path) -> None:
    """Transport streams begin at 1.4 s or so; their first frame is still the one at 0."""
    path = tmp_path / "late.ts"
    with av.open(str(long)) as source, av.open(str(path), "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts += round(2 / packet.time_base)
                packet.dts += round(2 / packet.time_base)
                packet.stream = stream
                target.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time * container.streams.video[0].time_base > 1
    for index in (0, 60, 123):
        assert abs(float(video_frame(str(path), index / 25).mean()) - grey(index)) < 8


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_are_upright(tmp_path: Path, degrees: int) -> None:
    """A phone writes how the picture is to be turned; the frame comes out as ffmpeg's own player shows it."""
    still = tmp_path / "still.mp4"
    with av.open(str(still), "w") as container:
        stream = container.add_stream("h264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = np.zeros((64, 96, 3), np.uint8)
        picture[:16, :32] = 255  # its upper left corner
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    turned = tmp_path / "turned.mp4"
    program = imageio_ffmpeg.get_ffmpeg_exe()
    command = [program, "-v", "error", "-display_rotation", str(degrees), "-i", still, "-c", "copy", turned]
    subprocess.run(command, check=True)
    height, width = (64, 96) if degrees == 180 else (96, 64)
    [expected] = decoded(turned, width=width, height=height)
    found = video_frame(str(turned), 0)
    assert found.shape == (height, width, 3)
    assert np.abs(found.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 5000])
def test_files_that_are_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(LongTalkError, match="expected a video that can be read"):
        video_frame(str(path), 0)
    with pytest.raises(LongTalkError, match="expected a video that can be read"):
        video_frame(str(tmp_path / "missing.mp4"), 0)


def test_a_file_of_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(LongTalkError, match="no picture in it"):
        video_frame(str(path), 0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None, 1e9])
def test_times_are_numbers(long: Path, seconds: object) -> None:
    with pytest.raises(LongTalkError, match="seconds"):
        video_frame(str(long), seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize("fps", [24, 25, 23.976, 29.97, 30, 60, 12.5])
def test_the_frame_of_a_batch(fps: float) -> None:
    """The time of each frame, typed to the millisecond, gives that frame."""
    for index in range(200):
        exact = index / Fraction(fps).limit_denominator(1001)
        assert frame_number(round(float(exact), 3), fps, 200) == index
    with pytest.raises(LongTalkError, match=r"200 images at"):
        frame_number(200 / fps + 0.001, fps, 200)
