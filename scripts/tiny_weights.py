"""Seeded weights and the files they go to, for the scripts beside this one whose names begin with tiny.

Every tensor has its own generator, seeded by its name, so a file does not depend on the order in which a ComfyUI
version lists its parameters; nor, byte for byte, on when it is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

SEED = 20260101


def seeded(name: str, shape: tuple[int, ...], std: float) -> torch.Tensor:
    digest = hashlib.sha256(f"{SEED}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(shape, generator=generator) * std


def fill(prefix: str, shapes: dict[str, torch.Size], gain: float = 1.0) -> dict[str, torch.Tensor]:
    """Fan-in scaled normal weights, ones for norms and small biases: signals neither vanish nor explode."""
    out = {}
    for name, shape in shapes.items():
        leaf = name.rsplit(".", 1)[-1]
        is_norm = "norm" in name or leaf == "gamma" or name in ("img_emb.proj.0.weight", "img_emb.proj.4.weight")
        if is_norm and leaf in ("weight", "gamma"):
            tensor = torch.ones(shape)
        elif leaf == "bias" or len(shape) < 2:
            tensor = seeded(prefix + name, tuple(shape), 0.02)
        else:
            fan_in = max(1, shape[1:].numel())
            tensor = seeded(prefix + name, tuple(shape), gain / fan_in**0.5)
        out[name] = tensor.contiguous()
    return out


def shapes_of(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@contextmanager
def written_whole(path: Path) -> Iterator[str]:
    """A name to write to; the file gets its own name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        pass
    yield part.name
    os.chmod(part.name, 0o644)
    os.replace(part.name, path)


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """As safetensors. The same tensors and metadata give the same bytes."""
    with written_whole(path) as part:
        save_file(tensors, part, metadata=metadata)
        _sort_metadata(part)


def _sort_metadata(path: str) -> None:
    """safetensors writes the entries of the metadata in another order each time; here they get a fixed one."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if "__metadata__" not in header:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        # Written as compactly as it was, so that it takes the same room; spaces at the end are padding.
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(content) > size:
            raise ValueError(f"a header of {len(content)} bytes does not fit into its {size}")
        file.seek(8)
        file.write(content.ljust(size))


def write_q8(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """As GGUF, matrices in Q8_0 (every row is a multiple of 32 values), vectors in fp32."""
    import gguf

    with written_whole(path) as part:
        writer = gguf.GGUFWriter(part, "wan")
        for name, tensor in tensors.items():
            kind = gguf.GGMLQuantizationType.Q8_0 if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(name, gguf.quantize(tensor.numpy(), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
