"""Matrices as products of two thin ones: fewer numbers to learn and to keep."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class LowRank(nn.Module):
    """In the place of a linear layer: ``x @ right.T @ left.T + bias``."""

    def __init__(self, inputs: int, outputs: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(outputs, rank) / rank**0.5)
        self.right = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, self.right), self.left, self.bias)


def replace_linear(module: nn.Module, rank: int, skip: tuple[str, ...], prefix: str = "") -> None:
    """All linear layers wider than the rank on both sides, but those whose name begins with one of ``skip``."""
    for name, child in module.named_children():
        full = prefix + name
        if full.startswith(skip):
            continue
        if isinstance(child, nn.Linear) and min(child.in_features, child.out_features) > 2 * rank:
            setattr(module, name, LowRank(child.in_features, child.out_features, rank, child.bias is not None))
        else:
            replace_linear(child, rank, skip, full + ".")
