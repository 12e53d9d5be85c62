"""The tiny model that really talks: its shapes, and its weights from the compact file in the repository.

Trained by `training/` (see its README) on drawn faces and synthetic voices. The compact file holds what was learnt: low
rank factors and 8-bit numbers. Everything else is seeded (scripts/tiny_weights.py): the parts of the diffusion model
that read the prompt and CLIP vision, whose outcome is weighted with zero, and the audio encoder.
"""

from __future__ import annotations

from pathlib import Path

import tiny_networks
import torch
from tiny_weights import fill, seeded, shapes_of, write, write_q8

COMPACT = Path(__file__).resolve().parent / "assets" / "talker.safetensors"
FILES = {
    "talker_diffusion": "diffusion_models/longtalk_talker_wan_i2v.safetensors",
    "talker_vae": "vae/longtalk_talker_wan_vae.safetensors",
    "talker_patch": "model_patches/longtalk_talker_infinitetalk.safetensors",
    "talker_patch_q8": "model_patches/longtalk_talker_infinitetalk_Q8_0.gguf",
    "talker_audio_encoder": "audio_encoders/longtalk_talker_wav2vec2.safetensors",
}

LAYERS = 3
AUDIO_INTERMEDIATE = 64
VAE_WIDTH = 8


def wan_i2v(**settings: object) -> torch.nn.Module:
    return tiny_networks.wan_i2v(LAYERS, **settings)


def wan_vae() -> torch.nn.Module:
    return tiny_networks.wan_vae(VAE_WIDTH)


def infinitetalk(**settings: object) -> torch.nn.Module:
    return tiny_networks.infinitetalk(LAYERS, AUDIO_INTERMEDIATE, **settings)


#: Of the audio encoder's 512 channels: constant ones, and those that follow the level in a band.
CONSTANT, LEVELS = 64, 320
RECTIFY = 8.0
"""Gain before the first GELU, so that it rectifies instead of passing quiet sound unchanged."""


def wav2vec2() -> dict[str, torch.Tensor]:
    """A seeded wav2vec2-base in which loudness survives.

    Random weights would lose it: the first normalisation is over time, the second over channels. Here some channels are
    constant, some follow the level in random bands, the rest are random mixtures; the second normalisation then sees
    the level relative to the constant ones.
    """
    with torch.device("meta"):
        net = tiny_networks.wav2vec2_base()
    weights = fill("talker.wav2vec2.", shapes_of(net), gain=1.0)
    layers = "feature_extractor.conv_layers."
    weights[layers + "0.layer_norm.weight"] = torch.full((512,), RECTIFY)
    weights[layers + "0.layer_norm.weight"][:CONSTANT] = 0.0
    weights[layers + "0.layer_norm.bias"] = torch.zeros(512)
    weights[layers + "0.layer_norm.bias"][:CONSTANT] = 1.0
    end = CONSTANT + LEVELS
    for layer in range(1, 7):
        name = f"{layers}{layer}.conv.weight"
        weight = weights[name]
        weight[:CONSTANT] = 0.0
        for channel in range(CONSTANT):
            weight[channel, channel] = 1.0 / weight.shape[2]
        level = seeded(f"talker.level.{layer}", (LEVELS, LEVELS, 1), 1.0).abs()
        level = level * (seeded(f"talker.which.{layer}", (LEVELS, LEVELS, 1), 1.0) > 1.8)  # of about 11 others
        level = level + torch.eye(LEVELS)[:, :, None]
        level = level / level.sum(dim=1, keepdim=True)
        weight[CONSTANT:end] = 0.0
        weight[CONSTANT:end, CONSTANT:end] = level / weight.shape[2]
    for layer in range(12):
        for name in ("attention.out_proj", "feed_forward.output_dense"):
            weights[f"encoder.layers.{layer}.{name}.weight"] *= 0.3
    weights["encoder.pos_conv_embed.conv.parametrizations.weight.original0"] *= 0.3
    # Half precision on disk, as the published encoder file: 190 MB instead of 380.
    return {name: tensor.half() for name, tensor in weights.items()}


def _product(left: torch.Tensor, scale: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``diag(scale) @ left @ right``. Whole numbers in float64 have exact sums, in whatever order a machine adds."""
    return ((left.double() @ right.double()) * scale.double()[:, None]).float()


def _expanded(compact: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    kept = {name[len(prefix) :]: tensor for name, tensor in compact.items() if name.startswith(prefix)}
    out = {}
    frame = kept.pop("audio_proj.frame", None)
    for name, tensor in kept.items():
        weight, _, part = name.rpartition(".")
        if part == "left":
            out[weight] = _product(tensor, kept[f"{weight}.scale"], kept[f"{weight}.right"])
        elif part == "taps":
            outputs, taps, _ = tensor.shape
            rows = kept[f"{weight}.scale"].repeat_interleave(taps)
            out[weight] = _product(tensor.flatten(0, 1), rows, frame).reshape(outputs, -1)
        elif part not in ("right", "scale"):
            out[name] = tensor.float()
    return out


def expand(compact: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The checkpoints ``wan``, ``patch`` and ``vae``, bit for bit the same on every machine."""
    with torch.device("meta"):
        shapes = shapes_of(wan_i2v())
    wan = _expanded(compact, "wan.")
    seeded_parts = {name: shape for name, shape in shapes.items() if name not in wan}
    wan |= fill("talker.wan.", seeded_parts)
    for name in seeded_parts:
        if ".cross_attn.o." in name:  # the prompt is not listened to
            wan[name] = torch.zeros(shapes[name])
    return {"wan": wan, "patch": _expanded(compact, "patch."), "vae": _expanded(compact, "vae.")}


def make_all(out: Path) -> None:
    """Write the files that users of the real models have."""
    from safetensors.torch import load_file

    found = expand(load_file(str(COMPACT)))
    write(out / FILES["talker_diffusion"], found["wan"])
    write(out / FILES["talker_vae"], found["vae"])
    write(out / FILES["talker_patch"], found["patch"])
    write_q8(out / FILES["talker_patch_q8"], found["patch"])
    write(out / FILES["talker_audio_encoder"], wav2vec2())
