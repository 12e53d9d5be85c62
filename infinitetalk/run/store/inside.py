"""What objects of Python, NumPy and PyTorch are made of, those that are neither values nor ordinary objects.

An object whose insides nobody can tell counts as itself: in another process, or made anew, it is another one. When in
doubt a run is made again.
"""

from __future__ import annotations

import collections
import contextvars
import copyreg
import functools
import io
import threading
import types
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ....base.functions import attributes_of

_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


class _Tokens:
    """Objects that count as themselves: as long as one lives, it has one token, which no other ever has."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Callable[[], Any], str]] = {}

    def of(self, value: Any) -> str:
        # By what it is, not by what it says it equals; another object may have the id of one that is gone.
        lives, token = self._known.get(id(value), (None, ""))
        if lives is None or lives() is not value:
            token = uuid.uuid4().hex
            try:
                self._known[id(value)] = weakref.ref(value), token
            except TypeError:  # it cannot be referred to weakly, so it is kept
                self._known[id(value)] = lambda: value, token
        return token


_tokens = _Tokens()


def own_attributes(value: Any) -> dict[str, Any]:
    """What a program put on an object of a class that has none of its own, such as a tensor; private names aside."""
    return {name: item for name, item in getattr(value, "__dict__", {}).items() if not name.startswith("_")}


def in_order(value: Mapping[Any, Any]) -> bool:
    """Whether the order of a dictionary may count: ComfyUI nests wrappers and callbacks in the order of their keys."""
    lists = [item for item in value.values() if isinstance(item, list)]
    return len(lists) == len(value) > 1 and all(callable(each) for items in lists for each in items)


def inside(value: Any) -> list[Any]:
    """What an object is made of, beside its class."""
    for kinds, parts in _KINDS:
        if isinstance(value, kinds):
            return [*parts(value), attributes_of(value)]
    return [_as_pickled(value)]


def _generator(value: types.GeneratorType[Any, Any, Any]) -> list[Any]:
    frame = value.gi_frame
    return [value.gi_code, None] if frame is None else [value.gi_code, frame.f_lasti, frame.f_locals]


def _masked(value: np.ma.MaskedArray[Any, Any]) -> list[Any]:
    return [np.ma.getdata(value), np.ma.getmaskarray(value)]


def _stream(value: io.BytesIO | io.StringIO) -> list[Any]:
    return ["closed"] if value.closed else [value.getvalue(), value.tell()]


_KINDS: tuple[tuple[Any, Callable[[Any], list[Any]]], ...] = (
    (functools.partial, lambda value: [value.func, value.args, value.keywords]),
    (types.GeneratorType, _generator),
    (_VIEWS, lambda value: [list(value)]),
    (memoryview, lambda value: [value.tobytes(), value.format, list(value.shape or ())]),
    ((io.BytesIO, io.StringIO), _stream),
    (contextvars.ContextVar, lambda value: [value.name, value.get(None)]),
    ((torch.finfo, torch.iinfo), lambda value: [repr(value)]),
    (weakref.ref, lambda value: [value()]),
    (threading.local, lambda value: []),  # its attributes are the thread's
    (collections.deque, lambda value: [list(value), value.maxlen]),
    (np.ma.MaskedArray, _masked),
)
#: Objects of which :func:`inside` knows more than their attributes say.
KNOWN = tuple(kinds for kinds, _ in _KINDS)


def _as_pickled(value: Any) -> Any:
    """What the standard library and NumPy would make one of their objects of again, or a token."""
    if hasattr(value, "__wrapped__"):  # a function whose results are remembered
        return value.__wrapped__
    try:
        registered = copyreg.dispatch_table.get(type(value))
        made: Any = value.__reduce_ex__(4) if registered is None else registered(value)
    except Exception:
        return _tokens.of(value)
    if isinstance(made, str):
        return made
    # The items of a list or a dictionary come as iterators, made for this.
    return [list(part) if index > 2 and isinstance(part, Iterator) else part for index, part in enumerate(made)]
