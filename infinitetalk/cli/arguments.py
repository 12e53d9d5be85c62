"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import os
from fractions import Fraction
from math import ceil
from pathlib import Path

from ...base.errors import LongTalkError, SettingError
from ...base.rates import FPS, WINDOW_FRAMES
from ...base.times import parse_time
from ..plan.ltx_windows import OVERLAP_S, WINDOW_S, geometry, plan_ltx
from ..plan.windows import MOTION_FRAMES, Plan, PlanMode, plan_windows


def seconds(text: str) -> float:
    """A time that a person wrote, as seconds, see :func:`~...base.times.parse_time`.

    Raises:
        argparse.ArgumentTypeError: it is none; argparse makes a usage error of that.
    """
    try:
        return float(parse_time(text))
    except LongTalkError as error:
        raise argparse.ArgumentTypeError(f"expected {error.expected}, got {error.actual}") from error


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for a program")


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def add_windows(parser: argparse.ArgumentParser) -> None:
    """Add the settings that decide the windows, those of both families."""
    wan = parser.add_argument_group("WAN with InfiniteTalk")
    wan.add_argument(
        "--window-frames", type=int, default=WINDOW_FRAMES, metavar="FRAMES", help="%(default)s by default"
    )
    wan.add_argument(
        "--motion-frames", type=int, default=MOTION_FRAMES, metavar="FRAMES", help="%(default)s by default"
    )
    wan.add_argument("--mode", default=PlanMode.EXACT.value, help="exact (default), aligned_down or aligned_up")
    ltx = parser.add_argument_group("LTX-2.3")
    ltx.add_argument("--ltx", action="store_true", help="plan for the LTX Sampler")
    ltx.add_argument("--window-seconds", type=float, default=WINDOW_S, metavar="SECONDS", help="%(default)g by default")
    ltx.add_argument(
        "--overlap-seconds", type=float, default=OVERLAP_S, metavar="SECONDS", help="%(default)g by default"
    )
    ltx.add_argument("--fps", type=int, default=FPS, help="%(default)s by default")


def windows(chosen: argparse.Namespace, duration_s: Fraction) -> Plan:
    """The plan that the settings give for a sound of this length.

    Raises:
        LongTalkError: the settings do not fit together.
    """
    if not chosen.ltx:
        return plan_windows(ceil(duration_s * FPS), chosen.window_frames, chosen.motion_frames, chosen.mode)
    shape = geometry(chosen.window_seconds, chosen.overlap_seconds, chosen.fps)
    return plan_ltx(ceil(duration_s * shape.fps), shape)


def check_new_file(path: Path, force: bool) -> None:
    """Refuse a place to write to that is taken.

    Raises:
        LongTalkError: there is a folder, or a file that ``--force`` was not given for.
    """
    if path.is_dir() or (os.path.lexists(path) and not force):
        raise SettingError(
            f"file {path}",
            expected="a new file",
            actual="a folder" if path.is_dir() else "one that is there already",
            action="Name another file" if path.is_dir() else "Name another file, or add --force to replace it",
        )
