"""Judging hostile input: it works, or LongTalk's own error says what to do; in seconds, without a huge allocation."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from amounts import examples
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError

SECONDS = 20.0
"""Of computing, which other work on the machine does not change; the longest example, a run of the tiny models, takes
one. What waits without computing is left to pytest-timeout."""
ROOM_BYTES = 2 << 30
"""What one example may reserve beyond what the process has. An allocation by a hostile number is larger, or none."""
MESSAGE_LETTERS = 1500


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Fail when the block computes for longer."""

    def too_slow(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"computed for more than {seconds:g} s")

    handler = signal.signal(signal.SIGPROF, too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, handler)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Tiny models are as fast on one thread, and many times faster where other processes want the cores, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def limited_memory(room: int) -> Iterator[None]:
    """Let allocations fail that pass ``room``. Linux only: elsewhere the limit is not kept."""
    if sys.platform != "linux":
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def peak_bytes() -> int:
    """The most memory the process ever held."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_words(error: LongTalkError) -> None:
    """One line that a person can read: what was expected, what was found, what to do."""
    for part in (error.what, error.expected, error.actual, error.action):
        assert isinstance(part, str)
        assert part.strip(), f"an error without words: {error}"
    assert len(str(error)) < MESSAGE_LETTERS
    assert "\n" not in str(error)


def try_each(count: int, strategy: st.SearchStrategy[Any], attempt: Callable[[Any], None]) -> None:
    """Draw ``count`` examples (more with --long) and hand them over one by one: the same each time, none is kept."""

    @settings(
        max_examples=examples(count),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(each=strategy)
    def run(each: Any) -> None:
        attempt(each)

    run()


class Ledger:
    """What was tried, by group: the labels of the inputs that were refused, and of those that worked."""

    def __init__(self) -> None:
        self.refused: defaultdict[str, set[str]] = defaultdict(set)
        self.worked: defaultdict[str, set[str]] = defaultdict(set)
        self.peak_before = peak_bytes()

    def judge(self, group: str, label: str, call: Callable[[], Any], valid: Callable[[Any], bool]) -> None:
        """Run one example as ComfyUI runs a node.

        Args:
            label: tells the input apart from every other of the group.
            call: the node.
            valid: whether what came out is what the node promises.
        """
        with deadline(SECONDS), limited_memory(ROOM_BYTES), torch.inference_mode():
            result = error = None
            try:
                result = call()
            except LongTalkError as caught:
                error = caught
            if error is None:
                assert valid(result), f"{label} gave {result!r:.500}"
                self.worked[group].add(label)
            else:
                check_words(error)
                self.refused[group].add(label)
