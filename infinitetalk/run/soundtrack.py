"""The sound of the video: checked when it is given, encoded a little ahead of nothing, never as a whole."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import LongTalkError
from .files import atomic
from .formats import VideoFormat, open_output

logger = logging.getLogger(__name__)

# Full-band layouts; three channels are left, right and centre, because AAC cuts everything but the bass out of a
# low-frequency channel. Eight channels are the exception that has one.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
MAX_CHANNELS = max(_LAYOUTS)
# PyAV (18.1 and before) crashes the process when it hands out a planar frame of eight channels, and ComfyUI decodes
# every sound to planar. A file with eight channels would take the whole server down, so they are mixed down.
_MAX_CHANNELS_OUT = 6

# AAC frames hold 1024 samples. Decoders that ignore the length of the last packet (PyAV's, so ComfyUI's, among them)
# make the sound up to one AAC frame too long: 128 ms at 8 kHz, 64 ms at 16 kHz. Below 25.6 kHz that is more than a
# video frame, so lower rates are written as 44.1 or 48 kHz, which loses nothing. Rates AAC does not know, too.
_AAC_RATES_HZ = (32000, 44100, 48000, 64000, 88200, 96000)
_AAC_BITS_PER_CHANNEL = 96000
# FLAC's frame header holds rates up to 65535 Hz as they are and higher ones in tens.
_FLAC_MAX_PLAIN_HZ = 65535
_FLAC_MAX_HZ = 655350
_FLAC_BLOCK_SAMPLES = (16, 65535)  # the shortest and longest block it has

_CHECK_SAMPLES = 1 << 20
_BLOCK_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Soundtrack:
    """The sound that goes into the video.

    Attributes:
        waveform: float ``[C, N]``, 1 to 8 channels. It is shared, not copied.
        sample_rate: samples per second.
        fade_samples: over so many at its end it fades to silence.

    Raises:
        LongTalkError: empty, too many channels, NaN or infinite samples, no sensible rate.
    """

    waveform: np.ndarray
    sample_rate: int
    fade_samples: int = 0

    def __post_init__(self) -> None:
        shape = tuple(np.shape(self.waveform))
        if len(shape) != 2 or not np.issubdtype(self.waveform.dtype, np.floating):
            raise LongTalkError(
                "soundtrack",
                expected="float samples [channels, samples]",
                actual=f"{getattr(self.waveform, 'dtype', type(self.waveform).__name__)} {list(shape)}",
                action="Connect ComfyUI's AUDIO",
            )
        channels, samples = shape
        if not 1 <= channels <= MAX_CHANNELS:
            raise LongTalkError(
                "soundtrack",
                expected=f"1 to {MAX_CHANNELS} channels",
                actual=f"{channels} channels",
                action="Mix the sound down to stereo first",
            )
        if samples < 1:
            raise LongTalkError(
                "soundtrack",
                expected="at least one sample",
                actual="an empty track",
                action="Connect audio that has sound",
            )
        if isinstance(self.sample_rate, bool) or not isinstance(self.sample_rate, int) or self.sample_rate < 1:
            raise LongTalkError(
                "soundtrack",
                expected="a sample rate in whole Hz",
                actual=repr(self.sample_rate),
                action="Load the audio file again; its header is damaged",
            )
        for start in range(0, samples, _CHECK_SAMPLES):
            bad = ~np.isfinite(self.waveform[:, start : start + _CHECK_SAMPLES])
            if bad.any():
                sample = start + int(np.argmax(bad.any(axis=0)))
                raise LongTalkError(
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
        """Samples ``[C, stop - start]`` as they are heard; a copy where they fade."""
        block = self.waveform[:, start:stop]
        if self.samples - stop >= self.fade_samples:
            return block
        left = np.arange(self.samples - start, self.samples - stop, -1)
        faded: np.ndarray = block * np.minimum(left / self.fade_samples, 1.0).astype(block.dtype)
        return faded


def carried_rate_hz(encoder: str, rate_hz: int) -> int:
    """The rate at which ``encoder`` carries sound of ``rate_hz``: the same wherever it can."""
    if encoder == "aac":
        if rate_hz in _AAC_RATES_HZ:
            return rate_hz
        return 44100 if 44100 % rate_hz == 0 or rate_hz % 44100 == 0 else 48000
    if encoder == "flac" and rate_hz > _FLAC_MAX_PLAIN_HZ and (rate_hz % 10 or rate_hz > _FLAC_MAX_HZ):
        return 192000
    return rate_hz


class SoundEncoder:
    """One sound stream of an open container; feeds the encoder as far as the picture has come.

    Args:
        container: an ``av`` output container.
        encoder: FFmpeg's encoder, ``aac``, ``flac`` or ``pcm_s24le``.
        fps: frames per second of the picture.
    """

    def __init__(self, container: Any, sound: Soundtrack, *, encoder: str, fps: int) -> None:
        rate_hz = carried_rate_hz(encoder, sound.sample_rate)
        channels = min(sound.channels, _MAX_CHANNELS_OUT) if sound.channels == MAX_CHANNELS else sound.channels
        if rate_hz != sound.sample_rate:
            logger.info("sound: %d Hz is written as %d Hz, which %s carries", sound.sample_rate, rate_hz, encoder)
        if channels != sound.channels:
            logger.warning("sound: %d channels are mixed down to %s", sound.channels, _LAYOUTS[channels])
        options = {}
        if encoder == "flac":
            # Packets of one video frame instead of 105 ms, so that the sound can be cut after any frame.
            block = min(max(rate_hz // fps, _FLAC_BLOCK_SAMPLES[0]), _FLAC_BLOCK_SAMPLES[1])
            options["frame_size"] = str(block)
        stream = container.add_stream(encoder, rate=rate_hz, options=options)
        context = stream.codec_context
        context.layout = _LAYOUTS[channels]
        if encoder == "aac":
            # The format's ceiling is 6144 bits per channel and frame of 1024 samples; no rate in the list reaches it.
            context.bit_rate = _AAC_BITS_PER_CHANNEL * channels
        else:
            context.format = "s32"  # of which flac and pcm_s24le keep 24 bits
        self._container = container
        self._stream = stream
        self._sound = sound
        self._layout = _LAYOUTS[sound.channels]
        self._fps = fps
        self._position = 0
        self._clipped = False

    def write_until(self, frames: int) -> None:
        """Encode and mux the sound under the first ``frames`` frames, as far as that has not happened yet."""
        sound = self._sound
        # Ceiling: a last frame that the sound fills only in part has all of it.
        end = min(sound.samples, -(-frames * sound.sample_rate // self._fps))
        while self._position < end:
            stop = min(end, self._position + _BLOCK_SAMPLES)
            # [C, N] -> packed [1, N * C]; planar blocks of eight channels crash PyAV. A copy of one block only.
            block = np.array(sound.block(self._position, stop).T, dtype=np.float32, order="C")
            self._clip(block)
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout=self._layout)
            frame.sample_rate = sound.sample_rate
            frame.time_base = Fraction(1, sound.sample_rate)
            frame.pts = self._position
            # The stream resamples, mixes and cuts into its own frame size where it has to.
            self._container.mux(self._stream.encode(frame))
            self._position = stop

    def finish(self, frames: int) -> None:
        """Encode the rest under ``frames`` frames in all and empty the encoder."""
        self.write_until(frames)
        sound = self._sound
        if self._position < sound.samples:
            logger.warning(
                "sound: %.3f s long, cut at the end of the picture (%.3f s)", sound.duration_s, frames / self._fps
            )
        self._container.mux(self._stream.encode(None))

    def _clip(self, block: np.ndarray) -> None:
        peak = float(np.abs(block).max())
        if peak <= 1.0:
            return
        np.clip(block, -1.0, 1.0, out=block)
        if not self._clipped:
            self._clipped = True
            logger.warning(
                "sound: samples beyond full scale are clipped, the first at %.2f s (peak there %.2f)",
                self._position / self._sound.sample_rate,
                peak,
            )


def write_sound(path: Path, sound: Soundtrack, video: VideoFormat, *, frames: int, fps: int = 25) -> None:
    """Write the sound under ``frames`` frames into a file of its own, in the container of ``video``.

    The same sound gives the same bytes.

    Args:
        path: gets its name when it is complete; an old file is replaced.
        sound: cut at the end of the picture, never padded.
        frames: of the whole video, 1 or more.
        fps: frames per second, a whole number.

    Raises:
        LongTalkError: a full disk or a folder without permission.
    """
    if frames < 1 or fps < 1:
        raise ValueError(f"frames and fps must be 1 or more, got {frames} and {fps}")
    with atomic(path) as part, open_output(part, video) as container:
        SoundEncoder(container, sound, encoder=video.audio_encoder, fps=fps).finish(frames)
