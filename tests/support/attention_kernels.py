"""Attention kernels that are right, slow, wrong in many ways, or fail; and a chooser that tells which of them ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from longtalk.infinitetalk.attention.backends import Backend
from longtalk.infinitetalk.attention.chooser import Chooser
from longtalk.infinitetalk.attention.measured import Store

QUERIES, KEYS, HEADS, SIZE = 700, 90, 3, 16


def parts(dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, HEADS, QUERIES, SIZE), (2, HEADS, KEYS, SIZE), (2, HEADS, KEYS, SIZE))
    q, k, v = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return q, k, v


def masks() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    seen = torch.rand(1, 1, QUERIES, KEYS, generator=generator) > 0.3
    return {
        "bool": seen,
        "added": torch.randn(2, HEADS, QUERIES, KEYS, generator=generator),
        "keys only": torch.rand(2, 1, 1, KEYS, generator=generator) > 0.5,
    }


def attend(q: Any, k: Any, v: Any, mask: Any = None, scale: float | None = None) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def right(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return attend(q, k, v, mask, scale)


class Clock:
    """Takes a millisecond from one look to the next, however busy the machine is."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        self.now_s += 1e-3
        return self.now_s


CLOCK = Clock()


def slow(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    CLOCK.now_s += 0.02
    return attend(q, k, v, mask, scale)


def drops_mask(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return attend(q, k, v, None, scale)


def drops_scale(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return attend(q, k, v, mask, None)


def off_by(share: float) -> Any:
    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        out = attend(q, k, v, mask, scale)
        noise = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        return out + noise * (share * out.norm() / noise.norm())

    return run


def forgets_the_end(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    out = attend(q, k, v, mask, scale)
    out[:, :, -(QUERIES % 64) :] = 0.0
    return out


def one_nan(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    out = attend(q, k, v, mask, scale)
    out[1, 2, 333, 7] = float("nan")
    return out


def noise(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return torch.randn_like(q)


def fails(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    raise RuntimeError("no kernel for this GPU\nand a stack")


def no_memory(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


def counting(*backends: Backend, path: Path | None = None, software: str = "one") -> tuple[Chooser, list[str]]:
    """A chooser, and the names of the kernels in the order they are run."""
    ran: list[str] = []

    def watched(backend: Backend) -> Backend:
        def run(*arguments: Any) -> torch.Tensor:
            ran.append(backend.name)
            return backend.run(*arguments)

        return dataclasses.replace(backend, run=run)

    watching: Sequence[Backend] = [watched(backend) for backend in backends]
    return Chooser(lambda: watching, lambda: Store(path, software)), ran


SLOW, WRONG, GOOD = Backend("slow", slow, True), Backend("wrong", noise, True), Backend("good", right, True)
