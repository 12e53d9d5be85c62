"""Out of memory: recognising it, asking ComfyUI to keep more free, and giving everything back."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import comfy.model_management

from ...base.errors import TooBigError
from .fresh import Lasting

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


def purge() -> str:
    """Unload all models, and forget those that are gone but still in ComfyUI's list.

    ComfyUI keeps weak references. When whatever held a model was thrown away in the middle of a run, as loops do, its
    entry can stay, and the next load fails with ``'NoneType' object has no attribute 'model_size'``.

    Returns:
        What was done, in words.
    """
    gc.collect()
    loaded = comfy.model_management.current_loaded_models
    # In place, as ComfyUI does: others hold the list. By index, as comparing two entries compares what they refer to.
    gone = [index for index, entry in enumerate(loaded) if _is_gone(entry)]
    for index in reversed(gone):
        entry = loaded.pop(index)
        if entry.model_finalizer is not None:
            entry.model_finalizer.detach()
    before = len(loaded)
    free_everything()
    gc.collect()
    comfy.model_management.soft_empty_cache()
    return f"{before - len(loaded)} models unloaded, {len(gone)} dropped that were gone"


def _is_gone(entry: Any) -> bool:
    """Whether a loaded-model entry refers to a model, or to a patcher, that no longer exists."""
    return entry.model is None or entry.real_model is None or entry.real_model() is None


class KeepMoreFree(Lasting):
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
        raise TooBigError(
            f"memory for {what}",
            expected="enough with all other models unloaded",
            actual=str(error).split("\n")[0][:300] or "out of memory",
            action="Close other programs that use the GPU, or start ComfyUI with --lowvram",
        ) from error
