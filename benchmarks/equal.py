"""Do two checkouts of LongTalk make the same videos, and say the same about them?

    python -m benchmarks.equal OLD NEW [--reworded FILE] [--only wan_resume,ltx_retake]

For changes that must not be seen, such as modules that move. Both checkouts (folders) run every configuration of
`benchmarks.equal_cases` through their nodes, each in a process of its own with its own environment, with the same
ComfyUI and the same tiny models, on the processor. Compared are, bit for bit: the images, the decoded frames and sound,
the packets in the video files, the pictures of plans; and every line of the reports, errors and log, with times,
sizes and the names of runs masked.

Lines that were reworded on purpose stand in a JSON file, a list of pairs [old words, new words]: the new words are put
in the place of the old ones before the old lines are compared. A pair that is met nowhere is told of.

Exits 1 where something differs, where a configuration failed, or where a pair was met nowhere.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .equal_record import KINDS

CLONE = Path(__file__).resolve().parent.parent
EQUAL, DIFFERS, NONE = "equal", "DIFFERS", "-"
LINES_SHOWN = 20

#: What may differ between two runs of the same code, and what is read in its place. The first that fit are applied in
#: this order; seconds that do not tell how long something took stay as they are.
MASKS = (
    (re.compile(r"[^\s\"']*/longtalk/[^/\s]+(?=[/\s.]|$)"), "RUNS/RUN"),
    (re.compile(r"\brun [0-9A-Za-z_-]+(?=:)"), "run RUN"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "RUN"),
    (re.compile(r"\btalk(_[0-9a-f]{8}){2}(?=\.)"), "talk"),
    (re.compile(r"\b\d[\d,]*(\.\d+)? (kB|MB|GB|TB)\b"), "SIZE"),
    (re.compile(r"(?<= done) \([0-9a-f]{8}\)$"), ""),
    (re.compile(r"^took .*"), "took TIME"),
    (re.compile(r"(: \d[\d,]* frames in )\d[\d:.]*"), r"\1TIME"),
    (re.compile(r"(, step \d+ of \d+, )\d[\d:.]* left"), r"\1TIME left"),
    (re.compile(r"\babout [\d:.,]+( s| min| h)?(?= \()"), "about TIME"),
    # A window's row: what it took stands before its drift.
    (re.compile(r"^(\s*\d+  \[.*?)\s+\d+\.\d s(?=\s+[\d.-])"), r"\1 TIME"),
)


def masked(line: str) -> str:
    """A line without what may differ between two runs of the same code."""
    for pattern, instead in MASKS:
        line = pattern.sub(instead, line)
    return line.rstrip()


@dataclass
class Reworded:
    """Words that were changed on purpose, old to new."""

    pairs: Sequence[tuple[str, str]] = ()
    met: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path | None) -> Reworded:
        if path is None:
            return cls()
        pairs = json.loads(path.read_text())
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(words, str) and words for words in pair)
            for pair in pairs
        ):
            raise SystemExit(f'error: {path} must be a list of pairs: [["old words", "new words"], ...]')
        return cls([(old, new) for old, new in pairs])

    def applied(self, line: str) -> str:
        for old, new in self.pairs:
            if old in line:
                self.met.add(old)
                line = line.replace(old, new)
        return line

    def unmet(self) -> list[str]:
        return [old for old, _ in self.pairs if old not in self.met]


@dataclass
class Compared:
    """One configuration: a word for each kind of result, and what differs."""

    name: str
    words: dict[str, str]
    details: list[str]

    @property
    def equal(self) -> bool:
        return not self.details


def _how(kind: str, label: str, old: Path, new: Path) -> str:
    """How two arrays differ, in numbers."""
    name = f"{kind} {label}.npy"
    first, second = np.load(old / name), np.load(new / name)
    if first.shape != second.shape:
        return f"{list(first.shape)} and {list(second.shape)}"
    off = np.abs(first.astype(np.float64) - second.astype(np.float64))
    where = np.argwhere(off.reshape(len(off), -1).max(axis=1) > 0).ravel()
    if not where.size:
        return "no number differs, but their type or bits do"
    return f"{where.size} of {len(off)} along the first axis, first at {where[0]}, by up to {off.max():.6g}"


def _results(kind: str, old: dict[str, Any], new: dict[str, Any], folders: tuple[Path, Path]) -> list[str]:
    found = []
    for label in dict.fromkeys((*old, *new)):
        if label not in old or label not in new:
            found.append(f"{kind}, {label}: only in the {'new' if label in new else 'old'} one")
            continue
        first, second = old[label], new[label]
        if first == second:
            continue
        if "digest" in first and "digest" in second:
            how = _how(kind, label, *folders)
        else:
            other = [fact for fact in dict.fromkeys((*first, *second)) if first.get(fact) != second.get(fact)]
            how = "; ".join(f"{fact} {first.get(fact)} and {second.get(fact)}" for fact in other)
        found.append(f"{kind}, {label}: {how}")
    return found


def report_differences(old: Iterable[str], new: Iterable[str], reworded: Reworded) -> list[str]:
    """Lines that differ, each with - (old) or + (new) before it; nothing where all are equal."""
    first = [reworded.applied(masked(line)) for line in old]
    second = [masked(line) for line in new]
    lines = difflib.unified_diff(first, second, lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def compare(name: str, old: Path, new: Path, reworded: Reworded) -> Compared:
    """The records of one configuration, which lie in these two folders."""
    records = [json.loads((folder / "record.json").read_text()) for folder in (old, new)]
    words, details = {}, []
    for which, record in zip(("old", "new"), records, strict=True):
        if "failed" in record:
            details.append(f"the {which} one failed: {record['failed'].strip().splitlines()[-1]}")
    for kind in KINDS:
        first, second = (record[kind] for record in records)
        if kind == "report":
            found = report_differences(first, second, reworded)
            if len(found) > LINES_SHOWN:
                found = [*found[:LINES_SHOWN], f"... and {len(found) - LINES_SHOWN} more lines"]
        else:
            found = _results(kind, first, second, (old, new))
        words[kind] = DIFFERS if found else EQUAL if first else NONE
        details += found
    return Compared(name, words, details)


def table(compared: Sequence[Compared]) -> str:
    """The result, a line for each configuration and what differs below it."""
    width = max(len("configuration"), *(len(each.name) for each in compared))
    lines = [f"{'configuration':{width}}  " + "  ".join(f"{kind:7}" for kind in KINDS)]
    for each in compared:
        lines.append(f"{each.name:{width}}  " + "  ".join(f"{each.words[kind]:7}" for kind in KINDS))
        lines += [f"    {detail}" for detail in each.details]
    return "\n".join(line.rstrip() for line in lines)


def environment_of(checkout: Path) -> dict[str, str]:
    """What the checkout's set-up says: its Python, ComfyUI and the tiny models. It is set up first if need be."""
    script = checkout / "scripts" / "environment.py"
    if not script.is_file():
        raise SystemExit(f"error: {checkout} is no checkout of LongTalk: it has no scripts/environment.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: the environment of {checkout} cannot be made.\n{done.stdout}{done.stderr}")
    rows = (line.split(maxsplit=1) for line in done.stdout.splitlines() if not line.startswith("["))
    return {row[0]: row[1] for row in rows if len(row) == 2}


def run(checkout: Path, made: dict[str, str], common: dict[str, str], out: Path, names: Sequence[str]) -> None:
    """Every configuration in this checkout; the records come to lie in ``out``."""
    out.mkdir()
    path = os.pathsep.join((common["comfyui"], str(CLONE)))
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1"}
    # Not by `-m`, which hands over to the Python of this repository.
    code = "import runpy; runpy.run_module('benchmarks.equal_runs', run_name='__main__', alter_sys=True)"
    command = [made["python"], "-c", code, "--checkout", str(checkout), "--out", str(out)]
    command += ["--models", common["models"], "--speech", str(CLONE / "scripts" / "assets" / "speech.flac"), *names]
    with open(out / "log.txt", "w") as log:
        # Not in the clone: a folder on Python's path before ComfyUI would hide its `nodes`.
        failed = subprocess.run(command, cwd=out, env=environ, stderr=log).returncode
    if failed:
        end = "\n".join((out / "log.txt").read_text().splitlines()[-20:])
        raise SystemExit(f"error: {checkout} stopped with code {failed}. The end of {out / 'log.txt'}:\n{end}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equal", description=__doc__.split("\n", 1)[0])
    parser.add_argument("old", type=Path, help="a checkout of LongTalk")
    parser.add_argument("new", type=Path, help="another one")
    parser.add_argument("--reworded", type=Path, help="a JSON file of pairs: old words, new words")
    parser.add_argument("--only", default="", help="configurations, separated by commas; all when left out")
    parser.add_argument("--keep", type=Path, help="a new folder for what was made; left out, it is removed")
    arguments = parser.parse_args()
    reworded = Reworded.read(arguments.reworded)
    names = [name.strip() for name in arguments.only.split(",") if name.strip()]
    checkouts = [folder.resolve() for folder in (arguments.old, arguments.new)]
    environments = [environment_of(checkout) for checkout in checkouts]
    with tempfile.TemporaryDirectory(prefix="longtalk_equal_") as temporary:
        out = arguments.keep.resolve() if arguments.keep else Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        folders = [out / "old", out / "new"]
        for checkout, made, folder in zip(checkouts, environments, folders, strict=True):
            print(f"{folder.name}: {checkout}", flush=True)
            run(checkout, made, environments[1], folder, names)
        found = sorted(path.name for path in (folders[0] / "records").iterdir())
        compared = [compare(name, *(folder / "records" / name for folder in folders), reworded) for name in found]
    print(f"\n{table(compared)}\n")
    different = [each.name for each in compared if not each.equal]
    unmet = [] if names else reworded.unmet()
    for words in unmet:
        print(f"met nowhere: {words!r}")
    print(f"{len(compared) - len(different)} of {len(compared)} configurations are equal")
    return 1 if different or unmet else 0


if __name__ == "__main__":
    raise SystemExit(main())
