"""What an earlier attempt left of a run: which windows are good, and where to go on.

A window counts when its record, its segment and what it hands on are whole, and when the next window can go on from
it. The first one of a shot that does not is made again, with all that follow in its shot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import torch

from ....base.files import DamagedFileError, is_file
from ...plan.windows import Plan
from ..loop import Carry, Fallbacks, Start
from .folder import RunFolder, run_names
from .record import WindowRecord
from .recorder import LAST_FRAME
from .take import Take

log = logging.getLogger(__name__)

#: An unfinished run is named as the one the user may have meant when no more than this many things differ.
_SIMILAR_PARTS = 3


class Reuse:
    """The windows of one run that are on the disk.

    Args:
        folder: of the run.
        plan: the windows.
        size: width and height of the video.
        fits: whether tensors read from a file are what a later window continues from.
        first: the run's windows as they were first made, without retakes.

    Attributes:
        notes: what was found damaged, for the report.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        size: tuple[int, int],
        fits: Callable[[Carry], bool],
        first: Take,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._size = size
        self._fits = fits
        self._first = first
        self.notes: list[str] = []

    def finished(self, take: Take) -> dict[int, WindowRecord]:
        """The good windows at the beginning of each shot, by their numbers; what is not good is discarded."""
        there: dict[int, WindowRecord] = {}
        for first, last in take.shot_windows:
            found = self._folder.finished(take.keys, first, last)
            records, damage = list(found.records), found.damage
            while records:
                try:
                    self.start_behind(records[-1])
                    break
                except (DamagedFileError, ValueError) as error:
                    damage = f"window {records[-1].window}: {error}"
                    records.pop()
            if damage:
                follows = "what follows" if last == len(take.keys) else "what follows in its shot"
                log.warning("run %s: %s; it and %s are made again", self._folder.name, damage, follows)
                self.notes.append(f"{damage}; it and {follows} were made again")
                self._folder.discard_from(first + len(records), take.keys, last)
            there |= {record.window: record for record in records}
        return there

    def start_behind(self, record: WindowRecord) -> Start:
        """Where the loop begins to go on from a finished window.

        Raises:
            DamagedFileError, ValueError: what it hands on is not whole.
        """
        carry = self._folder.read_carry(record.window, record.key)
        last_frame = carry.pop(LAST_FRAME, None)
        width, height = self._size
        goes_on = self._plan.hands_on(self._plan.window(record.window))
        if last_frame is None or last_frame.dtype != torch.uint8 or last_frame.shape != (height, width, 3):
            raise DamagedFileError("its last frame is missing or of another size")
        if goes_on and not self._fits(carry):
            raise DamagedFileError("what the next window continues from is missing or of another size")
        return Start(record.window, carry, last_frame, Fallbacks.from_json(record.fallbacks))

    def adopted(self, take: Take, window: int) -> WindowRecord | None:
        """A window behind a retake, as it was first made; None where it has to be made."""
        key = self._first.key_of(window)
        if key == take.key_of(window) or take.retake_of(window) is not None:
            return None
        try:
            record = self._folder.read_record(window, key)
        except (FileNotFoundError, DamagedFileError):
            return None
        return self._folder.adopt(record, take.key_of(window))

    def can_be_adopted(self, take: Take, window: int) -> bool:
        """Whether a window as it was first made is there to be taken over."""
        key = self._first.key_of(window)
        return take.retake_of(window) is None and is_file(self._folder.record_path(window, key))

    def end_of_retake(self, take: Take, window: int) -> Carry | None:
        """What a retake's last window has to end on; None for windows that are not one, and at the end of a shot."""
        if take.retake_of(window) is None or not self._plan.hands_on(self._plan.window(window)):
            return None
        carry = self._folder.read_carry(window, self._first.key_of(window))
        return {name: tensor for name, tensor in carry.items() if name != LAST_FRAME}


def similar_run(folder: RunFolder, parts: Mapping[str, str]) -> str | None:
    """An unfinished run that the user may have wanted to go on with, and why this is another one."""
    root = folder.path.parent
    for name in run_names(root):
        other = RunFolder(root, name, folder.suffix)
        if name == folder.name:
            continue
        try:
            if other.video_names():
                continue
            manifest = other.manifest()
            windows = {window for window, _, _ in other.window_files()}
        except OSError:  # deleted since the runs were listed
            continue
        if manifest is None or not windows:
            continue
        differing = [part for part in parts if manifest.parts.get(part) != parts[part]]
        if len(differing) <= _SIMILAR_PARTS:
            told = [f"seed ({manifest.about.seed} there)" if part == "seed" else part for part in differing]
            return f"the unfinished run {name} ({len(windows)} windows) differs in: {', '.join(told)}"
    return None
