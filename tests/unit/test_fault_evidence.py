"""What the benchmark of kills sees in a run's folder, and what it says of windows that are lost, made twice or others.

The runs are real files; the video of each take is a stand-in, as only whether it is the same one counts here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import make_run, video_of

from longtalk.benchmarks.fault_evidence import (
    PHASES,
    Attempt,
    Decoded,
    Given,
    OnDisk,
    Place,
    Reference,
    Story,
    Verdict,
    judge,
    rendered_windows,
)

AGAIN = "2:77"
FIRST_VIDEO, AGAIN_VIDEO = Decoded(45, "first", 1, "sound"), Decoded(45, "again", 1, "sound")
GIVEN = Given((("a", FIRST_VIDEO), ("b", AGAIN_VIDEO)), (FIRST_VIDEO, AGAIN_VIDEO))


def places(keys: tuple[str, ...]) -> list[Place]:
    return [Place(window, key) for window, key in enumerate(keys, start=1)]


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """Of a run of three windows whose second take has others from the second window on."""
    root = tmp_path / "reference"
    root.mkdir()
    before = OnDisk.read(root)
    first = places(make_run(root, finish=True)[2])
    again = places(make_run(root, rerender=AGAIN, finish=True)[2])
    assert first[0] == again[0]
    return Reference.of(GIVEN, before, OnDisk.read(root), (*first, *again[1:]), 1.0)


def story(root: Path, meanwhile: Callable[[Path], None] = lambda root: None) -> Story:
    """The first take is killed in its third window, the second one in its second; then both are made."""
    root.mkdir()
    before = OnDisk.read(root)
    first = places(make_run(root, windows=2)[2])
    killed_first = Attempt(tuple(first), OnDisk.read(root), 1.0)
    again = places(make_run(root, windows=1, rerender=AGAIN)[2])
    killed_again = Attempt((again[1],), OnDisk.read(root), 1.0)
    meanwhile(root)
    make_run(root, finish=True)
    make_run(root, rerender=AGAIN, finish=True)
    for report in root.glob("*/talk_*.json"):
        report.with_suffix(".txt").touch()
    last = Attempt((first[2], *again[1:]))
    return Story(before, [killed_first, killed_again, last], OnDisk.read(root), GIVEN)


def told(run: Story, reference: Reference) -> Verdict:
    return judge(1, "two takes", run, reference)


def test_the_log_tells_which_windows_of_which_take_were_rendered() -> None:
    log = """INFO window 2 of 5, step 2 of 2, 0:03 left, frames 21 to 33 done (bbbb9919)
100%|##########| 2/2 [00:00<00:00,  5.09it/s]
INFO window 2 of 5, step 2 of 2, 0:03 left, frames 21 to 33 done (435da9e0)
INFO window 3 of 5, step 1 of 2, 0:03 left"""
    assert rendered_windows(log) == (Place(2, "bbbb9919"), Place(2, "435da9e0"))


def test_two_takes_that_lose_nothing_are_good(tmp_path: Path, reference: Reference) -> None:
    run = story(tmp_path / "runs")
    verdict = told(run, reference)
    assert str(verdict).endswith(": good")
    assert verdict.made_twice == [1, 1]
    assert [phase for _, phase, _ in verdict.kills] == [PHASES[2], PHASES[2]]
    assert len(run.end.windows) == 5


def test_a_window_that_both_takes_show_is_not_rendered_for_each(tmp_path: Path, reference: Reference) -> None:
    run = story(tmp_path / "runs")
    shared = run.attempts[0].rendered[0]
    *killed, last = run.attempts
    verdict = told(replace(run, attempts=[*killed, replace(last, rendered=(shared, *last.rendered))]), reference)
    assert verdict.lost == [shared]
    assert [problem.split(":")[0] for problem in verdict.problems] == ["rendered"]


def test_a_window_of_one_take_is_missed_though_the_other_has_its_number(tmp_path: Path, reference: Reference) -> None:
    def lose(root: Path) -> None:
        [record] = root.glob("*/window_00002_*.json")
        for path in record.parent.glob(f"{record.stem}.*"):
            path.unlink()

    run = story(tmp_path / "runs", lose)
    verdict = told(run, reference)
    assert verdict.lost == [run.attempts[0].rendered[1]]


def test_an_earlier_video_stays_the_file_that_it_was(tmp_path: Path, reference: Reference) -> None:
    run = story(tmp_path / "runs")
    [folder] = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    *killed, last = run.attempts
    whole = [*killed, Attempt((), run.end, 1.0), last]
    video = next(iter(run.end.videos))
    other = folder / f"talk_{video}.mp4"
    content = other.read_bytes()
    other.unlink()
    other.write_bytes(content)
    verdict = told(replace(run, attempts=whole, end=OnDisk.read(tmp_path / "runs")), reference)
    assert f"the video {video} is gone or another file" in verdict.problems
    assert verdict.kills[-1][1] == PHASES[4]


def test_a_video_in_the_place_of_the_other_takes_differs(tmp_path: Path, reference: Reference) -> None:
    run = story(tmp_path / "runs")
    assert told(replace(run, given=replace(GIVEN, saved=(AGAIN_VIDEO, FIRST_VIDEO))), reference).differs
    assert told(replace(run, given=None), reference).differs


def test_who_starts_over_keeps_the_windows_made_since(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    folder, _, keys = make_run(root, finish=True)
    before = OnDisk.read(root)
    given = Given((("a", FIRST_VIDEO),), (FIRST_VIDEO,))
    reference = Reference.of(given, OnDisk.read(tmp_path), before, tuple(places(keys)), 1.0)
    video_of(folder).with_suffix(".txt").touch()
    attempts = [Attempt((), before, 0.5)]
    for path in folder.path.glob("window_*"):
        path.unlink()
    folder.start_over_path.write_text("{}")
    make_run(root, windows=1)
    attempts.append(Attempt((places(keys)[0],), OnDisk.read(root), 1.0))
    make_run(root)
    folder.start_over_path.unlink()
    run = Story(before, [*attempts, Attempt(tuple(places(keys)[1:]))], OnDisk.read(root), given, starts_over=True)
    verdict = judge(1, "start over", run, reference)
    assert str(verdict).endswith(": good")
    assert [phase for _, phase, _ in verdict.kills] == [PHASES[0], PHASES[2]]
    assert judge(1, "plain", replace(run, starts_over=False), reference).lost == places(keys)
