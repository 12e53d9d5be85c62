"""A clock for the kernels of these tests: which of them is slow does not depend on what else the machine does."""

from __future__ import annotations

import pytest
from attention_kernels import CLOCK

from longtalk.infinitetalk.attention import chooser


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chooser, "time", CLOCK)
