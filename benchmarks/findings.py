"""Does the report find what is wrong with a sound, and is it quiet about a good one?

    python -m benchmarks.findings [--recordings FOLDER] [--json FILE]

Speech is spoiled in some 60 ways and strengths, and left alone in others (spoiled_sounds.py). It comes
from the demo's clip, from espeak-ng where it is installed, and from the sound files in FOLDER: what the report finds in
such a recording as it is, is taken to be true, and not counted in its spoiled versions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from longtalk.audio.reading.resample import resample
from longtalk.audio.reading.source import FileSource, TrackSource
from longtalk.audio.reading.track import Track
from longtalk.audio.report.analysis import analyse
from longtalk.audio.report.findings import Kind, find

from .spoiled_sounds import RATE_HZ, Case, cases

ROOT = Path(__file__).resolve().parent.parent

VOICES = (
    ("en-us", 150),
    ("en-gb", 190),
    ("en-us+f3", 170),
    ("de", 160),
    ("fr+f2", 200),
    ("es", 220),
    ("en-us+m7", 130),
)
TEXT = (
    "Six ships sailed past the shore this morning. Nobody on deck was watching, and nobody spoke. "
    "Later the wind turned to the west, and the oldest captain asked for his charts, his glasses and a cup of tea."
)
LONGEST_S = 20


def voices() -> Iterator[tuple[str, np.ndarray]]:
    """Names and speech, float32 ``[1, N]`` at 48 kHz."""
    yield "demo clip", heard(ROOT / "scripts" / "assets" / "speech.flac")
    if not shutil.which("espeak-ng"):
        print("espeak-ng is not installed: the demo clip alone")
        return
    with tempfile.TemporaryDirectory() as folder:
        for voice, words_per_minute in VOICES:
            path = Path(folder) / "speech.wav"
            subprocess.run(["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-w", path, TEXT], check=True)
            yield f"espeak-ng {voice}, {words_per_minute}", heard(path)


def heard(path: Path) -> np.ndarray:
    source = FileSource(path)
    sound = np.concatenate(list(source.blocks()), axis=1)[:, : LONGEST_S * source.rate_hz].mean(axis=0, keepdims=True)
    return resample(torch.from_numpy(sound), source.rate_hz, RATE_HZ).numpy()


def found(sound: np.ndarray) -> set[Kind]:
    return {finding.kind for finding in find(analyse(TrackSource(Track(torch.from_numpy(sound), RATE_HZ))))}


class Count:
    """Right, missed and false findings of each kind."""

    def __init__(self) -> None:
        self.right: Counter[Kind] = Counter()
        self.missed: Counter[Kind] = Counter()
        self.false: Counter[Kind] = Counter()
        self.sounds = 0

    def add(self, name: str, case: Case, kinds: set[Kind], known: set[Kind]) -> None:
        self.sounds += 1
        missed, false = case.expected - kinds, kinds - case.expected - case.allowed - known
        self.right.update(case.expected & kinds)
        self.missed.update(missed)
        self.false.update(false)
        for word, wrong in (("missed", missed), ("false", false)):
            if wrong:
                print(f"  {name}, {case.name}: {word} {', '.join(sorted(kind.value for kind in wrong))}", flush=True)

    def table(self) -> list[dict[str, object]]:
        rows = []
        for kind in Kind:
            right, missed, false = self.right[kind], self.missed[kind], self.false[kind]
            rows.append(
                {
                    "kind": kind.value,
                    "spoiled": right + missed,
                    "found": right,
                    "false": false,
                    "recall": right / (right + missed) if right + missed else None,
                    "precision": right / (right + false) if right + false else None,
                }
            )
        return rows


def show(title: str, count: Count) -> None:
    print(f"\n{title}: {count.sounds} sounds")
    print(f"{'finding':<20} {'spoiled':>8} {'found':>6} {'false':>6} {'recall':>7} {'precision':>10}")
    for row in count.table():
        rates = ["-" if row[name] is None else f"{row[name]:.2f}" for name in ("recall", "precision")]
        print(f"{row['kind']:<20} {row['spoiled']:>8} {row['found']:>6} {row['false']:>6} {rates[0]:>7} {rates[1]:>10}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, metavar="FOLDER", help="sound files of speech to spoil as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there")
    chosen = parser.parse_args()
    counts = {"made": Count()}
    for name, sound in voices():
        for case in cases():
            counts["made"].add(name, case, found(case.make(sound)), set())
    if chosen.recordings is not None:
        counts["recorded"] = Count()
        for path in sorted(path for path in chosen.recordings.iterdir() if path.is_file()):
            sound = heard(path)
            known = found(sound)
            print(f"{path.name}: {', '.join(sorted(kind.value for kind in known)) or 'nothing'} found", flush=True)
            for case in cases():
                counts["recorded"].add(path.name, case, found(case.make(sound)), known)
    for title, count in counts.items():
        show(title, count)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({title: count.table() for title, count in counts.items()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
