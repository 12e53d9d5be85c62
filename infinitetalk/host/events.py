"""Interrupt, progress bar, previews and the text on the running node."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.nested_tensor
import comfy.utils
import latent_preview
import torch

from ..plan.windows import Window
from ..run.progress import RunProgress
from ..run.store.take import Take

log = logging.getLogger(__name__)


def check_interrupt() -> None:
    """Raise ComfyUI's interrupt when the user pressed cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def sound_events(duration_s: float) -> Callable[[float], None]:
    """Shows how far a sound is read, again from the beginning each time it is, and lets the user cancel."""
    total = max(math.ceil(duration_s), 1)
    bar = comfy.utils.ProgressBar(total)

    def tell(read_s: float) -> None:
        check_interrupt()
        bar.update_absolute(min(math.ceil(read_s), total), total)

    return tell


def _node_text() -> Callable[[str], None]:
    """Shows text on the node that is running; does nothing where there is no server or no node."""
    try:
        from comfy_execution.utils import get_executing_context
        from server import PromptServer
    except ImportError:
        return lambda text: None
    context = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if server is None or context is None:
        return lambda text: None
    return lambda text: server.send_progress_text(text, context.node_id)


class RunEvents:
    """Shows one run: a bar over all windows' steps, the time left, and a preview of a frame that moves.

    Args:
        model: the diffusion model's patcher.
        progress: of the run.
        take: which windows these are.
        check: called after each step; raises to stop the run.
    """

    def __init__(self, model: Any, progress: RunProgress, take: Take, check: Callable[[], None] = lambda: None) -> None:
        self._progress = progress
        self._take = take
        self._check = check
        self._show_text = _node_text()
        self._bar = comfy.utils.ProgressBar(progress.total_steps)
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def say(self, text: str) -> None:
        """Show a text on the node."""
        self._show_text(text)

    def start_window(self, window: Window) -> None:
        self._progress.start_window(window.number)
        self._show_text(self._progress.text())

    def callback(self, window: Window) -> Callable[[int, torch.Tensor, torch.Tensor, int], None]:
        """A sampler callback for one window."""
        # The middle of what this window adds; the first latents are pinned and never change.
        shown = (window.pinned_latents + window.latents) // 2

        def step_done(step: int, denoised: torch.Tensor, x: torch.Tensor, total: int) -> None:
            check_interrupt()
            self._check()
            self._progress.step(step + 1)
            preview = None
            if self._previewer is not None:
                if isinstance(denoised, comfy.nested_tensor.NestedTensor):  # picture and sound
                    denoised = denoised.unbind()[0]
                frame = min(shown, denoised.shape[2] - 1)
                preview = self._previewer.decode_latent_to_preview_image("JPEG", denoised[:, :, frame : frame + 1])
            self._bar.update_absolute(self._progress.done_steps, self._progress.total_steps, preview)
            self._show_text(self._progress.text())

        return step_done

    def end_window(self, window: Window) -> None:
        key = self._take.key_of(window.number)
        log.info("%s, frames %d to %d done (%s)", self._progress.text(), *window.output, key)
