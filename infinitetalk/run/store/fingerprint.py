"""Makes a digest of what a value means, the same in every process: it tells whether a run is the one begun before.

Structure is hashed, never an address: numbers, text, tensors bit for bit, containers, objects by class and attributes,
functions by their code and what they close over. What cannot change a result is left out: UUIDs, locks and the like,
cached properties, what a closure's variable came to while it ran (see :mod:`~....base.functions`), where a package was
loaded from, and whether a model was compiled anew. When in doubt a value counts.

Classes and functions count by name. Functions, and classes that no module has under their name, count by their code as
well, since several of one name may come from one place; so do the numbers and words among a module's globals that a
function reads. Not so ours: how they work is the business of who made a run.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ....base.functions import attributes_of, closure_of, code_parts, globals_of
from .compiled import compiled_from
from .inside import KNOWN, in_order, inside, own_attributes
from .places import is_ours, place_of

#: Deeper than this nothing is looked into; what a person makes of nodes is some ten levels deep.
_DEPTH_LIMIT = 100
#: Of each weight this many values at its beginning, middle and end are read: any training changes all of them, and
#: a model of 28 GB is told from another in a second without being read from disk as a whole.
_SAMPLE_VALUES = 256
#: Packages whose objects are new in every process.
_NEW_EACH_TIME = {"uuid", "_thread", "threading", "weakref", "logging", "concurrent", "asyncio", "_io", "io", "socket"}
#: What PyTorch keeps in every module beside its weights.
_OF_ALL_MODULES = frozenset(vars(torch.nn.Module()))
#: Of that: what others hang there.
_HOOKS = sorted(name for name, item in vars(torch.nn.Module()).items() if "hooks" in name and isinstance(item, dict))
#: Packages whose classes are what their names say.
_CLASSES_BY_NAME = {*sys.stdlib_module_names, "torch", "numpy", "comfy", "comfy_extras", "comfy_api", "comfy_execution"}
#: What Python keeps in every class.
_OF_ALL_CLASSES = frozenset(vars(type("", (), {}))) | {
    "__annotations__",
    "__annotate_func__",
    "__slots__",
    "__firstlineno__",
}
_WORDS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


class Stand(NamedTuple):
    """What counts in the place of an object.

    Attributes:
        kind: in a word.
        holds: the value that counts.
    """

    kind: str
    holds: Any


def _nothing(value: Any) -> None:
    return None


def _none(value: Any) -> Collection[str]:
    return ()


def fingerprint(value: Any, stand_in: Callable[[Any], Stand | None] = _nothing) -> str:
    """The hexadecimal SHA-256 of what a value means.

    Args:
        value: anything.
        stand_in: see :class:`Fingerprints`.
    """
    return Fingerprints(stand_in).of(value)


def weights_fingerprint(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """A digest of a model's weights by name: the shape, the type and a sample of the values of each."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights, key=lambda item: item[0]):
        digest.update(name.encode())
        _add_sample(digest, weight)
    return digest.hexdigest()


def _bytes_of(tensor: torch.Tensor) -> bytes | memoryview:
    flat = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous().reshape(-1)
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


class Fingerprints:
    """Digests of values that belong together: what lies in several of them is hashed once.

    No value may change while this is used.

    Args:
        stand_in: asked for each object inside; what it returns counts in the object's place.
        passed_over: asked for each object inside: the names of its attributes that do not count.
    """

    def __init__(
        self,
        stand_in: Callable[[Any], Stand | None] = _nothing,
        passed_over: Callable[[Any], Collection[str]] = _none,
    ) -> None:
        self._stand_in = stand_in
        self._passed_over = passed_over
        self._known: dict[object, bytes] = {}
        self._alive: list[Any] = []  # so that no other object gets the id of one that is known
        self._path: dict[int, int] = {}
        self._lowest = _DEPTH_LIMIT
        self._tied: dict[int, list[int]] = {}

    def of(self, value: Any) -> str:
        """The hexadecimal SHA-256 of what a value means."""
        return hashlib.sha256(self._bytes(value)).hexdigest()

    def _bytes(self, value: Any) -> bytes:
        """A value in as many bytes as it takes, or the digest of one that has values inside; no two are alike."""
        kind = type(value)
        if kind is int:
            return f"int\0{value:#x}\n".encode()  # repr refuses to write thousands of digits
        if kind is bytes:
            return b"bytes\0%d\n" % len(value) + value
        if kind in _WORDS:
            return f"{kind.__name__}\0{value!r}\n".encode()
        return b"#" + self._digest(value)

    def _of(self, tag: str, *values: Any) -> bytes:
        """The digest of a kind of thing and the values it has."""
        digest = hashlib.sha256(f"{tag}\0{len(values)}\n".encode())
        for value in values:
            digest.update(self._bytes(value))
        return digest.digest()

    def _digest(self, value: Any) -> bytes:
        """The digest of an object, made once.

        Inside a circle it depends on where the circle was entered: it is known only until that is left.
        """
        key = id(value)
        if key in self._known:
            return self._known[key]
        place = len(self._path)
        if key in self._path or place >= _DEPTH_LIMIT:
            self._lowest = min(self._lowest, self._path.get(key, 0))
            return self._of("again", type(value).__qualname__)
        above, self._lowest = self._lowest, _DEPTH_LIMIT
        self._path[key] = place
        self._alive.append(value)
        try:
            made = self._made(value)
        finally:
            del self._path[key]
            for tied in self._tied.pop(place, ()):
                self._known.pop(tied, None)
        if self._lowest < place:
            self._tied.setdefault(self._lowest, []).append(key)
            above = min(above, self._lowest)
        self._lowest = above
        self._known[key] = made
        return made

    def _made(self, value: Any) -> bytes:
        stands = self._stand_in(value)
        if stands is not None:
            return self._of("stands", *stands)
        for kinds, made in self._KINDS:
            if isinstance(value, kinds):
                return made(self, value)
        return self._object(value)

    # Plain values and tensors.

    def _number(self, value: Any) -> bytes:
        """Of a class that extends one of Python's."""
        base: Any = next(kind for kind in (int, float, complex, str, bytes, bytearray) if isinstance(value, kind))
        return self._of("as", type(value), bytes(value) if base is bytearray else base(value), attributes_of(value))

    def _tensor(self, tensor: torch.Tensor) -> bytes:
        kind = None if type(tensor) in (torch.Tensor, torch.nn.Parameter) else type(tensor)
        own = own_attributes(tensor)
        if hasattr(tensor, "__tensor_flatten__"):  # a wrapper around several tensors, such as a quantised weight
            names, context = tensor.__tensor_flatten__()
            return self._of("tensors", kind, own, context, *(getattr(tensor, name) for name in names))
        plain = tensor.detach() if kind is None else tensor.detach().as_subclass(torch.Tensor)
        if plain.is_nested:
            return self._of("tensors", kind, own, *plain.unbind())
        if plain.layout is not torch.strided:
            entries = plain.to_sparse_coo().coalesce()
            return self._of("sparse", kind, own, plain.layout, plain.shape, entries.indices(), entries.values())
        content = None if plain.is_meta else self._content(plain)
        return self._of("tensor", *((kind, own) if kind or own else ()), tuple(plain.shape), plain.dtype, content)

    def _content(self, tensor: torch.Tensor) -> bytes:
        """The digest of a tensor's bytes: of other tensors over the same memory it is known already."""
        signs = tensor.is_conj(), tensor.is_neg()
        key = (tensor.data_ptr(), tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride(), *signs)
        if not tensor.numel() or key not in self._known:
            self._alive.append(tensor)
            self._known[key] = hashlib.sha256(_bytes_of(tensor)).digest()
        return self._known[key]

    def _array(self, value: np.ndarray | np.generic) -> bytes:
        if type(value) is not np.ndarray and not isinstance(value, np.generic):
            held = inside(value) if isinstance(value, KNOWN) else [value.view(np.ndarray), attributes_of(value)]
            return self._of("array", type(value), *held)
        array = np.asarray(value)
        if array.dtype.hasobject:
            return self._of("array", array.shape, str(array.dtype), array.tolist())
        key = (array.__array_interface__["data"][0], array.dtype.str, array.shape, array.strides)
        if isinstance(value, np.generic) or key not in self._known:
            self._alive.append(value)
            self._known[key] = hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).digest()
        return self._of("array", array.shape, str(array.dtype), self._known[key])

    def _generator(self, value: torch.Generator) -> bytes:
        return self._of("generator", value.get_state())

    # Containers.

    def _mapping(self, value: Mapping[Any, Any]) -> bytes:
        pairs = [(self._bytes(key), self._bytes(item)) for key, item in value.items()]
        ordered = in_order(value)
        plain = type(value) in (dict, types.MappingProxyType)
        more = None if plain else [type(value), getattr(value, "default_factory", None), attributes_of(value)]
        parts = (part for pair in (pairs if ordered else sorted(pairs)) for part in pair)
        return self._of("mapping in order" if ordered else "mapping", more, *parts)

    def _sequence(self, value: Sequence[Any]) -> bytes:
        if type(value) in (list, tuple):
            return self._of("list", *value)
        return self._of("sequence", type(value), attributes_of(value), *value)

    def _set(self, value: Iterable[Any]) -> bytes:
        return self._of("set", *sorted(self._bytes(item) for item in value))

    # Names and code.

    def _named(self, value: Any) -> bytes:
        """A class, or a module. A class that is not in its module counts by all that is in it, others by its words."""
        if isinstance(value, types.ModuleType):
            return self._of("named", place_of(value.__name__))
        names = [place_of(value.__module__), value.__qualname__]
        held = {name: item for name, item in vars(value).items() if name not in _OF_ALL_CLASSES}
        if not _is_in_module(value):
            return self._of("class", *names, value.__bases__, held)
        if is_ours(value.__module__) or value.__module__.partition(".")[0] in _CLASSES_BY_NAME:
            return self._of("named", *names)
        words = {name: item for name, item in held.items() if isinstance(item, _WORDS)}
        return self._of("named", *names, words, [base for base in value.__bases__ if base is not object])

    def _code(self, value: types.CodeType) -> bytes:
        return self._of("code", *code_parts(value))

    def _function(self, value: types.FunctionType) -> bytes:
        compiled = compiled_from(value)
        if compiled is not None:
            return self._of("compiled", *compiled)
        return self._of(
            "function",
            place_of(value.__module__),
            value.__qualname__,
            None if is_ours(value.__module__) else [value.__code__, self._globals(value)],
            self._closure(value),
            value.__defaults__,
            value.__kwdefaults__,
            vars(value),
        )

    def _globals(self, function: types.FunctionType) -> dict[str, Any]:
        """What a function reads of the globals: all where they are no module's, else numbers and words."""
        read = globals_of(function)
        if vars(sys.modules.get(function.__module__, types)) is function.__globals__:
            return {name: item for name, item in read.items() if isinstance(item, _WORDS)}
        return read

    def _closure(self, function: types.FunctionType) -> bytes:
        """Of state what it begins with, else what the variable holds."""
        variables = closure_of(function)
        return self._of(
            "closure", *(self._of("begins", *each.begins) if each.begins else each.held for each in variables)
        )

    def _method(self, value: types.MethodType) -> bytes:
        return self._of("method", value.__func__, value.__self__)

    def _builtin(self, value: types.BuiltinFunctionType) -> bytes:
        bound = None if isinstance(value.__self__, types.ModuleType) else value.__self__
        return self._of("builtin", value.__module__, value.__qualname__, bound)

    def _descriptor(self, value: Any) -> bytes:
        names = ("__func__", "fget", "fset", "fdel", "func")
        return self._of("descriptor", type(value), [getattr(value, name, None) for name in names])

    # Objects.

    def _module(self, value: torch.nn.Module) -> bytes:
        compiled = compiled_from(value)
        if compiled is not None:
            return self._of("compiled", *compiled)
        weights = weights_fingerprint([*value.named_parameters(), *value.named_buffers()])
        return self._of("module", weights, [self._of_module(*each) for each in value.named_modules()])

    def _of_module(self, name: str, module: torch.nn.Module) -> list[Any]:
        left_out = _OF_ALL_MODULES | {*self._passed_over(module)}
        own = {each: item for each, item in vars(module).items() if each not in left_out}
        return [name, type(module), own, hooks_of(module)]

    def _object(self, value: Any) -> bytes:
        kind = type(value)
        package = kind.__module__.partition(".")[0]
        known = isinstance(value, KNOWN)
        if package in _NEW_EACH_TIME and not known:
            return self._of("object", kind)
        if known or package in sys.stdlib_module_names or package == "numpy" or not attributes_of(value):
            return self._of("object", kind, *inside(value))
        left_out = {*self._passed_over(value), "__dict__", "__weakref__"}
        attributes = {name: item for name, item in attributes_of(value).items() if name not in left_out}
        return self._of("object", kind, self._mapping(attributes))

    #: How a value is hashed, by the first kind that it is of.
    _KINDS: tuple[tuple[Any, Callable[..., bytes]], ...] = (
        (enum.Enum, lambda self, value: self._of("enum", type(value), value.name or repr(value))),
        ((np.ndarray, np.generic), _array),
        (torch.Tensor, _tensor),
        ((int, float, complex, str, bytes, bytearray), _number),
        (torch.Generator, _generator),
        ((torch.memory_format, torch.layout), lambda self, value: self._of("torch", repr(value))),
        (Mapping, _mapping),
        ((list, tuple), _sequence),
        ((set, frozenset), _set),
        ((type, types.ModuleType), _named),
        (types.CodeType, _code),
        (types.FunctionType, _function),
        (types.MethodType, _method),
        (types.BuiltinFunctionType, _builtin),
        ((staticmethod, classmethod, property, functools.cached_property), _descriptor),
        (torch.nn.Module, _module),
    )


def _is_in_module(kind: type) -> bool:
    """Whether a class is what its module has under its name, so that the name tells which it is."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = inspect.getattr_static(found, name, None)
    return found is kind


def hooks_of(module: torch.nn.Module) -> dict[str, list[Any]]:
    """What hangs on a module, by the kind of hook; without the numbers that PyTorch counts hooks with."""
    return {name: list(hooks.values()) for name in _HOOKS if (hooks := getattr(module, name, None))}
