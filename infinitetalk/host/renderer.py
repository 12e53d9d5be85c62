"""What all renderers have in common: one clone of a guider's model for a whole run, and what can be given up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_patcher
import comfy.utils
import torch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP

from ..plan.windows import Window
from ..run.loop import Fallbacks
from .attention import OVERRIDE, MeasuredAttention, has_override, set_attention
from .checks import check_latents
from .events import RunEvents
from .fresh import Fresh, one_of_a_kind
from .memory import KeepMoreFree, free_everything, is_out_of_memory
from .noise import WindowNoise
from .prompts import POSITIVE
from .run import Run
from .vae import VideoVae

KEY = "longtalk"


def _plain_attention(function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """An attention override: PyTorch's own, whatever the model would use."""
    out: torch.Tensor = comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
    return out


def _check_made(
    execute: Any, model: Any, sigmas: Any, extra: Any, callback: Any, noise: Any, *more: Any, **named: Any
) -> torch.Tensor:
    """Around a SAMPLER's own ``sample``: says in words when it gives back another shape than it was given.

    ComfyUI takes what it gives apart into picture and sound, and fails there with an error about indices.
    """
    made = execute(model, sigmas, extra, callback, noise, *more, **named)
    return check_latents(made, noise.shape, "sampler", finite=False)


class GuidedRenderer:
    """Samples windows through a copy of a guider, over a clone of its model, see :class:`~..run.loop.Renderer`.

    Args:
        run: checked; each window samples with a copy of its guider.
        vae: of the pictures.
        noise: gives each window its noise and seed.
        events: of the run.
    """

    def __init__(self, run: Run, vae: VideoVae, noise: WindowNoise, events: RunEvents) -> None:
        self._plan = run.plan
        self._size = run.size
        self._vae = vae
        self._noise = noise
        self._sampler = run.sampler
        self._sigmas = run.sigmas
        self._events = events
        self._fallbacks = Fallbacks()

        guider = run.guider
        model = guider.model_patcher.clone()
        # A guider may carry options of its own beside its model's.
        model.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
        if run.attention is not None and not has_override(model.model_options):
            set_attention(model, MeasuredAttention(run.attention))
        self._keep_free = KeepMoreFree()
        model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, self._keep_free)
        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, _check_made)
        self._model = model
        self._guider = guider
        self._one: dict[int, Any] | None = None
        self._conds = guider.original_conds
        self._prompts = run.prompts

    def fall_back(self, fallbacks: Fallbacks) -> None:
        """Use less memory or PyTorch's attention from now on."""
        self._fallbacks = fallbacks
        self._vae.memory_level = fallbacks.memory_level
        if fallbacks.memory_level:
            self._keep_free.factor = 2**fallbacks.memory_level
            free_everything()
        if fallbacks.plain_attention:
            self._model.model_options["transformer_options"][OVERRIDE] = _plain_attention

    def is_out_of_memory(self, error: Exception) -> bool:
        return is_out_of_memory(error)

    @property
    def attention(self) -> str:
        """The attention function the model uses: an override's, or the one ComfyUI was started with."""
        if self._fallbacks.plain_attention:
            return "PyTorch's own attention"
        function = self._override or comfy.ldm.modules.attention.optimized_attention
        if isinstance(function, MeasuredAttention):
            if function.name is not None:
                return function.name
            function = comfy.ldm.modules.attention.optimized_attention
        name = getattr(function, "__qualname__", type(function).__name__).replace(".<locals>", "")
        return f"{getattr(function, '__module__', '')}.{name}".lstrip(".")

    def attention_report(self) -> list[str]:
        """The kernels that were measured for this run, as tables."""
        return self._override.report() if isinstance(self._override, MeasuredAttention) else []

    @property
    def _override(self) -> Any:
        return self._model.model_options["transformer_options"].get(OVERRIDE)

    def _denoise(
        self, window: Window, given: dict[str, Any], noise: Any, latents: Any, mask: Any = None
    ) -> torch.Tensor | NestedTensor:
        """What the guider's sampler makes of a window's latents; tensors, or nested tensors of several streams.

        Args:
            given: entries that are added to each of the window's prompts.
        """
        model = self._model
        if self._one is None:  # by now everything is on the model
            found = (model.model_options, model.callbacks, model.wrappers)
            self._one = one_of_a_kind(model, self._guider, self._sampler, *found)
        fresh = Fresh(self._one)
        with self._as_connected(fresh):
            guider = fresh.own(self._guider)
            guider.model_patcher = model
            # A guider and its model have the same options: ComfyUI moves the patches in the model's to the device.
            guider.model_options = model.model_options
            guider.original_conds = self._conds_of(window, given)
            made: torch.Tensor | NestedTensor = guider.sample(
                noise,
                latents,
                fresh.of(self._sampler),
                self._sigmas,
                denoise_mask=mask,
                callback=self._events.callback(window),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=self._noise.seed(window.number),
            )
        return made

    def _conds_of(self, window: Window, given: dict[str, Any]) -> dict[str, Any]:
        """The window's prompts as a guider keeps them, each with the same entries added."""
        conds = dict(self._conds)
        if self._prompts is not None:
            conds[POSITIVE] = self._prompts.conds(window.number)
        return {name: [{**entry, **given} for entry in entries] for name, entries in conds.items()}

    @contextmanager
    def _as_connected(self, fresh: Fresh) -> Iterator[None]:
        """Inside, what is on the run's model remembers nothing: no window before, no attempt at this one.

        Patches on objects and weights stay: they are on the model itself while it is loaded.
        """
        model = self._model
        options, callbacks, wrappers = model.model_options, model.callbacks, model.wrappers
        model.model_options = fresh.of(options)
        model.callbacks, model.wrappers = fresh.of(callbacks), fresh.of(wrappers)
        try:
            yield
        finally:
            model.model_options, model.callbacks, model.wrappers = options, callbacks, wrappers
