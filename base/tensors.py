"""What a tensor from another node must be before anything is computed with it."""

from __future__ import annotations

from typing import TypeGuard

import torch

from .values import shown


def is_plain(value: object) -> TypeGuard[torch.Tensor]:
    """Whether it is a tensor that holds its numbers one by one: not sparse, nested, quantised or without memory."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_quantized or value.is_nested)
    )


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite, for any plain tensor with at least one value."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.is_floating_point() and tensor.element_size() == 1:
        tensor = tensor.half()  # torch has no reductions over float8
    return bool(torch.isfinite(tensor).all())


def described(value: object) -> str:
    """A value as a message names it; a tensor by its kind and shape, ``float32 [1, 77, 768]``."""
    if value is None:
        return "nothing"
    if isinstance(value, (bool, int, float, str)):
        return shown(value)
    if not isinstance(value, torch.Tensor):
        name = type(value).__name__
        return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
    dtype = str(value.dtype).removeprefix("torch.")
    if value.is_nested:
        return f"a nested tensor of {dtype}"
    kind = "" if is_plain(value) else "an empty shell of " if value.is_meta else "a sparse or quantised "
    return f"{kind}{dtype} {list(value.shape)}"
