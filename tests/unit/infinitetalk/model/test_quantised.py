"""Packed weights against the ``gguf`` library: any bytes are a valid block, so any bytes must come out equal."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf_files import library_values

from longtalk.infinitetalk.model import quantised
from longtalk.infinitetalk.model.quantised import BLOCKS, PackedWeight

QUANTISED_BY_THE_LIBRARY = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def any_blocks(kind: str, rows: int, per_row: int, seed: int = 0) -> torch.Tensor:
    """Random bytes with finite scales: where half precision has an exponent of all ones, one bit of it is cleared."""
    form = BLOCKS[kind]
    raw = np.random.default_rng(seed).integers(0, 256, (rows * per_row, form.size), dtype=np.uint8)
    for place in (form.scale, form.minimum):
        if place is not None:
            raw[:, place + 1] &= np.where(raw[:, place + 1] & 0x7C == 0x7C, 0xBF, 0xFF).astype(np.uint8)
    return torch.from_numpy(raw.reshape(rows, -1))


@pytest.mark.parametrize("kind", BLOCKS)
def test_sizes_are_the_library_s(kind: str) -> None:
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]] == (BLOCKS[kind].values, BLOCKS[kind].size)


@pytest.mark.parametrize("kind", BLOCKS)
def test_random_bytes_are_bit_for_bit_the_library_s(kind: str) -> None:
    stored = any_blocks(kind, 50, 13)
    ours = PackedWeight(kind, stored)
    values = ours.expand(torch.float32)
    assert values.shape == ours.shape == (50, 13 * BLOCKS[kind].values)
    assert torch.equal(values, library_values(kind, stored))
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(ours.expand(dtype), values.to(dtype))


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_byte_value_at_every_place(kind: str) -> None:
    """256 blocks that differ in one byte only, for each byte that is not part of a scale or minimum."""
    form = BLOCKS[kind]
    scales = {place + each for place in (form.scale, form.minimum) if place is not None for each in (0, 1)}
    for place in set(range(form.size)) - scales:
        stored = any_blocks(kind, 1, 1).repeat(256, 1)
        stored[:, place] = torch.arange(256, dtype=torch.uint8)
        assert torch.equal(PackedWeight(kind, stored).expand(torch.float32), library_values(kind, stored)), place


@pytest.mark.parametrize("kind", QUANTISED_BY_THE_LIBRARY)
def test_values_that_the_library_quantised(kind: str) -> None:
    values = torch.randn(16, 256, generator=torch.Generator().manual_seed(2)).numpy()
    values[1], values[2], values[3] = 0, -7.5, np.linspace(-1e-6, 1e-6, 256)
    values[4, ::2], values[5, 7] = 60000, -60000
    packed = gguf.quantize(values, gguf.GGMLQuantizationType[kind])
    ours = PackedWeight(kind, torch.from_numpy(packed)).expand(torch.float32)
    assert torch.equal(ours, library_values(kind, torch.from_numpy(packed)))
    steps = {"Q4": 8, "Q5": 16, "Q8": 127}[kind[:2]]
    close = 1.1 * np.abs(values).reshape(16, -1, 32).max(-1).repeat(32, -1) / steps + 2e-6  # half precision ends
    assert (np.abs(ours.numpy() - values) <= close).all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_large_weights_are_unpacked_in_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = any_blocks(kind, 11, 3)
    whole = PackedWeight(kind, stored).expand(torch.float16)
    monkeypatch.setattr(quantised, "_AT_ONCE", 2 * whole.shape[1])
    seen = []
    form = BLOCKS[kind]

    def unpack(blocks: torch.Tensor) -> torch.Tensor:
        seen.append(blocks.shape[0])
        return form.unpack(blocks)

    monkeypatch.setitem(BLOCKS, kind, quantised.Blocks(form.values, form.size, unpack, form.scale, form.scaled))
    assert torch.equal(PackedWeight(kind, stored).expand(torch.float16), whole)
    assert seen == [6] * 5 + [3]


@pytest.mark.parametrize("kind", BLOCKS)
def test_largest_is_a_bound(kind: str) -> None:
    for seed in range(20):
        weight = PackedWeight(kind, any_blocks(kind, 1, 2, seed))
        assert float(weight.expand(torch.float32).abs().max()) <= weight.largest() < float("inf")
    form, bad = BLOCKS[kind], any_blocks(kind, 4, 2)
    for place in [form.scale, *([] if form.minimum is None else [form.minimum])]:
        for value in (0x7C00, 0xFC00, 0x7E00, 0xFFFF):  # infinities and NaNs
            stored = bad.clone()
            stored[3, place], stored[3, place + 1] = value & 255, value >> 8
            assert not PackedWeight(kind, stored).largest() < 1e30


def test_largest_reached() -> None:
    """All bits set and a scale of 1: the bound is the value itself where the format has no minimum."""
    for kind, value in {"Q4_0": 8, "Q5_0": 16, "Q8_0": 128, "Q6_K": 4096}.items():
        form = BLOCKS[kind]
        stored = torch.zeros(1, form.size, dtype=torch.uint8)
        if kind == "Q8_0":
            stored[:, 2:] = 128
        elif kind == "Q6_K":
            stored[:, 192:208] = 128
        stored[0, form.scale + 1] = 0x3C
        weight = PackedWeight(kind, stored)
        assert weight.largest() == value == weight.expand(torch.float32).abs().max()


@pytest.mark.parametrize("dtype", quantised.FP8_DTYPES)
@pytest.mark.parametrize("shape", [None, (1, 1), (8, 1)])
def test_fp8(dtype: torch.dtype, shape: tuple[int, int] | None) -> None:
    generator = torch.Generator().manual_seed(3)
    stored = torch.randn(8, 40, generator=generator).to(dtype)
    factor = None if shape is None else torch.rand(shape, generator=generator) + 0.5
    weight = PackedWeight(str(dtype).removeprefix("torch."), stored, factor)
    expected = stored.float() if factor is None else stored.float() * factor
    assert weight.shape == (8, 40)
    assert torch.equal(weight.expand(torch.float32), expected)
    assert torch.equal(weight.expand(torch.float16), expected.half())
    assert weight.largest() == expected.abs().max()
    assert weight.expand(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("byte", [0x7F, 0xFF])
def test_fp8_that_is_no_number(byte: int) -> None:
    stored = torch.zeros(3, 5, dtype=torch.uint8)
    stored[2, 4] = byte
    for dtype in quantised.FP8_DTYPES:
        assert not PackedWeight("", stored.view(dtype)).largest() < float("inf")
    zeros = torch.zeros(3, 5).to(torch.float8_e4m3fn)
    assert not PackedWeight("", zeros, torch.tensor([[float("nan")]])).largest() < float("inf")
