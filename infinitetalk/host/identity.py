"""What decides a run's result, part by part, as digests. Equal parts mean: go on with the run begun before.

What a MODEL or a GUIDER carries counts by itself, unless it stands in a table here and is said there to change nothing:
a node that nobody thought of makes a run anew instead of giving another run's video. All of it is read from what was
connected. The renderer works on copies, so what a run writes while it runs never comes into its name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import types
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import av
import comfy.controlnet
import comfy.hooks
import comfy.model_patcher
import torch

from ..plan.windows import Window
from ..run.store.fingerprint import Fingerprints, Stand, hooks_of, weights_fingerprint
from ..run.store.folder import FORMAT, NAME_LENGTH
from .prompts import POSITIVE

if TYPE_CHECKING:
    from .run import Run

MADE_BY = 4
"""How LongTalk makes a result of the inputs. It is raised with every change of ours that gives the same inputs another
picture, so that a run that was begun before goes its own way.

2: pictures are averaged when they are scaled down; LTX compresses a picture before it is scaled to the video's size;
the forward without audio hears one person.
3: guiders, samplers and patches that remember something begin each window anew.
4: the keys of the audio attention lose what they have in common before they are rounded.
"""
_WORDS = (bool, int, float, str)
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
#: The names of prompts that most guiders have.
PROMPTS = (POSITIVE, "negative")
#: Of a guider: what counts as another part, and what a sampling that was broken off left.
_NOT_GUIDANCE = ("model_patcher", "model_options", "original_conds", "conds", "inner_model", "loaded_models")
#: Of a ModelPatcher: where its model lies and what is done to it at the moment. All else counts.
_NOT_OF_PATCHERS = frozenset(
    (
        "model",  # counts as its weights and how they were loaded
        "size",
        "load_device",
        "offload_device",
        "weight_inplace_update",
        "patches_uuid",
        "clone_base_uuid",
        "is_multigpu_base_clone",
        "parent",
        "pinned",
        "cached_patcher_init",
        "non_dynamic_delegate_model",
        "backup",
        "backup_buffers",
        "object_patches_backup",
        "is_injected",
        "skip_injection",
        "hook_patches_backup",
        "hook_backup",
        "cached_hook_patches",
        "current_hooks",
        "hook_mode",
        # What the patcher of ComfyUI-GGUF notes of its file.
        "mmap_released",
        "named_modules_to_munmap",
    )
)
#: Of a ModelPatcher: changes to weights.
_WEIGHT_PATCHES = ("patches", "hook_patches", "weight_wrapper_patches")
#: What ComfyUI writes onto objects while it samples.
_WRITTEN: tuple[tuple[type, frozenset[str]], ...] = (
    (comfy.hooks.TransformerOptionsHook, frozenset(("hook_ref", "_skip_adding"))),
    (comfy.hooks.Hook, frozenset(("hook_ref",))),
    (comfy.hooks.HookGroup, frozenset(("_hook_dict",))),
    (comfy.hooks.HookKeyframe, frozenset(("start_t",))),
    (
        comfy.hooks.HookKeyframeGroup,
        frozenset(
            (
                "_current_keyframe",
                "_current_used_steps",
                "_current_index",
                "_current_strength",
                "_curr_t",
                "curr_t",
            )
        ),
    ),
    (
        comfy.controlnet.ControlBase,
        frozenset(
            ("cond_hint", "timestep_range", "extra_concat", "model_sampling_current", "multigpu_clones", "load_device")
        ),
    ),
    (
        torch.nn.Module,
        frozenset(
            (
                "training",
                "device",
                "comfy_cast_weights",
                "prev_comfy_cast_weights",
                "comfy_force_cast_weights",
                "comfy_patched_weights",
                "weight_function",
                "bias_function",
                "seed_key",
                "_v",
                "_pin_state",
                # What loading a whole model notes on it.
                "model_loaded_weight_memory",
                "model_offload_buffer_memory",
                "model_lowvram",
                "lowvram_patch_counter",
                "current_weight_patches_uuid",
                "current_patcher",
                "dynamic_patchers",
                "dynamic_pins",
                "dynamic_vbars",
                "skip_injection",
            )
        ),
    ),
)


def identity_of(parts: Mapping[str, str]) -> str:
    """The name of a run with these parts."""
    text = json.dumps(dict(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_LENGTH]


def common_values(run: Run) -> dict[str, Any]:
    """What decides any family's run, by the names that a person reads who asks why a run did not go on.

    Of the fields that do not enter a run's name by themselves, see :class:`~.run.Apart`, those that all families have.
    With a schedule the windows' own prompts count instead of the guider's positive, which no window sees.
    """
    guider, patcher, sound = run.guider, run.model, run.sound
    guidance = {name: value for name, value in vars(guider).items() if name not in _NOT_GUIDANCE}
    settings = _settings_of(patcher)
    values: dict[str, Any] = {
        "format": [FORMAT, MADE_BY, av.library_versions["libavcodec"]],
        "windows": [run.plan.fps, *map(_window_numbers, run.plan.windows)],
        "size": run.size,
        "codec": run.video,
        "model": _loaded(patcher),
        "LoRA": [settings.pop(name, None) for name in _WEIGHT_PATCHES],
        "model options": [guider.model_options, settings],
        "vae": vae_of(run.vae),
        "sound": [sound.waveform, sound.sample_rate, *([sound.fade_samples] if sound.fade_samples else [])],
        "guidance": [type(guider), guidance],
        "seed": run.noise,
        "steps": run.sigmas,
    }
    for name, entries in guider.original_conds.items():
        # Guiders of other packs give their prompts any name, that of another part too.
        values[name if name in PROMPTS else f"prompt {name!r}"] = [_counting(entry) for entry in entries]
    if run.prompts is not None:
        del values[POSITIVE]
        values["prompt schedule"] = run.prompts.identity(_naming(run).of)
    return values


def _counting(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of a conditioning without what ComfyUI makes anew each time that it converts one."""
    return {key: item for key, item in entry.items() if key != "uuid" and (key != "model_conds" or item)}


def digests(run: Run, *groups: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each value of a run; what several of them have in common is hashed once.

    Raises:
        ValueError: two values have one name.
    """
    values = {name: value for group in groups for name, value in group.items()}
    if len(values) < sum(map(len, groups)):
        raise ValueError(f"two parts of a run have one name: {sorted(name for group in groups for name in group)}")
    naming = _naming(run)
    return {name: naming.of(value) for name, value in values.items()}


def _naming(run: Run) -> Fingerprints:
    return Fingerprints(_StandIns(run), _passed_over)


def _window_numbers(window: Window) -> tuple[int, ...]:
    more = (window.shot, window.held) if window.shot or window.held else ()
    return window.start, window.length, window.pinned, window.taken_over, window.cut, *more


def _passed_over(value: Any) -> Collection[str]:
    return next((names for kind, names in _WRITTEN if isinstance(value, kind)), ())


class _StandIns:
    """What counts in the place of ComfyUI's objects inside other values, see :class:`~..run.store.fingerprint.Stand`.

    What the run itself has, its guider, its model and the parts of its model, counts once, as a part of its own: when
    it is another one, no other part is named beside it.
    """

    def __init__(self, run: Run) -> None:
        self._guider = run.guider
        self._patcher = run.model
        self._places = {id(module): name for name, module in _modules(run.model)}
        self._loaded: dict[int, Any] = {id(run.model.model): "of the run"}

    def __call__(self, value: Any) -> Stand | None:
        if value is self._guider:
            return Stand("guider", "of the run")
        if isinstance(value, torch.nn.Module) and id(value) in self._places:
            return Stand("module", self._places[id(value)])
        if _is_patcher(value):
            return Stand("model", "of the run" if value is self._patcher else self._of_patcher(value))
        if _is_patcher(getattr(value, "patcher", None)) and type(value).__module__.startswith("comfy."):
            return Stand("loaded", [type(value), value.patcher, _words_of(value)])  # a VAE, a text encoder
        if type(value).__name__ == "Output" and hasattr(value, "penultimate_hidden_states"):
            return Stand("vision", vision_of(value))
        return None

    def _of_patcher(self, patcher: Any) -> list[Any]:
        key = id(patcher.model)
        if key not in self._loaded:
            self._loaded[key] = _loaded(patcher)
        return [self._loaded[key], _settings_of(patcher)]


def _is_patcher(value: Any) -> bool:
    return isinstance(value, comfy.model_patcher.ModelPatcher)


def _settings_of(patcher: Any) -> dict[str, Any]:
    """Everything that nodes put on a model; what is empty is as if it were not there."""
    settings = {name: value for name, value in vars(patcher).items() if name not in _NOT_OF_PATCHERS}
    return {name: value for name, value in settings.items() if not _is_empty(value)}


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, (dict, list, set)) and not value)


def _loaded(patcher: Any) -> list[Any]:
    """A model's weights, and how its loader was told to compute with them."""
    model = patcher.model
    config = getattr(model, "model_config", None)
    replaced = patcher.object_patches_backup
    put_on = [(name, found) for name, module in _modules(patcher) if (found := _put_on(module))]
    return [
        weights_of(patcher),
        put_on,
        type(model),
        getattr(config, "unet_config", None),
        getattr(config, "optimizations", None),
        replaced.get("manual_cast_dtype", getattr(model, "manual_cast_dtype", None)),
    ]


def vae_of(vae: Any) -> list[Any]:
    """What counts of a VAE: its weights, and how it and its modules compute with them."""
    model = vae.first_stage_model
    modules = [[name, type(module), _words_of(module), _put_on(module)] for name, module in model.named_modules()]
    return [
        type(vae),
        _words_of(vae),
        _settings_of(vae.patcher),
        weights_fingerprint(model.named_parameters()),
        modules,
    ]


def _words_of(value: Any) -> dict[str, Any]:
    """An object's settings that are numbers and words. What else it has may be what it remembers of its work."""
    passed = _passed_over(value)
    return {name: item for name, item in vars(value).items() if isinstance(item, _WORDS) and name not in passed}


def _put_on(module: torch.nn.Module) -> list[Any]:
    """The hooks on a module, and functions in the place of its own."""
    replaced = {name: item for name, item in vars(module).items() if isinstance(item, _FUNCTIONS)}
    return [hooks_of(module), replaced] if replaced or hooks_of(module) else []


def vision_of(output: Any) -> dict[str, Any] | None:
    """What a CLIP_VISION_OUTPUT holds."""
    return None if output is None else {name: item for name, item in vars(output).items() if item is not None}


def weights_of(patcher: Any) -> str:
    """A digest of a model's weights as they were loaded."""
    return weights_fingerprint(_weights(patcher))


def _weights(patcher: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A model's weights as they were loaded: those that a LoRA is merged into at the moment come from the backup."""
    backup = patcher.backup
    for place, module in _modules(patcher):
        for name, weight in module.named_parameters(place, recurse=False):
            kept = backup.get(name)
            yield name, weight if kept is None else kept.weight


def _modules(patcher: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    """The modules of a model as it was loaded, with their names; not those in their places at the moment."""
    replaced = {name: kept for name, kept in patcher.object_patches_backup.items() if name}
    known: set[int] = set()
    for place, module in _walk("", patcher.model, replaced):
        if id(module) not in known:
            known.add(id(module))
            yield place, module


def _walk(place: str, module: torch.nn.Module, replaced: Mapping[str, Any]) -> Iterator[tuple[str, torch.nn.Module]]:
    yield place, module
    for name, child in module.named_children():
        inner = f"{place}.{name}" if place else name
        original = replaced.get(inner, child)
        if isinstance(original, torch.nn.Module):
            yield from _walk(inner, original, replaced)
