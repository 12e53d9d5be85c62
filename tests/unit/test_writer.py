"""The video writer: what it writes is read back with ffmpeg's own program and with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from written_video import EXACT_RGB, HEIGHT, WIDTH, decoded, ffmpeg, noise, smooth, tone, writer

from longtalk.infinitetalk.run.writer import CODECS, VideoFormat, VideoWriter

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


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
