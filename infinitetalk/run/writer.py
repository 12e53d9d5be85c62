"""Streaming a video to disk while it is being made.

:class:`VideoWriter` takes frames as windows finish, turns them into bytes where they lie (GPU or CPU), and hands them
through a bounded queue to a thread of its own that encodes them and interleaves the sound. Nothing grows with the
length but the container's index (a few hundred bytes per frame).

The thread touches NumPy arrays and PyAV only, no tensors, so it needs no inference mode of its own.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import torch

from ..errors import LongTalkError
from .formats import CODECS, FrameEncoder, VideoFormat, available_codecs, check_format
from .frame_queue import FrameQueue, WritingStoppedError
from .soundtrack import SoundEncoder, Soundtrack

__all__ = ["CODECS", "Soundtrack", "VideoFormat", "VideoWriter", "WrittenVideo", "available_codecs"]

logger = logging.getLogger(__name__)

THREAD_NAME = "longtalk-writer"

# Frames converted and queued at a time: many make fewer hand-overs, few keep the float copy they need small.
_CHUNK_FRAMES = 16
_CHUNK_BYTES = 64_000_000
_ABORT_WAIT_S = 20.0
_JOIN_WAIT_S = 0.5
# How far one stream may run ahead of the other inside the muxer before it writes anyway. FFmpeg's 10 s would hold
# 250 MB of lossless video where the sound ends early.
_INTERLEAVE_US = 1_000_000
# EFBIG: beyond the file system's (FAT32: 4 GB) or the process's limit for one file. EDQUOT does not exist on Windows.
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class WrittenVideo:
    """A finished file: ``frames`` is what was really encoded, ``duration_s`` = frames / fps."""

    path: Path
    frames: int
    duration_s: float
    width: int
    height: int
    video_codec: str
    audio_codec: str | None
    bytes: int


class VideoWriter:
    """Writes a video frame by frame. A context manager: leaving it with an exception removes the file.

    The file grows as ``<name>.part`` beside the target and gets its name when it is complete, so a killed run leaves
    nothing that looks like a video. Codec, folder and sound are checked, and the file opened, at once: before any
    model has run.

    Args:
        path: the target; its suffix must be ``video.suffix``. Missing folders are made, an old file is replaced.
        width: pixels; even for h264, h265 and prores.
        height: pixels; even for h264 and h265.
        video: codec and quality.
        soundtrack: the sound, at any rate. Cut at the end of the picture, never padded.
        fps: frames per second, a whole number.
        queue_frames: the most frames that wait for the encoder at a time.
        metadata: tags of the file, e.g. ``{"comment": "..."}``.

    Raises:
        LongTalkError: a codec this PyAV lacks, a size the codec cannot take, a folder that cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        video: VideoFormat = VideoFormat(),  # noqa: B008 - frozen
        soundtrack: Soundtrack | None = None,
        fps: int = 25,
        queue_frames: int = 96,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if fps < 1 or queue_frames < 1:
            raise ValueError(f"fps and queue_frames must be 1 or more, got {fps} and {queue_frames}")
        check_format(video, width, height)
        self._width = width
        self._height = height
        self._written = 0
        self._chunk_frames = chunk_frames(width, height, queue_frames)
        self._queue = FrameQueue(queue_frames)
        self._job = _EncodeJob(
            Path(path).absolute(),
            width=width,
            height=height,
            video=video,
            soundtrack=soundtrack,
            fps=fps,
            metadata=dict(metadata or {}),
        )
        # The thread knows the queue and the job but not this object, so a writer that is forgotten can be collected,
        # and that ends its thread. A daemon, because a forgotten one must not keep the process from ending.
        self._thread = threading.Thread(target=_encode, args=(self._queue, self._job), name=THREAD_NAME, daemon=True)
        self._thread.start()
        self._forget = weakref.finalize(self, self._queue.abort)

    @property
    def queue(self) -> FrameQueue:
        """The frames that wait; for those who watch the memory."""
        return self._queue

    def write(self, frames: torch.Tensor) -> None:
        """Queue frames; waits while the queue is full.

        Args:
            frames: ``[F, H, W, 3]``, float of any kind in 0..1 (clamped, then rounded) or uint8; on any device.
                Free to be changed as soon as this returns.

        Raises:
            LongTalkError: another size, NaN or infinite values; also what went wrong in the thread (a full disk).
            WritingStoppedError: the video was closed or given up before.
        """
        self._check(frames)
        frames = frames.detach()
        for start in range(0, frames.shape[0], self._chunk_frames):
            chunk = frames[start : start + self._chunk_frames]
            self._queue.put(to_bytes(chunk, self._written))
            self._written += chunk.shape[0]

    def close(self) -> WrittenVideo:
        """Encode what waits, finish the file and give it its name. A second call returns the same.

        Raises:
            LongTalkError: no frame was written; what went wrong in the thread.
            WritingStoppedError: the video was given up.
        """
        self._queue.end()
        try:
            while self._thread.is_alive():
                self._thread.join(_JOIN_WAIT_S)
        except BaseException:
            self.abort()
            raise
        self._forget.detach()
        if self._queue.failure is not None:
            raise self._queue.failure
        if self._job.result is None:
            raise WritingStoppedError("the video was given up")
        return self._job.result

    def abort(self) -> None:
        """Stop the thread and remove the unfinished file. Does nothing once the video is closed."""
        self._queue.abort()
        self._forget.detach()
        self._thread.join(_ABORT_WAIT_S)
        if self._thread.is_alive():
            # The thread hangs in the file system (a network drive that went away); it removes the file if it returns.
            logger.warning("the video %s could not be closed within %.0f s", self._job.path, _ABORT_WAIT_S)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _check(self, frames: torch.Tensor) -> None:
        shape = list(frames.shape)
        if len(shape) != 4 or shape[1:] != [self._height, self._width, 3]:
            raise LongTalkError(
                "video frames",
                expected=f"[frames, {self._height}, {self._width}, 3] (height, width, RGB)",
                actual=str(shape),
                action="Give every window the size the video was started with",
            )
        if not frames.is_floating_point() and frames.dtype != torch.uint8:
            raise LongTalkError(
                "video frames",
                expected="float values in 0..1 or uint8",
                actual=str(frames.dtype),
                action="Connect the images as they come from the VAE",
            )


def chunk_frames(width: int, height: int, queue_frames: int) -> int:
    """Frames of this size to convert and queue at a time, at least one and at most what the queue holds."""
    fit = _CHUNK_BYTES // (width * height * 3 * 4)
    return max(1, min(_CHUNK_FRAMES, fit, queue_frames))


def to_bytes(chunk: torch.Tensor, first_frame: int) -> np.ndarray:
    """``[F, H, W, 3]`` to uint8 on the CPU, in memory of its own: round(clamp(x, 0, 1) * 255), halves up."""
    if chunk.dtype == torch.uint8:
        return np.array(chunk.cpu().numpy(), order="C")
    values = chunk.to(torch.float32)
    # A sum is one pass without a mask, and NaN or infinity anywhere in a frame survives it.
    if not bool(torch.isfinite(values.sum())):
        finite = torch.isfinite(values).flatten(1).all(dim=1)
        if not bool(finite.all()):
            frame = first_frame + int(torch.nonzero(~finite)[0, 0])
            raise LongTalkError(
                f"video frame {frame}",
                expected="finite values",
                actual="NaN or infinity",
                action="Use another attention backend, or a VAE in bf16 or fp32: fp16 overflows like this",
            )
    values = values.clamp(0.0, 1.0).mul_(255.0).add_(0.5)
    return np.ascontiguousarray(values.to(torch.uint8).cpu().numpy())


class _EncodeJob:
    """The open file and its encoders. Made by the caller, then used by the thread alone."""

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        video: VideoFormat,
        soundtrack: Soundtrack | None,
        fps: int,
        metadata: dict[str, str],
    ) -> None:
        if path.suffix.lower() != video.suffix:
            raise LongTalkError(
                "video file name",
                expected=f"a name that ends in {video.suffix} for {video.codec}",
                actual=path.name,
                action="Change the name's end or the codec",
            )
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.result: WrittenVideo | None = None
        self._width = width
        self._height = height
        self._video = video
        self._fps = fps
        self._frames_in = 0
        self._frames_out = 0
        self._keep_part = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.part.write_bytes(b"")
        except OSError as error:
            raise self._explain(error) from error
        options = {"max_interleave_delta": str(_INTERLEAVE_US)}
        if video.container in ("mp4", "mov"):
            # The index goes to the front, so that a browser starts before it has the whole file. Tags with names of
            # our own need Apple's newer tag list; without any, the older list stays, which all players read.
            options["movflags"] = "faststart+use_metadata_tags" if metadata else "faststart"
        self._container: Any = None
        try:
            self._container = av.open(str(self.part), "w", format=video.container, container_options=options)
            self._container.metadata.update(metadata)
            self._picture = FrameEncoder(self._container, video, width=width, height=height, fps=fps)
            self._sound = (
                SoundEncoder(self._container, soundtrack, encoder=video.audio_encoder, fps=fps) if soundtrack else None
            )
            self._container.start_encoding()
        except av.FFmpegError as error:
            self.discard()
            if error.errno in _NO_SPACE | _NO_ACCESS:
                raise self._explain(error) from error
            raise LongTalkError(
                "video encoder",
                expected=f"{video.codec} to take {width}x{height} at {fps} fps",
                actual=str(error),
                action="Choose another codec or size",
            ) from error
        except BaseException:
            self.discard()
            raise

    def write(self, image: np.ndarray) -> None:
        """Encode one frame, uint8 ``[H, W, 3]``, and the sound under what has left the encoder."""
        self._frames_in += 1
        self._mux(self._picture.encode(image))

    def finish(self) -> None:
        """Empty the encoders and complete the file, still under its ``.part`` name."""
        if self._frames_in == 0:
            raise LongTalkError(
                "video", expected="at least one frame", actual="none", action="Check that the audio is not empty"
            )
        self._mux(self._picture.flush())
        if self._frames_out != self._frames_in:
            raise RuntimeError(f"{self._frames_in} frames went into the encoder, {self._frames_out} came out")
        if self._sound is not None:
            self._sound.finish(self._frames_out)
        self._container.close()

    def publish(self) -> None:
        """Give the complete file its name."""
        try:
            os.replace(self.part, self.path)
        except OSError as error:
            self._keep_part = True
            raise LongTalkError(
                f"video {self.path}",
                expected="a file that may be replaced",
                actual=f"{type(error).__name__}: {error.strerror}",
                action=f"Close the program that has it open; the finished video is {self.part}, rename it",
            ) from error
        self.result = WrittenVideo(
            path=self.path,
            frames=self._frames_out,
            duration_s=self._frames_out / self._fps,
            width=self._width,
            height=self._height,
            video_codec=self._video.codec,
            audio_codec=self._video.audio_encoder if self._sound is not None else None,
            bytes=self.path.stat().st_size,
        )

    def discard(self) -> None:
        """Close and remove the unfinished file."""
        # Closing writes the index, which a full disk refuses once more; what matters is that the handle is free.
        with contextlib.suppress(av.FFmpegError, OSError):
            if self._container is not None:
                self._container.close()
        if not self._keep_part:
            try:
                self.part.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("the unfinished video %s could not be removed: %s", self.part, error)

    def explain(self, error: BaseException) -> BaseException:
        """The error as one the user can act on, where there is such a one; else the error itself."""
        if isinstance(error, OSError | av.FFmpegError) and error.errno in _NO_SPACE | _NO_ACCESS:
            explained = self._explain(error)
            explained.__cause__ = error
            return explained
        return error

    def _mux(self, packets: list[av.Packet]) -> None:
        self._container.mux(packets)
        self._frames_out += len(packets)
        if self._sound is not None and packets:
            self._sound.write_until(self._frames_out)

    def _explain(self, error: OSError | av.FFmpegError) -> LongTalkError:
        folder = self.path.parent
        if error.errno not in _NO_SPACE:
            return LongTalkError(
                f"video {self.path}",
                expected="a folder that may be written to",
                actual=f"{type(error).__name__}: {error.strerror}",
                action="Choose another output folder or change its permissions",
            )
        size, free = 0, 0
        with contextlib.suppress(OSError):
            size = self.part.stat().st_size
            free = shutil.disk_usage(folder).free
        needed = "room for the video"
        if self._frames_out:
            per_minute = size / self._frames_out * self._fps * 60
            needed += f", about {per_minute / 1e6:.1f} MB per minute"
        return LongTalkError(
            f"disk of {folder}",
            expected=needed,
            actual=f"{error.strerror} after {size} bytes and {self._frames_out} frames, {free} bytes free",
            action="Free space, choose another output folder, or use a higher crf or the codec h265",
        )


def _encode(queue: FrameQueue, job: _EncodeJob) -> None:
    """The thread: everything from the queue into the file, then the file's name."""
    try:
        while (chunk := queue.get()) is not None:
            for image in chunk:
                queue.check_aborted()
                job.write(image)
            queue.done(len(chunk))
        job.finish()
        queue.check_aborted()
        job.publish()
    except WritingStoppedError:
        job.discard()
    except BaseException as error:
        # First let the renderer know, it may be waiting for room; explain before the file and its bytes are gone.
        queue.fail(job.explain(error))
        job.discard()
