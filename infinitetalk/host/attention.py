"""The measured attention in a ComfyUI model: an override on the clone, which ends with it."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import comfy.ldm.modules.attention as core
import comfy.model_patcher
import comfy.model_prefetch
import folder_paths
import torch

from ...base.errors import LinkError
from ..attention.backends import Backend, installed, software
from ..attention.chooser import Chooser
from ..attention.measured import Case, Precision, Store, precision_of, table
from .fresh import Lasting

OVERRIDE = "optimized_attention_override"

#: Where there is a choice of kernels. Elsewhere ComfyUI's own attention is used.
DEVICES = ("cuda",)
_DTYPES = (torch.float16, torch.bfloat16)
#: Multiplications below which a call takes microseconds and is not worth a measurement.
_LEAST_WORK = 10**9
#: Kernels count blocks in 16 bits.
_MOST_HEADS = 2**15
#: What ComfyUI passes along; a call with anything else is left to ComfyUI.
_KNOWN = {"scale", "transformer_options", "_inside_attn_wrapper", "low_precision_attention", "enable_gqa"}
#: ComfyUI's functions that compute with PyTorch's kernels, or without any: they are no candidates of their own.
_PLAIN = {"attention_basic", "attention_pytorch", "attention_split", "attention_sub_quad"}


def measurements_path() -> Path:
    """The file of measurements, in ComfyUI's user folder."""
    return Path(folder_paths.get_user_directory()) / "longtalk" / "attention.json"


def _aside() -> AbstractContextManager[object]:
    """A context whose allocations ComfyUI does not take for the model's.

    With dynamic VRAM on CUDA, ComfyUI from 0.34 on may record what a forward allocates and repeat exactly that
    ("Comfy Compiler"). What a measurement allocates in its midst would become part of the pattern.
    """
    pause: Any = getattr(comfy.model_prefetch, "pause_malloc_graph", None)
    aside: AbstractContextManager[object] = contextlib.nullcontext() if pause is None else pause(sync=True)
    return aside


@functools.cache
def chooser() -> Chooser:
    """The one of this process."""
    return Chooser(installed, lambda: Store(measurements_path(), software()), _aside)


class MeasuredAttention(Lasting):
    """An ``optimized_attention_override``: the fastest kernel that is exact enough.

    A kernel that the user started ComfyUI with (``--use-sage-attention`` and the like) is taken up to the error of the
    class "fast", whatever this one's: it was asked for.

    torch.compile leaves it as it is: it takes times and reads files, and which kernel it calls is known only then.

    Args:
        precision: class of kernels.
        chooser_: measures and chooses.
    """

    def __init__(self, precision: Precision | str, chooser_: Chooser | None = None) -> None:
        self.precision = precision_of(precision)
        self._chooser = chooser_ or chooser()
        self._met: dict[Case, Precision] = {}

    @torch.compiler.disable
    def __call__(
        self,
        function: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        heads: int,
        mask: torch.Tensor | None = None,
        attn_precision: torch.dtype | None = None,
        skip_reshape: bool = False,
        skip_output_reshape: bool = False,
        **options: Any,
    ) -> torch.Tensor:
        """Attention as ComfyUI's functions compute it; ``function`` is the one it would call."""

        def by_comfyui() -> torch.Tensor:
            out: torch.Tensor = function(
                q,
                k,
                v,
                heads,
                mask=mask,
                attn_precision=attn_precision,
                skip_reshape=skip_reshape,
                skip_output_reshape=skip_output_reshape,
                **options,
            )
            return out

        if q.device.type not in DEVICES or q.dtype not in _DTYPES or {q.dtype} != {k.dtype, v.dtype}:
            return by_comfyui()
        upcast = core.get_attn_precision(attn_precision, q.dtype) not in (None, q.dtype)
        if upcast or options.get("enable_gqa") or not options.keys() <= _KNOWN:
            return by_comfyui()
        parts = (q, k, v) if skip_reshape else tuple(_split_heads(part, heads) for part in (q, k, v))
        query, key, value = parts
        batch, count, tokens, width = query.shape
        if batch * count * tokens * key.shape[2] * width < _LEAST_WORK or batch * count > _MOST_HEADS:
            return by_comfyui()
        precision = Precision.EXACT if options.get("low_precision_attention") is False else self.precision
        found = self._chooser.attend(
            query,
            key,
            value,
            _four_dimensions(mask),
            options.get("scale"),
            precision=precision,
            own=_own(function) if precision is self.precision else None,
        )
        if found is None:
            return by_comfyui()
        out, case = found
        self._met[case] = precision
        return out if skip_output_reshape else out.transpose(1, 2).flatten(2)

    def report(self) -> list[str]:
        """A table of each case met so far, that with the most tokens first."""
        cases = sorted(self._met.items(), key=lambda item: (-item[0].queries * item[0].keys, item[0].text))
        return [table(case, self._chooser.trials(case), precision) for case, precision in cases]

    @property
    def name(self) -> str | None:
        """The kernel of the largest case met so far, for messages; None while ComfyUI's own is used."""
        largest = max(self._met, key=lambda case: case.queries * case.keys, default=None)
        chosen = None if largest is None else self._chooser.chosen(largest, self._met[largest])
        return None if chosen is None else chosen.name


def _split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """``[B, N, H * D]`` -> ``[B, H, N, D]``"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _four_dimensions(mask: torch.Tensor | None) -> torch.Tensor | None:
    """ComfyUI's masks are ``[N, M]``, ``[B, N, M]`` or ``[B, H, N, M]``."""
    if mask is None:
        return None
    if mask.ndim == 2:
        mask = mask[None]
    return mask[:, None] if mask.ndim == 3 else mask


def _own(function: Any) -> Backend | None:
    """The attention that ComfyUI was started with, as a candidate; None when it is PyTorch's."""
    name = getattr(function, "__name__", "")
    if not name or name in _PLAIN:
        return None

    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        options = {} if scale is None else {"scale": scale}
        out: torch.Tensor = function(
            q,
            k,
            v,
            q.shape[1],
            mask=mask,
            skip_reshape=True,
            skip_output_reshape=True,
            _inside_attn_wrapper=True,
            **options,
        )
        return out

    return Backend(f"ComfyUI's {name}", run, True, Precision.FAST.tolerance)


def has_override(model_options: dict[str, Any]) -> bool:
    """Whether another node has put an attention on the model."""
    return OVERRIDE in model_options.get("transformer_options", {})


def set_attention(model: Any, attention: MeasuredAttention) -> None:
    """Put it on a model clone (a ModelPatcher)."""
    options = model.model_options
    model.model_options = {
        **options,
        "transformer_options": {**options.get("transformer_options", {}), OVERRIDE: attention},
    }


def with_attention(model: Any, precision: Precision | str) -> Any:
    """A clone of any ComfyUI model that computes with the measured attention.

    Raises:
        LongTalkError: no model, or an unknown class.
    """
    attention = MeasuredAttention(precision)
    if not isinstance(model, comfy.model_patcher.ModelPatcher):
        raise LinkError(
            "model",
            expected="a MODEL",
            actual="nothing" if model is None else type(model).__name__,
            action="Connect the output of Load Diffusion Model",
        )
    clone = model.clone()
    set_attention(clone, attention)
    return clone
