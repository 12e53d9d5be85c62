"""``runs list``, ``inspect``, ``export`` and ``delete``: the commands for the runs in ``<output>/longtalk``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...base.errors import LongTalkError, SettingError
from ...base.words import count
from ..run.store import change
from ..run.store.names import RUNS_FOLDER
from ..run.store.overview import Overview, overview, overviews
from ..run.store.verify import verify
from . import describe
from .arguments import add_force, add_json, check_new_file, seconds
from .terminal import complain, confirm, megabytes, say, say_json, table


def output_folder() -> Path:
    """ComfyUI's output folder, as seen from a pack in its ``custom_nodes``.

    Raises:
        LongTalkError: the pack lies elsewhere, or ComfyUI has no such folder.
    """
    # Not resolved: a pack that is linked into custom_nodes belongs to the ComfyUI it is linked into.
    pack = Path(__file__).absolute().parents[2]
    folder = pack.parent.parent / "output"
    if pack.parent.name != "custom_nodes" or not folder.is_dir():
        found = f"no folder {folder}" if pack.parent.name == "custom_nodes" else f"LongTalk in {pack.parent}"
        raise SettingError(
            "output folder",
            expected="LongTalk in the custom_nodes folder of a ComfyUI that has an output folder",
            actual=found,
            action="Name ComfyUI's output folder with --output",
        )
    return folder


def _root(chosen: argparse.Namespace) -> Path:
    if chosen.output is None:
        return output_folder() / RUNS_FOLDER
    folder: Path = chosen.output.absolute()
    if not folder.is_dir():
        raise SettingError(
            "output folder",
            expected="a folder",
            actual=f"{folder}, which is none",
            action="Name ComfyUI's output folder with --output",
        )
    return folder / RUNS_FOLDER


def _list(chosen: argparse.Namespace) -> int:
    root = _root(chosen)
    runs = overviews(root)
    if chosen.json:
        say_json([run.to_json() for run in runs])
    elif not runs:
        say(f"no runs in {root}")
    else:
        _say_table(runs)
        say(f"{count(len(runs), 'run')} in {root}, {megabytes(sum(run.bytes for run in runs))}")
    return 0


def _say_table(runs: Sequence[Overview]) -> None:
    rows = [["run", "made", "size", "codec", "length", "windows", "videos", "disk", "state"]]
    for run in runs:
        about = run.about
        rows.append(
            [
                run.folder.name,
                about.created if about else "-",
                f"{about.width}x{about.height}" if about else "-",
                about.codec if about else "-",
                run.length,
                run.windows_text,
                str(len(run.videos)),
                megabytes(run.bytes),
                run.state,
            ]
        )
    for line in table(rows, right=(4, 6, 7)):
        say(line)


def _inspect(chosen: argparse.Namespace) -> int:
    run = overview(_root(chosen), chosen.name)
    at = None if chosen.at is None else describe.moment(run, chosen.at)
    checked, damage = verify(run) if chosen.verify else (0, [])
    if chosen.json:
        say_json(describe.to_json(run, at, damage if chosen.verify else None))
        return 1 if damage else 0
    for line in describe.lines(run):
        say(line)
    if at is not None:
        say()
        for line in at.text():
            say(line)
    damaged = damage if chosen.verify else run.windows.damage
    if damaged or chosen.verify:
        say()
    for text in damaged:
        say(f"damaged: {text}")
    if chosen.verify and not damage:
        say(f"verified: {count(checked, 'file')}, all as they were written")
    return 1 if damage else 0


def _export(chosen: argparse.Namespace) -> int:
    run = overview(_root(chosen), chosen.name)
    video = None if chosen.video is None else change.find_video(run, chosen.video)
    change.check_target(run, chosen.to)
    check_new_file(chosen.to.absolute(), chosen.force)
    done = change.export(run, chosen.to, video)
    for note in done.notes:
        complain(f"note: {note}")
    say(f"exported {done.what}, {megabytes(done.bytes)}: {chosen.to}")
    return 0


def _delete(chosen: argparse.Namespace) -> int:
    if chosen.video:
        return _delete_videos(chosen)
    runs = _chosen_runs(_root(chosen), chosen)
    if not runs:
        say("no runs to delete")
        return 0
    what = f"the windows of {count(len(runs), 'run')}" if chosen.windows_only else count(len(runs), "run")
    size = megabytes(sum(change.windows_bytes(run) if chosen.windows_only else run.bytes for run in runs))
    _say_table(runs)
    if chosen.dry_run:
        say(f"would delete {what}, {size}; nothing is deleted")
        return 0
    unfinished = sum(not run.finished for run in runs)
    lost = f" {unfinished} not finished: what is made of it is lost." if unfinished else ""
    if not chosen.yes and not confirm(f"Delete {what}, {size}?{lost}"):
        say("nothing is deleted")
        return 1
    remove = change.delete_windows if chosen.windows_only else change.delete_run
    freed = failed = 0
    for run in runs:
        try:
            deleted = remove(run.folder)
            freed += deleted.bytes
            if deleted.left:
                complain(f"note: {run.folder.path} stays, with what is not from LongTalk: {', '.join(deleted.left)}")
        except (LongTalkError, OSError) as error:
            complain(f"error: {error}")
            failed += 1
    done = len(runs) - failed
    of = f"the windows of {count(done, 'run')}" if chosen.windows_only else count(done, "run")
    say(f"deleted {of}, {megabytes(freed)} freed")
    return 1 if failed else 0


def _delete_videos(chosen: argparse.Namespace) -> int:
    [run] = _chosen_runs(_root(chosen), chosen)
    found = [change.find_video(run, digits) for digits in chosen.video]
    videos = list({video.name: video for video in found}.values())
    what = f"{count(len(videos), 'video')} of run {run.folder.name}"
    size = megabytes(sum(video.path.lstat().st_size for video in videos if video.path.is_file()))
    if chosen.dry_run:
        say(f"would delete {what}, {size}: {', '.join(video.name for video in videos)}; nothing is deleted")
        return 0
    if not chosen.yes and not confirm(f"Delete {what}, {size}?"):
        say("nothing is deleted")
        return 1
    say(f"deleted {what}, {megabytes(change.delete_videos(run.folder, videos).bytes)} freed")
    return 0


def _chosen_runs(root: Path, chosen: argparse.Namespace) -> list[Overview]:
    """The runs that were named or described, without any that must not be deleted.

    Raises:
        LongTalkError: a run that was named is not there, is in use or is no run.
    """
    if chosen.names:
        runs = [overview(root, name) for name in dict.fromkeys(chosen.names)]
        for run in runs:
            change.check_deletable(run)
        return runs
    runs = []
    for run in overviews(root):
        left_alone = change.why_left_alone(run)
        if left_alone:
            complain(f"note: {run.folder.name} is left alone: {left_alone}")
        elif chosen.all or run.finished == chosen.finished:
            runs.append(run)
    return runs


def add_parser(programs: Any) -> None:
    """Add ``runs`` to the command line."""
    runs = programs.add_parser("runs", help="list, inspect, export and delete runs")
    commands = runs.add_subparsers(required=True, metavar="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--output", type=Path, metavar="FOLDER", help="ComfyUI's output folder; by default that beside custom_nodes"
    )

    listing = commands.add_parser("list", parents=[common], help="all runs, newest first")
    add_json(listing)
    listing.set_defaults(run=_list)

    inspect = commands.add_parser("inspect", parents=[common], help="one run: its files and windows")
    add_json(inspect)
    inspect.add_argument("name", metavar="NAME", help="16 digits and letters, as the list shows them")
    inspect.add_argument(
        "--at",
        type=seconds,
        metavar="SECONDS",
        help="name the window of this second (83.5 or 1:23.5), and how to make it again",
    )
    inspect.add_argument("--verify", action="store_true", help="read every file and compare it with its checksum")
    inspect.set_defaults(run=_inspect)

    export = commands.add_parser(
        "export", parents=[common], help="copy the video; of an unfinished run, what there is of it"
    )
    export.add_argument("name", metavar="NAME")
    export.add_argument(
        "--video",
        metavar="VIDEO",
        help="which video, as inspect shows it or its first digits; by default the one that was asked for last",
    )
    export.add_argument("--to", type=Path, required=True, metavar="FILE", help="the new file")
    add_force(export)
    export.set_defaults(run=_export)

    delete = commands.add_parser("delete", parents=[common], help="delete runs, or only their windows")
    delete.add_argument("names", metavar="NAME", nargs="*", default=[])
    group = delete.add_mutually_exclusive_group()
    group.add_argument("--unfinished", action="store_true", help="all runs without a whole video")
    group.add_argument("--finished", action="store_true", help="all runs with one")
    group.add_argument("--all", action="store_true", help="all runs")
    part = delete.add_mutually_exclusive_group()
    part.add_argument("--windows-only", action="store_true", help="keep the videos, delete what they are made of")
    part.add_argument(
        "--video",
        metavar="VIDEO",
        action="append",
        help="delete only this video of a run, as inspect shows it or its first digits; may be given again",
    )
    delete.add_argument("--dry-run", action="store_true", help="say what would be deleted")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    delete.set_defaults(run=lambda chosen: _delete(_one_way(delete, chosen)))


def _one_way(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> argparse.Namespace:
    """Leave with a usage error unless runs are either named or described."""
    if bool(chosen.names) == (chosen.unfinished or chosen.finished or chosen.all):
        parser.error("name runs, or give one of --unfinished, --finished and --all")
    if chosen.video and len(chosen.names) != 1:
        parser.error("--video belongs to one run: name it")
    return chosen
