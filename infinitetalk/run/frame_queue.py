"""A bounded queue of frames between the renderer and the writer thread.

The limit is in frames, not in chunks, and a chunk counts until it is encoded. So the frames held outside the encoder
never exceed the limit, however slow the encoder is.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

# A wait without a timeout cannot be interrupted by Ctrl-C on Windows.
_WAIT_S = 0.5


class WritingStoppedError(Exception):
    """The run was given up; whoever waits on the queue must stop."""


class FrameQueue:
    """Chunks of uint8 frames ``[F, H, W, 3]``, at most ``limit_frames`` frames at a time.

    One producer calls :meth:`put` and :meth:`end`, one consumer calls :meth:`get` and :meth:`done`. Either side can
    end it early: the consumer with :meth:`fail`, the producer with :meth:`abort`.
    """

    def __init__(self, limit_frames: int) -> None:
        self.limit_frames = limit_frames
        self._changed = threading.Condition()
        self._chunks: deque[np.ndarray] = deque()
        self._held_frames = 0
        self._peak_frames = 0
        self._ended = False
        self._aborted = False
        self._failure: BaseException | None = None

    @property
    def held_frames(self) -> int:
        """Frames put in and not yet encoded."""
        return self._held_frames

    @property
    def peak_frames(self) -> int:
        """The most frames ever held."""
        return self._peak_frames

    @property
    def failure(self) -> BaseException | None:
        """What the consumer died of."""
        return self._failure

    def put(self, chunk: np.ndarray) -> None:
        """Add a chunk of 1 to ``limit_frames`` frames; waits for room. Raises what the consumer died of."""
        frames = chunk.shape[0]
        if not 1 <= frames <= self.limit_frames:
            raise ValueError(f"a chunk must have 1 to {self.limit_frames} frames, got {frames}")
        with self._changed:
            while self._failure is None and not self._aborted and self._held_frames + frames > self.limit_frames:
                self._changed.wait(_WAIT_S)
            if self._failure is not None:
                raise self._failure
            if self._aborted or self._ended:
                raise WritingStoppedError("the video is closed; no more frames can be written to it")
            self._chunks.append(chunk)
            self._held_frames += frames
            self._peak_frames = max(self._peak_frames, self._held_frames)
            self._changed.notify_all()

    def get(self) -> np.ndarray | None:
        """The next chunk, or None after the last one; waits. Raises WritingStoppedError."""
        with self._changed:
            while not self._chunks and not self._ended and not self._aborted:
                self._changed.wait(_WAIT_S)
            self._check_aborted()
            return self._chunks.popleft() if self._chunks else None

    def done(self, frames: int) -> None:
        """The consumer has finished ``frames`` frames of a chunk it got; their room is free again."""
        with self._changed:
            self._held_frames -= frames
            self._changed.notify_all()

    def end(self) -> None:
        """No more frames will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake everybody; the frames that wait are dropped."""
        with self._changed:
            self._aborted = True
            self._chunks.clear()
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The consumer died; every later :meth:`put` raises ``error``."""
        with self._changed:
            self._failure = error
            self._chunks.clear()
            self._changed.notify_all()

    def check_aborted(self) -> None:
        """Raise WritingStoppedError when :meth:`abort` was called."""
        with self._changed:
            self._check_aborted()

    def _check_aborted(self) -> None:
        if self._aborted:
            raise WritingStoppedError("the video was given up")
