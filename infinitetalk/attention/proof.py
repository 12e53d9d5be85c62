"""Does a kernel compute attention? Its output on real tensors is compared with PyTorch's in float32."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

#: How many queries are compared: enough for a firm mean, few enough that all their scores fit anywhere.
_ROWS = 256
#: So many of the last queries are always compared: a kernel that forgets a block forgets the last one.
_LAST_ROWS = 64
#: How many bytes of scores are held at a time.
_SCORES_BYTES = 256 * 2**20


def sample_rows(queries: int, device: torch.device) -> torch.Tensor:
    """Which queries to compare: the first, the last ones, and others drawn with a fixed seed; all if they are few."""
    if queries <= _ROWS:
        return torch.arange(queries, device=device)
    generator = torch.Generator().manual_seed(queries)
    inner = torch.randperm(queries - _LAST_ROWS - 1, generator=generator)[: _ROWS - _LAST_ROWS - 1] + 1
    rows = torch.cat([torch.zeros(1, dtype=torch.long), inner, torch.arange(queries - _LAST_ROWS, queries)])
    return rows.to(device)


def reference_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    rows: torch.Tensor,
) -> torch.Tensor:
    """The attention of some queries, computed by PyTorch in float32, head by head.

    Args:
        query: ``[B, H, N, D]``.
        key, value: ``[B, H, M, D]``.
        mask: None, or four dimensions that broadcast to ``[B, H, N, M]``.
        scale: None for ``1 / sqrt(D)``.
        rows: ``[R]``, which queries.

    Returns:
        float32 ``[B, H, R, D]``
    """
    batch, heads, _, _ = query.shape
    keys = key.shape[2]
    at_once = max(1, _SCORES_BYTES // (4 * batch * len(rows) * keys))
    if mask is not None and mask.shape[2] > 1:
        mask = mask[:, :, rows]
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.float()
    out = []
    with sdpa_kernel([SDPBackend.MATH]):
        for start in range(0, heads, at_once):
            few = slice(start, start + at_once)
            out.append(
                functional.scaled_dot_product_attention(
                    query[:, few, rows].float(),
                    key[:, few].float(),
                    value[:, few].float(),
                    attn_mask=mask if mask is None or mask.shape[1] == 1 else mask[:, few],
                    scale=scale,
                )
            )
    return torch.cat(out, dim=1)


def relative_error(out: torch.Tensor, reference: torch.Tensor, rows: torch.Tensor) -> float:
    """``|out - reference| / |reference|`` over the compared queries; infinite where any output is not a number.

    Args:
        out: ``[B, H, N, D]``, all of a kernel's output.
        reference: ``[B, H, R, D]``, see :func:`reference_rows`.
        rows: ``[R]``.
    """
    if not bool(torch.isfinite(out).all()):
        return float("inf")
    difference = (out[:, :, rows].float() - reference).norm()
    return float(difference / reference.norm().clamp_min(torch.finfo(torch.float32).tiny))
