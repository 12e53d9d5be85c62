"""Loudness after ITU-R BS.1770, measured by ffmpeg's ``ebur128`` filter and corrected with a plain gain.

Why not ``torchaudio.functional.loudness``: it clips the weighted signal at full scale (a clip peaking at 3.0 reads
1.6 LU low) and holds the whole signal several times over (4.3 GB for an hour at 16 kHz). The filter streams.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import torch

from ..infinitetalk.errors import LongTalkError

BLOCK_S = 0.4
"""Gating block of BS.1770-4; nothing shorter has a loudness."""

_GATE_LUFS = -70.0
"""Absolute gate of BS.1770-4. The filter reports this value when no block passed."""

_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
"""How so many channels are usually arranged; BS.1770 counts those behind the listener more, the LFE not at all."""

_INTEGRATED, _RANGE, _TRUE_PEAK = "lavfi.r128.I", "lavfi.r128.LRA", "lavfi.r128.true_peak"

_RANGE_S = 3.0
"""EBU Tech 3342 compares blocks of this length; the range of a shorter sound is none."""


@dataclass(frozen=True)
class Loudness:
    """What EBU R128 asks for.

    Attributes:
        integrated_lufs: None where no 0.4 s block is above -70 LUFS.
        range_lu: None below 3 s, and where there is no loudness.
        true_peak: the peak between the samples as part of full scale, by fourfold oversampling, to three decimals.
    """

    integrated_lufs: float | None
    range_lu: float | None
    true_peak: float


def _report_folder() -> str:
    """A writable folder with a name in ASCII: older PyAV (16, for one) passes nothing else to a filter.

    The usual temporary folder of Windows contains the user's name.
    """
    folders = (tempfile.gettempdir(), os.environ.get("PUBLIC", ""), "/tmp")
    for folder in folders:
        if folder.isascii() and os.path.isdir(folder) and os.access(folder, os.W_OK):
            return folder
    raise LongTalkError(
        "temporary folder",
        expected="a writable folder whose name has ASCII letters only",
        actual=repr(folders[0]),
        action="Set the environment variable TMP (Windows) or TMPDIR to such a folder and start ComfyUI again",
    )


def _drain(sink: av.filter.context.FilterContext) -> None:
    while True:
        try:
            sink.pull()
        except (BlockingIOError, EOFError):  # PyAV's own errors derive from these
            return


class LoudnessMeter:
    """Hears a sound block by block; memory does not grow with its length. To be used in a ``with``.

    More than eight channels, which have no usual arrangement, are heard as one, their mean.

    Raises:
        LongTalkError: nowhere to write a small temporary file.
    """

    def __init__(self, rate_hz: int, channels: int, *, whole: bool = True) -> None:
        """``whole``: range and true peak too, which take longer."""
        self._rate_hz, self._samples = rate_hz, 0
        self._layout = _LAYOUTS[channels - 1] if channels <= len(_LAYOUTS) else "mono"
        self._keys = (_INTEGRATED, _RANGE, _TRUE_PEAK) if whole else (_INTEGRATED,)
        # The filter writes its results into the metadata of frames. PyAV shows those only since 18.1, so further
        # filters print them into files. Given as keywords, a path needs no escaping (a Windows drive has a colon).
        self._folder = tempfile.TemporaryDirectory(prefix="longtalk-", dir=_report_folder())
        graph = av.filter.Graph()
        source = graph.add_abuffer(
            sample_rate=rate_hz, format="flt", layout=self._layout, time_base=Fraction(1, rate_hz)
        )
        meter = graph.add("ebur128", metadata="1", framelog="quiet", peak="true" if whole else "none")
        writers = [
            graph.add("ametadata", mode="print", key=key, file=str(self._file(key)), direct="1") for key in self._keys
        ]
        sink = graph.add("abuffersink")
        graph.link_nodes(source, meter, *writers, sink).configure()
        self._graph: Any = graph
        self._source: Any = source
        self._sink: Any = sink

    def _file(self, key: str) -> Path:
        return Path(self._folder.name) / f"{self._keys.index(key)}.txt"

    def push(self, block: np.ndarray) -> None:
        """Take float32 ``[C, N]``."""
        if self._layout == "mono":
            block = block.mean(axis=0, keepdims=True)
        packed = np.ascontiguousarray(block.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.sample_rate = self._rate_hz
        frame.time_base = Fraction(1, self._rate_hz)
        frame.pts = self._samples
        self._samples += block.shape[1]
        self._source.push(frame)
        _drain(self._sink)

    def finish(self) -> Loudness:
        """What was heard; nothing more can be pushed."""
        self._source.push(None)
        _drain(self._sink)
        self._end()
        integrated, spread, peak = (self._last(key) for key in (_INTEGRATED, _RANGE, _TRUE_PEAK))
        if integrated is None or integrated <= _GATE_LUFS:
            return Loudness(None, None, peak or 0.0)
        return Loudness(integrated, spread if self._samples >= _RANGE_S * self._rate_hz else None, peak or 0.0)

    def __enter__(self) -> LoudnessMeter:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        """Let go of the graph, which owns the open files: Windows deletes and reads none that is open."""
        self._graph = self._source = self._sink = None

    def _last(self, key: str) -> float | None:
        """The last value a filter printed: that of the whole sound."""
        if key not in self._keys or not self._file(key).exists():
            return None
        found = math.nan
        with self._file(key).open(encoding="ascii") as lines:
            for line in lines:
                name, _, value = line.rpartition("=")
                found = float(value) if name == key else found
        return found if math.isfinite(found) else None


def integrated_loudness(samples: torch.Tensor, rate_hz: int) -> float | None:
    """Integrated loudness in LUFS of mono float32 ``[N]``; None where no 0.4 s block is above -70 LUFS.

    Source: ITU-R BS.1770-4 through ffmpeg's ``ebur128``. Memory does not grow with the length.

    Raises:
        LongTalkError: nowhere to write a small temporary file.
    """
    with LoudnessMeter(rate_hz, 1, whole=False) as meter:
        for block in samples.split(rate_hz):
            meter.push(block[None].numpy())
        return meter.finish().integrated_lufs


def normalize_loudness(
    samples: torch.Tensor, rate_hz: int, target_lufs: float = -23.0
) -> tuple[torch.Tensor, str | None]:
    """Bring speech to the loudness the audio encoder was fed with in training.

    A pure gain, as in the official InfiniteTalk: no limiter, so peaks may pass full scale. For the encoder only.

    Args:
        samples: mono float32 ``[N]`` on the CPU.
        rate_hz: its sample rate.
        target_lufs: EBU R128 level by default.

    Returns:
        The scaled copy and None; or, where loudness is not defined (shorter than 0.4 s, or silent), the samples
        unchanged and a notice for the user.
    """
    duration_s = samples.shape[0] / rate_hz
    if duration_s < BLOCK_S:
        return samples, f"{duration_s:.2f} s is too short to measure loudness ({BLOCK_S} s are needed): level unchanged"
    loudness = integrated_loudness(samples, rate_hz)
    if loudness is None:
        return samples, f"silent (nothing above {_GATE_LUFS:.0f} LUFS): level unchanged"
    return samples * 10.0 ** ((target_lufs - loudness) / 20.0), None
