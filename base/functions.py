"""What functions and objects are made of. Of a function: its code, and its closure, the settings apart from the state.

A closure's variable is state where the functions around assign it (``nonlocal``), as a running average is. What it
holds says then how far a computation has come, not what somebody set; but a variable may be both: a strength that is
lowered step by step begins as a setting. So a variable is state here only where the function that makes it begins it
with one constant, and where it holds no other number or word by now, which a function may have set; and not where all
that other functions do with it is to give it what they were handed. What it begins with is known from the code then,
whoever used the function before.
"""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

UNSET = "not assigned yet"
"""Stands for what a variable holds before it is assigned."""
PARAMETER, ELSE = "a parameter", "something else"
"""What a variable is assigned that is no constant."""

_LOADS = ("LOAD_CONST", "LOAD_SMALL_INT")
_WORDS = (bool, int, float, complex, str, bytes)


class Begins(NamedTuple):
    """The constant that a variable begins with."""

    constant: Any


class Variable(NamedTuple):
    """A variable that a function shares with the function that made it.

    Attributes:
        name: in the code.
        cell: that holds it; functions that share the variable share the cell.
        begins: with what, where the variable is state; None where it counts as it stands.
    """

    name: str
    cell: types.CellType
    begins: Begins | None

    @property
    def held(self) -> Any:
        """What the variable holds; :data:`UNSET` before it was assigned."""
        try:
            return self.cell.cell_contents
        except ValueError:
            return UNSET


def closure_of(function: types.FunctionType) -> list[Variable]:
    """The variables of a function's closure, in the order of its code."""
    cells = function.__closure__ or ()
    if not cells:
        return []
    around = _code_around(function)
    states = {} if around is None else _states(around, function.__code__)
    return [_variable(*pair, states) for pair in zip(function.__code__.co_freevars, cells, strict=True)]


def _variable(name: str, cell: types.CellType, states: Mapping[str, Begins]) -> Variable:
    variable = Variable(name, cell, states.get(name))
    held = variable.held
    is_set = isinstance(held, _WORDS) and held is not UNSET
    if is_set and variable.begins is not None and repr(held) != repr(variable.begins.constant):
        return variable._replace(begins=None)
    return variable


def code_parts(code: types.CodeType) -> list[Any]:
    """What code does, as values, without files, lines and names of local variables; the codes inside are constants."""
    return [
        code.co_name,
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
        code.co_code,
        getattr(code, "co_exceptiontable", b""),
        list(code.co_names),
        list(code.co_freevars),
        list(code.co_cellvars),
        list(code.co_consts),
    ]


def globals_of(function: types.FunctionType) -> dict[str, Any]:
    """The global variables that a function reads, those of the functions in it included, as far as there are such."""
    names = {
        str(instruction.argval)
        for code in _codes(function.__code__)
        for instruction in _instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}


def attributes_of(value: Any) -> dict[str, Any]:
    """An object's attributes, slots and private ones included, without what a cached property remembers."""
    attributes = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            private = name.startswith("__") and not name.endswith("__")
            real = f"_{base.__name__.lstrip('_')}{name}" if private else name
            if hasattr(value, real):
                attributes[real] = getattr(value, real)
        for name, item in vars(base).items():
            if isinstance(item, functools.cached_property):
                attributes.pop(name, None)
    return attributes


def _code_around(function: types.FunctionType) -> types.CodeType | None:
    """The code of the function that made a function, found by its qualified name; None where that leads elsewhere."""
    outermost, found, _ = function.__qualname__.partition(".<locals>")
    if not found:
        return None
    names = outermost.split(".")
    value: Any = function.__globals__.get(names[0])
    for name in names[1:]:
        value = inspect.getattr_static(value, name, None)
    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
    try:
        value = inspect.unwrap(value)
    except ValueError:  # a circle
        return None
    code = getattr(value, "__code__", None)
    if not isinstance(code, types.CodeType):
        return None
    return next((each for each in _codes(code) if any(const is function.__code__ for const in each.co_consts)), None)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code and all codes inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=4096)
def _instructions(code: types.CodeType) -> tuple[dis.Instruction, ...]:
    return tuple(dis.get_instructions(code))


@functools.lru_cache(maxsize=4096)
def _states(around: types.CodeType, function: types.CodeType) -> dict[str, Begins]:
    """The variables that codes inside ``around`` assign, and that it assigns itself exactly once: a constant.

    Not those that ``function`` only reads and that all others assign nothing but a parameter: they set it.
    """
    inner: dict[str, bool] = {}
    own = {*_codes(function)}
    for each in _codes(around):
        for name, sources in _assigned(each).items() if each is not around else ():
            if name in each.co_freevars:
                inner[name] = inner.get(name, False) or each in own or any(source != PARAMETER for source in sources)
    return {
        name: sources[0]
        for name, sources in _assigned(around).items()
        if inner.get(name) and name in around.co_cellvars and name not in _parameters(around)
        if len(sources) == 1 and isinstance(sources[0], Begins)
    }


def _parameters(code: types.CodeType) -> tuple[str, ...]:
    starred = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + starred]


def _assigned(code: types.CodeType) -> dict[str, list[Begins | str]]:
    """For each shared variable that a code assigns: the constant, :data:`PARAMETER` or :data:`ELSE`, each time."""
    found: dict[str, list[Begins | str]] = {}
    before: dis.Instruction | None = None
    for instruction in _instructions(code):
        if instruction.opname == "STORE_DEREF":
            straight = None if instruction.is_jump_target else before
            found.setdefault(str(instruction.argval), []).append(_source(code, straight))
        elif instruction.opname == "DELETE_DEREF":
            found.setdefault(str(instruction.argval), []).append(ELSE)
        before = instruction
    return found


def _source(code: types.CodeType, loads: dis.Instruction | None) -> Begins | str:
    """What an instruction loads."""
    if loads is None:
        return ELSE
    if loads.opname in _LOADS:
        return Begins(loads.argval)
    last = loads.argval[-1] if isinstance(loads.argval, tuple) else loads.argval
    return PARAMETER if loads.opname.startswith("LOAD_FAST") and last in _parameters(code) else ELSE
