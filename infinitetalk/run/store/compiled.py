"""What torch.compile was given: a compiled module or function is new in every process, what it was made from is not."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

#: The wrappers that PyTorch puts around a backend lead to it by one of these.
_AROUND = ("_torchdynamo_orig_backend", "_torchdynamo_orig_callable", "_orig_callable")
_LIMIT = 20


class Compiled(NamedTuple):
    """A compiled module or function.

    Attributes:
        original: the module or the function.
        arguments: of torch.compile, as far as they are kept.
    """

    original: Any
    arguments: Any


def compiled_from(value: Any) -> Compiled | None:
    """What a module or a function was compiled from; None for one that was not compiled."""
    if isinstance(value, torch.nn.Module):
        if not hasattr(value, "_orig_mod"):
            return None
        return Compiled(value._orig_mod, _arguments(getattr(value, "dynamo_ctx", None)))
    original = vars(value).get("_torchdynamo_orig_callable")
    if original is None:
        return None
    cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
    context = next((cell for cell in cells if hasattr(cell, "compiler_config")), None)
    return Compiled(original, _arguments(context))


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _arguments(context: Any) -> Any:
    """Of the object that PyTorch enters around compiled code."""
    backend = getattr(context, "callback", None)
    for _ in range(_LIMIT):
        inner = next((found for name in _AROUND if (found := getattr(backend, name, None)) is not None), None)
        if inner is None:
            break
        backend = inner
    kept = {name: getattr(backend, name, None) for name in ("compiler_name", "config", "kwargs", "dynamic")}
    compiler = getattr(backend, "compiler_fn", backend)
    if not str(getattr(compiler, "__module__", "torch")).startswith("torch"):
        kept["backend"] = compiler
    switches = {name: getattr(context, name, None) for name in ("fullgraph", "_dynamic", "error_on_graph_break")}
    return [kept, switches]
