"""The sound and the manifest of a run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watched import forwards_of, sound_seconds, talk_in


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_sound_is_encoded_while_the_first_window_is_sampled_and_given_up_with_it(
    run: Callable[..., tuple[Path, str]],
    parts: SimpleNamespace,
    output_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    cancelled: bool,
) -> None:
    """The sound of an hour takes half a minute, in which nobody should wait for the first step, nor for the end."""
    import comfy.model_management

    from longtalk.infinitetalk.host import description

    interrupted = comfy.model_management.InterruptProcessingException
    write_sound, begun, checks = description.write_sound, threading.Event(), []

    def slow(*args: Any, check: Callable[[], None], **kwargs: Any) -> None:
        def wait_for_the_first_step_or_the_end() -> None:
            checks.append(begun.wait(60))
            deadline = time.monotonic() + 60
            while cancelled and time.monotonic() < deadline:
                check()
                time.sleep(0.01)

        write_sound(*args, check=wait_for_the_first_step_or_the_end, **kwargs)

    def step(count: int) -> None:
        begun.set()
        if cancelled:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(description, "write_sound", slow)
    with forwards_of(parts, step) as forwards, pytest.raises(interrupted) if cancelled else contextlib.nullcontext():
        run()
    assert set(checks) == {True}
    [folder] = (output_folder / "longtalk").iterdir()
    if cancelled:
        assert len(checks) == len(forwards) == 1
        assert {path.name for path in folder.iterdir()} <= {"lock"}
        monkeypatch.undo()
        run()
    assert sound_seconds(talk_in(folder)) == pytest.approx(37 / 25, abs=0.04)
