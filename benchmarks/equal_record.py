"""What one configuration gave, written down so that two checkouts can be compared without either's code.

Runs in the process that has ComfyUI and one checkout's `longtalk`; knows the nodes by their ids only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

KINDS = ("frames", "sound", "plan", "report")


def digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def _array(value: Any) -> np.ndarray:
    return np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)


class Record:
    """The results of one configuration, in the order in which they came.

    ``frames``, ``sound`` and ``plan`` map a label to facts and digests, ``report`` is lines of text. The pictures
    themselves lie beside the record, so that a difference can be told in numbers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True)
        self.found: dict[str, Any] = {"frames": {}, "sound": {}, "plan": {}, "report": []}

    def save(self) -> None:
        (self._folder / "record.json").write_text(json.dumps(self.found, indent=1))

    def array(self, kind: str, label: str, value: Any) -> None:
        """Numbers that must be equal bit for bit."""
        array = _array(value)
        self.found[kind][label] = {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "digest": digest(array.tobytes()),
        }
        np.save(self._folder / f"{kind} {label}.npy", array)

    def text(self, label: str, text: str) -> None:
        self.found["report"] += [f"[{label}]", *text.splitlines()]

    def video(self, label: str, path: Path) -> None:
        """A video file: what its frames and its sound decode to, and the packets as they are in the file."""
        frames, packets = self._stream(path, "video")
        self.array("frames", f"{label} decoded", frames)
        self.found["frames"][f"{label} file"] = packets
        sound, packets = self._stream(path, "audio")
        if sound is not None:
            self.array("sound", f"{label} decoded", sound)
        self.found["sound"][f"{label} file"] = packets

    @staticmethod
    def _stream(path: Path, kind: str) -> tuple[np.ndarray | None, dict[str, Any]]:
        """The decoded stream, and what its packets are."""
        with av.open(str(path)) as container:
            streams = getattr(container.streams, kind)
            if not streams:
                return None, {"streams": 0}
            stream, context = streams[0], streams[0].codec_context
            facts: dict[str, Any] = {
                "container": container.format.name,
                "codec": context.name,
                "format": str(getattr(context, "pix_fmt", None) or context.format.name),
                "rate": str(stream.average_rate if kind == "video" else context.sample_rate),
                "time_base": str(stream.time_base),
            }
            sent = [(packet.pts, packet.dts, bytes(packet)) for packet in container.demux(stream) if packet.size]
            facts["packets"] = len(sent)
            facts["times"] = digest(repr([each[:2] for each in sent]).encode())
            facts["bytes"] = digest(*(each[2] for each in sent))
        with av.open(str(path)) as container:
            if kind == "video":
                decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
            else:
                decoded = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=-1)
        return decoded, facts


class Heard(logging.Handler):
    """The lines that LongTalk logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@contextlib.contextmanager
def heard(record: Record) -> Iterator[None]:
    """Add what LongTalk logs meanwhile to the record's report."""
    logger, handler = logging.getLogger("longtalk"), Heard()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        record.text("log", "\n".join(handler.lines))
