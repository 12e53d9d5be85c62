"""Write tiny model files that ComfyUI's ordinary loaders load: real architectures, small sizes, seeded random weights.

Run inside the project's environment, with a ComfyUI on the path (its classes give the shapes)::

    PYTHONPATH=/path/to/ComfyUI python scripts/tiny_models.py --out /path/to/models

They exist to run the whole chain (loading, offloading, sampling, decoding, streaming) on a CPU in seconds. Those of WAN
are here and those of LTX in scripts/tiny_ltx_models.py; nothing in them is trained, so whatever they draw is noise. One
more WAN model really talks: scripts/tiny_talker.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import tiny_ltx_models
import tiny_networks
import tiny_talker
import torch
from tiny_weights import SEED, fill, seeded, shapes_of, write, write_q8

#: Raise when the files change, so that caches made by an older version are written again.
VERSION = 4

LAYERS = 2
AUDIO_INTERMEDIATE = 32
VAE_WIDTH = 16

FILES = {
    "diffusion": "diffusion_models/longtalk_tiny_wan_i2v.safetensors",
    "vae": "vae/longtalk_tiny_wan_vae.safetensors",
    "patch": "model_patches/longtalk_tiny_infinitetalk.safetensors",
    "patch_q8": "model_patches/longtalk_tiny_infinitetalk_Q8_0.gguf",
    "audio_encoder": "audio_encoders/longtalk_tiny_wav2vec2.safetensors",
    "positive": "conditioning/longtalk_tiny_positive.safetensors",
    "negative": "conditioning/longtalk_tiny_negative.safetensors",
    **tiny_ltx_models.FILES,
    **tiny_talker.FILES,
}


def wan_i2v() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        net = tiny_networks.wan_i2v(LAYERS)
    return fill("wan.", shapes_of(net))


def wan_vae() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        net = tiny_networks.wan_vae(VAE_WIDTH)
    return fill("vae.", shapes_of(net))


def infinitetalk() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        net = tiny_networks.infinitetalk(LAYERS, AUDIO_INTERMEDIATE)
    return fill("patch.", shapes_of(net))


def wav2vec2_base() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        net = tiny_networks.wav2vec2_base()
    weights = fill("wav2vec2.", shapes_of(net), gain=1.4)
    # Half precision on disk, as the published encoder file: 190 MB instead of 380.
    return {name: tensor.half() for name, tensor in weights.items()}


def conditioning(name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Stand-ins for umt5-xxl text (512 tokens of 4096) and CLIP vision (257 tokens of 1280)."""
    from longtalk.infinitetalk.model.conditioning_file import pack

    text = seeded(f"text.{name}", (1, 512, 4096), 0.1).half()
    clip_vision = {"penultimate_hidden_states": seeded("clip_vision", (1, 257, 1280), 0.5).half()}
    return pack([[text, {"pooled_output": None}]], clip_vision)


def make_all(out: Path) -> None:
    builders: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
        "diffusion": wan_i2v,
        "vae": wan_vae,
        "patch": infinitetalk,
        "audio_encoder": wav2vec2_base,
    }
    for key, build in builders.items():
        write(out / FILES[key], build())
    write_q8(out / FILES["patch_q8"], infinitetalk())
    for key in ("positive", "negative"):
        write(out / FILES[key], *conditioning(key))
    tiny_ltx_models.make_all(out)
    tiny_talker.make_all(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="models folder to write to")
    args = parser.parse_args()

    stamp = args.out / "longtalk_tiny.json"
    wanted = {"version": VERSION, "seed": SEED, "files": sorted(FILES.values())}
    complete = all((args.out / name).is_file() for name in FILES.values())
    if complete and stamp.is_file() and json.loads(stamp.read_text()) == wanted:
        return 0

    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    make_all(args.out)
    stamp.write_text(json.dumps(wanted, indent=1))
    print(f"wrote tiny models (seed {SEED}) to {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
