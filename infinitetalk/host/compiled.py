"""A model that another node compiled with torch.compile: code compiled for a run is used in that run alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS

log = logging.getLogger(__name__)


def is_compiled(model_options: Mapping[str, Any]) -> bool:
    """Whether TorchCompileModel, or another node that uses ComfyUI's helper, compiled the model with these options."""
    return TORCH_COMPILE_KWARGS in model_options


@contextmanager
def compiled_apart(model_options: Mapping[str, Any]) -> Iterator[None]:
    """Compiled code from before is not used inside, and none from inside afterwards. Nothing for other models.

    TorchCompileModel drops the guards on transformer_options, where patches and attention lie, so code that was
    compiled without patches is taken for a model with patches too: the audio would not be heard after a run of the
    same model without it, and a KSampler would look for hooks that are gone. PyTorch can only forget all of its code:
    other compiled models are compiled again as well.
    """
    if not is_compiled(model_options):
        yield
        return
    log.info("the model is compiled: its code is made anew for this run, which takes a while in the first window")
    torch.compiler.reset()
    try:
        yield
    finally:
        torch.compiler.reset()
