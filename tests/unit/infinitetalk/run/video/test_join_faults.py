"""Joining when it goes wrong: files that do not fit or are damaged, full disks, taken names; and very many files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from written_video import decoded, grainy, make_video, noise, raw_by_pyav, smooth, tone, write_segments

import longtalk
from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.run.video.formats import CODECS, VideoFormat
from longtalk.infinitetalk.run.video.join import join, read_frames
from longtalk.infinitetalk.run.video.segment import to_bytes, write_segment
from longtalk.infinitetalk.run.video.soundtrack import write_sound


def in_a_process_of_its_own(code: str, *args: object) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(longtalk.__path__[0]).parent)},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()


# Files that do not fit


@pytest.mark.parametrize(
    ("codec", "frames", "other", "message"),
    [
        ("h264", smooth(3, 64, 32), VideoFormat("h264"), r"expected h264 yuv420p 64x48 .*, got h264 yuv420p 64x32"),
        ("ffv1", smooth(3, 64, 32), VideoFormat("ffv1"), r"expected ffv1 bgr0 64x48 .*, got ffv1 bgr0 64x32"),
        ("prores", smooth(3, 48, 48), VideoFormat("prores"), r"expected prores .* 64x48 .*, got prores .* 48x48"),
        ("h264", smooth(3), VideoFormat("h265"), r"expected h264 .*, got hevc"),
        ("h265", smooth(3), VideoFormat("h264"), r"expected hevc .*, got h264"),
        # The same in everything but the stream header.
        ("h264", smooth(3), VideoFormat("h264", 40), r"expected h264 .* 64x48 with .*, got h264 .* 64x48 with"),
    ],
)
def test_a_segment_unlike_the_first_is_named(
    tmp_path: Path, codec: str, frames: object, other: VideoFormat, message: str
) -> None:
    video = VideoFormat(codec)
    [first] = write_segments(tmp_path / "first", [smooth(3)], video)
    [odd] = write_segments(tmp_path / "odd", [frames], other)  # type: ignore[list-item]
    target = tmp_path / f"talk{video.suffix}"
    with pytest.raises(LongTalkError, match=message) as caught:
        join(target, [first, odd], None, video)
    assert caught.value.what == f"segment {odd}"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_segments_of_another_codec_than_asked_for(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, [smooth(3)], VideoFormat("h264"))
    with pytest.raises(LongTalkError, match=r"segment .*window_0\.mp4: expected hevc yuv420p, got h264"):
        join(tmp_path / "talk.mp4", segments, None, VideoFormat("h265"))


@pytest.mark.parametrize("codec", ["ffv1", "prores"])
def test_segments_of_another_frame_rate(tmp_path: Path, codec: str) -> None:
    video = VideoFormat(codec)
    path = tmp_path / f"a{video.suffix}"
    write_segment(path, to_bytes(smooth(3)), video, fps=30)
    with pytest.raises(LongTalkError, match=r"a frame at 0\.033 s, which is no place for one"):
        join(tmp_path / f"talk{video.suffix}", [path], None, video)


def test_sound_of_another_codec(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, [smooth(3)], VideoFormat("prores"))
    path = tmp_path / "sound.mp4"
    write_sound(path, tone(1), VideoFormat("h264"), frames=3)
    with pytest.raises(LongTalkError, match=r"sound .*sound\.mp4: expected pcm_s24le, .*, got aac"):
        join(tmp_path / "talk.mov", segments, path, VideoFormat("prores"))


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: round(len(data) * share)]


@pytest.mark.matrix(strength=2)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("victim", ["segment", "sound"])
@pytest.mark.parametrize(
    "damage",
    [
        cut(0),
        cut(0.1),
        cut(0.5),
        cut(0.8),
        lambda data: np.random.default_rng(0).bytes(5000),
    ],
    ids=["empty", "cut at 10 %", "cut at 50 %", "cut at 80 %", "random"],
)
def test_damaged_files_are_named(tmp_path: Path, codec: str, victim: str, damage: Callable[[bytes], bytes]) -> None:
    written = make_video(tmp_path, grainy(40), grainy(41), codec=codec, soundtrack=tone(81 / 25))
    whole = written.path.read_bytes()
    video = VideoFormat(codec)
    folder = tmp_path / "windows"
    sound, segments = folder / f"sound{video.suffix}", [folder / f"window_{index}{video.suffix}" for index in (0, 1)]
    broken = segments[1] if victim == "segment" else sound
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(LongTalkError, match="expected a whole video or sound file") as caught:
        join(written.path, segments, sound, video)
    assert str(broken) in caught.value.what
    # What was there before is untouched.
    assert written.path.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [written.path.name]


@pytest.mark.parametrize("codec", CODECS)
def test_a_list_of_other_files_is_not_followed(tmp_path: Path, codec: str) -> None:
    video = VideoFormat(codec)
    [segment] = write_segments(tmp_path, [smooth(3)], video)
    script = tmp_path / f"list{video.suffix}"
    script.write_text(f"ffconcat version 1.0\nfile {segment.name}\n")
    with av.open(str(script)) as container:  # the control: FFmpeg on its own follows it
        assert sum(1 for _ in container.decode(video=0)) == 3
    calls = (
        lambda: join(tmp_path / f"talk{video.suffix}", [script], None, video),
        lambda: list(read_frames([script])),
    )
    for call in calls:
        with pytest.raises(LongTalkError, match="expected a whole video or sound file"):
            call()


@pytest.mark.parametrize("codec", CODECS)
def test_missing_files_are_named(tmp_path: Path, codec: str) -> None:
    video = VideoFormat(codec)
    segments = write_segments(tmp_path, [smooth(2)], video)
    missing = tmp_path / f"not there{video.suffix}"
    for arguments in (([*segments, missing], None), (segments, missing), ([segments[0], tmp_path], None)):
        with pytest.raises(LongTalkError, match="expected a whole video or sound file"):
            join(tmp_path / f"talk{video.suffix}", *arguments, video)
    with pytest.raises(LongTalkError, match=r"cannot be read \(No such file"):
        list(read_frames([*segments, missing]))
    assert [path.name for path in tmp_path.iterdir()] == [segments[0].name]


@pytest.mark.timeout(30)
def test_nothing_is_read_through_a_link_or_from_a_pipe(tmp_path: Path) -> None:
    video = VideoFormat()
    [segment] = write_segments(tmp_path, [smooth(2)], video)
    link, pipe = tmp_path / "link.mp4", tmp_path / "pipe.mp4"
    link.symlink_to(segment)
    os.mkfifo(pipe)
    for path, what in ((link, "a link"), (pipe, "a pipe")):
        for arguments in (([path], None), ([segment], path)):
            with pytest.raises(LongTalkError, match=f"is not a file, but {what}"):
                join(tmp_path / "talk.mp4", *arguments, video)
        with pytest.raises(LongTalkError, match=f"is not a file, but {what}"):
            list(read_frames([path]))


def test_a_picture_where_sound_should_be_and_the_other_way_round(tmp_path: Path) -> None:
    video = VideoFormat("h264")
    segments = write_segments(tmp_path, [smooth(2)], video)
    sound = tmp_path / "sound.mp4"
    write_sound(sound, tone(1), video, frames=2)
    with pytest.raises(LongTalkError, match=r"window_0\.mp4: .* got 0 audio streams"):
        join(tmp_path / "talk.mp4", segments, segments[0], video)
    for call in (lambda: join(tmp_path / "talk.mp4", [sound], None, video), lambda: next(read_frames([sound]))):
        with pytest.raises(LongTalkError, match=r"sound\.mp4: .* got 0 video streams"):
            call()


# Names and folders


def test_the_name_appears_only_when_the_video_is_complete(tmp_path: Path) -> None:
    video = VideoFormat("h264")
    segments = write_segments(tmp_path / "windows", [noise(20), noise(21)], video)
    target = tmp_path / "talk.mp4"
    target.write_bytes(b"older")
    seen: list[tuple[list[str], bytes]] = []

    class Watched(list[Path]):
        def __iter__(self) -> Iterator[Path]:
            for path in list.__iter__(self):
                yield path
                seen.append((sorted(entry.name for entry in tmp_path.iterdir()), target.read_bytes()))

    join(target, Watched(segments), None, video)
    assert seen == [(["talk.mp4", "talk.mp4.part", "windows"], b"older")] * 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["talk.mp4", "windows"]
    assert decoded(target).shape[0] == 41


def test_an_interrupt_removes_the_file_and_keeps_an_older_one(tmp_path: Path) -> None:
    video = VideoFormat("h264")
    segments = write_segments(tmp_path / "windows", [noise(20), noise(21)], video)
    target = tmp_path / "talk.mp4"
    target.write_bytes(b"older")

    class Interrupted(list[Path]):
        def __iter__(self) -> Iterator[Path]:
            yield self[0]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join(target, Interrupted(segments), None, video)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["talk.mp4", "windows"]
    assert target.read_bytes() == b"older"


def test_no_segments_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LongTalkError, match="at least one frame"):
        join(tmp_path / "talk.mp4", [], None, VideoFormat())
    assert list(tmp_path.iterdir()) == []


def test_the_name_must_fit_the_codec(tmp_path: Path) -> None:
    with pytest.raises(LongTalkError, match=r"a name that ends in \.mkv for ffv1, got a\.mp4"):
        join(tmp_path / "a.mp4", [tmp_path / "b.mkv"], None, VideoFormat("ffv1"))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    [segment] = write_segments(tmp_path, [smooth(2)], VideoFormat())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LongTalkError, match=r"file: expected a folder, or a link to one, got a file"):
        join(tmp_path / "file" / "deeper" / "talk.mp4", [segment], None, VideoFormat())


def test_missing_folders_and_odd_names(tmp_path: Path) -> None:
    video = VideoFormat()
    folder = tmp_path / "новая 100%"
    segments = [folder / "a:b %03d é.mp4", folder / "%d.mp4"]
    folder.mkdir()
    for segment in segments:
        write_segment(segment, to_bytes(smooth(2)), video)
    sound = folder / "sound:%05d ю.mp4"
    write_sound(sound, tone(1), video, frames=4)
    target = folder / "deeper" / "still" / "a:b %03d é.mp4"
    assert join(target, segments, sound, video).path == target
    assert decoded(target).shape[0] == 4


def test_a_target_that_cannot_be_replaced(tmp_path: Path) -> None:
    segments = write_segments(tmp_path / "windows", [smooth(5)], VideoFormat())
    target = tmp_path / "talk.mp4"
    target.mkdir()
    with pytest.raises(LongTalkError, match=r"file .*talk\.mp4: expected a place for a file, got a folder"):
        join(target, segments, None, VideoFormat())
    # Nothing is lost: the frames are in the segments.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.mp4", "windows"]
    assert len(raw_by_pyav(segments[0])) == 5


DISK_FULL = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from longtalk.base.errors import LongTalkError
    from longtalk.infinitetalk.run.video.formats import VideoFormat
    from longtalk.infinitetalk.run.video.join import join

    codec, segment, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    size = join(target, [segment] * 20, None, VideoFormat(codec)).bytes
    target.write_bytes(b"older")
    for limit in (1, size // 2, size - 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            join(target, [segment] * 20, None, VideoFormat(codec))
        except LongTalkError as error:
            print(error)
    print("left:", [(path.name, path.read_bytes()) for path in target.parent.iterdir()])
"""


@pytest.mark.parametrize("codec", CODECS)
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path, codec: str) -> None:
    # The three limits: not even the header fits, half of the frames do not, the index does not.
    (tmp_path / "out").mkdir()
    [segment] = write_segments(tmp_path / "windows", [noise(10)], VideoFormat(codec))
    target = tmp_path / "out" / f"talk{VideoFormat(codec).suffix}"
    *messages, left = in_a_process_of_its_own(DISK_FULL, codec, segment, target)
    assert left == f"left: [({target.name!r}, b'older')]"
    assert len(messages) == 3
    for message in messages:
        assert message.startswith(f"disk of {target.parent}: expected room for {target.name}, got ")


MANY = """
    import resource, sys
    from pathlib import Path
    from longtalk.infinitetalk.run.video.formats import VideoFormat
    from longtalk.infinitetalk.run.video.join import join

    codec, segment, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
    peaks = []
    for count in (20, 300):
        written = join(target, [segment] * count, None, VideoFormat(codec))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(written.frames, written.bytes)
    print(peaks[1] - peaks[0])
"""


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_very_many_segments_need_no_more_files_or_memory(tmp_path: Path, codec: str) -> None:
    [segment] = write_segments(tmp_path / "windows", [noise(10, 160, 96)], VideoFormat(codec))
    target = tmp_path / f"talk{VideoFormat(codec).suffix}"
    few, many, grown_mb = in_a_process_of_its_own(MANY, codec, segment, target)
    assert [line.split()[0] for line in (few, many)] == ["200", "3000"]
    # The control: what is not held is a multiple of what memory may grow by.
    assert int(many.split()[1]) > (50_000_000 if codec == "ffv1" else 20_000_000)
    assert float(grown_mb) < 8
    with av.open(str(target)) as container:
        assert sum(1 for packet in container.demux(video=0) if packet.size) == 3000
