"""The video writer when things go slowly or wrong: waiting, giving up, full disks, wrong frames."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from written_video import HEIGHT, WIDTH, decoded, smooth, tone, writer

import longtalk
from longtalk.infinitetalk.errors import LongTalkError
from longtalk.infinitetalk.run import formats
from longtalk.infinitetalk.run.frame_queue import WritingStoppedError
from longtalk.infinitetalk.run.writer import CODECS, VideoFormat, VideoWriter

pytestmark = pytest.mark.usefixtures("no_leaked_threads")


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
