"""The attention kernels that this Python may have, all called the same way.

Nothing is imported before :func:`installed` is called: a broken package must not keep anything else from loading.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

log = logging.getLogger(__name__)

#: ``(query [B, H, N, D], key, value [B, H, M, D], mask, scale) -> [B, H, N, D]``. The mask, bool or added to the
#: scores, is None or has four dimensions that broadcast to ``[B, H, N, M]``; a scale of None means ``1 / sqrt(D)``.
Kernel = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, "torch.Tensor | None", "float | None"],
    torch.Tensor,
]


@dataclass(frozen=True)
class Backend:
    """One way to compute attention.

    Attributes:
        name: for people and for the file of measurements.
        run: computes attention.
        masks: whether it takes a mask. A kernel that would drop a mask in silence must say False.
        tolerance: the relative error up to which it is taken whatever class is asked for; 0 for that of the class.
        steady: whether it computes in the precision it is given, so that its error does not depend on the tensors. A
            kernel that quantises does not, and is compared with float32 again and again.
    """

    name: str
    run: Kernel
    masks: bool
    tolerance: float = 0.0
    steady: bool = False


def _sdpa(backend: SDPBackend) -> Kernel:
    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        with sdpa_kernel([backend]):
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)

    return run


def _no_mask(mask: torch.Tensor | None) -> None:
    if mask is not None:
        raise ValueError("this kernel takes no mask")


def _by_token(function: Callable[..., Any]) -> Kernel:
    """Call a kernel of the flash-attn family, which takes ``[B, N, H, D]`` and may give more than the output."""

    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        _no_mask(mask)
        out = function(*(part.transpose(1, 2) for part in (q, k, v)), softmax_scale=scale)
        out = out[0] if isinstance(out, tuple) else out
        transposed: torch.Tensor = out.transpose(1, 2)
        return transposed

    return run


def _sage(module: Any) -> Kernel:
    first = _version("sageattention").startswith("1.")

    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        _no_mask(mask)
        if first:
            k = k.clone()  # version 1 subtracts the mean from the caller's own key
        out: torch.Tensor = module.sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=scale)
        return out

    return run


def _sage3(module: Any) -> Kernel:
    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        _no_mask(mask)
        if scale is not None:
            raise ValueError("this kernel takes no scale")
        out: torch.Tensor = module.sageattn3_blackwell(q, k, v, is_causal=False)
        return out

    return run


def _xformers(module: Any) -> Kernel:
    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        if mask is not None:
            mask = mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
            if mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, float("-inf"))
        parts = (part.transpose(1, 2) for part in (q, k, v))
        out: torch.Tensor = module.memory_efficient_attention(*parts, attn_bias=mask, scale=scale).transpose(1, 2)
        return out

    return run


def _kitchen(module: Any) -> Kernel | None:
    available = getattr(module, "int8_attention_is_available", None)
    if available is None or not available():
        return None

    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        out: torch.Tensor = module.int8_attention(q, k, v, scale=scale, attn_mask=mask)
        return out

    return run


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _flash(module: Any) -> Kernel:
    return _by_token(module.flash_attn_func)


class _Package(NamedTuple):
    """A kernel of another package: how to call it once its module is imported, and what it can do."""

    name: str
    module: str
    distribution: str
    make: Callable[[Any], Kernel | None]
    masks: bool = False
    steady: bool = False


_PACKAGES = (
    _Package("SageAttention", "sageattention", "sageattention", _sage),
    _Package("SageAttention 3", "sageattn3", "sageattn3", _sage3),
    _Package("FlashAttention 2", "flash_attn", "flash_attn", _flash, steady=True),
    _Package("FlashAttention 3", "flash_attn_interface", "flash_attn_3", _flash, steady=True),
    _Package("FlashAttention 4", "flash_attn.cute", "flash_attn_4", _flash, steady=True),
    _Package("xformers", "xformers.ops", "xformers", _xformers, masks=True, steady=True),
    _Package("comfy-kitchen int8", "comfy_kitchen", "comfy-kitchen", _kitchen, masks=True),
)

#: PyTorch's own, which are always there and take masks; whether they run on a device shows when they are tried.
PYTORCH = (
    Backend("PyTorch cuDNN", _sdpa(SDPBackend.CUDNN_ATTENTION), True, steady=True),
    Backend("PyTorch flash", _sdpa(SDPBackend.FLASH_ATTENTION), True, steady=True),
    Backend("PyTorch efficient", _sdpa(SDPBackend.EFFICIENT_ATTENTION), True, steady=True),
)


def installed() -> tuple[Backend, ...]:
    """All kernels that can be imported; PyTorch's own first."""
    found = list(PYTORCH)
    for package in _PACKAGES:
        try:
            if importlib.util.find_spec(package.module.split(".")[0]) is None:
                continue
            kernel = package.make(importlib.import_module(package.module))
        except Exception as error:  # a package built for another PyTorch or GPU fails in its own way
            log.debug("attention: %s cannot be used: %s: %s", package.name, type(error).__name__, error)
            continue
        if kernel is not None:
            version = _version(package.distribution)
            name = f"{package.name} ({version})" if version else package.name
            found.append(Backend(name, kernel, package.masks, steady=package.steady))
    return tuple(found)


def software() -> str:
    """The versions that decide how fast and how right a kernel is on a device; with others, measurements are void."""
    parts = [f"torch {torch.__version__}", f"cuda {torch.version.cuda}", f"cudnn {torch.backends.cudnn.version()}"]
    for package in _PACKAGES:
        version = _version(package.distribution)
        if version:
            parts.append(f"{package.distribution} {version}")
    return ", ".join(parts)
