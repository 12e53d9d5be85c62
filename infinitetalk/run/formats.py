"""The video formats the writer offers, and how frames become what each encoder takes."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import LongTalkError

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

_KEYFRAME_EVERY_S = 2
# Frames by which x264 and x265 reorder with a pyramid of B-frames, and the most that H.264 and H.265 allow.
_REORDER = 2
_MAX_REORDER = 16
# More threads hold more frames and take the cores the renderer needs; 8 encode far faster than any model renders.
_MAX_THREADS = 8


@dataclass(frozen=True)
class _Codec:
    """What stands behind one name in the codec list."""

    encoder: str
    container: str
    suffix: str
    pixel_format: str
    audio_encoder: str
    threading: str
    even: tuple[bool, bool] = (False, False)  # must the width, the height be even
    rgb: bool = False
    tag: str | None = None
    options: dict[str, str] = field(default_factory=dict)


# Presets: "medium" for both. Measured on 2 cores at 832x480, crf 18, a gently warped picture with faint grain:
# x264 veryfast 10 ms per frame, 35.3 dB, 0.60 Mbit/s; medium 18 ms, 35.8 dB, 0.67 Mbit/s; slow 28 ms, 35.8 dB.
# x265 veryfast 22 ms, 36.05 dB, 0.45 Mbit/s; medium 30 ms, 36.1 dB, 0.43 Mbit/s.
# No model renders 25 frames a second, so the time is free and the quality is not.
_CODECS: dict[str, _Codec] = {
    "h264": _Codec(
        encoder="libx264", container="mp4", suffix=".mp4", pixel_format="yuv420p", audio_encoder="aac",
        threading="FRAME", even=(True, True), options={"preset": "medium"},
    ),
    "h265": _Codec(
        encoder="libx265", container="mp4", suffix=".mp4", pixel_format="yuv420p", audio_encoder="aac",
        # hvc1 (parameter sets in the header only) is the one flavour Apple's players open.
        threading="FRAME", even=(True, True), tag="hvc1",
        # x265 prints on its own, past FFmpeg's log, and has open groups of pictures by default, which seek badly.
        options={"preset": "medium", "x265-params": "log-level=error:open-gop=0"},
    ),
    "ffv1": _Codec(
        # bgr0 is RGB as it is; any YUV would round. Every frame is a key frame (gop 1) and carries checksums.
        encoder="ffv1", container="matroska", suffix=".mkv", pixel_format="bgr0", audio_encoder="flac",
        threading="SLICE", rgb=True, options={"level": "3", "slicecrc": "1", "slices": "4"},
    ),
    "prores": _Codec(
        encoder="prores_ks", container="mov", suffix=".mov", pixel_format="yuv422p10le", audio_encoder="pcm_s24le",
        # "apl0" is what Apple's own encoder writes; some editors look for it.
        threading="FRAME", even=(True, False), options={"profile": "hq", "vendor": "apl0"},
    ),
}  # fmt: skip

CODECS: tuple[str, ...] = tuple(_CODECS)


@dataclass(frozen=True)
class VideoFormat:
    """Codec and quality of the video.

    Attributes:
        codec: ``h264`` and ``h265`` in mp4, ``ffv1`` (lossless) in mkv, ``prores`` (422 HQ) in mov.
        crf: quality of h264 and h265, 1 (best) to 51; the others do not look at it.

    Raises:
        LongTalkError: unknown codec, crf out of range.
    """

    codec: str = "h264"
    crf: int = 18

    def __post_init__(self) -> None:
        if self.codec not in _CODECS:
            raise LongTalkError(
                "video codec",
                expected=f"one of {', '.join(CODECS)}",
                actual=repr(self.codec),
                action="Choose one of these",
            )
        # crf 0 makes x264 write a lossless profile that browsers and televisions cannot play.
        if isinstance(self.crf, bool) or not isinstance(self.crf, int) or not 1 <= self.crf <= 51:
            raise LongTalkError(
                "video quality (crf)",
                expected="a whole number from 1 (best) to 51",
                actual=repr(self.crf),
                action="18 looks like the original; for a lossless file choose the codec ffv1",
            )

    @property
    def suffix(self) -> str:
        """The file name's end: ``.mp4``, ``.mkv`` or ``.mov``."""
        return _CODECS[self.codec].suffix

    @property
    def container(self) -> str:
        """FFmpeg's name of the container."""
        return _CODECS[self.codec].container

    @property
    def audio_encoder(self) -> str:
        """FFmpeg's name of the sound encoder that goes with it."""
        return _CODECS[self.codec].audio_encoder


def available_codecs() -> tuple[str, ...]:
    """The codecs of :data:`CODECS` whose encoders this PyAV has."""
    return tuple(name for name, codec in _CODECS.items() if codec.encoder in av.codecs_available)


def check_format(video: VideoFormat, width: int, height: int) -> None:
    """Raise LongTalkError when this PyAV lacks the encoders, or the encoder cannot take frames of this size."""
    codec = _CODECS[video.codec]
    for encoder in (codec.encoder, codec.audio_encoder):
        if encoder not in av.codecs_available:
            raise LongTalkError(
                f"codec {video.codec}",
                expected=f"a PyAV with the encoder {encoder}",
                actual=f"PyAV {av.__version__} with {', '.join(available_codecs()) or 'none of our codecs'}",
                action="Choose a codec it has, or reinstall PyAV from its wheel (pip install --force-reinstall av)",
            )
    even_width, even_height = codec.even
    if width < 1 or height < 1 or (even_width and width % 2) or (even_height and height % 2):
        sides = " and ".join(side for side, even in (("width", even_width), ("height", even_height)) if even)
        raise LongTalkError(
            "video size",
            expected=f"an even {sides} for {video.codec}" if sides else "at least 1x1",
            actual=f"{width}x{height}",
            action="Use a width and height that are multiples of 16",
        )


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
        if video.codec in ("h264", "h265"):
            options["crf"] = str(video.crf)
        if video.codec == "h265":
            options["x265-params"] += f":pools={threads}"  # it does not ask FFmpeg how many
        stream = container.add_stream(codec.encoder, rate=fps, options=options)
        stream.width = width
        stream.height = height
        stream.pix_fmt = codec.pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, fps)
        context.gop_size = 1 if video.codec == "ffv1" else _KEYFRAME_EVERY_S * fps
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

    def encode(self, image: np.ndarray) -> list[Any]:
        """Packets that became ready with one more frame, uint8 RGB ``[H, W, 3]``."""
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
