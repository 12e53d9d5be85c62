"""Makes a digest of what a value means, the same in every process: it tells whether a run is the one begun before.

Structure is hashed, never an address: numbers, text, tensors bit for bit, containers, functions by name with what they
close over, objects by class and public attributes. Attributes that begin with an underscore are caches by convention
and left out, as are UUIDs, locks and the like, which are new in every process.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

_DEPTH_LIMIT = 40
#: Of each weight this many values at its beginning, middle and end are read: any training changes all of them, and
#: a model of 28 GB is told from another in a second without being read from disk as a whole.
_SAMPLE_VALUES = 256

Special = Callable[[Any], "str | None"]


def fingerprint(value: Any, special: Special | None = None) -> str:
    """The hexadecimal SHA-256 of what a value means.

    Args:
        value: anything.
        special: asked first for each object inside; a string it returns stands for the object.
    """
    hasher = _Hasher(special)
    hasher.add(value, 0)
    return hasher.digest.hexdigest()


def weights_fingerprint(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """A digest of a model's weights by name: the shape, the type and a sample of the values of each."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights, key=lambda item: item[0]):
        digest.update(name.encode())
        _add_sample(digest, weight)
    return digest.hexdigest()


def _bytes_of(tensor: torch.Tensor) -> bytes | memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def _add_sample(digest: Any, weight: torch.Tensor) -> None:
    if hasattr(weight, "__tensor_flatten__"):  # a wrapper around several tensors, such as a quantised weight
        names, _ = weight.__tensor_flatten__()
        for name in names:
            digest.update(name.encode())
            _add_sample(digest, getattr(weight, name))
        return
    # A subclass that only adds attributes (a GGUF weight, say) is read as the bytes it holds.
    plain = weight.detach().as_subclass(torch.Tensor)
    digest.update(f"{tuple(plain.shape)} {plain.dtype}".encode())
    if plain.is_meta:
        return
    flat = plain.reshape(-1)
    count = flat.numel()
    if count <= 3 * _SAMPLE_VALUES:
        digest.update(_bytes_of(flat))
        return
    for start in (0, count // 2, count - _SAMPLE_VALUES):
        digest.update(_bytes_of(flat[start : start + _SAMPLE_VALUES]))


class _Hasher:
    def __init__(self, special: Special | None) -> None:
        self.digest = hashlib.sha256()
        self._special = special
        self._path: set[int] = set()

    def _tag(self, *words: object) -> None:
        self.digest.update(("\0".join(str(word) for word in words) + "\n").encode())

    def add(self, value: Any, depth: int) -> None:
        stands = self._special(value) if self._special is not None else None
        if stands is not None:
            self._tag("special", stands)
        elif isinstance(value, enum.Enum):
            self._tag("enum", type(value).__qualname__, value.name)
        elif isinstance(value, int) and not isinstance(value, bool):
            self._tag(type(value).__name__, hex(value))  # repr refuses to write thousands of digits
        elif value is None or isinstance(value, (bool, float, complex, str, torch.dtype, torch.device)):
            self._tag(type(value).__name__, repr(value))
        elif isinstance(value, (bytes, bytearray)):
            self._tag("bytes", len(value))
            self.digest.update(value)
        elif isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            array = np.ascontiguousarray(value)
            self._tag("array", array.shape, array.dtype)
            self.digest.update(array.tobytes() if array.dtype != object else repr(array.tolist()).encode())
        elif id(value) in self._path or depth > _DEPTH_LIMIT:
            self._tag("again", type(value).__qualname__)
        else:
            self._path.add(id(value))
            try:
                self._nested(value, depth + 1)
            finally:
                self._path.discard(id(value))

    def _tensor(self, tensor: torch.Tensor) -> None:
        self._tag("tensor", tuple(tensor.shape), tensor.dtype)
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_meta and not tensor.is_sparse:
            self.digest.update(_bytes_of(tensor))
        else:
            _add_sample(self.digest, tensor)

    def _nested(self, value: Any, depth: int) -> None:
        if isinstance(value, Mapping):
            items = {fingerprint(key, self._special): item for key, item in value.items()}
            self._tag("mapping", len(items))
            for key in sorted(items):
                self._tag(key)
                self.add(items[key], depth)
        elif isinstance(value, (list, tuple)):
            self._tag("list", len(value))
            for item in value:
                self.add(item, depth)
        elif isinstance(value, (set, frozenset)):
            self._tag("set", *sorted(fingerprint(item, self._special) for item in value))
        elif isinstance(value, type | types.ModuleType):
            self._tag("named", getattr(value, "__module__", ""), getattr(value, "__qualname__", value.__name__))
        elif isinstance(value, functools.partial):
            self._tag("partial")
            self.add([value.func, value.args, value.keywords], depth)
        elif isinstance(value, types.MethodType):
            self._tag("method", value.__func__.__qualname__)
            self.add(value.__self__, depth)
        elif isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif isinstance(value, torch.nn.Module):
            self._tag("module", type(value).__module__, type(value).__qualname__)
            self._tag(weights_fingerprint([*value.named_parameters(), *value.named_buffers()]))
            plain = {name: item for name, item in vars(value).items() if isinstance(item, (bool, int, float, str))}
            self.add({name: item for name, item in plain.items() if name != "training"}, depth)
        else:
            self._object(value, depth)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        self._tag("function", function.__module__, function.__qualname__)
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(cell.cell_contents)
            except ValueError:  # not assigned yet
                cells.append(None)
        self.add([cells, function.__defaults__, function.__kwdefaults__], depth)

    def _object(self, value: Any, depth: int) -> None:
        kind = type(value)
        self._tag("object", kind.__module__, kind.__qualname__)
        if kind.__module__ in ("uuid", "_thread", "threading", "weakref", "logging"):
            return
        attributes = dict(getattr(value, "__dict__", {}))
        for base in kind.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, name):
                    attributes[name] = getattr(value, name)
        self.add({name: item for name, item in attributes.items() if not name.startswith("_")}, depth)
