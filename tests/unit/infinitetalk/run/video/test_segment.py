"""One window's frames as a file: what the encoders make of them, read back with ffmpeg's own program and with PyAV."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from written_video import EXACT_RGB, HEIGHT, WIDTH, decoded, ffmpeg, noise, raw_by_pyav, smooth, write_segments

import longtalk
from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.run.video import formats
from longtalk.infinitetalk.run.video.formats import CODECS, VideoFormat
from longtalk.infinitetalk.run.video.segment import to_bytes, write_segment


def written(folder: Path, frames: torch.Tensor | np.ndarray, codec: str = "h264", crf: int = 18) -> Path:
    return write_segments(folder, [frames], VideoFormat(codec, crf))[0]


# Bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats_are_clamped_and_rounded(tmp_path: Path, dtype: torch.dtype) -> None:
    ramp = torch.linspace(-0.2, 1.2, 2 * HEIGHT * WIDTH * 3).reshape(2, HEIGHT, WIDTH, 3).to(dtype)
    exact = np.clip(ramp.to(torch.float64).numpy(), 0, 1) * 255
    # Within half a step everywhere: rounded, not cut off. The small slack is for ties in float32.
    assert np.abs(to_bytes(ramp).astype(np.float64) - exact).max() <= 0.5 + 1e-4
    assert np.array_equal(decoded(written(tmp_path, ramp, "ffv1")), to_bytes(ramp))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_caller_may_reuse_its_memory(as_bytes: bool) -> None:
    source = (noise(20) * 255).round().to(torch.uint8)
    buffer = source.clone() if as_bytes else source / 255
    pixels = to_bytes(buffer)
    buffer.zero_()
    assert pixels.flags.owndata
    assert np.array_equal(pixels, source.numpy())


def test_frames_with_gradients_or_strides_are_taken() -> None:
    # The VAE's layout [F, C, H, W], seen as [F, H, W, C].
    source = (torch.rand(3, 3, HEIGHT, WIDTH) * 255).round().div(255).requires_grad_()
    expected = (source.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert np.array_equal(to_bytes(source.permute(0, 2, 3, 1)), expected.numpy())


def test_a_long_window_is_converted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    clamp = torch.Tensor.clamp

    def watched(values: torch.Tensor, *bounds: float) -> torch.Tensor:
        sizes.append(values.numel() * 4)
        return clamp(values, *bounds)

    monkeypatch.setattr(torch.Tensor, "clamp", watched)
    pixels = to_bytes(torch.full((40, 720, 1280, 3), 0.5, dtype=torch.float16))
    assert pixels.shape == (40, 720, 1280, 3)
    assert (pixels == 128).all()
    assert sum(sizes) == pixels.size * 4
    assert max(sizes) <= 64_000_000


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_broken_frames_are_named(bad: float) -> None:
    frames = smooth(30)
    frames[13, 5, 7, 1] = bad
    with pytest.raises(LongTalkError, match="video frame 13: expected finite values"):
        to_bytes(frames)
    frames = smooth(30)
    frames[17, 5, 7, 1] = bad
    with pytest.raises(LongTalkError, match="video frame 27: expected finite values"):
        to_bytes(frames, 10)


def test_huge_but_finite_values_are_only_clamped() -> None:
    assert (to_bytes(torch.full((1, HEIGHT, WIDTH, 3), 3e38)) == 255).all()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(2, 3, HEIGHT, WIDTH), r"expected \[frames, height, width, 3\].*got \[2, 3, 48, 64\]"),
        (torch.zeros(HEIGHT, WIDTH, 3), r"got \[48, 64, 3\]"),
        (torch.zeros(0, HEIGHT, WIDTH, 3), r"got \[0, 48, 64, 3\]"),
        (
            torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.int64),
            "expected float values in 0..1 or uint8, got torch.int64",
        ),
    ],
)
def test_wrong_frames_are_refused(frames: torch.Tensor, message: str) -> None:
    with pytest.raises(LongTalkError, match=message):
        to_bytes(frames)


# Picture


@pytest.mark.parametrize("codec", ["h264", "h265", "prores"])
def test_quality_on_smooth_content(tmp_path: Path, codec: str) -> None:
    source = smooth(30, 320, 192)
    shown = decoded(written(tmp_path, source, codec), width=320, height=192).astype(np.float64)
    error = np.mean((shown - source.numpy().astype(np.float64) * 255) ** 2, axis=(1, 2, 3))
    assert 10 * np.log10(255**2 / error.max()) > 38


def test_crf_trades_quality_for_size(tmp_path: Path) -> None:
    sizes = [written(tmp_path / str(crf), noise(10), crf=crf).stat().st_size for crf in (10, 30)]
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
    path = written(tmp_path, np.repeat(patches[None], 3, axis=0), codec)
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
    path = written(tmp_path, source, "ffv1")
    assert np.array_equal(decoded(path), source.numpy())
    with av.open(str(path)) as container:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.array_equal(shown, source.numpy())


# What joining relies on


@pytest.mark.parametrize("codec", CODECS)
def test_the_stream_header_depends_on_neither_length_nor_content_nor_processor(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = set()
    for processors in (1, 2, 16):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        for frames in (smooth(1), smooth(2), noise(3), smooth(60), torch.zeros(7, HEIGHT, WIDTH, 3)):
            path = written(tmp_path, frames, codec)
            with av.open(str(path)) as container:
                context = container.streams.video[0].codec_context
                headers.add((context.name, context.pix_fmt, context.codec_tag, bytes(context.extradata or b"")))
                first = next(packet for packet in container.demux(video=0) if packet.size)
                assert (first.pts, first.is_keyframe) == (0, True)
    assert len(headers) == 1


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, codec: str) -> None:
    # x264 with AVX-512 gives seven different files in forty.
    pixels, other = to_bytes(smooth(40)), to_bytes(noise(5))
    found = set()
    for _ in range(25 if codec == "h264" else 4):
        found.add(written(tmp_path, pixels, codec).read_bytes())
        written(tmp_path, other, codec)  # leaves something else in the memory that is used again
    assert len(found) == 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("frames", "held"), [(30, 0), (30, 70), (1, 5)])
def test_the_last_frame_stands_still(tmp_path: Path, codec: str, frames: int, held: int) -> None:
    """The same file as of so many equal frames, which are never in memory."""
    pixels = to_bytes(smooth(frames))
    paths = [tmp_path / f"{name}{VideoFormat(codec).suffix}" for name in ("held", "all")]
    write_segment(paths[0], pixels, VideoFormat(codec), held=held)
    write_segment(paths[1], np.concatenate([pixels, np.repeat(pixels[-1:], held, axis=0)]), VideoFormat(codec))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(raw_by_pyav(paths[0])) == frames + held


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_very_short_segments(tmp_path: Path, codec: str, frames: int) -> None:
    # Again and again, because x265 gives such videos times from memory it never set.
    for _ in range(6 if codec == "h265" and frames < 3 else 1):
        path = written(tmp_path, smooth(frames), codec)
        with av.open(str(path)) as container:
            assert [stream.type for stream in container.streams] == ["video"]
            times = [frame.time for frame in container.decode(video=0)]
        assert times == pytest.approx([frame / 25 for frame in range(frames)], abs=6e-4)


# Faults


DISK_FULL = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from longtalk.base.errors import LongTalkError
    from longtalk.infinitetalk.run.video.formats import VideoFormat
    from longtalk.infinitetalk.run.video.segment import write_segment

    codec, folder = sys.argv[1], Path(sys.argv[2])
    video = VideoFormat(codec)
    path = folder / f"a{video.suffix}"
    path.write_bytes(b"older")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        write_segment(path, np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), np.uint8), video)
    except LongTalkError as error:
        print(error)
    print("left:", [(path.name, path.read_bytes()) for path in folder.iterdir()])
"""


@pytest.mark.parametrize("codec", CODECS)
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path, codec: str) -> None:
    # A limit on the size of a file gives the same kind of error (EFBIG) as a full disk (ENOSPC) and needs no mount.
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DISK_FULL), codec, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(longtalk.__path__[0]).parent)},
    )
    assert result.returncode == 0, result.stderr
    message, left = result.stdout.strip().splitlines()
    suffix = VideoFormat(codec).suffix
    assert message.startswith(f"disk of {tmp_path}: expected room for a{suffix}, got ")
    assert "MB free" in message
    assert left == f"left: [('a{suffix}', b'older')]"


def test_an_error_in_the_encoder_comes_through_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OddError(Exception):
        pass

    encode = formats.FrameEncoder.encode

    def breaks(self: formats.FrameEncoder, image: np.ndarray) -> list[object]:
        if self._sent == 5:
            raise OddError("frame 5")
        return encode(self, image)

    monkeypatch.setattr(formats.FrameEncoder, "encode", breaks)
    with pytest.raises(OddError, match="frame 5"):
        written(tmp_path, smooth(10))
    assert list(tmp_path.iterdir()) == []


def test_sizes_the_codec_cannot_take(tmp_path: Path) -> None:
    for codec, width, height in (("h264", 63, 48), ("h265", 64, 47), ("prores", 63, 48), ("h264", 0, 48)):
        with pytest.raises(LongTalkError, match=f"video size.*got {width}x{height}"):
            written(tmp_path, np.zeros((1, height, width, 3), np.uint8), codec)
    # x265 itself refuses anything this small; the message is ours all the same.
    with pytest.raises(LongTalkError, match="video encoder: expected h265 to take 2x2"):
        written(tmp_path, np.zeros((1, 2, 2, 3), np.uint8), "h265")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["ffv1", "prores"])
def test_odd_sizes_where_the_codec_takes_them(tmp_path: Path, codec: str) -> None:
    width = 63 if codec == "ffv1" else 64
    path = written(tmp_path, smooth(2, width, 47), codec)
    assert decoded(path, width=width, height=47).shape == (2, 47, width, 3)


def test_wrong_arrays_are_a_mistake_of_ours(tmp_path: Path) -> None:
    for frames in (np.zeros((0, 48, 64, 3), np.uint8), np.zeros((48, 64, 3), np.uint8), np.zeros((1, 48, 64, 3))):
        with pytest.raises(ValueError, match="needs uint8"):
            write_segment(tmp_path / "a.mp4", frames, VideoFormat())
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


def test_a_missing_codec_says_which_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.av, "codecs_available", av.codecs_available - {"libx265"})
    with pytest.raises(LongTalkError, match=r"codec h265: expected .*libx265, got PyAV .* with h264, ffv1, prores\."):
        written(tmp_path, smooth(1), "h265")
