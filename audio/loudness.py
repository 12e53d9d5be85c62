"""Loudness after ITU-R BS.1770, measured by ffmpeg's ``ebur128`` filter and corrected with a plain gain.

Why not ``torchaudio.functional.loudness``: it clips the weighted signal at full scale (a clip peaking at 3.0 reads
1.6 LU low) and holds the whole signal several times over (4.3 GB for an hour at 16 kHz). The filter streams.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import torch

from ..infinitetalk.errors import LongTalkError

BLOCK_S = 0.4
"""Gating block of BS.1770-4; nothing shorter has a loudness."""

_GATE_LUFS = -70.0
"""Absolute gate of BS.1770-4. The filter reports this value when no block passed."""

_KEY = "lavfi.r128.I"


def _frames(samples: torch.Tensor, rate_hz: int) -> Iterator[av.AudioFrame]:
    """Second by second, mono float frames."""
    for start in range(0, samples.shape[0], rate_hz):
        block = samples[start : start + rate_hz].contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
        frame.sample_rate = rate_hz
        frame.time_base = Fraction(1, rate_hz)
        frame.pts = start
        yield frame


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


def integrated_loudness(samples: torch.Tensor, rate_hz: int) -> float | None:
    """Integrated loudness in LUFS of mono float32 ``[N]``; None where no 0.4 s block is above -70 LUFS.

    Source: ITU-R BS.1770-4 through ffmpeg's ``ebur128``. Memory does not grow with the length.

    Raises:
        LongTalkError: nowhere to write a small temporary file.
    """
    # The filter writes its result into the metadata of frames. PyAV shows those only since 18.1, so a second filter
    # prints them into a file. Given as keywords, a path needs no escaping (a Windows drive has a colon).
    with tempfile.TemporaryDirectory(prefix="longtalk-", dir=_report_folder()) as folder:
        report = Path(folder) / "loudness.txt"
        graph = av.filter.Graph()
        source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="mono", time_base=Fraction(1, rate_hz))
        meter = graph.add("ebur128", metadata="1", framelog="quiet")
        writer = graph.add("ametadata", mode="print", key=_KEY, file=str(report), direct="1")
        sink = graph.add("abuffersink")
        graph.link_nodes(source, meter, writer, sink).configure()
        for frame in _frames(samples, rate_hz):
            source.push(frame)
            _drain(sink)
        source.push(None)
        _drain(sink)
        # The graph owns the open file, which Windows would not let the folder's removal delete.
        del source, meter, writer, sink, graph
        found = None
        if report.exists():
            with report.open(encoding="ascii") as lines:
                for line in lines:
                    key, _, value = line.rpartition("=")
                    found = float(value) if key == _KEY else found
    if found is None or math.isnan(found) or found <= _GATE_LUFS:
        return None
    return found


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
