"""``prepare``: makes a sound file ready for a model, as Audio Prepare (LongTalk) does it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...audio.prepare.stages import AS_PRESET, SETTINGS, stages_from
from ...base.files import new_file
from .arguments import add_force, add_json, check_new_file, seconds
from .terminal import Progress, complain, megabytes, say, say_json

if TYPE_CHECKING:
    import numpy as np


def add_parser(commands: Any) -> None:
    """Add ``prepare`` to the command line."""
    parser = commands.add_parser(
        "prepare",
        help="equalise, level and trim a sound file for the model",
        description="Makes a sound ready for the model. IN is any sound or video file that ffmpeg reads.",
        epilog=f"Each stage takes a number, 'off' or '{AS_PRESET}', which is the default.",
    )
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT", help="a new .wav, .flac or .m4a")
    parser.add_argument("--preset", default="LTX", metavar="NAME", help="LTX (default), InfiniteTalk or off")
    parser.add_argument("--start", type=seconds, default=0.0, metavar="SECONDS", help="83.5 or 1:23.5")
    parser.add_argument("--end", type=seconds, default=0.0, metavar="SECONDS", help="by default that of the sound")
    stages = parser.add_argument_group("stages")
    for setting in SETTINGS:
        name, unit = setting.name.replace("_", "-"), setting.unit
        stages.add_argument(f"--{name}", default=AS_PRESET, metavar=unit.upper(), help=setting.what)
    parser.add_argument(
        "--bits", type=int, default=24, metavar="BITS", help="16, 24 (default) or 32 (float, .wav only)"
    )
    add_force(parser)
    add_json(parser)
    parser.set_defaults(run=_prepare)


def _prepare(chosen: argparse.Namespace) -> int:
    from ...audio.prepare.prepare import prepare
    from ...audio.prepare.stretch import Watched
    from ...audio.reading.source import FileSource
    from ...audio.reading.writer import check_target, write_file

    settings = {setting.name: getattr(chosen, setting.name) for setting in SETTINGS}
    stages = stages_from(chosen.preset, settings, chosen.start, chosen.end)
    check_new_file(chosen.target, chosen.force)
    source = FileSource(chosen.source)
    check_target(chosen.target, chosen.bits, source.channels)
    suffix = chosen.target.suffix.lower()
    notes: list[str] = []
    with new_file(chosen.target) as part, Progress(source.name, source.duration_s) as progress:

        def write(blocks: Iterator[np.ndarray]) -> None:
            notes[:] = write_file(part, blocks, source.rate_hz, source.channels, suffix=suffix, bits=chosen.bits)

        done = prepare(Watched(source, progress.tell), stages, write)
    size = chosen.target.stat().st_size
    if chosen.json:
        found = done.to_json()
        say_json({**found, "notes": [*found["notes"], *notes], "file": str(chosen.target), "bytes": size})
        return 0
    for line in done.report().splitlines():
        say(line)
    for note in notes:
        complain(f"note: {note}")
    say(f"written: {chosen.target}, {megabytes(size)}")
    return 0
