"""Makes one video of segments and sound by copying packets: nothing is encoded again.

One segment is open at a time, so memory does not depend on how many there are, apart from the new file's index
(a few hundred bytes per frame).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ....base.errors import LongTalkError, RunError, SettingError, SoundError
from ....base.files import DamagedFileError, atomic, disk_errors, make_folder, require_file
from ....base.rates import FPS
from .formats import FrameDecoder, FrameEncoder, VideoFormat, container_of, open_output

# Matroska rounds times to milliseconds; anything further from a frame's own time is not one of our files.
_TIME_TOLERANCE_FRAMES = Fraction(1, 10)
# Containers round their length, by less than the shortest packet there is.
_LENGTH_TOLERANCE_S = Fraction(3, 1000)


@dataclass(frozen=True)
class WrittenVideo:
    """A finished video file.

    ``frames`` is the number of frames that were really written, and ``duration_s`` is frames / fps.
    """

    path: Path
    frames: int
    duration_s: float
    width: int
    height: int
    video_codec: str
    audio_codec: str | None
    bytes: int


def join(
    path: Path, segments: Sequence[Path], sound: Path | None, video: VideoFormat, *, fps: int = FPS
) -> WrittenVideo:
    """Put segments one after the other, with the sound, into one video.

    Frame i is shown from i / fps on, without gaps. Sound beyond the end of the picture is left out, so the first few
    segments of a video and its whole sound make a video of what there is.

    Args:
        path: the target; its suffix must be ``video.suffix``. Missing folders are made; it appears when it is complete
            and replaces an old file only then.
        segments: files of :func:`~.segment.write_segment`, one or more, in order.
        sound: a file of :func:`~.soundtrack.write_sound`, or None for a silent video.
        video: the format of all these files.
        fps: frames per second, a whole number.

    Raises:
        LongTalkError: a segment or the sound cannot be read or does not fit the others, the disk is full, or the folder
            may not be written to.
    """
    if path.suffix.lower() != video.suffix:
        raise SettingError(
            "video file name",
            expected=f"a name that ends in {video.suffix} for {video.codec}",
            actual=path.name,
            action="Change the name's end or the codec",
        )
    if fps < 1:
        raise ValueError(f"fps must be 1 or more, got {fps}")
    if not segments:
        raise SoundError(
            "video", expected="at least one frame", actual="none", action="Check that the audio is not empty"
        )
    path = path.absolute()
    make_folder(path.parent)
    with atomic(path) as part, contextlib.ExitStack() as opened:
        track = None if sound is None else opened.enter_context(_open_sound(sound, video))
        with open_output(part, video, faststart=True) as target:
            frames, header = _copy(target, segments, track, video, fps)
    with disk_errors(path):
        size = path.stat().st_size
    return WrittenVideo(
        path=path,
        frames=frames,
        duration_s=frames / fps,
        width=header.width,
        height=header.height,
        video_codec=video.codec,
        audio_codec=None if sound is None else video.audio_encoder,
        bytes=size,
    )


def read_frames(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The frames of segments or videos, uint8 RGB ``[H, W, 3]``, decoded one at a time.

    Raises:
        LongTalkError: a file cannot be read.
    """
    decoder = FrameDecoder()
    for path in paths:
        with _open(path, container_of(path)) as container, _reading(path):
            stream = _only(container, "video", path)
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise _unreadable(path, "a frame that is damaged")
                yield decoder.to_rgb(frame)


@dataclass(frozen=True)
class _Header:
    """What must be the same in all segments for their packets to be one stream."""

    codec: str
    pixel_format: str
    width: int
    height: int
    extradata: bytes

    @classmethod
    def of(cls, stream: Any) -> _Header:
        context = stream.codec_context
        return cls(context.name, context.pix_fmt, context.width, context.height, context.extradata or b"")

    def __str__(self) -> str:
        digest = hashlib.sha256(self.extradata).hexdigest()[:8]
        return f"{self.codec} {self.pixel_format} {self.width}x{self.height} with stream header {digest}"


def _copy(
    target: Any, segments: Sequence[Path], sound: _Sound | None, video: VideoFormat, fps: int
) -> tuple[int, _Header]:
    """Copy everything into an open container; returns the number of frames and the header of their stream."""
    picture: Any = None
    header: _Header | None = None
    frames = 0
    for path in segments:
        with _open(path, video.container) as container:
            stream = _only(container, "video", path)
            found = _Header.of(stream)
            if header is None:
                _check_first(found, video, path)
                header = found
                picture = _add_picture(target, stream, header, video, fps)
                if sound is not None:
                    sound.add_to(target)
            elif found != header:
                raise RunError(
                    f"segment {path}",
                    expected=f"{header}, as in {segments[0].name}",
                    actual=str(found),
                    action="Remove this file, so that its window is rendered again with the settings of the others",
                )
            for packet in _timed(_packets(container, stream, path), path, frames, video, fps):
                packet.stream = picture
                target.mux(packet)
                frames += 1
                if sound is not None:
                    sound.copy_until(Fraction(frames, fps))
    assert header is not None
    if sound is not None:
        sound.finish(Fraction(frames, fps), Fraction(1, fps))
    return frames, header


def _check_first(found: _Header, video: VideoFormat, path: Path) -> None:
    if (found.codec, found.pixel_format) != (video.codec_name, video.pixel_format):
        raise RunError(
            f"segment {path}",
            expected=f"{video.codec_name} {video.pixel_format}",
            actual=str(found),
            action="Join it as the codec it was written with, or remove it, so that its window is rendered again",
        )


def _add_picture(target: Any, template: Any, header: _Header, video: VideoFormat, fps: int) -> Any:
    """Make the video's stream in an output container."""
    if video.container == "matroska":
        # Matroska's header names the frame rate, which PyAV before 18 passes on for an encoder's stream only. So this
        # one has an encoder, which gets nothing to encode.
        picture = FrameEncoder(target, video, width=header.width, height=header.height, fps=fps).stream
        picture.codec_context.open()
        picture.codec_context.extradata = header.extradata
        return picture
    picture = target.add_stream_from_template(template, opaque=True)
    picture.codec_context.framerate = Fraction(fps)
    if video.tag is not None:
        picture.codec_context.codec_tag = video.tag
    picture.time_base = Fraction(1, fps)
    return picture


def _timed(packets: Iterator[Any], path: Path, first: int, video: VideoFormat, fps: int) -> Iterator[Any]:
    """The packets of a segment with the times that they have in the video, where ``first`` frames come before them."""
    shown: set[int] = set()
    for count, packet in enumerate(packets):
        time = packet.pts * packet.time_base * fps
        frame = round(time)
        dts = count - video.reorder_frames
        if abs(time - frame) > _TIME_TOLERANCE_FRAMES or frame in shown or frame < max(0, dts):
            raise _unreadable(path, f"a frame at {float(time / fps):.3f} s, which is no place for one")
        shown.add(frame)
        if count == 0 and not packet.is_keyframe:
            raise _unreadable(path, "a first frame that is not a key frame")
        packet.time_base = Fraction(1, fps)
        packet.pts = first + frame
        packet.dts = first + dts
        packet.duration = 1
        yield packet
    if shown != set(range(len(shown))) or not shown:
        raise _unreadable(path, f"{len(shown)} frames with gaps between them" if shown else "no frames")


class _Sound:
    """The sound's packets, handed out as far as the picture has come."""

    def __init__(self, container: Any, path: Path) -> None:
        self._path = path
        self._stream = _only(container, "audio", path)
        self._packets = _packets(container, self._stream, path)
        self._next = next(self._packets, None)
        self._target: Any = None
        self._copy: Any = None

    def add_to(self, target: Any) -> None:
        """Make the stream of the sound in an output container."""
        self._target = target
        self._copy = target.add_stream_from_template(self._stream, opaque=True)

    def copy_until(self, end_s: Fraction) -> None:
        """Copy the packets that are over at ``end_s``, as far as that has not happened yet."""
        while (packet := self._next) is not None and (packet.pts + self._heard(packet)) * packet.time_base <= end_s:
            self._mux(packet)
            self._next = next(self._packets, None)

    def finish(self, end_s: Fraction, frame_s: Fraction) -> None:
        """Copy the rest up to ``end_s``, where the last packet is cut, or left out where that is nearer to the end.

        Args:
            frame_s: for how long a frame is shown. A packet of AAC (21 ms at 48 kHz) is decoded as a whole, whatever
                its length is said to be, and at 60 fps it is longer than a frame. Where more than a frame of it would
                be heard behind the picture, and more than half of it, it is left out: then less than half of it lacks.
        """
        self.copy_until(end_s)
        if (packet := self._next) is None or packet.pts * packet.time_base >= end_s:
            return
        heard = self._heard(packet)
        behind = packet.pts + heard - end_s / packet.time_base
        if packet.pts > 0 and self._is_aac and behind > max(frame_s / packet.time_base, Fraction(heard, 2)):
            return
        self._mux(self._cut(packet, end_s))

    def _heard(self, packet: Any) -> int:
        """How many samples a player gives for a packet: of AAC all that there are in it, also in the last one."""
        context = self._stream.codec_context
        whole = Fraction(context.frame_size, context.sample_rate) / packet.time_base if self._is_aac else 0
        return max(packet.duration, math.ceil(whole))

    @property
    def _is_aac(self) -> bool:
        return bool(self._stream.codec_context.name == "aac")

    def _cut(self, packet: Any, end_s: Fraction) -> Any:
        # Ceiling, as in SoundEncoder: a last sample that the picture covers only in part is kept.
        duration = min(packet.duration, math.ceil(end_s / packet.time_base - packet.pts))
        if not self._stream.codec_context.name.startswith("pcm"):
            # Decoders that look at the length of a packet stop there; for others it is less than a frame too long.
            packet.duration = duration
            return packet
        sample_bytes = packet.size // packet.duration
        cut = av.Packet(bytes(packet)[: duration * sample_bytes])
        cut.time_base, cut.pts, cut.dts, cut.duration = packet.time_base, packet.pts, packet.dts, duration
        cut.is_keyframe = True
        return cut

    def _mux(self, packet: Any) -> None:
        packet.stream = self._copy
        self._target.mux(packet)


@contextlib.contextmanager
def _open_sound(path: Path, video: VideoFormat) -> Iterator[_Sound]:
    with _open(path, video.container) as container:
        sound = _Sound(container, path)
        name = container.streams.audio[0].codec_context.name
        if name != video.audio_encoder:
            raise RunError(
                f"sound {path}",
                expected=f"{video.audio_encoder}, which goes with {video.codec}",
                actual=name,
                action="Remove this file, so that the sound is written again",
            )
        yield sound


@contextlib.contextmanager
def _open(path: Path, container_format: str | None) -> Iterator[Any]:
    # With the format given, FFmpeg does not take a file for a list of other files, whatever is in it.
    with _reading(path):
        require_file(path)
        container = av.open(str(path.absolute()), format=container_format)
    with container:
        yield container


def _packets(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """The packets of a stream, the only one of its file; refuses a file with fewer than its header promises."""
    packets = container.demux(stream)
    end_s = Fraction(0)
    while True:
        with _reading(path):
            packet = next(packets, None)
        if packet is None:
            break
        if packet.size == 0:
            continue  # PyAV's own mark of the end
        if packet.is_corrupt or packet.pts is None:
            raise _unreadable(path, "a packet that is damaged")
        end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
        yield packet
    promised_s = Fraction(container.duration or 0, av.time_base)
    if promised_s - end_s > _LENGTH_TOLERANCE_S:
        raise _unreadable(path, f"its first {float(end_s):.3f} of {float(promised_s):.3f} s")


def _only(container: Any, kind: str, path: Path) -> Any:
    """The only stream of a kind, ``video`` or ``audio``."""
    streams = [stream for stream in container.streams if stream.type == kind]
    if len(streams) != 1:
        raise _unreadable(path, f"{len(streams)} {kind} streams")
    return streams[0]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error.strerror}") from error
    except DamagedFileError as damage:
        raise _unreadable(path, str(damage)) from damage


def _unreadable(path: Path, actual: str) -> LongTalkError:
    return RunError(
        f"file {path}",
        expected="a whole video or sound file that LongTalk wrote",
        actual=actual,
        action="Remove this file, so that it is made again",
    )
