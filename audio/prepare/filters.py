"""Runs a sound that is read in blocks through ffmpeg's filters and its meter. Memory does not grow with the length."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np

from ...base.errors import DiskError
from ..reading.layouts import layout_name


@dataclass(frozen=True)
class Filter:
    """One filter of ffmpeg, with its options in the order in which they are written."""

    name: str
    options: tuple[tuple[str, str | float], ...] = ()

    def values(self) -> dict[str, str]:
        return {key: value if isinstance(value, str) else f"{value:.8g}" for key, value in self.options}

    def text(self) -> str:
        """The filter as ffmpeg's own command line takes it."""
        values = ":".join(f"{key}={value}" for key, value in self.values().items())
        return f"{self.name}={values}" if values else self.name


def af_text(filters: Sequence[Filter]) -> str:
    """The filters as the text after ``-af`` of ffmpeg's command line."""
    return ",".join(each.text() for each in filters)


def through(
    blocks: Iterable[np.ndarray], filters: Sequence[Filter], rate_hz: int, channels: int
) -> Iterator[np.ndarray]:
    """Run a sound through filters.

    Args:
        blocks: float32 ``[C, n]``, any lengths.
        filters: run one after the other.
        rate_hz: sample rate of the blocks.
        channels: of the blocks.

    Yields:
        The result, float32 ``[C, n]``, in blocks as the filters cut it, with what they hold back until the end.
    """
    layout = layout_name(channels)
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout=layout, time_base=Fraction(1, rate_hz))
    # Packed: PyAV (18.1 and before) crashes when it hands out planar samples of eight channels.
    packed = graph.add("aformat", sample_fmts="flt")
    sink: Any = graph.add("abuffersink")
    nodes = [graph.add(each.name, **each.values()) for each in filters]
    graph.link_nodes(source, *nodes, packed, sink).configure()
    for frame in _frames(blocks, rate_hz, layout):
        source.push(frame)
        while True:
            try:
                samples = sink.pull().to_ndarray()
            except (BlockingIOError, EOFError):  # PyAV's own errors derive from these
                break
            yield samples.reshape(-1, channels).T


class Counter:
    """Counts the samples that pass."""

    def __init__(self) -> None:
        self.samples = 0

    def through(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.samples += block.shape[1]
            yield block


def _frames(blocks: Iterable[np.ndarray], rate_hz: int, layout: str) -> Iterator[av.AudioFrame | None]:
    """The blocks as frames of packed floats, and None for the end."""
    start = 0
    for block in blocks:
        packed = np.ascontiguousarray(block.T, dtype=np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = rate_hz
        frame.time_base = Fraction(1, rate_hz)
        frame.pts = start
        start += block.shape[1]
        yield frame
    yield None


GATE_LUFS = -70.0
"""The absolute gate of BS.1770-4. The filter reports this value when no block passed."""

RANGE_S = 4.0
"""A shorter sound has no loudness range, which compares stretches of 3 s that begin every 0.1 s."""

_KEYS = {"I": "integrated_lufs", "LRA": "range_lu", "LRA.low": "low_lufs", "true_peak": "true_peak"}
_PREFIX = "lavfi.r128."
_LINE_BYTES = 100
"""More bytes than a line of the report has."""


@dataclass(frozen=True)
class Loudness:
    """What EBU R128 says about a sound.

    Attributes:
        integrated_lufs: ITU-R BS.1770-4; None where no block of 0.4 s is above -70 LUFS.
        range_lu: EBU Tech 3342, over stretches of 3 s; 0 for a sound below 4 s.
        low_lufs: the lower end of that range.
        true_peak: the peak between the samples too, 1 for full scale, to three decimals; 0 if nobody asked for it.
    """

    integrated_lufs: float | None
    range_lu: float
    low_lufs: float
    true_peak: float

    @property
    def true_peak_db(self) -> float:
        return 20 * math.log10(self.true_peak) if self.true_peak else -math.inf

    def to_json(self) -> dict[str, float | None]:
        """The loudness as a program reads it; None for what could not be measured."""
        return {
            "integrated_lufs": self.integrated_lufs,
            "range_lu": self.range_lu,
            "true_peak_db": self.true_peak_db if self.true_peak else None,
        }


class Meter:
    """Measures what passes through it, by ffmpeg's ``ebur128``.

    Why not ``torchaudio.functional.loudness``: it clips the weighted signal at full scale (a clip peaking at 3.0 reads
    1.6 LU low) and holds the whole signal several times over (4.3 GB for an hour at 16 kHz). The filter streams.

    Args:
        peaks: find the true peak too, which takes four times as long.
    """

    def __init__(self, *, peaks: bool = True) -> None:
        self._peaks = peaks
        self.loudness = Loudness(None, 0.0, 0.0, 0.0)
        """The loudness of the sound that passed last, as soon as all of it has passed."""

    def through(
        self, blocks: Iterable[np.ndarray], filters: Sequence[Filter], rate_hz: int, channels: int
    ) -> Iterator[np.ndarray]:
        """Run a sound through filters as :func:`through` does; the meter measures what comes out and changes no sample.

        Raises:
            LongTalkError: there is nowhere to write a small temporary file.
        """
        # The filter writes its results into the metadata of frames. PyAV shows those only since 18.1, so other filters
        # print them into files. Given as keywords, a path needs no escaping (a Windows drive has a colon).
        meter = Filter(
            "ebur128", (("metadata", "1"), ("framelog", "quiet"), ("peak", "true" if self._peaks else "none"))
        )
        with tempfile.TemporaryDirectory(prefix="longtalk-", dir=_report_folder()) as folder:
            reports = {name: Path(folder) / name for name in _KEYS}
            writers = [
                Filter(
                    "ametadata",
                    (("mode", "print"), ("key", _PREFIX + name), ("file", str(report)), ("direct", "1")),
                )
                for name, report in reports.items()
            ]
            counter = Counter()
            yield from through(counter.through(blocks), [*filters, meter, *writers], rate_hz, channels)
            found = {_KEYS[name]: _last_value(report) for name, report in reports.items()}
        integrated = found.pop("integrated_lufs")
        if counter.samples < RANGE_S * rate_hz:
            found["range_lu"] = None  # the filter says 20 LU where it has no two stretches of 3 s to compare
        silent = integrated is None or math.isnan(integrated) or integrated <= GATE_LUFS
        self.loudness = Loudness(
            integrated_lufs=None if silent else integrated, **{name: value or 0.0 for name, value in found.items()}
        )

    def measure(
        self, blocks: Iterable[np.ndarray], rate_hz: int, channels: int, filters: Sequence[Filter] = ()
    ) -> Loudness:
        """The loudness of a sound that is needed for nothing else."""
        for _ in self.through(blocks, filters, rate_hz, channels):
            pass
        return self.loudness


def _report_folder() -> str:
    """A writable folder whose name is ASCII: older PyAV (16, for one) can pass no other name to a filter.

    The usual temporary folder of Windows contains the user's name.
    """
    folders = (tempfile.gettempdir(), os.environ.get("PUBLIC", ""), "/tmp")
    for folder in folders:
        if folder.isascii() and os.path.isdir(folder) and os.access(folder, os.W_OK):
            return folder
    raise DiskError(
        "temporary folder",
        expected="a writable folder whose name has ASCII letters only",
        actual=repr(folders[0]),
        action="Set the environment variable TMP (Windows) or TMPDIR to such a folder and start ComfyUI again",
    )


def _last_value(report: Path) -> float | None:
    """The number at the end of what ``ametadata`` wrote; None if it wrote nothing."""
    if not report.exists():
        return None
    with report.open("rb") as file:
        file.seek(max(report.stat().st_size - _LINE_BYTES, 0))
        _, equals, value = file.read().rpartition(b"=")
    return float(value) if equals else None
