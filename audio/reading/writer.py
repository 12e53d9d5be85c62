"""Writes sound into a file, block by block: the one encoder for the sound of videos and for sound files."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ...base.errors import SettingError
from .layouts import LAYOUTS, layout_name

logger = logging.getLogger(__name__)

# PyAV (18.1 and before) crashes the process when it hands out a planar frame of eight channels, and ComfyUI decodes
# every sound to planar. A file with eight channels would take the whole server down, so they are mixed down.
_EIGHT, _MOST_CHANNELS_OUT = 8, 6

# AAC frames hold 1024 samples. Decoders that ignore the length of the last packet (PyAV's, so ComfyUI's, among them)
# make the sound up to one AAC frame too long: 128 ms at 8 kHz, 64 ms at 16 kHz. Below 25.6 kHz that is more than a
# video frame, so lower rates are written as 44.1 or 48 kHz, which loses nothing. Rates AAC does not know, too.
_AAC_RATES_HZ = (32000, 44100, 48000, 64000, 88200, 96000)
_AAC_BITS_PER_CHANNEL = 96000
# FLAC's frame header holds rates up to 65535 Hz as they are and higher ones in tens.
_FLAC_MAX_PLAIN_HZ = 65535
_FLAC_MAX_HZ = 655350

_MOST_CHANNELS = 8
"""The most channels that FLAC and AAC take."""
_FORMATS = {16: "s16", 24: "s32", 32: "flt"}
"""ffmpeg's sample format for so many bits; flac and pcm_s24le keep 24 bits of 32."""
_PCM = {16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_f32le"}
BITS = tuple(_PCM)
SUFFIXES = (".wav", ".flac", ".m4a")


def carried_rate_hz(encoder: str, rate_hz: int) -> int:
    """The rate at which ``encoder`` carries sound of ``rate_hz``: the same wherever it can."""
    if encoder == "aac":
        if rate_hz in _AAC_RATES_HZ:
            return rate_hz
        return 44100 if 44100 % rate_hz == 0 or rate_hz % 44100 == 0 else 48000
    if encoder == "flac" and rate_hz > _FLAC_MAX_PLAIN_HZ and (rate_hz % 10 or rate_hz > _FLAC_MAX_HZ):
        return 192000
    return rate_hz


class SoundStream:
    """One sound stream of an open container.

    Args:
        container: an ``av`` output container.
        encoder: FFmpeg's encoder, ``aac``, ``flac`` or one of PCM.
        rate_hz: sample rate of the blocks; sound at a rate that the encoder does not carry is resampled.
        channels: of the blocks.
        bits: 16, 24 or 32 (float) per sample; AAC has none.
        keep_eight: whether eight channels stay eight, which packed samples in a file of sound alone may.
        options: of the encoder.
        log: is told, with a level of :mod:`logging`, what is not written as it came.
    """

    def __init__(
        self,
        container: Any,
        encoder: str,
        rate_hz: int,
        channels: int,
        *,
        bits: int = 24,
        keep_eight: bool = False,
        options: Mapping[str, str] | None = None,
        log: Callable[[int, str], None] = logger.log,
    ) -> None:
        carried_hz = carried_rate_hz(encoder, rate_hz)
        channels_out = _MOST_CHANNELS_OUT if channels == _EIGHT and not keep_eight else channels
        if carried_hz != rate_hz:
            log(logging.INFO, f"sound: {rate_hz} Hz is written as {carried_hz} Hz, which {encoder} carries")
        if channels_out != channels:
            log(logging.WARNING, f"sound: {channels} channels are mixed down to {LAYOUTS[channels_out]}")
        stream = container.add_stream(encoder, rate=carried_hz, options=dict(options or {}))
        context = stream.codec_context
        context.layout = layout_name(channels_out)
        if encoder == "aac":
            # The format's ceiling is 6144 bits per channel and frame of 1024 samples; no rate in the list reaches it.
            context.bit_rate = _AAC_BITS_PER_CHANNEL * channels_out
        else:
            context.format = _FORMATS[bits]
        self._container = container
        self._stream = stream
        self._rate_hz = rate_hz
        self._layout = layout_name(channels)
        self._whole_scale = encoder == "aac" or bits != 32
        self._log = log
        self._position = 0
        self._clipped = False

    def write(self, block: np.ndarray) -> None:
        """Encode and mux a block ``[C, N]`` of any float type."""
        # [C, N] -> packed [1, N * C]; planar blocks of eight channels crash PyAV. A copy of one block only.
        packed = np.array(block.T, dtype=np.float32, order="C")
        if self._whole_scale:
            self._clip(packed)
        frame = av.AudioFrame.from_ndarray(packed.reshape(1, -1), format="flt", layout=self._layout)
        frame.sample_rate = self._rate_hz
        frame.time_base = Fraction(1, self._rate_hz)
        frame.pts = self._position
        # The stream resamples, mixes and cuts into its own frame size where it has to.
        self._container.mux(self._stream.encode(frame))
        self._position += block.shape[1]

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))

    def _clip(self, block: np.ndarray) -> None:
        peak = float(np.abs(block).max(initial=0.0))
        if peak <= 1.0:
            return
        np.clip(block, -1.0, 1.0, out=block)
        if not self._clipped:
            self._clipped = True
            at_s = self._position / self._rate_hz
            where = f"the first at {at_s:.2f} s (peak there {peak:.2f})"
            self._log(logging.WARNING, f"sound: samples beyond full scale are clipped, {where}")


def check_target(path: Path, bits: int, channels: int) -> None:
    """Refuse what :func:`write_file` cannot write, before any work is done.

    Raises:
        LongTalkError
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SettingError(
            f"file {path}",
            expected=f"a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
            actual=path.name,
            action="Name another file; ffmpeg makes other formats of it",
        )
    possible = {".wav": BITS, ".flac": (16, 24)}.get(suffix, BITS)
    if bits not in possible:
        raise SettingError(
            "bits",
            expected=f"{' or '.join(map(str, possible))} for {suffix}",
            actual=str(bits),
            action="Name other bits, or a .wav",
        )
    if suffix != ".wav" and channels > _MOST_CHANNELS:
        raise SettingError(
            f"file {path}",
            expected=f"at most {_MOST_CHANNELS} channels in {suffix}",
            actual=str(channels),
            action="Write a .wav",
        )


def write_file(
    path: Path, blocks: Iterator[np.ndarray], rate_hz: int, channels: int, *, suffix: str, bits: int = 24
) -> list[str]:
    """Write a sound file.

    Args:
        path: any name; a file that is there is replaced.
        blocks: the sound, float ``[C, N]``.
        suffix: names the format, one of :data:`SUFFIXES`; see :func:`check_target`.
        bits: per sample; AAC (.m4a) has none.

    Returns:
        What was not written as it came, in words.

    Raises:
        av.FFmpegError: the file cannot be written.
    """
    form, encoder = {".wav": ("wav", _PCM[bits]), ".flac": ("flac", "flac"), ".m4a": ("ipod", "aac")}[suffix]
    # Beyond 4 GB a plain WAV has no length.
    options = {"fflags": "+bitexact", **({"rf64": "auto"} if suffix == ".wav" else {})}
    notes: list[str] = []
    container = av.open(str(path.absolute()), "w", format=form, container_options=options)
    try:
        stream = SoundStream(
            container,
            encoder,
            rate_hz,
            channels,
            bits=bits,
            keep_eight=suffix == ".wav",
            log=lambda _, words: notes.append(words),
        )
        for block in blocks:
            stream.write(block)
        stream.finish()
    except BaseException:
        # Closing writes the end once more, which a full disk refuses; what matters is that the handle is free.
        with contextlib.suppress(av.FFmpegError, OSError):
            container.close()
        raise
    container.close()
    return notes
