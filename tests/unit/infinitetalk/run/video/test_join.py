"""Segments and sound joined into one video by packet copy: every frame, at its time, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from written_video import (
    HEIGHT,
    WIDTH,
    decoded,
    ffmpeg,
    grainy,
    make_video,
    noise,
    raw_by_ffmpeg,
    raw_by_pyav,
    smooth,
    tone,
    write_segments,
)

from longtalk.infinitetalk.run.video.formats import CODECS, VideoFormat
from longtalk.infinitetalk.run.video.join import join, read_frames
from longtalk.infinitetalk.run.video.segment import to_bytes, write_segment
from longtalk.infinitetalk.run.video.soundtrack import write_sound

# Windows of one frame, of more than one key frame, and shorter than what the encoders reorder.
WINDOWS = [(1,), (2,), (1, 1, 1), (1, 2, 3, 1), (30, 9, 17), (51, 1, 1, 101, 1)]


def windows(sizes: tuple[int, ...]) -> list[np.ndarray]:
    return np.split(grainy(sum(sizes)), np.cumsum(sizes)[:-1])


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("sizes", WINDOWS, ids=str)
def test_joining_keeps_every_frame_bit_for_bit(tmp_path: Path, codec: str, sizes: tuple[int, ...]) -> None:
    path = make_video(tmp_path, *windows(sizes), codec=codec, soundtrack=tone(sum(sizes) / 25)).path
    segments = [tmp_path / "windows" / f"window_{index}{path.suffix}" for index in range(len(sizes))]
    frames = raw_by_pyav(path)
    assert len(frames) == sum(sizes)
    assert frames == [frame for segment in segments for frame in raw_by_pyav(segment)]
    assert raw_by_ffmpeg(path) == b"".join(raw_by_ffmpeg(segment) for segment in segments)


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("sizes", WINDOWS, ids=str)
def test_every_frame_is_there_at_its_time(tmp_path: Path, codec: str, sizes: tuple[int, ...]) -> None:
    frames = sum(sizes)
    written = make_video(tmp_path, *windows(sizes), codec=codec, soundtrack=tone(frames / 25))
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
        packets = [packet for packet in container.demux(video=0) if packet.size]
    step = 40 if written.path.suffix == ".mkv" else 512
    dts = [packet.dts for packet in packets]
    assert sorted(packet.pts for packet in packets) == [i * step for i in range(frames)]
    assert dts == [dts[0] + i * step for i in range(frames)]
    assert all(packet.dts <= packet.pts for packet in packets)
    with av.open(str(written.path)) as container:
        # Matroska rounds to milliseconds, and its duration is that of the longer stream.
        assert container.duration / av.time_base == pytest.approx(frames / 25, abs=1e-3)
        if written.path.suffix != ".mkv":
            picture = container.streams.video[0]
            assert (picture.frames, picture.time_base) == (frames, Fraction(1, 12800))
            assert picture.duration * picture.time_base == Fraction(frames, 25)


@pytest.mark.parametrize("codec", CODECS)
def test_read_frames_gives_the_frames_that_players_show(tmp_path: Path, codec: str) -> None:
    pieces = windows((21, 2, 12))
    path = make_video(tmp_path, *pieces, codec=codec).path
    shown = np.stack(list(read_frames([path])))
    segments = sorted((tmp_path / "windows").iterdir())
    assert len(segments) == 3
    assert np.array_equal(shown, np.stack(list(read_frames(segments))))
    by_ffmpeg = decoded(path)
    assert np.abs(shown.astype(int) - by_ffmpeg).max() <= 1
    if codec == "ffv1":
        assert np.array_equal(shown, np.concatenate(pieces))


@pytest.mark.parametrize("codec", ["h264", "h265", "prores"])
def test_read_frames_is_the_way_back_of_the_colours(tmp_path: Path, codec: str) -> None:
    # Steep ramps of red against blue: chroma read half a pixel beside its place would be off by more than 3.
    y, x = np.mgrid[0:192, 0:320]
    red = 128 + 100 * np.sin(x / 9)
    picture = np.stack([red, 128 + 60 * np.cos(y / 7), 255 - red], axis=-1).astype(np.uint8)
    path = make_video(tmp_path, np.repeat(picture[None], 3, axis=0), codec=codec, crf=1).path
    shown = np.stack(list(read_frames([path]))).astype(int)
    assert np.abs(shown - picture)[:, 8:-8, 8:-8].mean() < 0.75


@pytest.mark.parametrize("codec", CODECS)
def test_the_file_says_what_it_is(tmp_path: Path, codec: str) -> None:
    path = make_video(tmp_path, smooth(20), smooth(5), codec=codec, soundtrack=tone(1, 44100)).path
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        context = container.streams.video[0].codec_context
        found = (
            context.name, context.codec_tag.strip("\0"), context.pix_fmt, context.profile,
            [int(tag) for tag in (context.color_primaries, context.color_trc, context.colorspace)],
            # ProRes has no field for the range; it is always limited, which older FFmpeg does not spell out.
            "limited" if codec == "prores" and int(context.color_range) == 0 else int(context.color_range),
        )  # fmt: skip
    expected = {
        "h264": ("h264", "avc1", "yuv420p", "High", [1, 1, 1], 1),
        "h265": ("hevc", "hvc1", "yuv420p", "Main", [1, 1, 1], 1),
        "ffv1": ("ffv1", "", "bgr0", None, [1, 13, 0], 2),
        "prores": ("prores", "apch", "yuv422p10le", "HQ", [1, 1, 1], found[-1]),
    }[codec]
    assert found == expected
    assert found[-1] in (1, 2, "limited")
    # The sound's rate and place are those it has in every file of ours.
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        assert sound.start_time == 0
        assert sound.codec_context.sample_rate == 44100
        assert sound.codec_context.layout.name == "mono"


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_mp4_starts_fast_seeks_and_plays_on_apple(tmp_path: Path, codec: str) -> None:
    path = make_video(tmp_path, *smooth(150).split(63), codec=codec, soundtrack=tone(6)).path
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        picture = container.streams.video[0]
        times = [float(packet.pts * packet.time_base) for packet in container.demux(picture) if packet.is_keyframe]
    assert np.diff([*times, 6.0]).max() <= 2.0
    assert {0.0, 63 / 25, 126 / 25} <= set(times)
    # Closed groups: from each key frame on, the frames decode as they do from the start.
    whole = decoded(path)
    for start in times:
        assert np.array_equal(decoded(path, "-ss", f"{start:.3f}"), whole[round(start * 25) :])


def test_mov_starts_fast(tmp_path: Path) -> None:
    data = make_video(tmp_path, smooth(10), codec="prores", soundtrack=tone(1)).path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_packet_copy_keeps_every_frame_and_the_sound(tmp_path: Path, codec: str) -> None:
    """What ComfyUI's SaveVideo does with a file-backed video: new container, same packets, its own tags."""
    path = make_video(tmp_path, *smooth(61).split(25), codec=codec, soundtrack=tone(61 / 25, 44100)).path
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
def test_the_same_segments_and_sound_give_the_same_bytes(tmp_path: Path, codec: str) -> None:
    video = VideoFormat(codec)
    first = make_video(tmp_path, noise(3), noise(2), codec=codec, soundtrack=tone(0.2)).path
    parts = tmp_path / "windows"
    segments = [parts / f"window_{index}{video.suffix}" for index in range(2)]
    second = join(tmp_path / f"again{video.suffix}", segments, parts / f"sound{video.suffix}", video).path
    assert first.read_bytes() == second.read_bytes()


def test_other_frame_rates(tmp_path: Path) -> None:
    for codec in ("h264", "ffv1"):
        video = VideoFormat(codec)
        segments = [tmp_path / f"{index}{video.suffix}" for index in range(3)]
        for segment, frames in zip(segments, (7, 1, 31), strict=True):
            write_segment(segment, to_bytes(smooth(frames)), video, fps=30)
        written = join(tmp_path / f"talk{video.suffix}", segments, None, video, fps=30)
        assert (written.frames, written.duration_s) == (39, 1.3)
        with av.open(str(written.path)) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert times == pytest.approx([frame / 30 for frame in range(39)], abs=6e-4)


def test_any_windows_in_the_order_they_are_given(tmp_path: Path) -> None:
    video = VideoFormat("ffv1")
    pieces = windows((3, 2, 4))
    segments = write_segments(tmp_path / "windows", pieces, video)
    for order in ((0, 1), (2, 0, 1), (1, 1, 1)):
        path = join(tmp_path / "talk.mkv", [segments[index] for index in order], None, video).path
        assert np.array_equal(decoded(path), np.concatenate([pieces[index] for index in order]))


@pytest.mark.parametrize("rate_hz", [44100, 48000])
@pytest.mark.parametrize("fps", [25, 50, 60, 75])
def test_the_sound_ends_within_a_frame_of_the_picture(tmp_path: Path, fps: int, rate_hz: int) -> None:
    """Also where a packet of AAC, which is decoded as a whole, is longer than a frame."""
    video = VideoFormat()
    sound = tmp_path / "sound.mp4"
    write_sound(sound, tone(1.0, rate_hz), video, frames=fps, fps=fps)
    segment = tmp_path / "segment.mp4"
    for frames in [*range(fps // 2, fps // 2 + 11), fps]:
        write_segment(segment, to_bytes(smooth(frames)), video, fps=fps)
        talk = join(tmp_path / "talk.mp4", [segment], sound, video, fps=fps).path
        with av.open(str(talk)) as container:
            heard = sum(block.samples for block in container.decode(audio=0))
        assert abs(Fraction(heard, rate_hz) - Fraction(frames, fps)) <= Fraction(1, fps)
