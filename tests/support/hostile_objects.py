"""What only the loaded models can give, and objects that behave like a NOISE, a SAMPLER or a GUIDER, almost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from hostile_values import ANYTHING, NAN, Sent, either, sent, tensors, wrapped
from hypothesis import strategies as st


@dataclass(frozen=True)
class Part:
    """A value made from the loaded parts when it is used."""

    make: Callable[[SimpleNamespace], Any]


def used(each: Sent, parts: SimpleNamespace) -> Any:
    """The value to hand over."""
    return each.value.make(parts) if isinstance(each.value, Part) else each.value


def part(label: str, make: Callable[[SimpleNamespace], Any]) -> Sent:
    return Sent(label, Part(make))


#: Other things than what belongs there, some of which hold it.
MODELS = either(
    ANYTHING,
    st.sampled_from(
        [
            part("the patch", lambda parts: parts.patch),
            part("the VAE", lambda parts: parts.vae),
            part("the encoder", lambda parts: parts.audio_encoder),
            part("the bare WAN", lambda parts: parts.model.model),
            part("the bare network", lambda parts: parts.model.model.diffusion_model),
            part("a shell of WAN", lambda parts: SimpleNamespace(model=parts.model.model)),
            part("a shell of the patch", lambda parts: SimpleNamespace(model=parts.patch.model)),
            part("a shell of the encoder", lambda parts: SimpleNamespace(model=parts.audio_encoder.model)),
        ]
    ),
)

SIGMAS = either(
    tensors((), (0,), (1,), (2, 2), (1, 2), (2, 1), usual=(2,)),
    sent([1.0, 0.0], torch.linspace(1, 0, 3), torch.linspace(0, 1, 3), torch.ones(3), torch.tensor([14.6, 0.03, 0.0])),
    st.lists(st.floats(width=32), min_size=2, max_size=3).map(lambda own: Sent(f"{own}", torch.tensor(own))),
    sent(torch.linspace(1, 0, 20_001), torch.tensor([1.0, 0.0]).double(), torch.tensor([0.5, 0.2])),
    ANYTHING,
)


class OwnNoise:
    """A NOISE that gives what it was told, or makes it of the samples."""

    def __init__(self, made: Any, seed: Any = None, *, of_samples: bool = False) -> None:
        self.made = made
        self.seed = seed
        self.of_samples = of_samples

    def generate_noise(self, latent: dict[str, Any]) -> Any:
        return self.made(latent["samples"]) if self.of_samples else self.made


def _noise(label: str, make: Callable[[torch.Tensor], Any]) -> Sent:
    return Sent(label, OwnNoise(make, of_samples=True))


NOISE = either(
    wrapped(ANYTHING, OwnNoise, "noise that gives"),
    wrapped(ANYTHING, lambda seed: OwnNoise(torch.zeros_like, seed, of_samples=True), "noise with the seed"),
    st.sampled_from(
        [
            _noise("noise of doubles", torch.Tensor.double),
            _noise("noise of NaN", lambda samples: samples * NAN),
            _noise("noise of half the size", lambda samples: samples[..., ::2]),
            _noise("noise of a batch", lambda samples: samples.repeat(2, 1, 1, 1, 1)),
            _noise("noise of whole numbers", torch.Tensor.int),
            Sent("the class of a noise", OwnNoise),
        ]
    ),
    ANYTHING,
)


def _ksampler(function: Any, options: Any = None) -> Callable[[SimpleNamespace], Any]:
    def make(parts: SimpleNamespace) -> Any:
        import comfy.samplers

        return comfy.samplers.KSAMPLER(function, {} if options is None else options)

    return make


SAMPLERS = either(
    st.sampled_from(
        [
            part("a sampler without a function", _ksampler(None)),
            part("a sampler with options in a list", _ksampler(lambda model, noise, sigmas, **options: noise, [1])),
            part("a sampler of nothing", _ksampler(lambda model, noise, sigmas, **options: torch.zeros(0))),
            part("a sampler of one frame", _ksampler(lambda model, noise, sigmas, **options: noise[:, :, :1])),
            part("a sampler of NaN", _ksampler(lambda model, noise, sigmas, **options: noise * NAN)),
            part("a sampler of noise", _ksampler(lambda model, noise, sigmas, **options: noise)),
            part("the class of samplers", lambda parts: type(_ksampler(None)(parts))),
        ]
    ),
    ANYTHING,
)


def _guider(**changes: Any) -> Callable[[SimpleNamespace], Any]:
    def make(parts: SimpleNamespace) -> Any:
        import comfy.samplers

        guider = comfy.samplers.CFGGuider(parts.model)
        guider.set_conds(parts.positive, parts.negative)
        for name, value in changes.items():
            setattr(guider, name, value)
        return guider

    return make


GUIDERS = either(
    st.sampled_from(
        [
            part("core's guider", _guider()),
            part("a guider without prompts", _guider(original_conds={})),
            part("a guider with prompts in a list", _guider(original_conds=[{}])),
            part("a guider with empty prompts", _guider(original_conds={"positive": [], "negative": []})),
            part("a guider with a bare prompt", _guider(original_conds={"positive": [{}], "negative": [{}]})),
            part("a guider without a model", _guider(model_patcher=None)),
            part("a guider around another thing", _guider(model_patcher=SimpleNamespace(model=None))),
            part("the class of guiders", lambda parts: type(_guider()(parts))),
            part("a model", lambda parts: parts.model),
        ]
    ),
    ANYTHING,
)
