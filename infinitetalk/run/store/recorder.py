"""Makes what a run has durable in the background, one thing after the other, while the next window is rendered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np
import torch

from ....base.rates import FPS
from ..loop import MadeWindow
from ..video.formats import VideoFormat
from ..video.segment import to_bytes, write_segment
from .folder import RunFolder
from .record import FileSum, WindowRecord
from .take import Take

THREAD_NAME = "longtalk-recorder"
LAST_FRAME = "last_frame"
"""The name of the tensor, beside the family's own, that holds the window's last frame, uint8 ``[H, W, 3]``."""

_JOIN_WAIT_S = 0.5  # a wait without a timeout cannot be interrupted by Ctrl-C on Windows


class GivenUpError(Exception):
    """What is being done in the background is of no use any more."""


class Recorder:
    """Writes each window's segment and carry, then the record that makes it count.

    At most one window waits to be written, as bytes, so memory does not grow however slow the disk is. The thread
    touches NumPy arrays, files and tensors on the CPU only.

    Args:
        folder: the files of the run, which must be owned.
        video: the codec and its quality.
        take: which windows these are.
        fps: frames per second.
    """

    def __init__(self, folder: RunFolder, video: VideoFormat, take: Take, fps: int = FPS) -> None:
        self._folder = folder
        self._video = video
        self._take = take
        self._fps = fps
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._given_up = threading.Event()
        self.records: list[WindowRecord] = []
        self.waited_s = 0.0

    def put(self, made: MadeWindow, frames: torch.Tensor) -> None:
        """Take a window and its new frames ``[F, H, W, 3]``; waits until the window before is on the disk.

        Raises:
            LongTalkError: something went wrong with the window before (a full disk), or the frames are no picture.
        """
        began = time.perf_counter()
        self.wait()
        pixels = to_bytes(frames, made.window.output[0])
        self.do(partial(self._record, made, pixels))
        self.waited_s += time.perf_counter() - began

    def do(self, task: Callable[[], None]) -> None:
        """Do this in the background, once what was begun before is done; the next window is written after it.

        Args:
            task: touches what the thread may touch, and files of the run that no window has. One that takes long calls
                :meth:`check_given_up` every now and then.

        Raises:
            LongTalkError: something went wrong with what was begun before.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(task,), name=THREAD_NAME, daemon=True)
        self._thread.start()

    def give_up(self) -> None:
        """No task but the writing of a window is of use any more."""
        self._given_up.set()

    def check_given_up(self) -> None:
        """Raise GivenUpError after :meth:`give_up`; it ends the task."""
        if self._given_up.is_set():
            raise GivenUpError

    def wait(self) -> None:
        """Wait until all that was begun is on the disk; raises what went wrong."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(_JOIN_WAIT_S)
        self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what went wrong so far, without waiting."""
        if self._failure is not None:
            raise self._failure

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except GivenUpError:
            pass
        except BaseException as error:  # raised again by check() in the thread that renders
            self._failure = error

    def _record(self, made: MadeWindow, pixels: np.ndarray) -> None:
        window = made.window.number
        key = self._take.key_of(window)
        segment = self._folder.segment_path(window, key)
        write_segment(segment, pixels, self._video, fps=self._fps, held=made.window.held)
        carry = self._folder.write_carry(window, key, {**made.carry, LAST_FRAME: made.last_frame})
        record = WindowRecord(
            window=window,
            key=key,
            seed=self._take.seeds[window - 1],
            frames=len(pixels) + made.window.held,
            segment=FileSum.of(segment),
            carry=carry,
            render_s=made.render_s,
            fallbacks=asdict(made.fallbacks),
            stats=made.stats.to_json(),
            retake=self._take.retaken.get(window, 0),
        )
        self._folder.commit(record)
        self.records.append(record)
