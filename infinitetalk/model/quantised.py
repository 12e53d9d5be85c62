"""Weights that stay packed in memory, as their file has them, and are unpacked where something is computed with them.

GGUF's block formats hold 32 or 256 values of a row in one block: a half-precision scale, for some a minimum, and the
values as small integers. Source of every layout: ggml, ``ggml-common.h`` (the block structs) and ``ggml-quants.c``
(``dequantize_row_*``). A product of scale and integers has at most 24 significant bits, so float32 holds it exactly and
at most one addition rounds: the values equal those of the ``gguf`` library bit for bit, on every device.
Scaled fp8 is a float8 value times one float32 factor for the weight or for its row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

#: How many values are unpacked at once, which bounds the memory for what lies between bytes and result.
_AT_ONCE = 1 << 23
FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def _half(blocks: torch.Tensor, place: int) -> torch.Tensor:
    """The half-precision number at this byte of each block, float32 ``[n, 1]``."""
    return blocks[:, place : place + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: torch.Tensor) -> torch.Tensor:
    """All low halves of the bytes of the last dimension, then all high halves."""
    return torch.cat([packed & 15, packed >> 4], dim=-1)


def _shifts(count: int, step: int, device: torch.device) -> torch.Tensor:
    return torch.arange(0, count * step, step, dtype=torch.uint8, device=device)


def _fifth_bits(high: torch.Tensor) -> torch.Tensor:
    """The bits of uint8 ``[n, 4]`` as ``[n, 32]``: bit after bit of each byte, as the value 16 or 0."""
    return ((high[..., None] >> _shifts(8, 1, high.device)) & 1).flatten(1) << 4


def _q4_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).float() - 8)


def _q4_1(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).float() + _half(blocks, 2)


def _q5_0(blocks: torch.Tensor) -> torch.Tensor:
    values = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks, 0) * (values.float() - 16)


def _q5_1(blocks: torch.Tensor) -> torch.Tensor:
    values = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0) * values.float() + _half(blocks, 2)


def _q8_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * blocks[:, 2:].contiguous().view(torch.int8).float()


def _eight_scales(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The scales and minima of the 8 sub-blocks from 12 bytes, six bits each.

    Bytes 0-3 are scales 0-3 and 4-7 minima 0-3 in their lower six bits; bytes 8-11 hold the lower four bits of
    scales (low half) and minima (high half) 4-7, whose upper two bits are on top of the first eight bytes.
    """
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([first & 63, (third & 15) | (first >> 6 << 4)], dim=1)
    minima = torch.cat([second & 63, (third >> 4) | (second >> 6 << 4)], dim=1)
    return scales.float(), minima.float()


def _from_minimum(blocks: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The values ``[n, 8, 32]`` of a super-block that begins with scale, minimum and twelve bytes of scales."""
    scales, minima = _eight_scales(blocks[:, 4:16])
    scale, minimum = _half(blocks, 0) * scales, _half(blocks, 2) * minima
    return (scale[..., None] * values.float() - minimum[..., None]).flatten(1)


def _q4_k(blocks: torch.Tensor) -> torch.Tensor:
    values = _nibbles(blocks[:, 16:].unflatten(1, (4, 32))).reshape(-1, 8, 32)
    return _from_minimum(blocks, values)


def _q5_k(blocks: torch.Tensor) -> torch.Tensor:
    low = _nibbles(blocks[:, 48:].unflatten(1, (4, 32))).reshape(-1, 8, 32)
    high = (blocks[:, None, 16:48] >> _shifts(8, 1, blocks.device)[:, None]) & 1
    return _from_minimum(blocks, low | (high << 4))


def _q6_k(blocks: torch.Tensor) -> torch.Tensor:
    low = _nibbles(blocks[:, :128].unflatten(1, (2, 64))).unflatten(2, (4, 32))
    high = (blocks[:, 128:192].unflatten(1, (2, 1, 32)) >> _shifts(4, 2, blocks.device)[:, None]) & 3
    values = (low | (high << 4)).reshape(-1, 16, 16).float() - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].contiguous().view(torch.int8).float()
    return (scales[..., None] * values).flatten(1)


@dataclass(frozen=True)
class Blocks:
    """One of GGUF's block formats.

    Attributes:
        values: how many values a block holds.
        size: how many bytes a block takes.
        unpack: makes float32 ``[n, values]`` of uint8 ``[n, size]``.
        scale, scaled: where the scale lies in a block, and the largest integer that it is multiplied by.
        minimum, lowered: the same for the minimum; None where the format has none.
    """

    values: int
    size: int
    unpack: Callable[[torch.Tensor], torch.Tensor]
    scale: int
    scaled: int
    minimum: int | None = None
    lowered: int = 1


#: GGUF's block formats, by ggml's names.
BLOCKS = {
    "Q4_0": Blocks(32, 18, _q4_0, 0, 8),
    "Q4_1": Blocks(32, 20, _q4_1, 0, 15, 2),
    "Q5_0": Blocks(32, 22, _q5_0, 0, 16),
    "Q5_1": Blocks(32, 24, _q5_1, 0, 31, 2),
    "Q8_0": Blocks(32, 34, _q8_0, 0, 128),
    "Q4_K": Blocks(256, 144, _q4_k, 0, 63 * 15, 2, 63),
    "Q5_K": Blocks(256, 176, _q5_k, 0, 63 * 31, 2, 63),
    "Q6_K": Blocks(256, 210, _q6_k, 208, 128 * 32),
}


@dataclass(frozen=True)
class PackedWeight:
    """A weight matrix as its file has it.

    Attributes:
        kind: a name in :data:`BLOCKS`, or the name of a float8 dtype.
        stored: uint8 ``[rows, bytes]`` of whole blocks, or float8 ``[rows, columns]``.
        factor: what fp8 values are multiplied by, float32 ``[1, 1]`` or ``[rows, 1]``; None for 1.
    """

    kind: str
    stored: torch.Tensor
    factor: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        rows, width = self.stored.shape
        form = BLOCKS.get(self.kind)
        return rows, width if form is None else width // form.size * form.values

    def expand(self, dtype: torch.dtype) -> torch.Tensor:
        """The values ``[rows, columns]`` in this dtype, on the device where the weight lies."""
        return expand(self.kind, self.stored, self.factor, dtype)

    def largest(self) -> float:
        """A bound that no value passes, whatever its sign; NaN or infinite where a value may be."""
        form = BLOCKS.get(self.kind)
        if form is None:
            factor = torch.ones(1, 1) if self.factor is None else self.factor.abs()
            rows = [part.float().abs().amax(1, keepdim=True) for part in _row_parts(self.stored, self.stored.shape[1])]
            return float((torch.cat(rows) * factor).max())
        blocks = self.stored.view(-1, form.size)
        bound = _half(blocks, form.scale).abs() * form.scaled
        if form.minimum is not None:
            bound += _half(blocks, form.minimum).abs() * form.lowered
        return float(bound.max())


def _row_parts(stored: torch.Tensor, columns: int) -> tuple[torch.Tensor, ...]:
    return stored.split(max(1, _AT_ONCE // max(1, columns)))


def expand(kind: str, stored: torch.Tensor, factor: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """Unpack the values of a weight; they are computed in float32 and rounded once to ``dtype``.

    Args:
        kind, stored, factor: see :class:`PackedWeight`; the factor may lie on another device.

    Returns:
        ``[rows, columns]`` on the device of ``stored``
    """
    form = BLOCKS.get(kind)
    columns = stored.shape[1] if form is None else stored.shape[1] // form.size * form.values
    out = torch.empty(stored.shape[0], columns, dtype=dtype, device=stored.device)
    if factor is not None:
        factor = factor.to(stored.device).expand(stored.shape[0], 1)
    start = 0
    for part in _row_parts(stored, columns):
        rows = slice(start, start + part.shape[0])
        if form is not None:
            values = form.unpack(part.reshape(-1, form.size)).view(-1, columns)
        else:
            values = part.float() if factor is None else part.float() * factor[rows]
        out[rows] = values
        start = rows.stop
    return out
