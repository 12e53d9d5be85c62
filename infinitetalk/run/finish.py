"""What is done to a window's frames between rendering and measuring: an ordered list of steps.

A step sees all frames of a window, its numbers, the reference picture and what the step itself carried over from the
window before. What a step carries over is saved with the window, so that a resumed run goes on with it, and it ends
with the shot, as everything does that one window hands to the next. The loop hands the finished frames on to the
renderer, so that the next window continues from what is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from ..plan.windows import Window

State = Mapping[str, torch.Tensor]
"""What a step carries over to the next window: tensors that the step named."""

_PREFIX = "finish"


class Step(Protocol):
    """One step, such as matching a window's colours to those of the reference."""

    @property
    def name(self) -> str:
        """What tells its state from that of other steps; no dot in it."""
        ...

    def apply(
        self, window: Window, frames: torch.Tensor, reference: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """The window's frames as they shall be, and what the next window of the shot is handed.

        Args:
            window: which.
            frames: all of it, the pinned ones included, float 0..1 ``[window.length, H, W, 3]``.
            reference: the reference picture as the video shows it, float 0..1 ``[1, H, W, 3]``.
            state: what this step handed on in the window before; empty in the first window of a shot.
        """
        ...


class Finish:
    """All steps of a run, in order.

    Args:
        steps: with names that differ.
        reference: see :meth:`Step.apply`.
    """

    def __init__(self, steps: Sequence[Step], reference: torch.Tensor) -> None:
        names = [step.name for step in steps]
        if len(set(names)) < len(names) or any("." in name for name in names):
            raise ValueError(f"steps need names of their own without a dot: {names}")
        self._steps = tuple(steps)
        self._reference = reference

    def apply(self, window: Window, frames: torch.Tensor, carry: State) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The finished frames, and what all steps carry over under names that no renderer uses.

        Args:
            window: which.
            frames: see :meth:`Step.apply`.
            carry: what the window before handed on; of it each step sees its own part.
        """
        after: dict[str, torch.Tensor] = {}
        for step in self._steps:
            prefix = f"{_PREFIX}.{step.name}."
            state = {name.removeprefix(prefix): tensor for name, tensor in carry.items() if name.startswith(prefix)}
            frames, state_after = step.apply(window, frames, self._reference, state)
            after |= {prefix + name: tensor for name, tensor in state_after.items()}
        return frames, after
