"""The video writer: what it writes is read back with ffmpeg's own program and with PyAV."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch

import longtalk
from longtalk.infinitetalk.errors import LongTalkError
from longtalk.infinitetalk.run import formats
from longtalk.infinitetalk.run.frame_queue import WritingStoppedError
from longtalk.infinitetalk.run.writer import CODECS, THREAD_NAME, Soundtrack, VideoFormat, VideoWriter

WIDTH, HEIGHT = 64, 48
# ffmpeg's default conversion to RGB rounds chroma roughly; these flags make it a fair oracle.
EXACT_RGB = ["-sws_flags", "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"]


def ffmpeg(*args: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *args, "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def decoded(path: Path, *before_input: str, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """All frames as ffmpeg shows them, uint8 RGB [F, H, W, 3]."""
    args = [
        "-i",
        str(path),
        "-map",
        "0:v",
        *EXACT_RGB,
        "-pix_fmt",
        "rgb24",
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
    ]
    return np.frombuffer(ffmpeg(*before_input, *args), np.uint8).reshape(-1, height, width, 3)


def smooth(frames: int, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    """A slowly moving gradient in soft colours, float32 [F, H, W, 3]."""
    t = torch.arange(frames).reshape(-1, 1, 1) / 25
    y = torch.linspace(0, 1, height).reshape(1, -1, 1)
    x = torch.linspace(0, 1, width).reshape(1, 1, -1)
    red = 0.5 + 0.4 * torch.sin(3 * x + 2 * t + 0 * y)
    green = 0.5 + 0.3 * torch.cos(2 * y + t + 0 * x)
    blue = 0.3 + 0.4 * x * y + 0.1 * torch.sin(t)
    return torch.stack((red, green, blue.expand_as(red)), dim=-1)


def noise(frames: int, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(frames))


def tone(seconds: float, rate_hz: int = 16000) -> Soundtrack:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return Soundtrack((0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None], rate_hz)


def writer(folder: Path, codec: str = "h264", **options: object) -> VideoWriter:
    video = VideoFormat(codec)
    return VideoWriter(folder / f"talk{video.suffix}", width=WIDTH, height=HEIGHT, video=video, **options)  # type: ignore[arg-type]


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


@pytest.fixture(autouse=True)
def no_leaked_threads() -> object:
    yield
    gc.collect()
    deadline = time.monotonic() + 10
    while writer_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert writer_threads() == []


# What is in the file


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("pieces", [(1,), (30, 9, 17)])
def test_every_frame_is_there_at_its_time(tmp_path: Path, codec: str, pieces: tuple[int, ...]) -> None:
    frames = sum(pieces)
    with writer(tmp_path, codec, soundtrack=tone(frames / 25)) as video:
        for piece in smooth(frames).split(list(pieces)):
            video.write(piece)
        written = video.close()
    assert decoded(written.path).shape[0] == frames
    assert (written.frames, written.duration_s) == (frames, frames / 25)
    assert (written.width, written.height, written.video_codec) == (WIDTH, HEIGHT, codec)
    assert written.bytes == written.path.stat().st_size
    with av.open(str(written.path)) as container:
        picture = container.streams.video[0]
        assert picture.average_rate == 25
        assert [frame.time for frame in container.decode(picture)] == pytest.approx(
            [i / 25 for i in range(frames)], abs=6e-4
        )
    with av.open(str(written.path)) as container:
        # Matroska rounds to milliseconds, and its duration is that of the longer stream.
        assert container.duration / av.time_base == pytest.approx(frames / 25, abs=1e-3)
        if written.path.suffix != ".mkv":
            assert container.streams.video[0].frames == frames
            assert container.streams.video[0].duration * container.streams.video[0].time_base == Fraction(frames, 25)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_very_short_videos(tmp_path: Path, codec: str, frames: int) -> None:
    # Again and again, because x265 gives such videos times from memory it never set.
    for _ in range(6 if codec == "h265" and frames < 3 else 1):
        with writer(tmp_path, codec, soundtrack=tone(frames / 25)) as video:
            video.write(smooth(frames))
            path = video.close().path
        with av.open(str(path)) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert times == pytest.approx([frame / 25 for frame in range(frames)], abs=6e-4)


@pytest.mark.parametrize("codec", ["h264", "h265", "prores"])
def test_quality_on_smooth_content(tmp_path: Path, codec: str) -> None:
    source = smooth(30, 320, 192)
    video = VideoFormat(codec)
    with VideoWriter(tmp_path / f"a{video.suffix}", width=320, height=192, video=video) as out:
        out.write(source)
        written = out.close()
    shown = decoded(written.path, width=320, height=192).astype(np.float64)
    error = np.mean((shown - source.numpy().astype(np.float64) * 255) ** 2, axis=(1, 2, 3))
    assert 10 * np.log10(255**2 / error.max()) > 38


def test_crf_trades_quality_for_size(tmp_path: Path) -> None:
    sizes = []
    for crf in (10, 30):
        with VideoWriter(tmp_path / f"{crf}.mp4", width=WIDTH, height=HEIGHT, video=VideoFormat("h264", crf)) as out:
            out.write(noise(10))
            sizes.append(out.close().bytes)
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize("codec", ["h264", "h265", "prores"])
def test_colours_are_right_and_tagged(tmp_path: Path, codec: str) -> None:
    colours = np.array(
        [
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [200, 150, 120],
            [16, 16, 16],
            [255, 255, 255],
            [90, 30, 160],
            [0, 0, 0],
        ],
        np.uint8,
    )
    patches = np.repeat(np.repeat(colours.reshape(2, 4, 1, 3), 64, axis=0), 64, axis=1).reshape(128, 256, 3)
    video = VideoFormat(codec)
    with VideoWriter(tmp_path / f"a{video.suffix}", width=256, height=128, video=video) as out:
        out.write(torch.from_numpy(np.repeat(patches[None], 3, axis=0)))
        path = out.close().path
    middle = (slice(None), slice(32, None, 64), slice(32, None, 64))
    expected = colours.reshape(1, 2, 4, 3).astype(int)
    shown = decoded(path, width=256, height=128)[middle].astype(int)
    assert np.abs(shown - expected).max() <= 2
    # The control: read with the matrix that players assume for untagged small video, the colours are wrong.
    args = ["-i", str(path), "-vf", "setparams=colorspace=smpte170m", *EXACT_RGB, "-pix_fmt", "rgb24", "-f", "rawvideo"]
    wrong = np.frombuffer(ffmpeg(*args), np.uint8).reshape(-1, 128, 256, 3)[middle].astype(int)
    assert np.abs(wrong - expected).max() > 8
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        # BT.709 is 1 in all three lists of ITU-T H.273; 1 is the limited range.
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert [int(tag) for tag in tags[:3]] == [1, 1, 1]
        # ProRes has no field for the range; it is always limited, which older FFmpeg does not spell out.
        assert int(tags[3]) in ((0, 1) if codec == "prores" else (1,))


def test_ffv1_is_lossless(tmp_path: Path) -> None:
    source = (noise(12) * 255).round().to(torch.uint8)
    with writer(tmp_path, "ffv1") as video:
        video.write(source)
        path = video.close().path
    assert np.array_equal(decoded(path), source.numpy())
    with av.open(str(path)) as container:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.array_equal(shown, source.numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats_are_clamped_and_rounded(tmp_path: Path, dtype: torch.dtype) -> None:
    ramp = torch.linspace(-0.2, 1.2, 2 * HEIGHT * WIDTH * 3).reshape(2, HEIGHT, WIDTH, 3).to(dtype)
    with writer(tmp_path, "ffv1") as video:
        video.write(ramp)
        path = video.close().path
    exact = np.clip(ramp.to(torch.float64).numpy(), 0, 1) * 255
    # Within half a step everywhere: rounded, not cut off. The small slack is for ties in float32.
    assert np.abs(decoded(path).astype(np.float64) - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_caller_may_reuse_its_memory(tmp_path: Path, as_bytes: bool) -> None:
    source = (noise(20) * 255).round().to(torch.uint8)
    buffer = source.clone() if as_bytes else source / 255
    with writer(tmp_path, "ffv1") as video:
        video.write(buffer)
        buffer.zero_()
        path = video.close().path
    assert np.array_equal(decoded(path), source.numpy())


def test_frames_with_gradients_or_strides_are_taken(tmp_path: Path) -> None:
    # The VAE's layout [F, C, H, W], seen as [F, H, W, C].
    source = (torch.rand(3, 3, HEIGHT, WIDTH) * 255).round().div(255).requires_grad_()
    with writer(tmp_path, "ffv1") as video:
        video.write(source.permute(0, 2, 3, 1))
        path = video.close().path
    expected = (source.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert np.array_equal(decoded(path), expected.numpy())


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_mp4_starts_fast_seeks_and_plays_on_apple(tmp_path: Path, codec: str) -> None:
    with writer(tmp_path, codec, soundtrack=tone(6)) as video:
        video.write(smooth(150))
        path = video.close().path
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        picture = container.streams.video[0]
        assert picture.codec_context.codec_tag == {"h264": "avc1", "h265": "hvc1"}[codec]
        assert picture.codec_context.pix_fmt == "yuv420p"
        assert picture.codec_context.profile == {"h264": "High", "h265": "Main"}[codec]
        times = [float(packet.pts * packet.time_base) for packet in container.demux(picture) if packet.is_keyframe]
    assert np.diff([*times, 6.0]).max() <= 2.0
    # Closed groups: from each key frame on, the frames decode as they do from the start.
    whole = decoded(path)
    for start in times:
        assert np.array_equal(decoded(path, "-ss", f"{start:.3f}"), whole[round(start * 25) :])


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_packet_copy_keeps_every_frame_and_the_sound(tmp_path: Path, codec: str) -> None:
    """What ComfyUI's SaveVideo does with a file-backed video: new container, same packets, its own tags."""
    with writer(tmp_path, codec, soundtrack=tone(61 / 25, 44100)) as video:
        video.write(smooth(61))
        path = video.close().path
    copy = tmp_path / "copy.mp4"
    with (
        av.open(str(path)) as source,
        av.open(str(copy), "w", options={"movflags": "use_metadata_tags+faststart"}) as target,
    ):
        target.metadata["prompt"] = "{}"
        streams = {stream: target.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                target.mux(packet)
    for selection in ("0:v", "0:a"):
        hashes = [ffmpeg("-i", str(file), "-map", selection, "-f", "framemd5") for file in (path, copy)]
        lines = [[line.split(b",")[-1] for line in text.splitlines() if line[:1] != b"#"] for text in hashes]
        assert len(lines[0]) >= 61
        assert lines[0] == lines[1]


@pytest.mark.parametrize("codec", CODECS)
def test_tags_are_kept(tmp_path: Path, codec: str) -> None:
    with writer(tmp_path, codec, metadata={"comment": "made by LongTalk", "workflow": '{"a": "ä"}'}) as video:
        video.write(smooth(2))
        path = video.close().path
    with av.open(str(path)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["comment"] == "made by LongTalk"
    assert tags["workflow"] == '{"a": "ä"}'


# The queue and the thread


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """Make every encoded frame take ``seconds`` longer; the list has a number per encoded frame."""
    encoded: list[int] = []
    encode = formats.FrameEncoder.encode

    def slow(self: formats.FrameEncoder, image: np.ndarray) -> list[object]:
        time.sleep(seconds)
        encoded.append(len(encoded))
        return encode(self, image)

    monkeypatch.setattr(formats.FrameEncoder, "encode", slow)
    return encoded


@pytest.mark.parametrize("limit", [3, 20])
def test_a_slow_encoder_holds_the_renderer_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    encoded = slow_down(monkeypatch, 0.004)
    with writer(tmp_path, queue_frames=limit) as video:
        for piece in smooth(120).split(30):
            video.write(piece)
            assert video.queue.held_frames <= limit
        assert len(encoded) >= 120 - limit
        assert video.close().frames == 120
    assert limit - min(16, limit) < video.queue.peak_frames <= limit


def test_the_name_appears_only_when_the_video_is_complete(tmp_path: Path) -> None:
    with writer(tmp_path) as video:
        video.write(smooth(40))
        assert [path.name for path in tmp_path.iterdir()] == ["talk.mp4.part"]
        video.close()
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mp4"]


def test_closing_twice_and_giving_up_a_closed_video_change_nothing(tmp_path: Path) -> None:
    video = writer(tmp_path)
    video.write(smooth(3))
    written = video.close()
    assert video.close() is written
    video.abort()
    assert decoded(written.path).shape[0] == 3
    with pytest.raises(WritingStoppedError):
        video.write(smooth(1))


def test_giving_up_removes_the_file_and_keeps_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_bytes(b"older")

    def interrupted() -> None:
        with writer(tmp_path, soundtrack=tone(9)) as video:
            video.write(smooth(60))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mp4"]
    assert (tmp_path / "talk.mp4").read_bytes() == b"older"


def test_giving_up_twice_and_before_any_frame(tmp_path: Path) -> None:
    video = writer(tmp_path)
    video.abort()
    video.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WritingStoppedError):
        video.close()


def test_giving_up_frees_a_renderer_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_down(monkeypatch, 0.2)
    video = writer(tmp_path, queue_frames=2)
    stopped = threading.Event()

    def render() -> None:
        with pytest.raises(WritingStoppedError):
            video.write(smooth(200))
        stopped.set()

    renderer = threading.Thread(target=render)
    renderer.start()
    time.sleep(0.1)
    began = time.monotonic()
    video.abort()
    assert stopped.wait(5)
    assert time.monotonic() - began < 5
    renderer.join()
    assert list(tmp_path.iterdir()) == []


def test_a_forgotten_writer_ends_and_cleans_up(tmp_path: Path) -> None:
    video = writer(tmp_path)
    video.write(smooth(10))
    del video
    gc.collect()
    deadline = time.monotonic() + 10
    while any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_thread_reaches_the_renderer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OddError(Exception):
        pass

    encode = formats.FrameEncoder.encode

    def breaks(self: formats.FrameEncoder, image: np.ndarray) -> list[object]:
        if self._sent == 5:
            raise OddError("frame 5")
        return encode(self, image)

    monkeypatch.setattr(formats.FrameEncoder, "encode", breaks)
    video = writer(tmp_path, queue_frames=4)
    # Far more frames than the queue holds: without the error this would wait for ever.
    with pytest.raises(OddError, match="frame 5"):
        video.write(smooth(100))
    with pytest.raises(OddError, match="frame 5"):
        video.write(smooth(1))
    with pytest.raises(OddError, match="frame 5"):
        video.close()
    assert list(tmp_path.iterdir()) == []


DISK_FULL = """
    import resource, sys, threading
    from pathlib import Path
    import torch
    from longtalk.infinitetalk.errors import LongTalkError
    from longtalk.infinitetalk.run.writer import VideoFormat, VideoWriter

    codec, folder = sys.argv[1], Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    video = VideoFormat(codec)
    try:
        with VideoWriter(folder / f"a{video.suffix}", width=64, height=48, video=video) as out:
            for _ in range(100):
                out.write(torch.rand(20, 48, 64, 3))
    except LongTalkError as error:
        print(error)
    print("left:", sorted(path.name for path in folder.iterdir()), "threads:", threading.active_count())
"""


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, codec: str) -> None:
    # A limit on the size of a file gives the same kind of error (EFBIG) as a full disk (ENOSPC) and needs no mount.
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DISK_FULL), codec, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(longtalk.__path__[0]).parent)},
    )
    message, left = result.stdout.strip().splitlines()
    assert message.startswith(f"disk of {tmp_path}: expected room for the video, about ")
    assert "MB per minute" in message
    assert "bytes free" in message
    assert left == "left: [] threads: 1", result.stderr


# Bad input


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LongTalkError, match="at least one frame"):
        writer(tmp_path, soundtrack=tone(1)).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_broken_frames_are_named(tmp_path: Path, bad: float) -> None:
    frames = smooth(30)
    frames[13, 5, 7, 1] = bad
    with writer(tmp_path) as video:
        video.write(smooth(10))
        with pytest.raises(LongTalkError, match="video frame 23: expected finite values"):
            video.write(frames)


def test_huge_but_finite_values_are_only_clamped(tmp_path: Path) -> None:
    with writer(tmp_path, "ffv1") as video:
        video.write(torch.full((1, HEIGHT, WIDTH, 3), 3e38))
        path = video.close().path
    assert (decoded(path) == 255).all()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(2, HEIGHT, WIDTH + 16, 3), r"expected \[frames, 48, 64, 3\].*got \[2, 48, 80, 3\]"),
        (torch.zeros(2, 3, HEIGHT, WIDTH), r"got \[2, 3, 48, 64\]"),
        (torch.zeros(HEIGHT, WIDTH, 3), r"got \[48, 64, 3\]"),
        (
            torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.int64),
            "expected float values in 0..1 or uint8, got torch.int64",
        ),
    ],
)
def test_wrong_frames_are_refused(tmp_path: Path, frames: torch.Tensor, message: str) -> None:
    with pytest.raises(LongTalkError, match=message), writer(tmp_path) as video:
        video.write(frames)


def test_sizes_the_codec_cannot_take(tmp_path: Path) -> None:
    for codec, width, height in (("h264", 63, 48), ("h265", 64, 47), ("prores", 63, 48), ("h264", 0, 48)):
        video = VideoFormat(codec)
        with pytest.raises(LongTalkError, match=f"video size.*got {width}x{height}"):
            VideoWriter(tmp_path / f"a{video.suffix}", width=width, height=height, video=video)
    # x265 itself refuses anything this small; the message is ours all the same.
    with pytest.raises(LongTalkError, match="video encoder: expected h265 to take 2x2"):
        VideoWriter(tmp_path / "a.mp4", width=2, height=2, video=VideoFormat("h265"))
    assert list(tmp_path.iterdir()) == []


def test_formats_are_checked() -> None:
    with pytest.raises(LongTalkError, match="one of h264, h265, ffv1, prores, got 'vp9'"):
        VideoFormat("vp9")
    for crf in (0, 52, True, 18.5):
        with pytest.raises(LongTalkError, match="crf"):
            VideoFormat("h264", crf)  # type: ignore[arg-type]
    assert {codec: VideoFormat(codec).suffix for codec in CODECS} == {
        "h264": ".mp4",
        "h265": ".mp4",
        "ffv1": ".mkv",
        "prores": ".mov",
    }


def test_the_name_must_fit_the_codec(tmp_path: Path) -> None:
    with pytest.raises(LongTalkError, match=r"a name that ends in \.mkv for ffv1, got a\.mp4"):
        VideoWriter(tmp_path / "a.mp4", width=WIDTH, height=HEIGHT, video=VideoFormat("ffv1"))


def test_a_missing_codec_says_which_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.av, "codecs_available", av.codecs_available - {"libx265"})
    with pytest.raises(LongTalkError, match=r"codec h265: expected .*libx265, got PyAV .* with h264, ffv1, prores\."):
        writer(tmp_path, "h265")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LongTalkError, match="a folder that may be written to"):
        writer(tmp_path / "file" / "deeper")


def test_missing_folders_and_odd_names(tmp_path: Path) -> None:
    path = tmp_path / "новая 100%" / "a:b %03d é.mp4"
    with VideoWriter(path, width=WIDTH, height=HEIGHT) as video:
        video.write(smooth(2))
        assert video.close().path == path
    assert decoded(path).shape[0] == 2


def test_a_target_that_cannot_be_replaced_keeps_the_finished_video(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").mkdir()
    video = writer(tmp_path)
    video.write(smooth(5))
    with pytest.raises(LongTalkError, match=r"the finished video is .*talk\.mp4\.part"):
        video.close()
    finished = (tmp_path / "talk.mp4.part").rename(tmp_path / "rescued.mp4")
    assert decoded(finished).shape[0] == 5
