"""Copies of what a node put on a model, so that each window begins with it as it was connected.

Guiders, samplers and patches may remember something from one step to the next: ComfyUI's APG a running average, the
MultimodalGuider of ComfyUI-LTXVideo its last prediction. A window that saw what another one left would look otherwise
when a run goes on, and may have another shape.

A list that a node gathers something in for later, out of reach of its modules' globals, stays as it was connected.
"""

from __future__ import annotations

import collections
import copy
import enum
import functools
import random
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import comfy.controlnet
import comfy.hooks
import comfy.model_patcher
import numpy as np
import torch

from ...base.functions import UNSET, Variable, attributes_of, closure_of


class Lasting:
    """Of objects of ours on a model: one for a whole run, which gives it each window's values itself."""


#: Models and their weights, and what ComfyUI itself sets back before each sampling.
_SHARED = (
    Lasting,
    torch.Tensor,
    torch.nn.Module,
    comfy.model_patcher.ModelPatcher,
    comfy.hooks.Hook,
    comfy.hooks.HookGroup,
    comfy.hooks.HookKeyframeGroup,
    comfy.hooks._HookRef,
    comfy.controlnet.ControlBase,
    type,
    types.ModuleType,
    types.CodeType,
    enum.Enum,
)
#: Of ComfyUI, what runs graphs.
_OF_THE_MACHINE = ("server", "execution", "comfy_execution", "torch", "numpy")
#: Of ComfyUI, what is copied even where ComfyUI is installed as a package.
_OF_COMFYUI = ("comfy", "comfy_extras", "comfy_api", "comfy_api_nodes")


class Fresh:
    """Copies objects that belong together: what two of them share, their copies share, too.

    Containers, functions with what they close over, bound methods and objects are copied; tensors, modules, models and
    whatever cannot be copied safely stay the same.

    Args:
        one: what must not be copied, see :func:`one_of_a_kind`.
    """

    def __init__(self, one: Mapping[int, Any] | None = None) -> None:
        self._copies: dict[int, Any] = dict(one or {})
        self._globals: dict[int, dict[str, Any]] = {}
        self._filled: set[int] = set()
        self._alive: list[Any] = []  # so that no other object gets the id of one that was copied

    def of(self, value: Any) -> Any:
        """A copy that shares no state with the value."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, _SHARED)):
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        self._alive.append(value)
        return self._made(value)

    def own(self, value: Any) -> Any:
        """A copy in any case, if only of the object itself."""
        made = self.of(value)
        return copy.copy(value) if made is value else made

    @property
    def met(self) -> list[Any]:
        """Everything that was copied."""
        return self._alive

    @property
    def globals(self) -> list[Any]:
        """The values of the modules in which the functions and classes are that were met."""
        return [value for each in self._globals.values() for value in each.values()]

    def _is(self, value: Any, made: Any) -> Any:
        """Remember a copy, before what is in it is copied: it may lead back to the value."""
        self._copies[id(value)] = made
        return made

    def _made(self, value: Any) -> Any:
        kind = type(value)
        if kind is dict:
            made = self._is(value, {})
            made.update((key, self.of(item)) for key, item in value.items())
            return made
        if kind is list:
            made = self._is(value, [])
            made.extend(map(self.of, value))
            return made
        if isinstance(value, tuple):
            return self._tuple(value)
        if kind in (set, frozenset):
            return self._is(value, kind(value))
        if kind is types.FunctionType:
            self._globals[id(value.__globals__)] = value.__globals__
            copied = (value.__closure__ or vars(value)) and "_torchdynamo_orig_callable" not in vars(value)
            return self._function(value) if copied else value
        if kind is types.MethodType:
            return self._is(value, types.MethodType(self.of(value.__func__), self.of(value.__self__)))
        if kind is functools.partial:
            return self._is(
                value, functools.partial(self.of(value.func), *self.of(value.args), **self.of(value.keywords))
            )
        if kind is torch.Generator:
            made = torch.Generator(device=value.device)
            made.set_state(value.get_state())
            return self._is(value, made)
        return self._object(value)

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        items = [self.of(item) for item in value]
        if all(made is item for made, item in zip(items, value, strict=True)):
            return self._is(value, value)
        copied = self._is(value, tuple.__new__(type(value), items))
        for name, item in vars(value).items() if hasattr(value, "__dict__") else ():
            object.__setattr__(copied, name, self.of(item))
        return copied

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        variables = closure_of(function)
        cells = tuple(self._cell(each) for each in variables)
        made = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            cells if function.__closure__ else None,
        )
        self._is(function, made)
        made.__kwdefaults__ = function.__kwdefaults__
        made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
        vars(made).update((name, self.of(item)) for name, item in vars(function).items())
        # Last, as what a function closes over may lead back to it.
        for variable, cell in zip(variables, cells, strict=True):
            self._fill(variable, cell)
        return made

    def _cell(self, variable: Variable) -> types.CellType:
        """Empty at first."""
        if id(variable.cell) not in self._copies:
            self._alive.append(variable.cell)
            self._copies[id(variable.cell)] = types.CellType()
        cell: types.CellType = self._copies[id(variable.cell)]
        return cell

    def _fill(self, variable: Variable, cell: types.CellType) -> None:
        if id(variable.cell) in self._filled or cell is variable.cell:
            return
        self._filled.add(id(variable.cell))
        if variable.begins is not None:
            cell.cell_contents = variable.begins.constant
        elif variable.held is not UNSET:
            cell.cell_contents = self.of(variable.held)

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            return self._is(value, copy.deepcopy(value))
        if isinstance(value, types.SimpleNamespace):
            made = self._is(value, types.SimpleNamespace())
        elif isinstance(value, collections.deque):
            made = self._is(value, copy.copy(value))
            made.clear()
            made.extend(map(self.of, value))
        elif isinstance(value, (dict, list)):
            made = self._is(value, copy.copy(value))
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                made[key] = self.of(item)
        elif (
            _is_shared(kind)
            or hasattr(kind, "__del__")
            or isinstance(getattr(value, "patcher", None), comfy.model_patcher.ModelPatcher)
        ):
            return value
        elif hasattr(kind, "__deepcopy__"):  # it says itself how it is copied, or that there is one
            return self._is(value, kind.__deepcopy__(value, {}))
        else:
            module = sys.modules.get(kind.__module__)
            if module is not None:
                self._globals[id(vars(module))] = vars(module)
            try:
                made = self._is(value, object.__new__(kind))
            except TypeError:  # a class that is not made of Python alone
                return self._is(value, value)
        for name, item in attributes_of(value).items():
            object.__setattr__(made, name, self.of(item))
        return made


def _is_shared(kind: type) -> bool:
    """Whether objects of a class belong to the machine: the standard library's, other libraries', ComfyUI's server."""
    package = kind.__module__.partition(".")[0]
    if package in sys.stdlib_module_names or package in _OF_THE_MACHINE:
        return True
    folders = {*Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or "").parts}
    return bool({"site-packages", "dist-packages"} & folders) and not (
        "custom_nodes" in folders or package in _OF_COMFYUI
    )


def one_of_a_kind(patcher: Any, *values: Any) -> dict[int, Any]:
    """What there is only one of, among all that lies in these values, by its id.

    A patch on a module or an injection is on the model itself while it is loaded, and a module's globals are there for
    everybody: what a wrapper shares with them, a copy of the wrapper would no longer tell them.

    Args:
        patcher: of the model.
        values: that will be copied.
    """
    on_model = Fresh()
    on_model.of([*_on_model(patcher)])
    found = Fresh()
    found.of(list(values))
    shared = [each for each in found.globals if not isinstance(each, _SHARED)]
    return {id(each): each for each in [*on_model.met, *shared]}


def _on_model(patcher: Any) -> Iterator[Any]:
    """What is on the modules of a model while it is loaded, and nodes' functions that were put there for good."""
    yield from (patcher.object_patches, patcher.injections, patcher.attachments, patcher.weight_wrapper_patches)
    for module in patcher.model.modules():
        for value in vars(module).values():
            if isinstance(value, (types.FunctionType, types.MethodType)):
                yield value
        yield from (list(hooks.values()) for hooks in (module._forward_hooks, module._forward_pre_hooks) if hooks)
