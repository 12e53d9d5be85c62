"""Objects of every kind that nodes may hold a setting in: made alike they are alike, and a changed setting is seen."""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import enum
import functools
import io
import itertools
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from longtalk.infinitetalk.run.store.fingerprint import fingerprint

SCALE = 1.0


class Linear(NamedTuple):
    scale: float

    def __call__(self, x: float) -> float:
        return x * self.scale


class Inverse(NamedTuple):
    scale: float

    def __call__(self, x: float) -> float:
        return x / self.scale


class Base:
    scale = 1.0

    def __call__(self, x: float) -> float:
        return x * self.scale


class OfDict(dict[str, Any]):
    pass


class OfList(list[Any]):
    pass


class OfFloat(float):
    pass


class OfDeque(collections.deque[Any]):
    pass


class OfTensor(torch.Tensor):
    pass


def with_attribute(value: Any, setting: Any) -> Any:
    value.scale = setting
    return value


def hooked(setting: float) -> torch.nn.Module:
    module = torch.nn.Identity()
    module.register_forward_hook(lambda module, args, out: out * setting)
    return module


def replaced(setting: float) -> torch.nn.Module:
    return put(torch.nn.Identity(), "forward", lambda x: x * setting)


def put(value: Any, name: str, item: Any) -> Any:
    setattr(value, name, item)
    return value


def module(item: Any) -> torch.nn.Module:
    return put(torch.nn.Identity(), "held", item)  # type: ignore[no-any-return]


def set_later(setting: Any) -> Callable[..., Any]:
    held = None

    def use(given: Any) -> None:
        nonlocal held
        held = given

    def patch(x: Any) -> Any:
        return x if held is None else x * held

    use(setting)
    return patch


def wrapping(setting: float) -> Callable[..., Any]:
    def outer(x: float) -> Any:
        return outer.__wrapped__(x)  # type: ignore[attr-defined]

    return put(outer, "__wrapped__", lambda x: x * setting)  # type: ignore[no-any-return]


def stepwise(setting: float) -> Iterator[float]:
    while True:
        yield setting


def of_foreign_globals(setting: float) -> Any:
    """As a node makes a function of a text."""
    return types.FunctionType((lambda x: x * SCALE).__code__, {"SCALE": torch.tensor(setting)})


def variable(setting: float) -> contextvars.ContextVar[float]:
    made: contextvars.ContextVar[float] = contextvars.ContextVar("setting")
    made.set(setting)
    return made


def in_middle(setting: float) -> torch.Tensor:
    tensor = torch.zeros(10_000)
    tensor[3000] = setting
    return tensor.as_subclass(OfTensor)


def conjugated(setting: float) -> torch.Tensor:
    return torch.full((3,), complex(1, setting)).conj()


REFERRED = {setting: with_attribute(Base(), setting) for setting in (1.0, 0.2)}
MADE: dict[str, Callable[[float], Any]] = {
    "a deque": lambda v: collections.deque([1], maxlen=int(10 * v)),
    "what is in a deque with attributes": lambda v: with_attribute(OfDeque([v]), 1),
    "a default": lambda v: collections.defaultdict(lambda: v),
    "an attribute of a dictionary": lambda v: with_attribute(OfDict(), v),
    "an attribute of a list": lambda v: with_attribute(OfList(), v),
    "an attribute of a number": lambda v: with_attribute(OfFloat(1), v),
    "an attribute of a tensor": lambda v: with_attribute(torch.ones(2), v),
    "an attribute of a partial": lambda v: with_attribute(functools.partial(abs), v),
    "a mask": lambda v: np.ma.MaskedArray([1.0, 2.0], [v < 1, False]),
    "a tensor's subclass": in_middle,
    "a class made by type": lambda v: type("Patch", (Base,), {"scale": v})(),
    "a class made of fields": lambda v: dataclasses.make_dataclass("S", [("x", float, dataclasses.field(default=v))]),
    "a member made": lambda v: enum.Enum("Mode", {"LOW": v}).LOW,  # type: ignore[attr-defined]
    "globals of no module": of_foreign_globals,
    "a tensor set later": lambda v: set_later(torch.tensor([v])),
    "a list set later": lambda v: set_later([v]),
    "what a function wraps": wrapping,
    "a module's tensor": lambda v: module(torch.tensor([v])),
    "a module's array": lambda v: module(np.array([v])),
    "a module's dictionary": lambda v: module({"scale": v}),
    "a module's function": lambda v: module(lambda x: x * v),
    "a module's object": lambda v: module(types.SimpleNamespace(scale=v)),
    "a hook": hooked,
    "a forward replaced": replaced,
    "a generator": stepwise,
    "values of a dictionary": lambda v: {"a": v}.values(),
    "items of a dictionary": lambda v: {"a": v}.items(),
    "a view of memory": lambda v: memoryview(str(v).encode()),
    "a stream in memory": lambda v: io.BytesIO(str(v).encode()),
    "a weak reference": lambda v: weakref.ref(REFERRED[v]),
    "what a thread has": lambda v: with_attribute(threading.local(), v),
    "a context's variable": variable,
    "limits of numbers": lambda v: torch.finfo(torch.float32 if v < 1 else torch.float16),
    "a count": lambda v: itertools.count(v),
    "a cycle": lambda v: itertools.cycle([v]),
    "a map": lambda v: map(float, [v]),
    "pairs": lambda v: zip([1], [v], strict=True),
    "a sparse tensor": lambda v: (torch.eye(3) * v).to_sparse(),
    "a compressed tensor": lambda v: (torch.eye(3) * v).to_sparse_csr(),
    "a conjugated tensor": conjugated,
    "a negated tensor": lambda v: conjugated(v).imag,
    "a nested tensor": lambda v: torch.nested.nested_tensor([torch.tensor([v]), torch.ones(2)]),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("make", MADE.values(), ids=[*MADE])
def test_a_setting_counts_wherever_it_is(make: Callable[[float], Any]) -> None:
    first, again, other = make(1.0), make(1.0), make(0.2)
    assert fingerprint(first) == fingerprint(first) == fingerprint(again) != fingerprint(other)


def test_classes_count_where_their_items_are_alike() -> None:
    assert fingerprint(Linear(0.9)) != fingerprint(Inverse(0.9))
    array = np.array([[1.0, 2.0]])
    assert fingerprint(array.view(np.recarray)) != fingerprint(array)


def test_the_order_of_a_dictionary_counts_where_functions_are_nested() -> None:
    def one(x: Any) -> Any:
        return x

    def two(x: Any) -> Any:
        return x + 1

    settings, nested = {"a": 1, "b": [2]}, {"a": [one], "b": [two]}
    assert fingerprint(settings) == fingerprint(dict(reversed(settings.items())))
    assert fingerprint(nested) == fingerprint(dict(nested))
    assert fingerprint(nested) != fingerprint(dict(reversed(nested.items())))


def test_numbers_and_words_among_globals_and_in_classes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    function, thing = (lambda x: x * SCALE), Base()
    before = fingerprint(function), fingerprint(thing)
    monkeypatch.setitem(globals(), "SCALE", 0.2)
    monkeypatch.setattr(Base, "scale", 0.2)
    after = fingerprint(function), fingerprint(thing)
    assert before[0] != after[0]
    assert before[1] != after[1]


class Closed:
    """Like what a library in C makes: nobody can tell what is in it, whatever it says that it equals."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot be pickled")


def test_what_nobody_can_look_into_is_another_one_each_time() -> None:
    one, other = Closed(), Closed()
    assert fingerprint(one) == fingerprint(one) != fingerprint(other)
