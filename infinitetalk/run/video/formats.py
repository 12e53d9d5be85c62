"""The video formats there are, how frames become what each encoder takes, and how they become frames again."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ....base.codecs import CODEC_SIZES
from ....base.errors import InstallError, SettingError
from ....base.values import as_whole, shown

logger = logging.getLogger(__name__)

# Numbers of ITU-T H.273, which FFmpeg uses as they are.
_PRIMARIES_BT709 = 1
_TRANSFER_BT709 = 1
_TRANSFER_SRGB = 13
_MATRIX_RGB = 0
_MATRIX_BT709 = 1
# FFmpeg's AVColorRange.
_RANGE_LIMITED = 1
_RANGE_FULL = 2
# swscale's bicubic + SWS_FULL_CHR_H_INP + SWS_ACCURATE_RND. As numbers, because PyAV 16 has no names for the last two.
# Without them the chroma of a flat patch is off by up to one step; with them by half a step, the least possible.
_SCALE_FLAGS = 4 | 0x4000 | 0x40000
# The same on the way back, and SWS_FULL_CHR_H_INT.
SCALE_BACK_FLAGS = _SCALE_FLAGS | 0x2000

_KEYFRAME_EVERY_S = 2
# Frames by which x264 and x265 reorder with a pyramid of B-frames, and the most that H.264 and H.265 allow.
_REORDER = 2
_MAX_REORDER = 16
# More threads hold more frames and take the cores the renderer needs; 8 encode far faster than any model renders.
_MAX_THREADS = 8
# How far one stream may run ahead of the other inside the muxer before it writes anyway. FFmpeg's 10 s would hold
# 250 MB of lossless video where the sound ends early.
_INTERLEAVE_US = 1_000_000


@dataclass(frozen=True)
class _Codec:
    """What stands behind one name in the codec list."""

    encoder: str
    name: str  # FFmpeg's name of what the encoder writes
    container: str
    suffix: str
    pixel_format: str
    audio_encoder: str
    threading: str
    reorder: int = 0  # frames by which decoding is ahead of showing
    even: tuple[bool, bool] = (False, False)  # must the width, the height be even
    rgb: bool = False
    only_keyframes: bool = False
    tag: str | None = None
    options: dict[str, str] = field(default_factory=dict)


# Presets: "medium" for both. Measured on 2 cores at 832x480, crf 18, a gently warped picture with faint grain:
# x264 veryfast 10 ms per frame, 35.3 dB, 0.60 Mbit/s; medium 18 ms, 35.8 dB, 0.67 Mbit/s; slow 28 ms, 35.8 dB.
# x265 veryfast 22 ms, 36.05 dB, 0.45 Mbit/s; medium 30 ms, 36.1 dB, 0.43 Mbit/s.
# No model renders 25 frames a second, so the time is free and the quality is not.
_CODECS: dict[str, _Codec] = {
    "h264": _Codec(
        encoder="libx264", name="h264",
        container="mp4", suffix=".mp4", pixel_format="yuv420p", audio_encoder="aac",
        threading="FRAME", reorder=_REORDER, even=(True, True), options={"preset": "medium"},
    ),
    "h265": _Codec(
        encoder="libx265", name="hevc",
        container="mp4", suffix=".mp4", pixel_format="yuv420p", audio_encoder="aac",
        # hvc1 (parameter sets in the header only) is the one flavour Apple's players open.
        threading="FRAME", reorder=_REORDER, even=(True, True), tag="hvc1",
        # x265 prints on its own, past FFmpeg's log, and has open groups of pictures by default, which seek badly.
        # Without "info" it leaves its settings, the number of threads among them, out of the stream header, which
        # must be the same in all segments.
        options={"preset": "medium", "x265-params": "log-level=error:open-gop=0:info=0"},
    ),
    "ffv1": _Codec(
        # bgr0 is RGB as it is; any YUV would round. Every frame carries checksums.
        encoder="ffv1", name="ffv1",
        container="matroska", suffix=".mkv", pixel_format="bgr0", audio_encoder="flac",
        threading="SLICE", rgb=True, only_keyframes=True,
        options={"level": "3", "slicecrc": "1", "slices": "4"},
    ),
    "prores": _Codec(
        encoder="prores_ks", name="prores",
        container="mov", suffix=".mov", pixel_format="yuv422p10le", audio_encoder="pcm_s24le",
        # "apl0" is what Apple's own encoder writes; some editors look for it.
        threading="FRAME", even=(True, False), options={"profile": "hq", "vendor": "apl0"},
    ),
}  # fmt: skip

CODECS: tuple[str, ...] = tuple(_CODECS)


@dataclass(frozen=True)
class VideoFormat:
    """The codec of a video, and its quality.

    Attributes:
        codec: ``h264`` and ``h265`` in mp4, ``ffv1`` (lossless) in mkv, ``prores`` (422 HQ) in mov.
        crf: quality of h264 and h265, 1 (best) to 51; the others do not look at it.

    Raises:
        LongTalkError: the codec is unknown, or crf is out of range.
    """

    codec: str = "h264"
    crf: int = 18

    def __post_init__(self) -> None:
        if not isinstance(self.codec, str) or self.codec not in _CODECS:
            raise SettingError(
                "video codec",
                expected=f"one of {', '.join(CODECS)}",
                actual=shown(self.codec),
                action="Choose one of these",
            )
        # crf 0 makes x264 write a lossless profile that browsers and televisions cannot play.
        crf = as_whole(self.crf)
        if crf is None or not 1 <= crf <= 51:
            raise SettingError(
                "video quality (crf)",
                expected="a whole number from 1 (best) to 51",
                actual=shown(self.crf),
                action="18 looks like the original; for a lossless file choose the codec ffv1",
            )
        object.__setattr__(self, "crf", crf)

    @property
    def suffix(self) -> str:
        """The file name's end: ``.mp4``, ``.mkv`` or ``.mov``."""
        return _CODECS[self.codec].suffix

    @property
    def container(self) -> str:
        """FFmpeg's name of the container."""
        return _CODECS[self.codec].container

    @property
    def codec_name(self) -> str:
        """FFmpeg's name of what is in the file (``hevc`` for h265)."""
        return _CODECS[self.codec].name

    @property
    def reorder_frames(self) -> int:
        """How many frames decoding is ahead of showing."""
        return _CODECS[self.codec].reorder

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of how the pixels are stored."""
        return _CODECS[self.codec].pixel_format

    @property
    def tag(self) -> str | None:
        """The codec's tag in the file, where the container's default is not the one wanted."""
        return _CODECS[self.codec].tag

    @property
    def audio_encoder(self) -> str:
        """FFmpeg's name of the sound encoder that goes with it."""
        return _CODECS[self.codec].audio_encoder


def container_of(path: Path) -> str | None:
    """FFmpeg's name of the container that goes with a file's suffix; None when it is none of ours."""
    return {codec.suffix: codec.container for codec in _CODECS.values()}.get(path.suffix.lower())


def available_codecs() -> tuple[str, ...]:
    """The codecs of :data:`CODECS` whose encoders this PyAV has."""
    return tuple(name for name, codec in _CODECS.items() if codec.encoder in av.codecs_available)


def check_format(video: VideoFormat, width: int, height: int) -> None:
    """Raise LongTalkError when this PyAV lacks the encoders, or when the encoder cannot take frames of this size."""
    codec = _CODECS[video.codec]
    for encoder in (codec.encoder, codec.audio_encoder):
        if encoder not in av.codecs_available:
            raise InstallError(
                f"codec {video.codec}",
                expected=f"a PyAV with the encoder {encoder}",
                actual=f"PyAV {av.__version__} with {', '.join(available_codecs()) or 'none of our codecs'}",
                action="Choose a codec it has, or reinstall PyAV from its wheel (pip install --force-reinstall av)",
            )
    even_width, even_height = codec.even
    if width < 1 or height < 1 or (even_width and width % 2) or (even_height and height % 2):
        sides = " and ".join(side for side, even in (("width", even_width), ("height", even_height)) if even)
        raise SettingError(
            "video size",
            expected=f"an even {sides} for {video.codec}" if sides else "at least 1x1",
            actual=f"{width}x{height}",
            action="Use a width and height that are multiples of 16",
        )


@contextlib.contextmanager
def open_output(path: Path, video: VideoFormat, *, faststart: bool = False) -> Iterator[Any]:
    """Open an ``av`` output container in the container format of ``video``; it is complete when the block ends well.

    The same streams and packets give the same bytes: no random track numbers, no version of the library.

    Args:
        path: any name; the format does not depend on it.
        faststart: put the index of mp4 and mov in front, so that a browser starts before it has the whole file.

    Raises:
        av.FFmpegError: the file cannot be written, or the container does not take a stream.
    """
    options = {"fflags": "+bitexact", "max_interleave_delta": str(_INTERLEAVE_US)}
    if faststart and video.container in ("mp4", "mov"):
        options["movflags"] = "faststart"
    container = av.open(str(path.absolute()), "w", format=video.container, container_options=options)
    try:
        yield container
    except BaseException:
        # Closing writes the index, which a full disk refuses once more; what matters is that the handle is free.
        with contextlib.suppress(av.FFmpegError, OSError):
            container.close()
        raise
    container.close()


def _has_avx512() -> bool:
    import torch  # here, because it takes seconds that the command line need not wait for

    return torch.backends.cpu.get_cpu_capability() == "AVX512"


class FrameEncoder:
    """One video stream of an open container: takes RGB frames, gives packets.

    Args:
        container: an ``av`` output container.
        fps: frames per second, a whole number.
    """

    def __init__(self, container: Any, video: VideoFormat, *, width: int, height: int, fps: int) -> None:
        codec = _CODECS[video.codec]
        options = dict(codec.options)
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        if CODEC_SIZES[video.codec].takes_crf:
            options["crf"] = str(video.crf)
        if video.codec == "h264" and _has_avx512():
            # With AVX-512 the x264 in PyAV's wheels (16 to 18) reads memory it never set: the same frames give other
            # bytes each time. With AVX2, which such a processor has too, it does not, and is no slower.
            options["x264-params"] = "asm=avx2"
        if video.codec == "h265":
            options["x265-params"] += f":pools={threads}"  # it does not ask FFmpeg how many
        stream = container.add_stream(codec.encoder, rate=fps, options=options)
        stream.width = width
        stream.height = height
        stream.pix_fmt = codec.pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, fps)
        context.gop_size = 1 if codec.only_keyframes else _KEYFRAME_EVERY_S * fps
        # PyAV's own default is SLICE, which makes x264 cut every frame into slices and compress worse.
        context.thread_type = codec.threading
        context.thread_count = threads
        if codec.tag is not None:
            context.codec_tag = codec.tag
        context.color_primaries = _PRIMARIES_BT709
        context.color_trc = _TRANSFER_SRGB if codec.rgb else _TRANSFER_BT709
        context.colorspace = _MATRIX_RGB if codec.rgb else _MATRIX_BT709
        context.color_range = _RANGE_FULL if codec.rgb else _RANGE_LIMITED
        self._codec = codec
        self._stream = stream
        self._time_base = Fraction(1, fps)
        self._reformatter = VideoReformatter()
        self._sent = 0
        self._received = 0

    @property
    def stream(self) -> Any:
        """The ``av`` stream."""
        return self._stream

    def encode(self, image: np.ndarray) -> list[Any]:
        """Encode one more frame, uint8 RGB ``[H, W, 3]``; the packets that became ready with it."""
        frame = self._to_codec(image)
        frame.pts = self._sent
        frame.time_base = self._time_base
        self._sent += 1
        return self._timed(self._stream.encode(frame))

    def flush(self) -> list[Any]:
        """The packets the encoder still holds (it looks ahead by up to 2 s)."""
        return self._timed(self._stream.encode(None))

    def _timed(self, packets: list[Any]) -> list[Any]:
        """The packets with decoding times that make sense."""
        # x265 takes a variable it never set when a video has fewer frames than it reorders (one or two), and the
        # muxer refuses the random times that come of it. A packet's true one is its place less the reordering.
        for packet in packets:
            if packet.dts is None or not self._received - _MAX_REORDER <= packet.dts <= packet.pts:
                packet.dts = min(self._received - _REORDER, packet.pts)
            self._received += 1
        return packets

    def _to_codec(self, image: np.ndarray) -> Any:
        source = av.VideoFrame.from_ndarray(image, format="rgb24")
        if self._codec.rgb:
            return self._reformatter.reformat(source, format=self._codec.pixel_format)
        frame = self._reformatter.reformat(
            source,
            format=self._codec.pixel_format,
            src_color_range=_RANGE_FULL,
            dst_colorspace=_MATRIX_BT709,
            dst_color_range=_RANGE_LIMITED,
            interpolation=_SCALE_FLAGS,
        )
        frame.colorspace = _MATRIX_BT709
        frame.color_range = _RANGE_LIMITED
        if hasattr(frame, "color_primaries"):
            # Newer PyAV. ProRes writes these two from the frame into its own header; the container has them anyway.
            frame.color_primaries = _PRIMARIES_BT709
            frame.color_trc = _TRANSFER_BT709
        return frame


class FrameDecoder:
    """Turns decoded frames of any format into RGB: the way back from what :class:`FrameEncoder` does to colours."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: Any) -> np.ndarray:
        """An ``av.VideoFrame`` as uint8 ``[H, W, 3]``; exact where it holds RGB, else from BT.709 in limited range."""
        if frame.format.is_rgb:
            return self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        if frame.format.name == "yuv420p":
            # A decoded frame says that its colours sit left, because H.264 and H.265 do not say otherwise. swscale put
            # them in the middle, as in all files made with FFmpeg, so it must not be told.
            frame = av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")
        shown = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=_MATRIX_BT709,
            src_color_range=_RANGE_LIMITED,
            dst_color_range=_RANGE_FULL,
            interpolation=SCALE_BACK_FLAGS,
        )
        return shown.to_ndarray()
