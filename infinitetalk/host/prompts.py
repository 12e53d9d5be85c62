"""A prompt schedule with its encoded prompts, and what each window of a run gets of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import comfy.sampler_helpers

from ...base.errors import LinkError
from ...base.tensors import described
from ...base.values import check_flag, check_number
from ..plan.schedule import BLEND_MAX_S, Resolved, notes_text, resolve_schedule, schedule_report
from ..plan.schedule_text import Schedule, parse_schedule
from .blend import Part, blend_conditioning, check_blend

log = logging.getLogger(__name__)

POSITIVE = "positive"
"""What guiders call the prompt that a schedule replaces."""


@dataclass(frozen=True)
class EncodedSchedule:
    """LONGTALK_SCHEDULE: a schedule and the CONDITIONING of each of its entries; equal texts share one."""

    schedule: Schedule
    conditionings: tuple[Any, ...]
    snap: bool = True
    blend_s: float = 0.0


def encode_schedule(clip: Any, text: str, snap: bool = True, blend_s: float = 0.0) -> EncodedSchedule:
    """Read a schedule and encode each distinct text once, as CLIP Text Encode does.

    Raises:
        LongTalkError: a schedule that cannot be read, no text encoder, settings out of range. Nothing is encoded then.
    """
    schedule = parse_schedule(text)
    snap = check_flag(snap, "snap")
    blend_s = check_number(blend_s, "blend_s", 0.0, BLEND_MAX_S)
    if not all(callable(getattr(clip, name, None)) for name in ("tokenize", "encode_from_tokens_scheduled")):
        raise LinkError(
            "clip",
            expected="a text encoder",
            actual=described(clip),
            action="Connect Load CLIP; a checkpoint without a text encoder gives none",
        )
    encoded = {each: clip.encode_from_tokens_scheduled(clip.tokenize(each)) for each in schedule.texts}
    return EncodedSchedule(schedule, tuple(encoded[entry.text] for entry in schedule.entries), snap, blend_s)


def check_schedule(encoded: Any, check_text: Callable[[Any, str], None]) -> None:
    """What is connected as a schedule must be one, and its prompts must fit the model. None is fine.

    Args:
        encoded: from Prompt Schedule (LongTalk), or None.
        check_text: called with each distinct conditioning and its name; raises when the model cannot use it.

    Raises:
        LongTalkError
    """
    if encoded is None:
        return
    if not isinstance(encoded, EncodedSchedule):
        raise LinkError(
            "schedule",
            expected="the output of Prompt Schedule (LongTalk)",
            actual=described(encoded),
            action="Connect Prompt Schedule (LongTalk), or leave the input open",
        )
    seen: set[int] = set()
    for entry, conditioning in zip(encoded.schedule.entries, encoded.conditionings, strict=True):
        if id(conditioning) not in seen:
            seen.add(id(conditioning))
            check_text(conditioning, f"schedule, line {entry.line}")


class WindowPrompts:
    """What each window of one run is told. Made by :func:`window_prompts`; all texts are encoded.

    Mixed prompts are mixed when their window asks for them: a sum of two tensors, while all mixes of an hour would
    take gigabytes.
    """

    def __init__(self, encoded: EncodedSchedule, resolved: Resolved) -> None:
        self.resolved = resolved
        self._parts = [_parts(encoded, weights) for weights in resolved.windows]
        mixed = {tuple(id(conditioning) for conditioning, _ in parts): parts for parts in self._parts if len(parts) > 1}
        for parts in mixed.values():
            names = [_name(encoded, conditioning) for conditioning, _ in parts]
            check_blend(parts, names)

    def conditioning(self, number: int) -> Any:
        """CONDITIONING of a window, counted from 1: an entry's own object, or a blend."""
        return blend_conditioning(self._parts[number - 1])

    def conds(self, number: int) -> list[dict[str, Any]]:
        """The same as a guider keeps it in ``original_conds``."""
        out: list[dict[str, Any]] = comfy.sampler_helpers.convert_cond(self.conditioning(number))
        return out

    def identity(self, digest: Callable[[Any], str]) -> list[list[tuple[str, float]]]:
        """For each window its prompts' digests and weights: equal for runs that are told the same."""
        known: dict[int, str] = {}
        for parts in self._parts:
            for conditioning, _ in parts:
                if id(conditioning) not in known:
                    known[id(conditioning)] = digest(conditioning)
        return [[(known[id(conditioning)], weight) for conditioning, weight in parts] for parts in self._parts]

    def report(self, *, whole: bool = False) -> str:
        """Which window has which prompt, and the notes, see :func:`~..plan.schedule.schedule_report`."""
        return schedule_report(self.resolved, whole=whole)


def window_prompts(encoded: EncodedSchedule, starts: Sequence[Fraction | int], total: Fraction | int) -> WindowPrompts:
    """Lay an encoded schedule over a run's windows.

    Args:
        encoded: checked with :func:`check_schedule`.
        starts: seconds at which each window's new frames begin.
        total: seconds of video.

    Raises:
        LongTalkError: the windows are none, or prompts that are to be mixed cannot be.
    """
    resolved = resolve_schedule(encoded.schedule, starts, total, snap=encoded.snap, blend_s=encoded.blend_s)
    prompts = WindowPrompts(encoded, resolved)
    for line in notes_text(resolved.notes):
        log.info("%s", line)
    return prompts


def _parts(encoded: EncodedSchedule, weights: Sequence[tuple[int, float]]) -> list[Part]:
    """A window's conditionings and weights; entries with the same text count as one."""
    shares: dict[int, Part] = {}
    for entry, weight in weights:
        conditioning = encoded.conditionings[entry]
        _, before = shares.get(id(conditioning), (None, 0.0))
        shares[id(conditioning)] = conditioning, before + weight
    return list(shares.values()) if len(shares) > 1 else [(conditioning, 1.0) for conditioning, _ in shares.values()]


def _name(encoded: EncodedSchedule, conditioning: Any) -> str:
    place = next(index for index, each in enumerate(encoded.conditionings) if each is conditioning)
    return f"schedule, line {encoded.schedule.entries[place].line}"
