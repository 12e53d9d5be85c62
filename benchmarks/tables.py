"""The table and the plot of a comparison.

    python -m benchmarks.tables --out docs

Reads OUT/benchmarks.json, which `benchmarks.compare` and `benchmarks.cards` write, and writes OUT/benchmarks.md and
OUT/benchmarks.png. Rows put together by hand from several runs carry the run's letter as `run`, and `about` says in
`runs` what each letter was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .compare import RESULTS

Row = dict[str, Any]
#: Okabe and Ito's colours, told apart with any colour vision.
OURS, OTHERS = (0, 114, 178), (153, 153, 153)
INK, PAPER = (32, 32, 32), (255, 255, 255)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "| " + " | ".join("---" for _ in head) + " |",
        *("| " + " | ".join(line) + " |" for line in lines),
    ]


def of(rows: Sequence[Row], *cases: str) -> list[Row]:
    return [row for row in rows if row["case"] in cases]


def document(content: dict[str, Any]) -> str:
    """The whole page."""
    about, rows = content["about"], content["rows"]
    lines = [
        "# Benchmarks",
        "",
        f"{about['device']}, torch {about['torch']}, {about['dtype']}, {about['size']}, {about['steps']} steps, "
        f"windows of {about['window']} frames, cfg 1. Full-size models with {about['weights']} weights: speed and "
        "memory are those of the real files. All contenders of a section ran in one process on the same models; a "
        "forward is one denoising step, timed by the same wrapper on the model. Made by `python -m "
        "benchmarks.compare`, `benchmarks.cards` and `benchmarks.tables`.",
        *(f"\n{run}: {text}" for run, text in about.get("runs", {}).items()),
        "",
        "![seconds, shorter is better](benchmarks.png)",
        "",
    ]

    def section(title: str, found: list[Row], head: Sequence[str], line: Callable[[Row], list[str]]) -> None:
        if found:
            cells = [line(row) for row in found]
            if any("run" in row for row in found):
                head = [*head, "run"]
                cells = [[*line(row), row.get("run", "")] for row in found]
            lines.extend([f"## {title}", "", *table(head, cells), ""])

    section(
        "One step, two windows",
        of(rows, "window"),
        ("", "forward", "peak GPU memory"),
        lambda row: [
            row["name"],
            f"{row['forward_ms'] / 1e3:.2f} s",
            f"{row['peak_gib']:.1f} GiB" if "peak_gib" in row else "",
        ],
    )
    section(
        "20 s of speech, end to end",
        of(rows, "long", "fp8"),
        ("", "total", "forward", "forwards", "frames"),
        lambda row: [
            row["name"],
            f"{row['seconds']:.1f} s",
            f"{row['forward_ms'] / 1e3:.2f} s",
            str(row["forwards"]),
            str(row["frames"]),
        ],
    )
    section(
        "Two speakers",
        of(rows, "core_two", "two"),
        ("", "total", "frames", "forward"),
        lambda row: [
            row["name"] + (", 2 speakers" if row["case"] == "core_two" else ""),
            f"{row['seconds']:.1f} s",
            str(row["frames"]),
            f"{row['forward_ms'] / 1e3:.2f} s",
        ],
    )
    section(
        "Accuracy: a window's latents against ComfyUI's attention, same seed and type",
        of(rows, "accuracy"),
        ("", "relative difference", "forward"),
        lambda row: [row["name"], f"{row['error']:.1e}", f"{row['forward_ms'] / 1e3:.2f} s"],
    )
    section(
        "Speech features",
        of(rows, "speech"),
        ("", "sound", "time", "GPU memory beside the model"),
        lambda row: [
            row["name"],
            f"{row['minutes']:g} min",
            f"{row['seconds']:.2f} s",
            f"{row['extra_gib']:.1f} GiB",
        ],
    )
    section(
        "Small cards: 153 frames, the rest of the GPU's memory taken by another process",
        of(rows, "cards"),
        ("", "first window", "second window", "forward", "peak of the whole process"),
        lambda row: [
            row["name"],
            *(f"{seconds:.1f} s" for seconds in row["window_s"]),
            f"{row['forward_ms'] / 1e3:.2f} s",
            f"{row['peak_gib']:.1f} GiB",
        ],
    )
    kernels = kernel_tables(rows)
    if kernels:
        lines.extend(["## Attention kernels as measured there", "", "```", *kernels, "```", ""])
    return "\n".join(lines)


def kernel_tables(rows: Sequence[Row]) -> list[str]:
    """The tables in the first report that has them."""
    for row in rows:
        found = [line for line in row.get("text", "").splitlines() if line.startswith(("attention:", "  * ", "    "))]
        start = next((index for index, line in enumerate(found) if line.startswith("attention:")), None)
        if start is not None:
            return found[start:]
    return []


def label(row: Row) -> str:
    return f"{row['name']} ({row['run']})" if "run" in row else str(row["name"])


def bars(rows: Sequence[Row]) -> list[tuple[str, list[tuple[str, float]]]]:
    """What is plotted: groups of names and seconds."""
    groups = [
        ("one step, s", [(label(row), row["forward_ms"] / 1e3) for row in of(rows, "window")]),
        ("20 s of speech, s", [(label(row), row["seconds"]) for row in of(rows, "long", "fp8")]),
        (
            "one step with two speakers, s",
            [(label(row), row["forward_ms"] / 1e3) for row in of(rows, "core_two", "two") if "1 sp" not in row["name"]],
        ),
        (
            "features of 30 min of speech, s",
            [(label(row), row["seconds"]) for row in of(rows, "speech")],
        ),
    ]
    return [(title, found) for title, found in groups if found]


def plot(content: dict[str, Any], path: Path) -> None:
    """Horizontal bars, each group with its own scale; LongTalk's are blue."""
    groups = bars(content["rows"])
    width, left, bar, gap, heading = 1200, 360, 34, 12, 56
    height = 70 + sum(heading + len(found) * (bar + gap) for _, found in groups)
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(26), ImageFont.load_default(20)
    y = 20
    about = content["about"]
    draw.text((20, y), f"{about['device']}, {about['size']}, {about['steps']} steps", INK, small)
    y += 34
    for title, found in groups:
        draw.text((20, y + 14), title, INK, large)
        y += heading
        longest = max(seconds for _, seconds in found)
        for name, seconds in found:
            right = left + max(2, round((width - left - 130) * seconds / longest))
            colour = OURS if name.startswith("LongTalk") else OTHERS
            draw.text((left - 12, y + bar / 2), name, INK, small, anchor="rm")
            draw.rectangle((left, y, right, y + bar), colour)
            draw.text((right + 10, y + bar / 2), f"{seconds:.3g}", INK, small, anchor="lm")
            y += bar + gap
    image.save(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("docs"), help=f"where {RESULTS} is, and the others go")
    out = parser.parse_args().out
    content = json.loads((out / RESULTS).read_text("utf-8"))
    (out / "benchmarks.md").write_text(document(content), "utf-8")
    plot(content, out / "benchmarks.png")
    print(f"{out / 'benchmarks.md'}, {out / 'benchmarks.png'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
