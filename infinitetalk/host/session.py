"""Making one run's video: take over what is finished, render the rest, join; or leave what there is to watch."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import comfy.model_management
import torch

from ...base.errors import LongTalkError, RunError
from ...base.files import is_file
from ...base.words import clock_text
from ..plan.estimate import Estimate
from ..run.finish import Finish
from ..run.loop import MadeWindow, Start, run_windows
from ..run.progress import RunProgress
from ..run.store.folder import RunFolder
from ..run.store.record import WindowRecord
from ..run.store.recorder import Recorder
from ..run.store.reuse import Reuse, similar_run
from ..run.store.start_over import end_attempt, is_started_over, start_over
from ..run.store.take import Take, kept_text
from ..run.video.join import WrittenVideo, join
from ..run.window_checks import look_of
from .compiled import compiled_apart
from .description import Description
from .events import RunEvents, check_interrupt
from .identity import identity_of
from .images import Images
from .memory import free_everything, is_out_of_memory, twice
from .noise import WindowNoise
from .report import Course, run_report
from .run import Keep, Resume, Run, runs_root

log = logging.getLogger(__name__)

_FROM_FILES = "images: those of windows made before are read from their files, as encoded"


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        video: the file.
        images: all frames ``[F, H, W, 3]`` when they were asked for.
        report: what was done, for a person.
    """

    video: WrittenVideo
    images: torch.Tensor | None
    report: str


class Session:
    """One attempt at a run; :meth:`make` is called once, while the folder is owned.

    Args:
        run: checked.
        root: the folder of all runs.
    """

    def __init__(self, run: Run, root: Path) -> None:
        self._run = run
        self._plan = run.plan
        self._course = Course(run.notes())
        self._parts = run.parts()
        self.folder = RunFolder(root, identity_of(self._parts), run.video.suffix)
        self._description = Description(self.folder, run, self._parts)
        shots = run.plan.shot_starts
        self._first = Take(self.folder.name, run.seeds, shots)
        self._take = Take(self.folder.name, run.retaken_seeds, shots, run.retakes)
        self._reuse = Reuse(self.folder, run.plan, run.size, run.fits, self._first)

    def make(self) -> Result:
        """The finished video; see :func:`make` for the errors."""
        run, notes = self._run, self._course.notes
        self.folder.check_format()
        images = Images(self._plan.frames, *run.size) if run.return_images else None
        video = None
        if run.resume is Resume.AUTO:
            video = self.folder.finished_video(self._take.video_key)
        elif not is_started_over(self.folder, self._take.video_key):
            start_over(self.folder, self._take.video_key)
        was_finished = video is not None
        records: Sequence[WindowRecord]
        if video is not None:
            records = self.folder.records(self._take.keys)
            notes.append("this video was finished before; nothing had to be made")
        else:
            retakes = self._take.retakes
            if retakes:  # each ends on what its last window handed on when it was first made
                self._complete(self._first, retakes[-1].last, None)
            records = self._complete(self._take, len(self._plan.windows), None if retakes else images)
            video = self._join(records)
        if images is not None and not images.filled:
            images.add_files([video.path])
            notes.append(_FROM_FILES)
        self.folder.note_shown(video)
        # A run that was killed between its video and its report gets the report now.
        if not (was_finished and is_file(self.folder.report_beside(video))):
            self._write_report(video, records)
        if run.keep is Keep.VIDEO:
            self.folder.discard_windows()
        self._tidy()
        report = self._report(video, records, whole=False)
        if not is_file(video.path):
            raise RunError(
                f"run {self.folder.name}",
                expected="its folder to stay as it is while the video is made",
                actual=f"{video.path}, which is gone",
                action="Queue the same workflow again",
            )
        if not was_finished:
            end_attempt(self.folder, self._take.video_key)  # the last of all: who is killed before it goes on
        log.info("%s: %d frames in %s", video.path, video.frames, clock_text(time.perf_counter() - self._course.began))
        return Result(video, images.frames if images else None, report)

    def _complete(self, take: Take, stop: int, images: Images | None) -> list[WindowRecord]:
        """The records of a take's first ``stop`` windows; those that are missing are made."""
        notes = self._course.notes
        there = self._reuse.finished(take)
        notes += self._reuse.notes
        self._reuse.notes.clear()
        self._describe_start(len(there))
        missing = any(window not in there for window in range(1, stop + 1))
        estimate = self._preflight(take, there, stop) if missing else None
        if there:
            notes.append(kept_text(there))
            if images is not None:
                notes.append(_FROM_FILES)
        records: list[WindowRecord] = []
        while len(records) < stop:
            window = len(records) + 1
            record = there.get(window) or self._reuse.adopted(take, window)
            if record is not None:
                records.append(record)
                if images is not None:
                    images.add_files(self._segments([record]))
                continue
            assert estimate is not None
            end = take.end_of_stretch(window, min([stop, *(later - 1 for later in there if later > window)]))
            records += self._render(take, records, end, estimate, images)
        if not self._description.is_written():
            self._description.write(check_interrupt)
        return records

    # Before the first window.

    def _describe_start(self, kept: int) -> None:
        name = self.folder.name
        if kept:
            log.info("run %s: goes on with %d of %d windows made", name, kept, len(self._plan.windows))
            return
        similar = similar_run(self.folder, self._parts)
        if similar:
            log.info("run %s: begun anew; %s", name, similar)
            self._course.notes.append(similar)

    def _preflight(self, take: Take, there: Mapping[int, WindowRecord], stop: int) -> Estimate:
        """What the missing windows will take; the sound of an hour is not written for a run that cannot fit."""
        times = [record.render_s for record in there.values()]
        missing = sum(
            window not in there and not self._reuse.can_be_adopted(take, window) for window in range(1, stop + 1)
        )
        done = len(self._plan.windows) - missing
        estimate = self._run.preflight(done, self.folder.path, sum(times) / len(times) if times else None)
        for note in (estimate.text(), *self._run.advice()):
            self._course.notes.append(note)
            log.info("%s", note)
        return estimate

    # Making the rest.

    def _render(
        self, take: Take, before: Sequence[WindowRecord], end: int, estimate: Estimate, images: Images | None
    ) -> list[WindowRecord]:
        """Render the windows behind ``before`` up to ``end``; their records.

        What stops it leaves a video of what there is.
        """
        run, plan = self._run, self._plan
        start = self._reuse.start_behind(before[-1]) if before else Start()
        recorder = Recorder(self.folder, run.video, take, plan.fps)
        progress = RunProgress(plan, run.denoising_steps, made=start.made, expected_s=estimate.seconds)
        events = RunEvents(run.model, progress, take, recorder.check)
        noise = WindowNoise(run.noise, take.seeds)

        def put(made: MadeWindow, frames: torch.Tensor) -> None:
            recorder.put(made, frames)
            if images is not None:
                images.add(frames)
                images.hold(made.window.held)

        try:
            if not self._description.is_written():
                recorder.do(partial(self._description.write, recorder.check_given_up))
            renderer = twice("the reference image", lambda: run.renderer(noise, events))
            steps = run.steps()
            with compiled_apart(run.guider.model_options):
                run_windows(
                    plan,
                    renderer,
                    put,
                    look_of(run.picture),
                    start,
                    finish=Finish(steps, run.picture) if steps else None,
                    stop=end,
                    until=self._reuse.end_of_retake(take, end),
                    check_interrupt=check_interrupt,
                )
            recorder.wait()
        except (Exception, comfy.model_management.InterruptProcessingException) as error:
            kept = self._leave_partial(take, before, recorder)
            with _logged("what is kept could not be shown"):
                events.say(kept)
            with _logged("the memory could not be freed"):
                if is_out_of_memory(error.__cause__ or error):
                    free_everything()
            if isinstance(error, LongTalkError):
                raise error.adding(kept) from error
            raise
        self._course.waited_s += recorder.waited_s
        self._course.attention = renderer.attention_report()
        self._course.made |= {(record.window, record.key) for record in recorder.records}
        return recorder.records

    def _leave_partial(self, take: Take, before: Sequence[WindowRecord], recorder: Recorder) -> str:
        """Join what is finished at the beginning into a video of its own; says what is kept and how to go on.

        Whatever goes wrong here is logged: what is raised is what stopped the run.
        """
        if not before:  # a first window that is being written needs no more, and without one the sound has no picture
            recorder.give_up()
        with _logged("what was being written could not be kept"):
            recorder.wait()
        records = [*before, *recorder.records]
        total = len(self._plan.windows)
        if not records:
            return f"No window of {total} was finished"
        there = sum(is_file(self.folder.record_path(window, key)) for window, key in enumerate(take.keys, start=1))
        kept = f"{there} of {total} windows are kept; queue the same workflow again to go on with them"
        path = self.folder.partial_path(len(records), total)
        with _logged("the partial video could not be written in place of an older one"):
            heard = self._description.is_written()
            self._joined(path, records, sound=heard)
            kept += f". What there is{'' if heard else ', without the sound'}: {path}"
            self.folder.discard_partials(but=path)
        log.info("run %s: %s", self.folder.name, kept)
        return kept

    # The end.

    def _segments(self, records: Sequence[WindowRecord]) -> list[Path]:
        return [self.folder.segment_path(record.window, record.key) for record in records]

    def _joined(self, path: Path, records: Sequence[WindowRecord], *, sound: bool = True) -> WrittenVideo:
        heard = self.folder.sound_path if sound else None
        return join(path, self._segments(records), heard, self._run.video, fps=self._plan.fps)

    def _join(self, records: Sequence[WindowRecord]) -> WrittenVideo:
        key = self._take.video_key
        return self.folder.keep_video(self._joined(self.folder.joined_path(key), records), key)

    def _tidy(self) -> None:
        """Remove what stopped attempts left to watch, also those that were killed before they did so themselves."""
        try:
            self.folder.discard_partials()
        except LongTalkError as error:
            log.warning("run %s: %s", self.folder.name, error)
            self._course.notes.append(f"what a stopped run left to watch could not be removed: {error}")

    def _write_report(self, video: WrittenVideo, records: Sequence[WindowRecord]) -> None:
        """Keep the report beside the video. The video is whole: it is not lost for want of the report."""
        try:
            self.folder.write_report(video, self._report(video, records, whole=True))
        except LongTalkError as error:
            log.warning("run %s: its report could not be written: %s", self.folder.name, error)
            self._course.notes.append(f"the report could not be written: {error}")

    def _report(self, video: WrittenVideo, records: Sequence[WindowRecord], *, whole: bool) -> str:
        return run_report(self._run, self.folder, self._course, video, records, whole=whole)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log what goes wrong in the block, with ``what`` in front of it; with where it did, unless it is the user's."""
    try:
        yield
    except Exception as error:
        log.warning("%s: %s", what, error, exc_info=not isinstance(error, LongTalkError))


def make(run: Run) -> Result:
    """Check a run and make its video, or go on with the one that an earlier run of the same inputs began.

    Raises:
        LongTalkError: an input cannot work; raised before anything is encoded, let alone a model loaded. Also what
            stops a run on its way (memory, disk, a broken picture); the windows finished by then are kept.
    """
    session = Session(run.checked(), runs_root())
    with session.folder.owned():
        return session.make()
