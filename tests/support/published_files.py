"""Published files of weights as their headers describe them, at full shape but without the weights.

Each says where its names, shapes and types are known from. Where a published size is known, it is the proof of the
types: a file written from the table is as long, but for the bytes that ``spare`` counts (text in the header that says
something about the file). Nothing else is in the repository of such a file: no weight, no line of a header.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import gguf
import published_layouts as layouts
from gguf_files import Kind, RawTensor, note, text

WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "I64": 8}
PT = {"format": "pt"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a header, and its bytes where they say how others are packed."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: bytes = b""


Tensors = list[Tensor]


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        maker: the repository that has it, or the tool that writes such files where none was found.
        tensors: makes the list of them.
        known: where names, shapes and types are known from.
        answer: what LongTalk says of it as an InfiniteTalk patch: the description, or a part of the refusal.
        taken: whether it is accepted.
        size: of the published file in bytes, from lists that check downloads; None where none was found.
        spare: how many bytes the published file is longer than one with these tensors and this text.
        listed: the size in GB as pages list it, where the bytes are not known.
        about: the text in the header.
        architecture: of a GGUF file; "" for none.
    """

    name: str
    maker: str
    tensors: Callable[[], Tensors]
    known: str
    answer: str
    taken: bool = False
    size: int | None = None
    spare: int = 0
    listed: str = ""
    about: dict[str, str] | None = None
    architecture: str = "wan"


# ---------------------------------------------------------------- how weights are kept


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and name.endswith(".weight")


def in_blocks(name: str, shape: tuple[int, ...]) -> bool:
    """The matrices of the transformer's blocks, which is where fp8 files of WAN are fp8."""
    return is_matrix(name, shape) and name.startswith("blocks.")


def plain(shapes: layouts.Shapes, kind: str, others: str | None = None) -> Tensors:
    """The matrices of the blocks in one type, everything else in another."""
    return [Tensor(name, kind if in_blocks(name, shape) else others or kind, shape) for name, shape in shapes.items()]


def scaled(
    shapes: layouts.Shapes, kind: str, others: str, *, which: Callable[[str, tuple[int, ...]], bool] = in_blocks
) -> Tensors:
    """The older convention of scaled fp8.

    Source: Comfy-Org/ComfyUI, comfy/utils.py (convert_old_quants); kijai/ComfyUI-WanVideoWrapper, custom_linear.py.
    """
    out = [Tensor("scaled_fp8", kind, (0,))]
    for name, shape in shapes.items():
        out.append(Tensor(name, kind if which(name, shape) else others, shape))
        if which(name, shape):
            out.append(Tensor(f"{name.removesuffix('weight')}scale_weight", "F32", ()))
    return out


def comfy_quant(shapes: layouts.Shapes, form: str, **more: object) -> Tensors:
    """ComfyUI's convention, in one of its formats.

    Source: Comfy-Org/ComfyUI, comfy/quant_ops.py and comfy/ops.py (_load_quantized_module), for the shapes of factors
    silveroxides/convert_to_quant, convert_to_quant/formats.
    """
    out = []
    for name, shape in shapes.items():
        if not in_blocks(name, shape):
            out.append(Tensor(name, "F32", shape))
            continue
        rows, columns = shape
        kind, kept, factor = {
            "float8_e4m3fn": ("F8_E4M3", shape, ("F32", ())),
            "int8_tensorwise": ("I8", shape, ("F32", (rows, 1))),
            "mxfp8": ("F8_E4M3", shape, ("U8", (rows, columns // 32))),
            "nvfp4": ("U8", (rows, columns // 2), ("F8_E4M3", (rows, columns // 16))),
        }[form]
        stem = name.removesuffix("weight")
        said = json.dumps({"format": form, **more}).encode()
        out += [Tensor(name, kind, kept), Tensor(f"{stem}weight_scale", *factor)]
        out += [Tensor(f"{stem}weight_scale_2", "F32", ())] if form == "nvfp4" else []
        out.append(Tensor(f"{stem}comfy_quant", "U8", (len(said),), said))
    return out


def quanto(shapes: layouts.Shapes, kind: str) -> Tensors:
    """Source: huggingface/optimum-quanto, nn/qmodule.py and tensor/weights/qbytes.py."""
    out = []
    for name, shape in shapes.items():
        if not is_matrix(name, shape):
            out.append(Tensor(name, "BF16", shape))
            continue
        stem = name.removesuffix("weight")
        out += [Tensor(f"{name}._data", kind, shape), Tensor(f"{name}._scale", "BF16", (shape[0], 1))]
        out += [Tensor(f"{stem}input_scale", "BF16", ()), Tensor(f"{stem}output_scale", "BF16", ())]
    return out


#: Parts of names that are left whole. Source: city96/ComfyUI-GGUF, tools/lcpp.patch.
_WHOLE = (
    "modulation",
    "patch_embedding.",
    "text_embedding.",
    "time_projection.",
    "time_embedding.",
    "img_emb.",
    "head.",
)


def ggml(shapes: layouts.Shapes, kind: str, values: str | None = None, prefix: str = "") -> Tensors:
    """As city96's tools write GGUF: vectors in F32, WAN's patch embedding with all its 5 dimensions.

    Source: city96/ComfyUI-GGUF, tools/convert.py, tools/lcpp.patch, tools/fix_5d_tensors.py.

    Args:
        values: the type of the layers that the tools keep better, where there is one.
    """
    out = []
    for name, shape in shapes.items():
        whole = len(shape) == 1 or prod(shape) <= 1024 or len(shape) > 2 or "modulation" in name
        found = "F32" if whole else "F16" if any(part in name for part in _WHOLE) else kind
        if found == kind and name.endswith((".v.weight", ".ffn.2.weight")):
            found = values or kind
        out.append(Tensor(prefix + name, found, shape))
    return out


def named(kind: str, names: Iterable[str], shape: tuple[int, ...] = (64, 64)) -> Tensors:
    """A file of which only some names are known; the shapes are none of its own."""
    return [Tensor(name, kind, shape) for name in names]


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return [Tensor(prefix + each.name, each.kind, each.shape, each.data) for each in tensors]


# ---------------------------------------------------------------- as files without weights


def write(path: Path, published: Published) -> Path:
    """The file at its full length, of which the disk holds only the header."""
    tensors = published.tensors()
    if published.name.endswith(".gguf"):
        return _write_gguf(path, tensors, published.architecture)
    tensors.sort(key=lambda each: (-WIDTHS[each.kind], each.name))  # as the safetensors library does
    header: dict[str, object] = {} if published.about is None else {"__metadata__": published.about}
    place, filled = 0, []
    for each in tensors:
        end = place + prod(each.shape) * WIDTHS[each.kind]
        header[each.name] = {"dtype": each.kind, "shape": list(each.shape), "data_offsets": [place, end]}
        filled += [(place, each.data)] if each.data else []
        place = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        start = file.tell()
        for where, data in filled:
            file.seek(start + where)
            file.write(data)
        file.truncate(start + place)
    return path


def _write_gguf(path: Path, tensors: Tensors, architecture: str) -> Path:
    notes = [note(b"general.quantization_version", 4, struct.pack("<I", 2))]
    if architecture:
        notes.insert(0, note(b"general.architecture", 8, text(architecture.encode())))
    place, infos = 0, []
    for each in tensors:
        kind = Kind[each.kind]
        values, size = gguf.GGML_QUANT_SIZES[kind]
        infos.append(RawTensor(each.name.encode(), each.shape[::-1], int(kind), place).packed())
        place += -(-(prod(each.shape) // values * size) // 32) * 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(notes)) + b"".join(notes) + b"".join(infos)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(-(-len(head) // 32) * 32 + place)
    return path
