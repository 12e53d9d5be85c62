"""Fixtures of the tests without ComfyUI."""

from __future__ import annotations

import gc
import time

import pytest
from written_video import writer_threads


@pytest.fixture
def no_leaked_threads() -> object:
    """Every writer thread that a test starts ends with it."""
    yield
    gc.collect()
    deadline = time.monotonic() + 10
    while writer_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert writer_threads() == []
