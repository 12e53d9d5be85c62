"""Making one run's video: take over what is finished, render the rest, join; or leave what there is to watch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import torch

from ...base.errors import LongTalkError
from ...base.files import DamagedFileError
from ...base.words import clock_text
from ..plan.estimate import Estimate
from ..plan.plan_text import plan_report
from ..run.loop import Carry, Fallbacks, MadeWindow, Start, run_windows
from ..run.progress import RunProgress
from ..run.retakes import parse_retakes, retake_seeds
from ..run.seeds import parse_rerender, window_seeds
from ..run.store.folder import RunFolder, run_names
from ..run.store.record import WindowRecord
from ..run.store.recorder import LAST_FRAME, Recorder
from ..run.store.take import WindowChain, kept_text
from ..run.store.windows_text import windows_report
from ..run.video.join import WrittenVideo, join, read_frames
from ..run.video.soundtrack import write_sound
from ..run.window_checks import look_of
from .compiled import compiled_apart
from .events import RunEvents, check_interrupt
from .identity import identity_of
from .memory import free_everything, is_out_of_memory, twice
from .noise import WindowNoise, base_seed
from .run import Job, runs_root

log = logging.getLogger(__name__)

#: An unfinished run is named as the one the user may have meant when no more than this many things differ.
_SIMILAR_PARTS = 3


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


class _Images:
    """Collects the frames of the whole video, when the user asked for them, in memory reserved beforehand.

    Raises:
        LongTalkError: they do not fit into the memory that is free.
    """

    def __init__(self, frames: int, width: int, height: int) -> None:
        shape = (frames, height, width, 3)
        gigabytes = math.prod(shape) * 4 / 1e9
        free = comfy.model_management.get_free_memory(torch.device("cpu")) / 1e9
        if gigabytes > free:
            raise LongTalkError(
                "return_images",
                expected=f"frames that fit into the {free:.1f} GB of memory that are free",
                actual=f"{frames} frames of {width}x{height}, {gigabytes:.1f} GB",
                action="Turn return_images off and use the video, which needs no memory",
            )
        log.warning("return_images: %d frames as one IMAGE take %.1f GB of memory", frames, gigabytes)
        self.frames = torch.empty(shape)
        self.filled = 0

    def add(self, frames: torch.Tensor) -> None:
        self.frames[self.filled : self.filled + frames.shape[0]] = frames
        self.filled += frames.shape[0]

    def hold(self, frames: int) -> None:
        """The last frame once more, so many times."""
        self.frames[self.filled : self.filled + frames] = self.frames[self.filled - 1]
        self.filled += frames

    def add_files(self, paths: Sequence[Path]) -> None:
        for frame in read_frames(paths):
            self.add(torch.from_numpy(frame).float().div_(255)[None])


class Session:
    """One attempt at a run; :meth:`make` is called once, while the folder is owned.

    Args:
        job: what is to be made.
        root: the folder of all runs.
        notes: what was changed on the way here, for the report.
    """

    def __init__(self, job: Job, root: Path, notes: list[str]) -> None:
        self._job = job
        self._inputs = inputs = job.inputs
        self._plan = inputs.plan
        self._size = job.size
        self._notes = notes
        self._began = time.perf_counter()
        self._waited_s = 0.0
        self._attention: list[str] = []
        self._parts = job.parts()
        self.folder = RunFolder(root, identity_of(self._parts), inputs.video.suffix)
        windows = len(self._plan.windows)
        rerender = parse_rerender(inputs.rerender_from, windows)
        shots = self._plan.shot_starts
        seeds = window_seeds(base_seed(inputs.noise), windows, rerender, shots)
        retakes = parse_retakes(inputs.retake, inputs.plan)
        self._first = WindowChain(self.folder.name, seeds, shots)
        self._chain = WindowChain(self.folder.name, retake_seeds(seeds, retakes), shots, retakes)
        self._made: set[tuple[int, str]] = set()

    def make(self) -> Result:
        """The finished video; see :func:`make` for the errors."""
        if self._inputs.start_over:
            self.folder.discard_windows()
            self.folder.discard_video()
        width, height = self._size
        images = _Images(self._plan.frames, width, height) if self._inputs.return_images else None
        video = self.folder.finished_video(self._chain.video_key)
        was_finished = video is not None
        records: Sequence[WindowRecord]
        if video is not None:
            records = self.folder.records(self._chain.keys)
            self._notes.append("this video was finished before; nothing had to be made")
        else:
            retakes = self._chain.retakes
            if retakes:  # each ends on what its last window handed on when it was first made
                self._complete(self._first, retakes[-1].last, None)
            records = self._complete(self._chain, len(self._plan.windows), None if retakes else images)
            video = self._join(records)
        if images is not None and not images.filled:
            images.add_files([video.path])
            self._notes.append(_FROM_FILES)
        # A run that was killed between its video and its report gets the report now.
        if not (was_finished and self.folder.report_path.exists()):
            self.folder.write_report(self._report(video, records, whole=True))
        if not self._inputs.keep_windows:
            self.folder.discard_windows()
        report = self._report(video, records)
        log.info("%s: %d frames in %s", video.path, video.frames, clock_text(time.perf_counter() - self._began))
        return Result(video, images.frames if images else None, report)

    def _complete(self, chain: WindowChain, stop: int, images: _Images | None) -> list[WindowRecord]:
        """The records of a chain's first ``stop`` windows; those that are missing are made."""
        there = self._finished(chain)
        self._describe_start(len(there))
        missing = any(window not in there for window in range(1, stop + 1))
        estimate = self._preflight(chain, there, stop) if missing else None
        self._write_manifest()
        if there:
            self._notes.append(kept_text(there))
            if images is not None:
                self._notes.append(_FROM_FILES)
        records: list[WindowRecord] = []
        while len(records) < stop:
            window = len(records) + 1
            record = there.get(window) or self._adopted(chain, window)
            if record is not None:
                records.append(record)
                if images is not None:
                    images.add_files(self._segments([record]))
                continue
            assert estimate is not None
            start = self._continue_from(records[-1]) if records else Start()
            end = chain.end_of_stretch(window, min([stop, *(later - 1 for later in there if later > window)]))
            records += self._render(chain, records, start, end, estimate, images)
        return records

    def _adopted(self, chain: WindowChain, window: int) -> WindowRecord | None:
        """A window behind a retake, as it was first made; None where it has to be made."""
        key = self._first.keys[window - 1]
        if key == chain.keys[window - 1] or chain.retake_of(window) is not None:
            return None
        try:
            record = self.folder.read_record(window, key)
        except (FileNotFoundError, DamagedFileError):
            return None
        return self.folder.adopt(record, chain.keys[window - 1])

    # What is there already.

    def _finished(self, chain: WindowChain) -> dict[int, WindowRecord]:
        """The good windows at the beginning of each shot, by their numbers."""
        there: dict[int, WindowRecord] = {}
        for first, last in chain.shot_windows:
            found = self.folder.finished(chain.keys, first, last)
            records, damage = list(found.records), found.damage
            while records:
                try:
                    self._continue_from(records[-1])
                    break
                except (DamagedFileError, ValueError) as error:
                    damage = f"window {records[-1].window}: {error}"
                    records.pop()
            if damage:
                follows = "what follows" if last == len(chain.keys) else "what follows in its shot"
                log.warning("run %s: %s; it and %s are made again", self.folder.name, damage, follows)
                self._notes.append(f"{damage}; it and {follows} were made again")
                self.folder.discard_from(first + len(records), chain.keys, last)
            there |= {record.window: record for record in records}
        return there

    def _continue_from(self, record: WindowRecord) -> Start:
        carry = self.folder.read_carry(record.window, record.key)
        last_frame = carry.pop(LAST_FRAME, None)
        width, height = self._size
        goes_on = self._plan.hands_on(self._plan.windows[record.window - 1])
        if last_frame is None or last_frame.dtype != torch.uint8 or last_frame.shape != (height, width, 3):
            raise DamagedFileError("its last frame is missing or of another size")
        if goes_on and not self._job.fits(carry):
            raise DamagedFileError("what the next window continues from is missing or of another size")
        return Start(record.window, carry, last_frame, Fallbacks.from_json(record.fallbacks))

    def _describe_start(self, kept: int) -> None:
        if kept:
            log.info("run %s: goes on with %d of %d windows made", self.folder.name, kept, len(self._plan.windows))
            return
        similar = self._similar_run()
        if similar:
            log.info("run %s: begun anew; %s", self.folder.name, similar)
            self._notes.append(similar)

    def _similar_run(self) -> str | None:
        """An unfinished run that the user may have wanted to go on with, and why this is another one."""
        for name in run_names(self.folder.path.parent):
            other = RunFolder(self.folder.path.parent, name, self._inputs.video.suffix)
            manifest = None if name == self.folder.name else other.read_manifest()
            if manifest is None or other.video_record_path.exists():
                continue
            parts = manifest.get("parts")
            windows = {window for window, _, _ in other.window_files()}
            if not isinstance(parts, dict) or not windows:
                continue
            differing = [part for part in self._parts if parts.get(part) != self._parts[part]]
            if len(differing) <= _SIMILAR_PARTS:
                about = manifest.get("about")
                seed = about.get("seed") if isinstance(about, dict) else None
                told = [f"seed ({seed} there)" if part == "seed" else part for part in differing]
                return f"the unfinished run {name} ({len(windows)} windows) differs in: {', '.join(told)}"
        return None

    def _write_manifest(self) -> None:
        """Describe the run on disk, unless it is described already; the sound first, its sum is in the manifest."""
        manifest = self.folder.read_manifest() or {}
        sum_ = manifest.get("sound")
        if manifest.get("parts") == self._parts and self.folder.is_sound(sum_):
            return
        write_sound(
            self.folder.sound_path, self._job.sound, self._inputs.video, frames=self._plan.frames, fps=self._plan.fps
        )
        width, height = self._size
        self.folder.write_manifest(
            parts=self._parts,
            about={
                "created": time.strftime("%Y-%m-%d %H:%M:%S"),
                "width": width,
                "height": height,
                "codec": self._inputs.video.codec,
                "crf": self._inputs.video.crf,
                "fps": self._plan.fps,
                "frames": self._plan.frames,
                "seed": base_seed(self._inputs.noise),
                "steps": self._inputs.steps,
                "ends": [window.output[1] for window in self._plan.windows],
                **({"shots": [index + 1 for index in self._plan.shot_starts]} if len(self._chain.shots) > 1 else {}),
            },
        )

    # Making the rest.

    def _preflight(self, chain: WindowChain, there: Mapping[int, WindowRecord], stop: int) -> Estimate:
        """What the missing windows will take; the sound of an hour is not written for a run that cannot fit."""
        times = [record.render_s for record in there.values()]
        missing = sum(window not in there and not self._is_there(chain, window) for window in range(1, stop + 1))
        done = len(self._plan.windows) - missing
        estimate = self._job.preflight(done, self.folder.path, sum(times) / len(times) if times else None)
        for note in (estimate.text(), *self._job.advice()):
            self._notes.append(note)
            log.info("%s", note)
        return estimate

    def _is_there(self, chain: WindowChain, window: int) -> bool:
        """Whether a window can be taken over from the first chain."""
        key = self._first.keys[window - 1]
        return chain.retake_of(window) is None and self.folder.record_path(window, key).exists()

    def _render(
        self,
        chain: WindowChain,
        before: Sequence[WindowRecord],
        start: Start,
        end: int,
        estimate: Estimate,
        images: _Images | None,
    ) -> list[WindowRecord]:
        """Render the windows up to ``end``; their records. What stops it leaves a video of what there is."""
        inputs, plan = self._inputs, self._plan
        recorder = Recorder(self.folder, inputs.video, chain.keys, chain.seeds, plan.fps, chain.retaken)
        progress = RunProgress(plan, inputs.steps, first=start.window, expected_s=estimate.seconds)
        events = RunEvents(inputs.guider.model_patcher, progress, recorder.check)
        noise = WindowNoise(inputs.noise, chain.seeds)

        def put(made: MadeWindow, frames: torch.Tensor) -> None:
            recorder.put(made, frames)
            if images is not None:
                images.add(frames)
                images.hold(made.window.held)

        try:
            family = twice("the reference image", lambda: self._job.family(noise, events))
            with compiled_apart(inputs.guider.model_options):
                run_windows(
                    plan,
                    family,
                    put,
                    look_of(self._job.picture()),
                    start,
                    stop=end,
                    until=self._until(chain, end),
                    check_interrupt=check_interrupt,
                )
            recorder.wait()
        except (Exception, comfy.model_management.InterruptProcessingException) as error:
            kept = self._leave_partial(chain, before, recorder)
            events.say(kept)
            if is_out_of_memory(error.__cause__ or error):
                free_everything()
            if isinstance(error, LongTalkError):
                raise LongTalkError(
                    error.what, expected=error.expected, actual=error.actual, action=f"{error.action}. {kept}"
                ) from error
            raise
        self._waited_s += recorder.waited_s
        self._attention = family.attention_report()
        self._made |= {(record.window, record.key) for record in recorder.records}
        return recorder.records

    def _until(self, chain: WindowChain, end: int) -> Carry | None:
        """What a retake has to end on; None for windows that are not one, and at the end of a shot."""
        if chain.retake_of(end) is None or not self._plan.hands_on(self._plan.windows[end - 1]):
            return None
        carry = self.folder.read_carry(end, self._first.keys[end - 1])
        return {name: tensor for name, tensor in carry.items() if name != LAST_FRAME}

    def _leave_partial(self, chain: WindowChain, before: Sequence[WindowRecord], recorder: Recorder) -> str:
        """Join what is finished at the beginning into a video of its own; says what is kept and how to go on."""
        try:
            recorder.wait()
        except LongTalkError as error:
            log.warning("the last window could not be kept: %s", error)
        records = [*before, *recorder.records]
        total = len(self._plan.windows)
        if not records:
            return f"No window of {total} was finished"
        there = sum(self.folder.record_path(window, key).exists() for window, key in enumerate(chain.keys, start=1))
        kept = f"{there} of {total} windows are kept; queue the same workflow again to go on with them"
        path = self.folder.partial_path(len(records), total)
        try:
            self.folder.discard_partials()
            self._joined(path, records)
            kept += f". What there is: {path}"
        except LongTalkError as error:
            log.warning("the partial video could not be written: %s", error)
        log.info("run %s: %s", self.folder.name, kept)
        return kept

    # The end.

    def _segments(self, records: Sequence[WindowRecord]) -> list[Path]:
        return [self.folder.segment_path(record.window, record.key) for record in records]

    def _joined(self, path: Path, records: Sequence[WindowRecord]) -> WrittenVideo:
        return join(path, self._segments(records), self.folder.sound_path, self._inputs.video, fps=self._plan.fps)

    def _join(self, records: Sequence[WindowRecord]) -> WrittenVideo:
        video = self._joined(self.folder.video_path, records)
        self.folder.record_video(video, self._chain.video_key)
        self.folder.discard_partials()
        return video

    def _report(self, video: WrittenVideo, records: Sequence[WindowRecord], *, whole: bool = False) -> str:
        """What was done, in words; ``whole`` lists every window of a long run."""
        inputs = self._inputs
        made = [record for record in records if (record.window, record.key) in self._made]
        took = f"took {clock_text(time.perf_counter() - self._began)}"
        if made:
            render_s = sum(record.render_s for record in made)
            took += (
                f": {render_s:.1f} s rendering, {self._waited_s:.1f} s waiting for the disk, "
                f"{render_s / len(made):.2f} s per window"
            )
        changes = [text.strip() for text in (inputs.rerender_from, inputs.retake) if text.strip()]
        again = f" (made again: {', '.join(changes)})" if changes else ""
        lines = [
            f"{video.frames} frames, {video.frames / self._plan.fps:.2f} s, {video.width}x{video.height}, "
            f"{video.video_codec}, sound {video.audio_codec or 'none'}, {video.bytes / 1e6:.1f} MB",
            took,
            f"seed {getattr(inputs.noise, 'seed', 'none')} plus the window's index{again}, {self._job.settings()}",
            self._disk_use(),
        ]
        if inputs.video.container != "mp4":
            lines.append(f"saved as {video.path} (Save Video writes mp4, which cannot hold {inputs.video.codec})")
        lines += [f"note: {note}" for note in self._notes]
        table = windows_report(self._plan, records, self._made, whole=whole) if records else plan_report(self._plan)
        prompts = [self._job.prompts.report(whole=whole)] if self._job.prompts else []
        return "\n".join([*lines, "", table, *("\n" + text for text in (*prompts, *self._attention))])

    def _disk_use(self) -> str:
        root = self.folder.path.parent
        total = sum(RunFolder(root, name, self.folder.suffix).bytes() for name in run_names(root))
        policy = "windows kept, to make some again" if self._inputs.keep_windows else "only the video kept"
        return (
            f"run {self.folder.name}: {self.folder.bytes() / 1e6:.1f} MB in {self.folder.path} ({policy}); "
            f"all runs {total / 1e6:.1f} MB"
        )


def make(job: Job, notes: list[str]) -> Result:
    """Make a job's video, or go on with the one an earlier run of the same inputs began.

    Raises:
        LongTalkError: what stops a run on its way (memory, disk, a broken picture); the windows finished by then are
            kept.
    """
    session = Session(job, runs_root(), notes)
    with session.folder.owned():
        return session.make()
