"""A sound that is read second by second: one that is in memory, or a file, which is never in memory as a whole."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import av
import numpy as np
import torch

from ...base.errors import FileError
from .track import Track, check_length, checked_peak, checked_rate

logger = logging.getLogger(__name__)

_CONVERT = "Make a sound file of it with ffmpeg (ffmpeg -i FILE sound.wav), or choose another file"

_BROKEN_S = 0.1
"""So many seconds of packets that cannot be decoded make a file unusable; less is a tag in its middle, or inaudible."""
_MISSING_S = 0.5
"""From so many seconds on, sound that is missing between two frames or at the end is reported."""


class Source(Protocol):
    """A sound that can be read any number of times."""

    @property
    def name(self) -> str:
        """What to call it in notes and errors."""

    @property
    def rate_hz(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def duration_s(self) -> float | None:
        """The length, as far as it is known beforehand; the header of a file may be wrong or not name it."""

    def blocks(self) -> Iterator[np.ndarray]:
        """The sound from its beginning, in blocks of about a second, float32 ``[C, N]``, all finite.

        Raises:
            LongTalkError: the sound turns out not to be usable while it is read.
        """


@dataclass(frozen=True, eq=False)
class TrackSource:
    """A track in memory. Its blocks are views."""

    track: Track

    @property
    def name(self) -> str:
        return self.track.name

    @property
    def rate_hz(self) -> int:
        return self.track.sample_rate

    @property
    def channels(self) -> int:
        return self.track.channels

    @property
    def duration_s(self) -> float | None:
        return self.track.duration_s

    def blocks(self) -> Iterator[np.ndarray]:
        for block in self.track.waveform.split(self.rate_hz, dim=1):
            yield block.numpy()


class FileSource:
    """Whatever ffmpeg reads: the best sound stream of a sound or video file.

    What the file holds is converted to float and changed in nothing else; a sound that changes its rate or its
    channels on the way is brought to those it begins with. Silence before a late first sample is not added, as in
    ComfyUI's Load Audio.

    Raises:
        LongTalkError: no such file, one that ffmpeg cannot read, or one without sound.
    """

    def __init__(self, path: Path | str) -> None:
        if re.match("[a-z][a-z0-9+.-]+:/", str(path)):
            raise FileError(
                f"file {path}",
                expected="a file on this machine",
                actual="an address",
                action="Download it first, then name the file",
            )
        # Absolute: ffmpeg takes what is before a colon for a protocol, unless it has a slash.
        self._path = Path(path).absolute()
        with self._opened() as container:
            stream = self._stream(container)
            context = stream.codec_context
            self._rate_hz = checked_rate(context.sample_rate, self.name)
            self._layout = context.layout
            self._channels = int(context.layout.nb_channels)
            self._duration_s = _duration_s(container, stream)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def rate_hz(self) -> int:
        return self._rate_hz

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def duration_s(self) -> float | None:
        return self._duration_s

    def blocks(self) -> Iterator[np.ndarray]:
        """As :meth:`Source.blocks`; also refuses what is damaged, empty or shorter than a video frame."""
        read = 0
        for block in _seconds(self._pieces(), self._rate_hz):
            peak = checked_peak(Track(torch.from_numpy(block), self._rate_hz, self.name), read / self._rate_hz)
            if read == 0:
                self._check_length(block.shape[1], f", peak {peak:.3g}")
            read += block.shape[1]
            yield block
        if read == 0:
            self._check_length(0, "")

    def _check_length(self, samples: int, more: str) -> None:
        check_length(self.name, samples, self._rate_hz, f"of {self._channels} channels at {self._rate_hz} Hz{more}")

    def _pieces(self) -> Iterator[np.ndarray]:
        """The sound in pieces float32 ``[C, n]``, as the decoder cuts them."""
        resampler, form = None, None
        for frame in self._frames():
            if form != (frame.format.name, frame.layout.name, frame.sample_rate):
                if resampler is not None:
                    yield from self._converted(resampler, None)
                form = (frame.format.name, frame.layout.name, frame.sample_rate)
                # Packed: PyAV (18.1 and before) crashes when it hands out planar samples of eight channels.
                resampler = av.AudioResampler(format="flt", layout=self._layout, rate=self._rate_hz)
            yield from self._converted(resampler, frame)
        if resampler is not None:
            yield from self._converted(resampler, None)

    def _frames(self) -> Iterator[Any]:
        """The frames that the decoder gives; refuses a sound of which more than an instant is broken or missing."""
        read_s, end_s, broken_s = 0.0, None, 0.0
        damage = ""
        with self._opened() as container:
            stream = self._stream(container)
            packets = container.demux(stream)
            while True:
                packet = None
                try:
                    packet = next(packets, None)
                    if packet is None:
                        break
                    frames = packet.decode()
                except av.FFmpegError as error:
                    # Files that were joined by hand have tags in their middle, which are no packets of sound.
                    damage = damage or f"damage at {read_s:.2f} s ({_words(error)})"
                    broken_s += float(packet.duration * packet.time_base) if packet and packet.duration else _BROKEN_S
                    if packet is None or broken_s >= _BROKEN_S:
                        self._refuse_damaged(damage)
                    continue
                for frame in frames:
                    start_s = None if frame.pts is None else float(frame.pts * frame.time_base)
                    if start_s is not None and end_s is not None and start_s - end_s >= _MISSING_S:
                        self._refuse_gap(start_s - end_s, read_s)
                    length_s = frame.samples / frame.sample_rate
                    end_s = None if start_s is None else start_s + length_s
                    read_s += length_s
                    yield frame
        if self._duration_s is not None and self._duration_s - read_s >= _MISSING_S:
            if damage:
                self._refuse_damaged(damage)
            early = f"ends at {read_s:.2f} s, its header says {self._duration_s:.2f} s: the rest may be missing"
            logger.warning("%s %s", self.name, early)
        elif damage:
            logger.warning("%s: left out what cannot be read: %s", self.name, damage)

    def _converted(self, resampler: Any, frame: Any) -> Iterator[np.ndarray]:
        if frame is not None:
            frame.pts = None  # the samples follow one another, whatever the file says about their times
        for packed in resampler.resample(frame):
            yield packed.to_ndarray().reshape(-1, self._channels).T

    def _opened(self) -> Any:
        """Open a file; tags in another encoding than UTF-8 are no reason to refuse its sound."""
        if not self._path.is_file():
            raise FileError(
                f"file {self._path}",
                expected="a sound or video file",
                actual="a folder" if self._path.is_dir() else "none of this name",
                action="Check the name",
            )
        try:
            return av.open(str(self._path), metadata_errors="ignore")
        except (av.FFmpegError, OSError) as error:
            empty = "an empty file" if self._path.stat().st_size == 0 else None
            self._refuse("a sound or video file that ffmpeg can read", empty or _words(error))

    def _stream(self, container: Any) -> Any:
        stream = container.streams.best("audio")
        if stream is None:
            kinds = sorted({other.type for other in container.streams})
            raise FileError(
                f"file {self._path}",
                expected="a file with sound",
                actual=f"one without: it holds {' and '.join(kinds) or 'nothing'} only",
                action="Choose a sound file, or a video that has sound",
            )
        if stream.codec_context is None:
            self._refuse("a sound that ffmpeg can decode", "one in a format it has no decoder for")
        return stream

    def _refuse_damaged(self, damage: str) -> NoReturn:
        self._refuse("a sound that can be read to its end", damage)

    def _refuse_gap(self, gap_s: float, at_s: float) -> NoReturn:
        self._refuse(
            "a sound in one piece",
            f"a gap of {gap_s:.2f} s at {at_s:.2f} s, where it is damaged or was not recorded",
            "Let ffmpeg fill it with silence (ffmpeg -i FILE -af aresample=async=1 sound.wav), or choose another file",
        )

    def _refuse(self, expected: str, actual: str, action: str = _CONVERT) -> NoReturn:
        raise FileError(f"file {self._path}", expected=expected, actual=actual, action=action)


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and container.duration > 0:
        return container.duration / av.time_base
    return None


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _seconds(pieces: Iterator[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """The same sound in blocks of at least a second, but for the last; the pieces ``[C, n]`` may have any length."""
    waiting: list[np.ndarray] = []
    samples = 0
    for piece in pieces:
        waiting.append(piece)
        samples += piece.shape[1]
        if samples >= rate_hz:
            yield np.concatenate(waiting, axis=1)
            waiting, samples = [], 0
    if samples:
        yield np.concatenate(waiting, axis=1)
