"""The analysis of a sound in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...base.segment import Segment
from ...base.words import clock_s, count
from .analysis import Analysis
from .findings import Finding
from .spectrum import AVERAGE_DB, BANDS_HZ

_SPANS_SHOWN = 5


def heading(analysis: Analysis) -> list[str]:
    """The name, the length and the kind of the sound."""
    channels = {1: "mono", 2: "stereo"}.get(analysis.channels, f"{analysis.channels} channels")
    return [analysis.name, clock_s(analysis.duration_s), f"{analysis.rate_hz} Hz {channels}"]


def figures(analysis: Analysis) -> list[tuple[str, str]]:
    """The names and the values of what was measured, apart from the bands."""
    lufs, spread = analysis.loudness.integrated_lufs, analysis.loudness_range_lu
    ratio_db = analysis.noise.ratio_db
    clipping = analysis.clipping
    share = 100 * analysis.speech_s / analysis.duration_s
    return [
        ("loudness", "not measurable" if lufs is None else f"{lufs:.1f} LUFS"),
        ("loudness range", "not measurable" if spread is None else f"{spread:.1f} LU"),
        ("true peak", f"{_db(analysis.true_peak_dbtp)} dBTP"),
        ("sample peak", f"{_db(analysis.peak_dbfs)} dBFS"),
        ("RMS", f"{analysis.rms_dbfs:.1f} dBFS"),
        ("speech to noise", "not measurable" if ratio_db is None else f"{ratio_db:.0f} dB"),
        ("sound up to", f"{analysis.bandwidth_hz / 1000:.1f} kHz"),
        ("clipping", f"{clipping.runs:,} times" if clipping.runs else "none"),
        ("speech", f"{clock_s(analysis.speech_s)} in {count(len(analysis.speech), 'segment')} ({share:.0f} %)"),
    ]


def _db(value: float) -> str:
    """A level with one decimal, and without a minus before zero."""
    return f"{round(value, 1) + 0.0:.1f}"


def report_text(analysis: Analysis, findings: Sequence[Finding]) -> str:
    """The report in words: first what was found, each finding with what to do; then what was measured."""
    return "\n".join([", ".join(heading(analysis)), "", *_findings(findings), "", *_measured(analysis)])


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield "Findings: none"
        return
    yield f"{count(len(findings), 'finding').capitalize()}:"
    for number, finding in enumerate(findings, 1):
        yield f"{number}. {finding.severity.value}: {finding.kind.value}: {finding.found}{_where(finding.spans)}."
        yield f"   {finding.action}."


def _where(spans: Sequence[Segment]) -> str:
    if not spans:
        return ""
    listed = ", ".join(f"{clock_s(span.start_s)} to {clock_s(span.end_s)}" for span in spans[:_SPANS_SHOWN])
    return f" ({listed}{' and more' if len(spans) > _SPANS_SHOWN else ''})"


def _measured(analysis: Analysis) -> Iterator[str]:
    rows = figures(analysis)
    wide = max(len(name) for name, _ in rows)
    for name, value in rows:
        yield f"{name.ljust(wide)}  {value}"
    yield ""
    yield "Energy per band, below the loudest (in brackets: average speech):"
    loudest = max(analysis.bands_dbfs)
    for (low, high), level, average in zip(BANDS_HZ, analysis.bands_dbfs, AVERAGE_DB, strict=True):
        yield f"{low:>4} to {high:>4} Hz  {level - loudest:6.1f} dB ({average:.1f})"


def report_json(analysis: Analysis, findings: Sequence[Finding]) -> dict[str, Any]:
    """The report in plain values, for a program; None for what cannot be measured. Spans are half-open, in seconds."""
    loudness, noise, levels, clipping = analysis.loudness, analysis.noise, analysis.levels, analysis.clipping
    return {
        "name": analysis.name,
        "duration_s": analysis.duration_s,
        "samples": analysis.samples,
        "rate_hz": analysis.rate_hz,
        "channels": [{"peak": each.peak, "rms": each.power**0.5, "dc_offset": each.offset} for each in levels.channels],
        "rms_dbfs": analysis.rms_dbfs,
        "sample_peak_dbfs": analysis.peak_dbfs,
        "true_peak_dbtp": analysis.true_peak_dbtp,
        "integrated_lufs": loudness.integrated_lufs,
        "loudness_range_lu": analysis.loudness_range_lu,
        "speech_dbfs": noise.speech_dbfs,
        "noise_dbfs": noise.noise_dbfs,
        "speech_to_noise_db": noise.ratio_db,
        "digital_silence": noise.digital_part,
        "bandwidth_hz": analysis.bandwidth_hz,
        "bands": [
            {"low_hz": low, "high_hz": high, "dbfs": level}
            for (low, high), level in zip(BANDS_HZ, analysis.bands_dbfs, strict=True)
        ],
        "clipping": {
            "runs": clipping.runs,
            "samples": clipping.samples,
            "ceiling": clipping.ceiling,
            "times_s": list(clipping.times_s),
        },
        "speech": _spans(analysis.speech),
        "silence": _spans(analysis.silences),
        "findings": [
            {
                "kind": finding.kind.value,
                "severity": finding.severity.value,
                "found": finding.found,
                "action": finding.action,
                "spans": _spans(finding.spans),
            }
            for finding in findings
        ],
    }


def _spans(spans: Sequence[Segment]) -> list[dict[str, float]]:
    return [{"start_s": span.start_s, "end_s": span.end_s} for span in spans]
