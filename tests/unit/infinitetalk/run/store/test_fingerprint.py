"""Digests of meaning: the same in every process, another for every change that counts."""

from __future__ import annotations

import decimal
import enum
import functools
import pathlib
import random
import re
import subprocess
import sys
import threading
import types
import uuid
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from same_names import times

from longtalk.infinitetalk.run.store.fingerprint import Fingerprints, Stand, fingerprint, weights_fingerprint

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


@given(PLAIN)
def test_a_copy_has_the_same_digest(value: Any) -> None:
    import copy

    assert fingerprint(value) == fingerprint(copy.deepcopy(value))


@given(PLAIN, PLAIN)
def test_other_values_have_another_digest(first: Any, second: Any) -> None:
    if repr(first) != repr(second) and first != second:
        assert fingerprint(first) != fingerprint(second)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Box:
    width: int
    _cache: Any = None


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


def scaled(by: float) -> Any:
    def scale(x: float) -> float:
        return x * by

    return scale


def other(x: float) -> float:
    return x


class PrivateSlots:
    __slots__ = ("__value",)

    def __init__(self, value: int) -> None:
        self.__value = value


class Half(float):
    pass


LINEAR = torch.nn.Linear(2, 2)
#: Two functions with one name.
SAME_NAME = [times(2), times(3)]


def class_with(by: float) -> type:
    class Scale:
        def __call__(self, x: float) -> float:
            return x * by

    return Scale


def lowered(strength: float) -> Any:
    """A setting that the function itself lowers."""

    def lower() -> float:
        nonlocal strength
        strength *= 0.9
        return strength

    return lower


def set_up(strength: float) -> Any:
    """A setting that begins as a constant and is set before anything runs."""
    used = 0.0

    def put(value: float) -> None:
        nonlocal used
        used = value

    def scale(x: float) -> float:
        return x * used

    put(strength)
    return scale


def with_default(by: float) -> Any:
    def scale(x: float, *, scale: float = by) -> float:
        return x * scale

    return scale


def averaging() -> tuple[Any, Any]:
    """As ComfyUI's APG and HyperTile: what one function keeps and another one reads."""
    average = 0
    last = None

    def add(x: torch.Tensor) -> torch.Tensor:
        nonlocal average, last
        average, last = average + x, x
        return average

    def read() -> Any:
        return average, last

    return add, read


def deep(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def wrapped(levels: int, by: float) -> Any:
    """As attention overrides wrap each other."""
    function = scaled(by)
    for _ in range(levels):
        function = (lambda inner: lambda x: inner(x))(function)
    return function


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        ([1, 2], [2, 1]),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"a": 2}),
        ({1: "a"}, {"1": "a"}),
        (Colour.RED, Colour.BLUE),
        (Box(1), Box(2)),
        (Box(1, _cache=[1]), Box(1, _cache=[2])),
        (Slotted(1), Slotted(2)),
        (scaled(1.0), scaled(2.0)),
        (scaled(1.0), other),
        (functools.partial(other, 1), functools.partial(other, 2)),
        (Box, Slotted),
        (torch.zeros(2), torch.zeros(2, 1)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2), torch.tensor([0.0, -0.0])),
        (torch.zeros(3, dtype=torch.bfloat16), torch.tensor([0, 0, 1e-30], dtype=torch.bfloat16)),
        (np.zeros(2), np.ones(2)),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
        (torch.nn.Linear(2, 2).forward, torch.nn.Linear(2, 2).forward),
        (PrivateSlots(1), PrivateSlots(2)),
        (types.MethodType(scaled(1.0), Box(1)), types.MethodType(scaled(2.0), Box(1))),
        (SAME_NAME[0], SAME_NAME[1]),
        (class_with(1.0), class_with(2.0)),
        (class_with(1.0)(), class_with(2.0)()),
        (lowered(1.0), lowered(2.0)),
        (set_up(1.0), set_up(2.0)),
        (with_default(1.0), with_default(2.0)),
        (decimal.Decimal(1), decimal.Decimal(2)),
        (pathlib.PurePosixPath("/a"), pathlib.PurePosixPath("/b")),
        (range(3), range(4)),
        (re.compile("a"), re.compile("b")),
        (random.Random(1), random.Random(2)),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
        (Half(0.5), Half(0.25)),
        (deep(60, 1), deep(60, 2)),
        (wrapped(30, 1.0), wrapped(30, 2.0)),
        ([Box(1), Box(1)], [Box(1), Box(2)]),
        (torch.compile(scaled(1.0), backend="eager"), torch.compile(scaled(2.0), backend="eager")),
        (torch.compile(other, backend="eager"), torch.compile(other, mode="max-autotune")),
        (torch.compile(LINEAR, backend="eager"), torch.compile(LINEAR, backend="eager", fullgraph=True)),
    ],
)
def test_a_change_that_counts_is_seen(first: Any, second: Any) -> None:
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint([first]) != fingerprint([second])


def test_what_is_new_in_every_process_does_not_count() -> None:
    assert fingerprint({"id": uuid.uuid4()}) == fingerprint({"id": uuid.uuid4()})
    assert fingerprint([threading.Lock()]) == fingerprint([threading.Lock()])
    assert fingerprint(Box(1, _cache=object())) == fingerprint(Box(1, _cache=object()))
    assert fingerprint({1, 2, 3}) == fingerprint({3, 2, 1})
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_what_a_function_came_to_while_it_ran_does_not_count() -> None:
    before, after = averaging(), averaging()
    after[0](torch.ones(3))
    assert isinstance(after[1]()[0], torch.Tensor)
    assert [fingerprint(each) for each in before] == [fingerprint(each) for each in after]


def test_what_is_remembered_does_not_count() -> None:
    class Counted:
        def __init__(self) -> None:
            self.width = 2

        @functools.cached_property
        def double(self) -> int:
            return 2 * self.width

    one, two = Counted(), Counted()
    before = fingerprint(one)
    assert one.double == 4
    assert fingerprint(one) == before == fingerprint(two)
    remembering = functools.lru_cache(other)
    before = fingerprint(remembering)
    remembering(1.0)
    assert fingerprint(remembering) == before


def test_compiling_anew_does_not_count() -> None:
    for what in (LINEAR, other):
        one, two = (torch.compile(what, backend="eager") for _ in range(2))
        assert one is not two
        assert fingerprint(one) == fingerprint(two) != fingerprint(what)


def test_circles_are_walked_once() -> None:
    """Objects that all know each other: as many ways as a person can go do not take a year."""
    crowd = [Box(each) for each in range(40)]
    for each in crowd:
        each._cache = crowd
    assert fingerprint(crowd) == fingerprint(crowd)
    changed = [Box(each) for each in [*range(39), 77]]
    for each in changed:
        each._cache = changed
    assert fingerprint(crowd) != fingerprint(changed)


def test_what_lies_in_several_values_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from longtalk.infinitetalk.run.store import fingerprint as module

    hashed: list[int] = []
    plain = module._bytes_of

    def counted(tensor: torch.Tensor) -> Any:
        hashed.append(tensor.numel())
        return plain(tensor)

    monkeypatch.setattr(module, "_bytes_of", counted)
    picture = torch.rand(1, 8, 8, 3)
    digests = Fingerprints()
    many = [digests.of([Box(each, picture) for each in range(100)]), digests.of(picture[:1]), digests.of([picture])]
    assert len(set(many)) == 3
    assert hashed == [picture.numel()]
    assert digests.of(picture[:, :4]) != digests.of(picture[:, 4:]) != digests.of(picture)


def test_numbers_too_long_to_write_down_have_a_digest() -> None:
    assert fingerprint(10**5000) == fingerprint(10**5000)
    assert fingerprint(10**5000) != fingerprint(10**5000 + 1)
    assert fingerprint([1]) != fingerprint([-1])


def test_circles_and_depth_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    assert fingerprint(circle) == fingerprint(circle)
    assert fingerprint(deep) == fingerprint(deep)


def test_a_tensors_strides_do_not_count() -> None:
    values = torch.arange(12.0).reshape(3, 4)
    assert fingerprint(values.t()) == fingerprint(values.t().contiguous())
    assert fingerprint(torch.zeros(0, 3)) != fingerprint(torch.zeros(0, 4))


def test_what_stands_in_counts_wherever_the_object_is() -> None:
    def stand_in(value: Any) -> Stand | None:
        return Stand("box", "any") if isinstance(value, Box) else None

    assert fingerprint({"x": [Box(1)]}, stand_in) == fingerprint({"x": [Box(2)]}, stand_in)
    assert fingerprint({"x": [Box(1)]}, stand_in) != fingerprint({"x": [1]}, stand_in)


def test_another_process_agrees() -> None:
    code = (
        "import torch, functools, math\n"
        "from longtalk.infinitetalk.run.store.fingerprint import fingerprint\n"
        "value = {'a': [1, 2.5, None, {'x', 'y'}], 'f': functools.partial(math.floor, 2.5), 't': torch.arange(5)}\n"
        "print(fingerprint(value))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            cwd="/",
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert len(runs[0].stdout.strip()) == 64
    assert runs[0].stdout == runs[1].stdout


def weights(seed: int, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(300, 40, generator=generator).to(dtype) for name in ("b.weight", "a.weight")}


def test_models_are_told_apart_by_a_sample_of_their_weights() -> None:
    first = weights(1)
    assert weights_fingerprint(first.items()) == weights_fingerprint(reversed(list(first.items())))
    assert weights_fingerprint(first.items()) != weights_fingerprint(weights(2).items())
    assert weights_fingerprint(first.items()) != weights_fingerprint(weights(1, torch.bfloat16).items())
    trained = {name: tensor * 1.01 for name, tensor in first.items()}
    assert weights_fingerprint(first.items()) != weights_fingerprint(trained.items())
    end = {name: tensor.clone() for name, tensor in first.items()}
    end["a.weight"][-1, -1] += 1
    assert weights_fingerprint(first.items()) != weights_fingerprint(end.items())


class Quantised(torch.Tensor):
    """As GGUF loaders keep weights: the file's bytes, with the real type as an attribute."""


class Wrapped(torch.Tensor):
    """As quantised weights of newer ComfyUIs are: a wrapper around the real tensors."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor, scale: torch.Tensor) -> Wrapped:
        out = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=torch.float32)
        out.inner, out.scale = inner, scale
        return out

    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["inner", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(f"{function} on a wrapped tensor")


def test_quantised_weights_are_read_as_what_they_hold() -> None:
    values = np.random.default_rng(1).standard_normal((8, 256), dtype=np.float32)
    data = torch.from_numpy(gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0))
    same = torch.from_numpy(gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0))
    changed = torch.from_numpy(gguf.quantize(values + 0.1, gguf.GGMLQuantizationType.Q8_0))
    prints = [weights_fingerprint([("w", tensor.as_subclass(Quantised))]) for tensor in (data, same, changed)]
    assert prints[0] == prints[1] != prints[2]
    half = torch.zeros(1000, dtype=torch.float8_e4m3fn)
    scaled_prints = [weights_fingerprint([("w", Wrapped(half, torch.tensor(by)))]) for by in (1.0, 1.0, 2.0)]
    assert scaled_prints[0] == scaled_prints[1] != scaled_prints[2]
