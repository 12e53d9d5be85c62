"""``plan``: which windows a run will have, from the speech's files alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...base.errors import FileError, SettingError
from ...base.files import new_file
from .arguments import add_force, add_json, add_windows, check_new_file, windows
from .terminal import Progress, say, say_json

if TYPE_CHECKING:
    import numpy as np

    from ..plan.schedule import Resolved
    from ..plan.windows import Plan


def add_parser(commands: Any) -> None:
    """Add ``plan`` to the command line."""
    parser = commands.add_parser(
        "plan",
        help="show the windows a run will have",
        description="Shows the windows a run will have. SPEECH is any sound or video file that ffmpeg reads; several "
        "files are several speakers.",
    )
    parser.add_argument("speech", nargs="+", type=Path, metavar="SPEECH")
    speakers = parser.add_argument_group("several speakers")
    speakers.add_argument("--speakers", default="para", metavar="MODE", help="para (default): all start at 0; or add")
    speakers.add_argument("--starts", type=_numbers, metavar="SECONDS", help="silence before each, with commas: 0,2.5")
    add_windows(parser)
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="the text of a Prompt Schedule")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the plan into a new file")
    add_force(parser)
    add_json(parser)
    parser.set_defaults(run=_plan)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _plan(chosen: argparse.Namespace) -> int:
    from ...audio.tracks import TrackMode, checked_starts, timeline
    from ...base.values import check_choice
    from ..model.speaker_map import MAX_SPEAKERS
    from ..plan.plan_text import plan_report
    from ..plan.schedule import schedule_report

    if len(chosen.speech) > MAX_SPEAKERS:
        raise SettingError(
            "speech",
            expected=f"1 to {MAX_SPEAKERS} files, one per speaker",
            actual=str(len(chosen.speech)),
            action="Leave some out, or mix them into one",
        )
    mode = TrackMode(check_choice(chosen.speakers, "speakers", [known.value for known in TrackMode]))
    if chosen.png is not None:
        check_new_file(chosen.png, chosen.force)
    read = [_Speech(path, picture=chosen.png is not None) for path in chosen.speech]
    lengths_s = [Fraction(speech.samples, speech.rate_hz) for speech in read]
    starts_s = timeline(checked_starts(chosen.starts, [speech.name for speech in read]), lengths_s, mode)
    duration_s = max(start_s + length_s for start_s, length_s in zip(starts_s, lengths_s, strict=True))
    if chosen.ltx and len(read) > 1:
        raise SettingError(
            "speech",
            expected="one file with --ltx, which hears one sound",
            actual=str(len(read)),
            action="Mix the speakers into one file",
        )
    plan = windows(chosen, duration_s)
    prompts = _prompts(chosen.schedule, plan)
    if chosen.png is not None:
        _draw(chosen.png, plan, read, starts_s, prompts)
    if chosen.json:
        say_json(_content(chosen, plan, read, starts_s, prompts))
        return 0
    report = plan_report(plan) + (f"\n\n{schedule_report(prompts)}" if prompts else "")
    for line in report.splitlines():
        say(line)
    if chosen.png is not None:
        say(f"drawn: {chosen.png}")
    return 0


class _Speech:
    """A speech file that is read once from end to end, as the header may be wrong about its length.

    Args:
        path: of the file.
        picture: whether to keep the sound as the picture needs it, mono at a low rate.
    """

    def __init__(self, path: Path, *, picture: bool) -> None:
        from ...audio.prepare.filters import Filter, through
        from ...audio.prepare.stretch import Watched
        from ...audio.reading.source import FileSource
        from ..draw.plan_picture import PICTURE_RATE_HZ

        source = FileSource(path)
        self.path, self.name, self.rate_hz = path, source.name, source.rate_hz
        self.samples = 0
        self.wave: list[np.ndarray] = []

        def mono() -> Any:
            for block in Watched(source, progress.tell).blocks():
                self.samples += block.shape[1]
                yield block.mean(axis=0, keepdims=True)

        with Progress(source.name, source.duration_s) as progress:
            blocks = mono()
            if picture:
                slower = Filter("aresample", (("sample_rate", str(PICTURE_RATE_HZ)),))
                blocks = through(blocks, [slower], source.rate_hz, channels=1)
            for block in blocks:
                if picture:
                    self.wave.append(block[0])


def _prompts(path: Path | None, plan: Plan) -> Resolved | None:
    from ..plan.schedule import resolve_schedule, windows_of
    from ..plan.schedule_text import parse_schedule

    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"file {path}", expected="text in UTF-8", actual=str(error), action="Save it as UTF-8"
        ) from None
    return resolve_schedule(parse_schedule(text), *windows_of(plan))


def _draw(
    path: Path, plan: Plan, read: Sequence[_Speech], starts_s: Sequence[Fraction], prompts: Resolved | None
) -> None:
    import numpy as np
    from PIL import Image

    from ..draw.plan_picture import PICTURE_RATE_HZ, draw_plan

    waves = [
        np.concatenate([np.zeros(int(start_s * PICTURE_RATE_HZ), np.float32), *speech.wave])
        for speech, start_s in zip(read, starts_s, strict=True)
    ]
    labels = [speech.path.stem for speech in read] if len(read) > 1 else None
    picture = Image.fromarray(draw_plan(plan, waves, PICTURE_RATE_HZ, labels=labels, prompts=prompts))
    with new_file(path) as part:
        picture.save(part, format="PNG")


def _content(
    chosen: argparse.Namespace,
    plan: Plan,
    read: Sequence[_Speech],
    starts_s: Sequence[Fraction],
    prompts: Resolved | None,
) -> dict[str, Any]:
    from ..plan.schedule import schedule_report

    return {
        "frames": plan.frames,
        "requested_frames": plan.requested_frames,
        "fps": plan.fps,
        "mode": plan.mode.value,
        "window_frames": plan.window_frames,
        "motion_frames": plan.motion_frames,
        "sampled_frames": plan.sampled_frames,
        "surplus_frames": plan.surplus_frames,
        "windows": [
            {
                "start": window.start,
                "length": window.length,
                "pinned": window.pinned,
                "cut": window.cut,
                "output": list(window.output),
            }
            for window in plan.windows
        ],
        "speech": [
            {
                "file": str(speech.path),
                "start_s": float(start_s),
                "duration_s": speech.samples / speech.rate_hz,
                "rate_hz": speech.rate_hz,
            }
            for speech, start_s in zip(read, starts_s, strict=True)
        ],
        "prompts": schedule_report(prompts, whole=True) if prompts else None,
        "png": None if chosen.png is None else str(chosen.png),
    }
