"""GGUF files for the tests: by the ``gguf`` library, or byte by byte where it would refuse to write them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

Kind = gguf.GGMLQuantizationType


def random_blocks(kind: str, rows: int, columns: int, seed: int = 0, scale: float = 0.001) -> torch.Tensor:
    """uint8 ``[rows, bytes]``: random bytes, but for scales and minima below ``scale``. Any bytes are valid blocks."""
    from longtalk.infinitetalk.model.quantised import BLOCKS

    form = BLOCKS[kind]
    generator = np.random.default_rng(seed)
    raw = generator.integers(0, 256, (rows * columns // form.values, form.size), dtype=np.uint8)
    for place in (form.scale, form.minimum):
        if place is not None:
            halves = (generator.random((raw.shape[0], 1)) * scale).astype(np.float16)
            raw[:, place : place + 2] = halves.view(np.uint8)
    return torch.from_numpy(raw.reshape(rows, -1))


def library_values(kind: str, stored: torch.Tensor) -> torch.Tensor:
    """Float32, as the library unpacks them."""
    return torch.from_numpy(gguf.dequantize(stored.numpy(), Kind[kind]))


def packed_by_library(values: torch.Tensor, kind: str) -> np.ndarray:
    """A matrix in this kind where its rows are whole blocks; anything else as it is."""
    array = values.float().numpy()
    if values.ndim != 2 or values.shape[1] % gguf.GGML_QUANT_SIZES[Kind[kind]][0]:
        return array
    return gguf.quantize(array, Kind[kind])


def write_gguf(
    path: Path,
    tensors: Mapping[str, torch.Tensor | np.ndarray],
    kinds: Mapping[str, str] | str,
    notes: Mapping[str, Any] | None = None,
    alignment: int | None = None,
) -> Path:
    """Write a file with the library.

    Args:
        tensors: uint8 ones hold blocks of their kind; others are written as numbers of theirs.
        kinds: of the uint8 ones, by name, or one for all.
        notes: texts, numbers and lists beside the tensors.
    """
    writer = gguf.GGUFWriter(str(path), "wan")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for name, value in (notes or {}).items():
        add = {bool: writer.add_bool, int: writer.add_int64, float: writer.add_float64, str: writer.add_string}
        add.get(type(value), writer.add_array)(name, value)
    for name, tensor in tensors.items():
        kind = None
        if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.bfloat16:
            kind, array = Kind.BF16, tensor.view(torch.uint8).numpy()
        else:
            array = tensor.numpy() if isinstance(tensor, torch.Tensor) else tensor
            if array.dtype == np.uint8:
                kind = Kind[kinds if isinstance(kinds, str) else kinds[name]]
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@dataclass(frozen=True)
class RawTensor:
    """A tensor as the header describes it; dimensions in GGUF's order."""

    name: bytes = b"a"
    dimensions: tuple[int, ...] = (32,)
    kind: int = int(Kind.F32)
    place: int = 0

    def packed(self) -> bytes:
        shape = struct.pack(f"<I{len(self.dimensions)}Q", len(self.dimensions), *self.dimensions)
        return text(self.name) + shape + struct.pack("<IQ", self.kind, self.place)


def raw_gguf(
    tensors: Sequence[RawTensor] = (RawTensor(),),
    notes: Sequence[bytes] = (),
    data: bytes = bytes(128),
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A whole file; ``counts`` (tensors, notes) may claim what is not there."""
    counts = counts or (len(tensors), len(notes))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts)
    head += b"".join(notes) + b"".join(tensor.packed() for tensor in tensors)
    return head + bytes(-len(head) % 32) + data


def note(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value
