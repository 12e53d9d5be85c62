"""``analyze``: what is in a sound or video file, and what is wrong with its sound."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...base.errors import LongTalkError, SettingError
from ...base.files import new_file
from .arguments import add_force, add_json, check_new_file
from .terminal import Progress, complain, say, say_json

if TYPE_CHECKING:
    from ...audio.report.analysis import Analysis
    from ...audio.report.findings import Finding


def add_parser(commands: Any) -> None:
    """Add ``analyze`` to the command line."""
    parser = commands.add_parser("analyze", help="loudness, noise, speech and faults of a sound; also as a picture")
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a sound file, or a video with sound")
    parser.add_argument(
        "--png",
        type=Path,
        metavar="OUT",
        help="draw it: a new file, or a folder for a picture of each",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when anything is found, notes included")
    add_json(parser)
    add_force(parser)
    parser.set_defaults(run=_analyze)


def _analyze(chosen: argparse.Namespace) -> int:
    from ...audio.report.text import report_json, report_text

    pictures = _pictures(chosen)
    reports: list[dict[str, Any]] = []
    failed = found_any = False
    for file, picture in zip(chosen.files, pictures, strict=True):
        try:
            analysis, findings = _heard(file)
            if picture is not None:
                _draw(picture, analysis, findings)
        except (LongTalkError, OSError) as error:
            complain(f"error: {error}")
            failed = True
            continue
        found_any = found_any or bool(findings)
        reports.append(report_json(analysis, findings))
        if not chosen.json:
            for line in report_text(analysis, findings).splitlines():
                say(line)
            if picture is not None:
                say(f"picture: {picture}")
            say()
    if chosen.json:
        say_json(reports)
    return 1 if failed or (chosen.strict and found_any) else 0


def _pictures(chosen: argparse.Namespace) -> list[Path | None]:
    """Where the picture of each file goes; checked before the first file is read.

    Raises:
        LongTalkError: the pictures of several files would go to one, or a file is there already.
    """
    if chosen.png is None:
        return [None] * len(chosen.files)
    if not chosen.png.is_dir():
        if len(chosen.files) > 1:
            raise SettingError(
                f"picture {chosen.png}",
                expected=f"a folder for the pictures of {len(chosen.files)} files",
                actual="no folder",
                action="Make the folder first, or name one file",
            )
        check_new_file(chosen.png, chosen.force)
        return [chosen.png]
    pictures = [chosen.png / f"{file.name}.png" for file in chosen.files]
    if len(set(pictures)) < len(pictures):
        raise SettingError(
            "files",
            expected="files of different names, for pictures in one folder",
            actual="two of the same name",
            action="Analyze them one by one",
        )
    for picture in pictures:
        check_new_file(picture, chosen.force)
    return pictures


def _heard(file: Path) -> tuple[Analysis, tuple[Finding, ...]]:
    from ...audio.reading.source import FileSource
    from ...audio.report.analysis import analyse
    from ...audio.report.findings import find

    source = FileSource(file)
    with Progress(source.name, source.duration_s) as progress:
        analysis = analyse(source, progress=progress.tell)
    return analysis, find(analysis)


def _draw(picture: Path, analysis: Analysis, findings: tuple[Finding, ...]) -> None:
    from PIL import Image

    from ...audio.report.picture import draw_report

    pixels = Image.fromarray(draw_report(analysis, findings))
    with new_file(picture) as part:
        pixels.save(part, "PNG")
