"""Watching and disturbing runs of the sampler in the ComfyUI process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import av
import torch


@contextlib.contextmanager
def forwards_of(parts: SimpleNamespace, before: Callable[[int], None] = lambda count: None) -> Iterator[list[int]]:
    """The batch size of every forward of the model; ``before`` gets the count as each begins."""
    with calls_of(parts.model.model.diffusion_model, "forward", before) as calls:
        seen: list[int] = []
        yield seen
        seen.extend(call[0].shape[0] for call in calls)


@contextlib.contextmanager
def calls_of(
    owner: Any, name: str, before: Callable[[int], None] = lambda count: None
) -> Iterator[list[tuple[Any, ...]]]:
    """The arguments of every call of a method of one object; ``before`` gets the count as each begins.

    It is watched in the class: what stands on a model itself counts for a run's name.
    """
    kind = type(owner)
    original, seen = getattr(kind, name), []

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is owner:
            seen.append(args)
            before(len(seen))
        return original(self, *args, **kwargs)

    with mock.patch.object(kind, name, call):
        yield seen


def raising(error: Callable[[], BaseException], when: Callable[[int], bool]) -> Callable[[int], None]:
    """For ``before``: raises at the calls that ``when`` picks."""

    def before(count: int) -> None:
        if when(count):
            raise error()

    return before


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("Allocation on device: tried to allocate 2.00 GiB")


def talk_in(folder: Path, suffix: str = ".mp4") -> Path:
    """The only file of its kind that a run has beside its windows: the video, its record, its report."""
    [path] = folder.glob(f"talk_*{suffix}")
    return path


def frames_hash(path: str | Path) -> tuple[int, str]:
    """How many frames a video decodes to, and a digest of all of them."""
    digest, count = hashlib.sha256(), 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            digest.update(frame.to_ndarray(format="rgb24").tobytes())
            count += 1
    return count, digest.hexdigest()


def sound_seconds(path: str | Path) -> float:
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        return sum(frame.samples for frame in container.decode(audio=0)) / rate
