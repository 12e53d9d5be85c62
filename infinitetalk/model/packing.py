"""How the weights of a safetensors file are packed, from its header: one number per value, or fp8 with factors.

There are two conventions for scaled fp8. The older has ``scale_weight`` beside each weight and ``scaled_fp8`` in the
file; ComfyUI's has ``weight_scale`` and, as JSON in ``comfy_quant``, the name of the format. Under both names other
formats come too (mxfp8, nvfp4, int8), some with the same types and shapes, so what the JSON says decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from ...base.errors import FileError
from .tensor_file import TensorFile

#: The types of whole weights, by the names that safetensors and ggml share, and torch's names.
PRECISIONS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
FP8 = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
#: What ComfyUI and the tools that write for it call fp8 with one factor for the weight or for each row.
FORMATS = (*FP8.values(), "float8_e4m3fn_rowwise")

_SCALES = ("scale_weight", "weight_scale")
_FORMAT = "comfy_quant"
_LONGEST_FORMAT = 4096
#: How the names of all that lies beside weights end. Factors of inputs serve to multiply in fp8, which is not done.
BESIDE = (*_SCALES, _FORMAT, "scale_input", "input_scale", "scaled_fp8")


def _beside(weight: str, sources: Mapping[str, str], *ends: str) -> str | None:
    """The file's name of what lies beside a weight under a name of one of these ends."""
    stem = weight.removesuffix("weight")
    return next((sources[stem + end] for end in ends if stem != weight and stem + end in sources), None)


def _formats(file: TensorFile, beside: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What ``comfy_quant`` says of each weight.

    Args:
        beside: the file's name of it, by the weight's.

    Raises:
        LongTalkError: nothing that can be understood.
    """
    small = [
        name for name in beside.values() if file.kinds[name] == "U8" and prod(file.shapes[name]) <= _LONGEST_FORMAT
    ]
    raw = file.read(small) if small else {}
    out: dict[str, dict[str, Any]] = {}
    for weight, name in beside.items():
        try:
            found = json.loads(bytes(raw[name].flatten().tolist())) if name in raw else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise FileError(
                file.path.name,
                expected=f"up to {_LONGEST_FORMAT} bytes of JSON in {name[:80]}",
                actual=f"{file.kinds[name]} {list(file.shapes[name])} that is none",
                action="Download the file again",
            )
        out[weight] = found
    return out


def check_kinds(file: TensorFile, weights: Iterable[str], sources: Mapping[str, str]) -> None:
    """Refuse weights that are packed in a way that cannot be unpacked here.

    Args:
        weights: their names in ``sources``, which has the file's name of each tensor.

    Raises:
        LongTalkError: neither fp32, fp16, bf16 nor fp8 with one factor for the weight or for each row.
    """
    names = list(weights)
    beside = {name: _beside(name, sources, _FORMAT) for name in names}
    formats = _formats(file, {name: found for name, found in beside.items() if found is not None})
    for name in names:
        kind = file.kinds[sources[name]]
        actual = f"{kind} {list(file.shapes[sources[name]])}"
        good = kind in PRECISIONS or kind in FP8
        if name in formats:
            form = str(formats[name].get("format"))[:40]
            good = kind in FP8 and form in FORMATS and not formats[name].get("convrot")
            actual = f"{form}, {actual}"
        if not good:
            raise FileError(
                file.path.name,
                expected=f"{name} in fp32, fp16, bf16 or scaled fp8",
                actual=actual,
                action="Choose the fp16, scaled fp8 or GGUF file",
            )


def factor_of(file: TensorFile, weight: str, sources: Mapping[str, str]) -> str | None:
    """The file's name of the factor of a float8 matrix; None for other weights, and where there is none.

    Raises:
        LongTalkError: the factor has another shape or type.
    """
    source = sources[weight]
    factor = _beside(weight, sources, *_SCALES)
    if factor is None or file.kinds[source] not in FP8 or len(file.shapes[source]) != 2:
        return None
    rows, shape = file.shapes[source][0], file.shapes[factor]
    if file.kinds[factor] not in PRECISIONS or not (prod(shape) == 1 or shape in ((rows,), (rows, 1))):
        raise FileError(
            file.path.name,
            expected=f"one factor for {weight}, or one per row",
            actual=f"{file.kinds[factor]} {list(shape)}",
            action="Choose the fp16 file, or download this one again",
        )
    return factor
