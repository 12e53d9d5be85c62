"""Writes the frames of one finished window as a file of their own: a segment.

Every segment starts with a key frame and has the same stream header, whatever its length and content, so that
:mod:`.join` can put segments one after the other without encoding anything again.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from ....base.errors import ResultError, SettingError
from ....base.files import atomic, is_disk_error
from ....base.pictures import rounded_to_bytes
from ....base.rates import FPS
from .formats import FrameEncoder, VideoFormat, check_format, open_output

# Frames converted at a time: the float copy of them is four times as large as the bytes.
_CHUNK_FRAMES = 16
_CHUNK_BYTES = 64_000_000


def to_bytes(frames: torch.Tensor, first_frame: int = 0) -> np.ndarray:
    """Frames as bytes on the CPU, in memory of their own, see :func:`~....base.pictures.rounded_to_bytes`.

    Args:
        frames: ``[F, H, W, 3]``, float of any kind in 0..1 or uint8; on any device.
        first_frame: the number of the first one in the video, for messages.

    Returns:
        uint8 ``[F, H, W, 3]``.

    Raises:
        LongTalkError: the frames have another shape or type, or NaN or infinite values.
    """
    shape = list(frames.shape)
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ResultError(
            "video frames",
            expected="[frames, height, width, 3], at least one of each",
            actual=str(shape),
            action="Connect a VAE that decodes to RGB images",
        )
    if not frames.is_floating_point() and frames.dtype != torch.uint8:
        raise ResultError(
            "video frames",
            expected="float values in 0..1 or uint8",
            actual=str(frames.dtype),
            action="Connect the images as they come from the VAE",
        )
    count, height, width, _ = shape
    at_once = max(1, min(_CHUNK_FRAMES, _CHUNK_BYTES // (height * width * 3 * 4)))
    out = np.empty(shape, np.uint8)
    for start in range(0, count, at_once):
        chunk = frames[start : start + at_once].detach()
        out[start : start + at_once] = _chunk_to_bytes(chunk, first_frame + start).cpu().numpy()
    return out


def _chunk_to_bytes(chunk: torch.Tensor, first_frame: int) -> torch.Tensor:
    if chunk.dtype == torch.uint8:
        return chunk
    values = chunk.to(torch.float32)
    # A sum is one pass without a mask, and NaN or infinity anywhere in a frame survives it.
    if not bool(torch.isfinite(values.sum())):
        finite = torch.isfinite(values).flatten(1).all(dim=1)
        if not bool(finite.all()):
            frame = first_frame + int(torch.nonzero(~finite)[0, 0])
            raise ResultError(
                f"video frame {frame}",
                expected="finite values",
                actual="NaN or infinity",
                action="Use another attention backend, or a VAE in bf16 or fp32: fp16 overflows like this",
            )
    return rounded_to_bytes(values)


def write_segment(path: Path, frames: np.ndarray, video: VideoFormat, *, fps: int = FPS, held: int = 0) -> None:
    """Encode a window's new frames into a file of their own, without sound.

    Args:
        path: gets its name when it is complete and on the disk; an old file is replaced.
        frames: uint8 RGB ``[F, H, W, 3]``, one or more.
        video: codec, quality and container.
        fps: frames per second, a whole number.
        held: for so many more frames the last one stands still.

    Raises:
        LongTalkError: this PyAV lacks the codec, the codec cannot take the size, the disk is full, or the folder may
            not be written to.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[0] < 1 or frames.dtype != np.uint8 or fps < 1:
        raise ValueError(f"needs uint8 [F, H, W, 3] with F >= 1 and fps >= 1, got {frames.dtype} {frames.shape}, {fps}")
    count, height, width, _ = frames.shape
    check_format(video, width, height)
    with atomic(path) as part, open_output(part, video) as container:
        encoder = _open_encoder(container, video, width=width, height=height, fps=fps)
        written = 0
        for image in itertools.chain(frames, itertools.repeat(frames[-1], held)):
            packets = encoder.encode(image)
            container.mux(packets)
            written += len(packets)
        packets = encoder.flush()
        container.mux(packets)
        written += len(packets)
        if written != count + held:
            raise RuntimeError(f"{count + held} frames went into the encoder, {written} came out")


def _open_encoder(container: Any, video: VideoFormat, *, width: int, height: int, fps: int) -> FrameEncoder:
    try:
        encoder = FrameEncoder(container, video, width=width, height=height, fps=fps)
        container.start_encoding()
    except av.FFmpegError as error:
        if is_disk_error(error):
            raise
        raise SettingError(
            "video encoder",
            expected=f"{video.codec} to take {width}x{height} at {fps} fps",
            actual=str(error),
            action="Choose another codec or size",
        ) from error
    return encoder
