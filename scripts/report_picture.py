"""Make docs/sound_report.png: the demo's speech, spoiled in four ways, as Audio Report (LongTalk) draws it.

The result is in the repository; this is how it came about: `.venv/bin/python scripts/report_picture.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from longtalk.audio.reading.source import FileSource, TrackSource
from longtalk.audio.reading.track import Track
from longtalk.audio.report.analysis import analyse
from longtalk.audio.report.findings import find
from longtalk.audio.report.picture import draw_report
from longtalk.audio.report.text import report_text
from longtalk.benchmarks.spoiled_sounds import RATE_HZ, clipped, noise, padded, paused, with_sound

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 1200


def spoiled() -> Track:
    """A late start, a long pause, noise, and all of it clipped."""
    sound = np.concatenate(list(FileSource(ROOT / "scripts" / "assets" / "speech.flac").blocks()), axis=1)
    steps = padded(2.5, 0), paused(4), with_sound(10, lambda samples: noise(samples, 1)), clipped(6)
    for step in steps:
        sound = step(sound)
    return Track(torch.from_numpy(sound), RATE_HZ, "speech.wav")


def main() -> None:
    analysis = analyse(TrackSource(spoiled()))
    findings = find(analysis)
    path = ROOT / "docs" / "sound_report.png"
    picture = Image.fromarray(draw_report(analysis, findings, width=WIDTH))
    # 256 colours: the spectrogram has no more, and the letters' edges are grey.
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width}x{picture.height}, {path.stat().st_size / 1000:.0f} kB\n")
    print(report_text(analysis, findings))


if __name__ == "__main__":
    main()
