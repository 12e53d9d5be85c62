"""Out of memory: recognising it, and asking ComfyUI to keep more free."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import comfy.model_management

from ..errors import LongTalkError

log = logging.getLogger(__name__)

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the GPU's or the machine's memory was not enough."""
    if isinstance(error, MemoryError) or comfy.model_management.is_oom(error):
        return True
    # PyTorch's allocator for the CPU has no error type of its own.
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def free_everything() -> None:
    """Unload all models and give cached memory back to the system."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


class KeepMoreFree:
    """``PREPARE_SAMPLING`` wrapper: ComfyUI plans for a larger batch, so it keeps more of the model out of the GPU.

    Attributes:
        factor: 1 as usual; 2 keeps twice the memory free that ComfyUI's estimate asks for.
    """

    def __init__(self) -> None:
        self.factor = 1

    def __call__(self, executor: Any, model: Any, noise_shape: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(model, [noise_shape[0] * self.factor, *noise_shape[1:]], *args, **kwargs)


def twice(what: str, attempt: Callable[[], T]) -> T:
    """What ``attempt`` returns; after an out of memory error once more, with everything else unloaded.

    Raises:
        LongTalkError: memory was not enough either time.
    """
    try:
        return attempt()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        words = str(error)
    # Out of the except block, so that the error's frames and their tensors are gone before the next attempt.
    log.warning("%s: out of memory (%s); once more with all models unloaded", what, words.split("\n")[0][:200])
    free_everything()
    try:
        return attempt()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        free_everything()
        raise LongTalkError(
            f"memory for {what}",
            expected="enough with all other models unloaded",
            actual=str(error).split("\n")[0][:300] or "out of memory",
            action="Close other programs that use the GPU, or start ComfyUI with --lowvram",
        ) from error
