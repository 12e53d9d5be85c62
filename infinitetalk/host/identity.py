"""What decides a run's result, part by part, as digests. Equal parts mean: go on with the run begun before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import av
import comfy.model_patcher
import torch

from ...audio.reading.resample import naming, resampler
from ..attention.measured import Precision
from ..plan.windows import Plan, Window
from ..run.store.fingerprint import fingerprint, weights_fingerprint
from ..run.store.folder import FORMAT, NAME_LENGTH
from ..run.video.formats import VideoFormat
from .ltx.sound import sound_rate_of
from .prompts import POSITIVE, WindowPrompts
from .wan.packed_linear import PackedLinear

#: Entries of a conditioning that ComfyUI makes anew each time it converts one.
_VOLATILE = ("uuid", "model_conds")


def identity_of(parts: Mapping[str, str]) -> str:
    """The name of a run with these parts."""
    text = json.dumps(dict(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_LENGTH]


def common_parts(
    *,
    plan: Plan,
    size: tuple[int, int],
    video: VideoFormat,
    guider: Any,
    vae: Any,
    image: torch.Tensor,
    sound: Any,
    noise: Any,
    sampler: Any,
    sigmas: torch.Tensor,
    attention: Precision | None,
    prompts: WindowPrompts | None = None,
    **others: Any,
) -> dict[str, str]:
    """Digests by name: what decides any family's run, and ``others``, in whose names an underscore reads as a space.

    The names are for a person who asks why a run did not go on. With ``prompts`` the windows' own ones count instead of
    the guider's positive, which no window sees.
    """
    patcher = guider.model_patcher
    guidance = {
        name: value
        for name, value in vars(guider).items()
        if name not in ("model_patcher", "model_options", "original_conds", "conds", "inner_model", "loaded_models")
    }
    values: dict[str, Any] = {
        "format": [FORMAT, av.library_versions["libavcodec"]],
        "windows": [plan.fps, *map(_window_numbers, plan.windows)],
        "size": size,
        "codec": video,
        "model": _weights(patcher),
        "LoRA": patcher.patches,
        "model options": [guider.model_options, patcher.model_options, patcher.object_patches, patcher.wrappers],
        "vae": weights_fingerprint(_tensors(vae.first_stage_model)),
        "image": image,
        "sound": [sound.waveform, sound.sample_rate, *([sound.fade_samples] if sound.fade_samples else [])],
        "guidance": [type(guider), guidance],
        "seed": noise,
        "sampler": sampler,
        "steps": sigmas,
        "attention": attention,
        **{name.replace("_", " "): value for name, value in others.items()},
    }
    for name, entries in guider.original_conds.items():
        values[name] = [{key: item for key, item in entry.items() if key not in _VOLATILE} for entry in entries]
    if prompts is not None:
        del values[POSITIVE]
        values["prompt schedule"] = prompts.identity(lambda conditioning: fingerprint(conditioning, _stand_in))
    return {name: fingerprint(value, _stand_in) for name, value in values.items()}


def wan_parts(*, model_patch: Any, speech: Any, clip_vision: Any, audio_scale: float, **common: Any) -> dict[str, str]:
    """The parts of a run of WAN and InfiniteTalk, see :func:`common_parts`."""
    return common_parts(
        **common,
        model_patch=[
            _weights(model_patch),
            model_patch.patches if _is_patcher(model_patch) else None,
            *_packing(model_patch.model),
        ],
        speech=[speech.speakers, speech.encoded_by or list(speech.features), *speech.gates],
        clip_vision=_vision(clip_vision),
        audio_scale=float(audio_scale),
    )


def ltx_parts(*, audio_vae: Any, track: Any, quiet: Any, guides: Any, options: Any, **common: Any) -> dict[str, str]:
    """The parts of a run of LTX, see :func:`common_parts`."""
    resampled_by = naming([resampler(track.sample_rate, sound_rate_of(audio_vae))])
    return common_parts(
        **common,
        audio_vae=weights_fingerprint(_tensors(audio_vae.first_stage_model)),
        speech=[track.waveform, track.sample_rate, *quiet, *resampled_by],
        guides=list(guides),
        options=options,
    )


def _window_numbers(window: Window) -> tuple[int, ...]:
    more = (window.shot, window.held) if window.shot or window.held else ()
    return window.start, window.length, window.pinned, window.taken_over, window.cut, *more


def _is_patcher(value: Any) -> bool:
    return isinstance(value, comfy.model_patcher.ModelPatcher)


def _stand_in(value: Any) -> str | None:
    """Models inside other values (a ControlNet in a conditioning, say) count by their weights and patches."""
    if _is_patcher(value):
        return _weights(value) + fingerprint(value.patches)
    if type(value).__name__ == "Output" and hasattr(value, "penultimate_hidden_states"):
        return fingerprint(_vision(value))
    return None


def _vision(output: Any) -> dict[str, Any] | None:
    return None if output is None else {name: item for name, item in vars(output).items() if item is not None}


def _weights(patcher: Any) -> str:
    return weights_fingerprint(_tensors(patcher.model, getattr(patcher, "backup", {})))


def _packing(model: torch.nn.Module) -> list[tuple[str, str]]:
    """How each packed weight is packed: two of GGUF's formats may have the same size."""
    return [(name, layer.kind) for name, layer in model.named_modules() if isinstance(layer, PackedLinear)]


def _tensors(model: torch.nn.Module, backup: Mapping[str, Any] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """A model's weights as they were loaded: those that a LoRA is merged into at the moment come from the backup."""
    for name, weight in model.named_parameters():
        kept = (backup or {}).get(name)
        yield name, weight if kept is None else kept.weight
