"""The one window loop. It knows neither a model family nor ComfyUI nor a disk.

Data flows one way: for each window of the plan the renderer makes all its frames (the pinned ones included), the
finish steps change them, the loop looks whether they can be meant, drops what is pinned or surplus, and hands the rest
to the sink together with what the next window continues from. Nothing is kept per frame, so memory does not grow with
the length.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch

from ...base.errors import LongTalkError, ResultError, TooBigError
from ...base.pictures import rounded_to_bytes
from ..plan.windows import Plan, Window
from .finish import Finish
from .window_checks import Look, measure, what_is_broken
from .window_stats import WindowStats, jumps

logger = logging.getLogger(__name__)

#: How often a run may ask for less memory before it stops: each time the VAE works in smaller tiles and more of the
#: model stays out of the GPU.
MEMORY_LEVELS = 2

Carry = Mapping[str, torch.Tensor]
"""What a window continues from: tensors that the renderer and the finish steps named."""


@dataclass(frozen=True)
class Fallbacks:
    """What a run had to give up. It stays so until the run ends, resumed or not.

    Attributes:
        plain_attention: PyTorch's own attention instead of the chosen one, which gave a broken picture.
        memory_level: 0 to :data:`MEMORY_LEVELS`.
    """

    plain_attention: bool = False
    memory_level: int = 0

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Fallbacks:
        """Raise ValueError unless these are fallbacks."""
        found = cls(**content) if content.keys() == {"plain_attention", "memory_level"} else None
        if (
            found is None
            or not isinstance(found.plain_attention, bool)
            or found.memory_level not in range(MEMORY_LEVELS + 1)
        ):
            raise ValueError(f"not fallbacks: {content}")
        return found


@dataclass(frozen=True, eq=False)
class Rendered:
    """One window as a renderer makes it.

    Attributes:
        latents: what was sampled, of any shape.
        frames: all frames, the pinned ones included, float 0..1 ``[window.length, H, W, 3]``.
    """

    latents: torch.Tensor
    frames: torch.Tensor


class Renderer(Protocol):
    """What differs between model families: how one window becomes frames."""

    def render(self, window: Window, carry: Carry) -> Rendered:
        """Render a window that continues from ``carry``; empty in the first window of a shot."""
        ...

    def hand_on(self, window: Window, carry: Carry, rendered: Rendered) -> Carry:
        """What the next window continues from; empty after the last window of a shot.

        Args:
            window: which was rendered, with which ``carry``.
            rendered: what came of it, its frames as the finish steps left them.
        """
        ...

    def fall_back(self, fallbacks: Fallbacks) -> None:
        """Render the following windows with these; called only to give up more."""
        ...

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether an error of :meth:`render` means that memory was not enough."""
        ...

    @property
    def attention(self) -> str:
        """The attention backend in use, as the user knows it."""
        ...


class Retaker(Renderer, Protocol):
    """A renderer that can also end a window on what comes after it."""

    def render_until(self, window: Window, carry: Carry, until: Carry) -> Rendered:
        """As ``render``; the window's end is pinned to ``until``, what it handed on when it was first made."""
        ...


@dataclass(frozen=True, eq=False)
class MadeWindow:
    """What is known of a finished window, but for its frames.

    Attributes:
        window: which.
        last_frame: its last frame, uint8 ``[H, W, 3]`` on the CPU.
        carry, fallbacks, stats: see the classes.
        render_s: what its last attempt took.
    """

    window: Window
    last_frame: torch.Tensor
    carry: Carry
    fallbacks: Fallbacks
    stats: WindowStats
    render_s: float


@dataclass(frozen=True, eq=False)
class Start:
    """Where the loop begins: at the first window, or behind the last good one of an earlier run.

    Attributes:
        made: how many windows there are already.
        carry, last_frame: of the last of them; nothing at the beginning.
        fallbacks: what it was made with.
    """

    made: int = 0
    carry: Carry = field(default_factory=dict)
    last_frame: torch.Tensor | None = None
    fallbacks: Fallbacks = field(default_factory=Fallbacks)


def _nothing() -> None:
    return None


def run_windows(
    plan: Plan,
    renderer: Renderer,
    put: Callable[[MadeWindow, torch.Tensor], None],
    reference: Look,
    start: Start | None = None,
    *,
    finish: Finish | None = None,
    stop: int | None = None,
    until: Carry | None = None,
    check_interrupt: Callable[[], None] = _nothing,
) -> None:
    """Render the windows of ``plan`` from ``start`` on, in order, and hand each to ``put``.

    A window that begins a shot continues from nothing, as the first one does.

    Args:
        plan: the windows.
        renderer: renders one window.
        put: takes a finished window and its new frames, float 0..1 ``[F, H, W, 3]``; may block.
        reference: what the reference image looks like; windows are compared with it.
        start: where to go on; by default at the beginning.
        finish: what is done to a window's frames before they are measured; by default nothing.
        stop: how many windows there are then; by default all of the plan's.
        until: what the last of them has to hand on; then ``renderer`` is a :class:`Retaker`.
        check_interrupt: called before each window and before each ``put``; raises to stop the run.

    Raises:
        LongTalkError: a window that is broken, or for which memory is not enough, after all fallbacks.
        ValueError: the renderer returned another number of frames than the window has (a bug in the renderer).
    """
    start = start or Start()
    carry, last_frame, fallbacks = start.carry, start.last_frame, start.fallbacks
    if fallbacks != Fallbacks():
        renderer.fall_back(fallbacks)
    attempts = _Attempts(renderer, finish, reference)
    windows = plan.windows[start.made : stop]
    for window in windows:
        check_interrupt()
        if plan.is_fresh(window):
            carry, last_frame = {}, None
        pinned = until if window is windows[-1] else None
        made, frames = attempts.make(window, carry, last_frame, fallbacks, pinned)
        check_interrupt()
        put(made, frames)
        carry, last_frame, fallbacks = made.carry, made.last_frame, made.fallbacks
        # The window's frames (hundreds of MB) must go before the next window is rendered.
        del frames


class _Attempts:
    """Makes single windows, with as many attempts as there are fallbacks left.

    Args:
        renderer, finish, reference: see :func:`run_windows`.
    """

    def __init__(self, renderer: Renderer, finish: Finish | None, reference: Look) -> None:
        self._renderer = renderer
        self._finish = finish
        self._reference = reference

    def make(
        self,
        window: Window,
        carry: Carry,
        last_frame: torch.Tensor | None,
        fallbacks: Fallbacks,
        until: Carry | None,
    ) -> tuple[MadeWindow, torch.Tensor]:
        """One window and its new frames."""
        renderer = self._renderer
        tried: list[str] = []  # attentions that gave a broken picture
        while True:
            began = time.perf_counter()
            failure = ""
            try:
                rendered, after = self._render(window, carry, until)
            except Exception as error:
                if not renderer.is_out_of_memory(error):
                    raise
                if fallbacks.memory_level == MEMORY_LEVELS:
                    raise _out_of_memory(window, str(error)) from error
                failure = str(error)
            if failure:
                # Out of the except block, so that the error's frames and tensors are gone before the next attempt.
                fallbacks = replace(fallbacks, memory_level=fallbacks.memory_level + 1)
                logger.warning(
                    "window %d: out of memory (%s); once more with smaller VAE tiles and more of the model offloaded",
                    window.number,
                    failure.split("\n")[0][:200],
                )
                renderer.fall_back(fallbacks)
                continue
            fresh = rendered.frames[window.put_out]
            stats = measure(fresh, self._reference, last_frame)
            broken = what_is_broken(rendered.latents, rendered.frames, stats, self._reference)
            if broken is None:
                break
            tried.append(renderer.attention)
            if fallbacks.plain_attention:
                raise _broken(window, broken, tried)
            del rendered, fresh
            logger.warning(
                "window %d: %s with the attention %s; once more with PyTorch's own",
                window.number,
                broken,
                tried[-1],
            )
            fallbacks = replace(fallbacks, plain_attention=True)
            renderer.fall_back(fallbacks)
        if jumps(stats):
            logger.warning(
                "window %d: its first frame differs from the one before %.1f times as much as neighbouring frames do",
                window.number,
                stats.seam_ratio,
            )
        last = rounded_to_bytes(fresh[-1]).cpu()
        return MadeWindow(window, last, after, fallbacks, stats, time.perf_counter() - began), fresh

    def _render(self, window: Window, carry: Carry, until: Carry | None) -> tuple[Rendered, Carry]:
        """The window with its finished frames, and what the next one continues from."""
        renderer = self._renderer
        if until is None:
            rendered = renderer.render(window, carry)
        else:
            rendered = cast(Retaker, renderer).render_until(window, carry, until)
        if rendered.frames.shape[0] != window.length:
            raise ValueError(f"window {window.number}: expected {window.length} frames, got {rendered.frames.shape[0]}")
        steps: Carry = {}
        if self._finish is not None:
            frames, steps = self._finish.apply(window, rendered.frames, carry)
            rendered = replace(rendered, frames=frames)
        return rendered, {**renderer.hand_on(window, carry, rendered), **steps}


def _out_of_memory(window: Window, words: str) -> LongTalkError:
    return TooBigError(
        f"memory in window {window.number}",
        expected="enough, with the VAE in small tiles and as much of the model offloaded as possible",
        actual=words.split("\n")[0][:300] or "out of memory",
        action="Use a smaller size or fewer window_frames, close other programs that use the GPU, or take an fp8 or "
        "GGUF model",
    )


def _broken(window: Window, words: str, attentions: Sequence[str]) -> LongTalkError:
    return ResultError(
        f"window {window.number}",
        expected="a picture",
        actual=f"{words}, with {' and with '.join(attentions)}",
        action="Check the files: a VAE in fp16 overflows (use bf16 or fp32), a damaged model or a wrong LoRA gives "
        "this too; if a node sets another attention (SageAttention), remove it",
    )
