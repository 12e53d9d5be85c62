"""What decides a run's result, part by part, as digests. Equal parts mean: go on with the run begun before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import av
import comfy.model_patcher
import torch

from ..plan.windows import Window
from ..run.store.fingerprint import fingerprint, weights_fingerprint
from ..run.store.folder import FORMAT, NAME_LENGTH
from .prompts import POSITIVE

if TYPE_CHECKING:
    from .run import Run

MADE_BY = 2
"""How LongTalk makes a result of the inputs. It is raised with every change of ours that gives the same inputs another
picture, so that a run that was begun before goes its own way.

2: pictures are averaged when they are scaled down; LTX compresses a picture before it is scaled to the video's size;
the forward without audio hears one person.
"""
#: Entries of a conditioning that ComfyUI makes anew each time it converts one.
_VOLATILE = ("uuid", "model_conds")


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
    guidance = {
        name: value
        for name, value in vars(guider).items()
        if name not in ("model_patcher", "model_options", "original_conds", "conds", "inner_model", "loaded_models")
    }
    values: dict[str, Any] = {
        "format": [FORMAT, MADE_BY, av.library_versions["libavcodec"]],
        "windows": [run.plan.fps, *map(_window_numbers, run.plan.windows)],
        "size": run.size,
        "codec": run.video,
        "model": weights_of(patcher),
        "LoRA": patcher.patches,
        "model options": [guider.model_options, patcher.model_options, patcher.object_patches, patcher.wrappers],
        "vae": vae_weights_of(run.vae),
        "sound": [sound.waveform, sound.sample_rate, *([sound.fade_samples] if sound.fade_samples else [])],
        "guidance": [type(guider), guidance],
        "seed": run.noise,
        "steps": run.sigmas,
    }
    for name, entries in guider.original_conds.items():
        values[name] = [{key: item for key, item in entry.items() if key not in _VOLATILE} for entry in entries]
    if run.prompts is not None:
        del values[POSITIVE]
        values["prompt schedule"] = run.prompts.identity(lambda conditioning: fingerprint(conditioning, _stand_in))
    return values


def digests(values: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each value."""
    return {name: fingerprint(value, _stand_in) for name, value in values.items()}


def _window_numbers(window: Window) -> tuple[int, ...]:
    more = (window.shot, window.held) if window.shot or window.held else ()
    return window.start, window.length, window.pinned, window.taken_over, window.cut, *more


def patches_of(value: Any) -> Any:
    """The patches of a model whose weights may have some; None for what takes none."""
    return value.patches if _is_patcher(value) else None


def _is_patcher(value: Any) -> bool:
    return isinstance(value, comfy.model_patcher.ModelPatcher)


def _stand_in(value: Any) -> str | None:
    """Models inside other values (a ControlNet in a conditioning, say) count by their weights and patches."""
    if _is_patcher(value):
        return weights_of(value) + fingerprint(value.patches)
    if type(value).__name__ == "Output" and hasattr(value, "penultimate_hidden_states"):
        return fingerprint(vision_of(value))
    return None


def vae_weights_of(vae: Any) -> str:
    """A digest of a VAE's weights."""
    return weights_fingerprint(_tensors(vae.first_stage_model))


def vision_of(output: Any) -> dict[str, Any] | None:
    """What a CLIP_VISION_OUTPUT holds."""
    return None if output is None else {name: item for name, item in vars(output).items() if item is not None}


def weights_of(patcher: Any) -> str:
    """A digest of a model's weights as they were loaded."""
    return weights_fingerprint(_tensors(patcher.model, getattr(patcher, "backup", {})))


def _tensors(model: torch.nn.Module, backup: Mapping[str, Any] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """A model's weights as they were loaded: those that a LoRA is merged into at the moment come from the backup."""
    for name, weight in model.named_parameters():
        kept = (backup or {}).get(name)
        yield name, weight if kept is None else kept.weight
