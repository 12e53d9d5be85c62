"""The sound of the video: checked when it is given, and encoded piece by piece, never as a whole."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....audio.reading.layouts import LAYOUTS
from ....audio.reading.writer import SoundStream, carried_rate_hz
from ....base.errors import SoundError
from ....base.files import atomic
from ....base.rates import FPS
from .formats import VideoFormat, open_output

logger = logging.getLogger(__name__)

MAX_CHANNELS = max(LAYOUTS)
_FLAC_BLOCK_SAMPLES = (16, 65535)  # the shortest and longest block it has

_CHECK_SAMPLES = 1 << 20
_BLOCK_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Soundtrack:
    """The sound that goes into the video.

    Attributes:
        waveform: float ``[C, N]``, 1 to 8 channels. It is shared, not copied.
        sample_rate: samples per second.
        fade_samples: over so many samples at its end the sound fades to silence.

    Raises:
        LongTalkError: the sound is empty, has too many channels or NaN or infinite samples, or no sensible sample rate.
    """

    waveform: np.ndarray
    sample_rate: int
    fade_samples: int = 0

    def __post_init__(self) -> None:
        shape = tuple(np.shape(self.waveform))
        if len(shape) != 2 or not np.issubdtype(self.waveform.dtype, np.floating):
            raise SoundError(
                "soundtrack",
                expected="float samples [channels, samples]",
                actual=f"{getattr(self.waveform, 'dtype', type(self.waveform).__name__)} {list(shape)}",
                action="Connect ComfyUI's AUDIO",
            )
        channels, samples = shape
        if not 1 <= channels <= MAX_CHANNELS:
            raise SoundError(
                "soundtrack",
                expected=f"1 to {MAX_CHANNELS} channels",
                actual=f"{channels} channels",
                action="Mix the sound down to stereo first",
            )
        if samples < 1:
            raise SoundError(
                "soundtrack",
                expected="at least one sample",
                actual="an empty track",
                action="Connect audio that has sound",
            )
        if isinstance(self.sample_rate, bool) or not isinstance(self.sample_rate, int) or self.sample_rate < 1:
            raise SoundError(
                "soundtrack",
                expected="a sample rate in whole Hz",
                actual=repr(self.sample_rate),
                action="Load the audio file again; its header is damaged",
            )
        for start in range(0, samples, _CHECK_SAMPLES):
            bad = ~np.isfinite(self.waveform[:, start : start + _CHECK_SAMPLES])
            if bad.any():
                sample = start + int(np.argmax(bad.any(axis=0)))
                raise SoundError(
                    "soundtrack",
                    expected="finite samples",
                    actual=f"NaN or infinity at sample {sample} ({sample / self.sample_rate:.2f} s)",
                    action="Load the audio again or repair it; whatever made it divided by zero",
                )

    @property
    def channels(self) -> int:
        return int(self.waveform.shape[0])

    @property
    def samples(self) -> int:
        return int(self.waveform.shape[1])

    @property
    def duration_s(self) -> float:
        return self.samples / self.sample_rate

    def block(self, start: int, stop: int) -> np.ndarray:
        """The samples [start, stop) as they are heard, ``[C, stop - start]``; a copy where they fade."""
        block = self.waveform[:, start:stop]
        if self.samples - stop >= self.fade_samples:
            return block
        left = np.arange(self.samples - start, self.samples - stop, -1)
        faded: np.ndarray = block * np.minimum(left / self.fade_samples, 1.0).astype(block.dtype)
        return faded


class SoundEncoder:
    """One sound stream of an open container; feeds the encoder as far as the picture has come.

    Args:
        container: an ``av`` output container.
        encoder: FFmpeg's encoder, ``aac``, ``flac`` or ``pcm_s24le``.
        fps: frames per second of the picture.
        check: called every now and then; what it raises ends the encoding.
    """

    def __init__(
        self,
        container: Any,
        sound: Soundtrack,
        *,
        encoder: str,
        fps: int,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        options = {}
        if encoder == "flac":
            # Packets of one video frame instead of 105 ms, so that the sound can be cut after any frame.
            rate_hz = carried_rate_hz(encoder, sound.sample_rate)
            block = min(max(rate_hz // fps, _FLAC_BLOCK_SAMPLES[0]), _FLAC_BLOCK_SAMPLES[1])
            options["frame_size"] = str(block)
        self._stream = SoundStream(container, encoder, sound.sample_rate, sound.channels, options=options)
        self._sound = sound
        self._fps = fps
        self._check = check
        self._position = 0

    def write_until(self, frames: int) -> None:
        """Encode and mux the sound under the first ``frames`` frames, as far as that has not happened yet."""
        sound = self._sound
        # Ceiling: a last frame that the sound fills only in part has all of it.
        end = min(sound.samples, -(-frames * sound.sample_rate // self._fps))
        while self._position < end:
            self._check()
            stop = min(end, self._position + _BLOCK_SAMPLES)
            self._stream.write(sound.block(self._position, stop))
            self._position = stop

    def finish(self, frames: int) -> None:
        """Encode the rest of the sound under all ``frames`` frames, and write what the encoder still holds."""
        self.write_until(frames)
        sound = self._sound
        if self._position < sound.samples:
            logger.warning(
                "sound: %.3f s long, cut at the end of the picture (%.3f s)", sound.duration_s, frames / self._fps
            )
        self._stream.finish()


def write_sound(
    path: Path,
    sound: Soundtrack,
    video: VideoFormat,
    *,
    frames: int,
    fps: int = FPS,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write the sound under ``frames`` frames into a file of its own, in the container of ``video``.

    The same sound gives the same bytes.

    Args:
        path: gets its name when it is complete; an old file is replaced.
        sound: is cut at the end of the picture, never padded.
        frames: how many the whole video has, 1 or more.
        fps: frames per second, a whole number.
        check: called every now and then; what it raises ends the writing and leaves no file.

    Raises:
        LongTalkError: the disk is full, or the folder may not be written to.
    """
    if frames < 1 or fps < 1:
        raise ValueError(f"frames and fps must be 1 or more, got {frames} and {fps}")
    with atomic(path) as part, open_output(part, video) as container:
        SoundEncoder(container, sound, encoder=video.audio_encoder, fps=fps, check=check).finish(frames)
