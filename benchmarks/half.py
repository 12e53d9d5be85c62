"""How exact and how quick the folded audio attention is in half precision, beside plain attention.

    python -m benchmarks.half                   as wide as WAN 2.1 14B; on a GPU as long as a window of 832x480x81, too
    python -m benchmarks.half --before FILE     also another folded_attention.py, such as that of an earlier checkout

Keys have no norm here, so they can have a large part in common. Each row is one type, number of speakers and common
part of all keys, with the relative error of each way against float64. The times are for one layer; the ways take turns,
and the median counts. Exits 1 where folded products are more than 1.5 times as far off as plain attention.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from . import comfyui
from .models import device

LIMIT = 1.5
OFFSETS = (0, 20, 60, 120)
WIDTH, AUDIO_WIDTH, VOICE_TOKENS = 5120, 768, 32
#: Latent frames and picture tokens of each: enough for an error, and a window of 832x480x81.
FEW, WINDOW = (2, 48), (21, 1560)
HALVES = (torch.float16, torch.bfloat16)
ROUNDS = 20
PACKAGE = "longtalk.infinitetalk.model"


@dataclass(frozen=True)
class Heard:
    """What one layer gets.

    Attributes:
        layers: an :class:`~longtalk.infinitetalk.model.audio_attention.AudioCrossAttention`.
        normed: picture tokens ``[1, F * S, C]``.
        context: audio tokens ``[1, F, M, audio_width]``.
        mapped: the speaker map ``[1, classes, F * S]`` of several speakers.
    """

    layers: Any
    normed: torch.Tensor
    context: torch.Tensor
    mapped: torch.Tensor | None

    @property
    def tokens_per_frame(self) -> int:
        return self.normed.shape[1] // self.context.shape[1]

    def to(self, dtype: torch.dtype) -> Heard:
        return replace(
            self,
            layers=deepcopy(self.layers).to(dtype),
            normed=self.normed.to(dtype),
            context=self.context.to(dtype),
        )


Way = Callable[[Heard], torch.Tensor]


def seeded_layers() -> Any:
    """Layers whose queries and keys are about one in size."""
    from longtalk.infinitetalk.model.audio_attention import AudioCrossAttention

    torch.manual_seed(1)
    layers = AudioCrossAttention(WIDTH, AUDIO_WIDTH, device=device())
    for layer in (layers.q_linear, layers.kv_linear, layers.proj):
        layer.weight.normal_(0.0, layer.in_features**-0.5)
        layer.bias.normal_(0.0, 0.1)
    return layers


def heard(layers: Any, speakers: int, frames: int, tokens: int, offset: float = 0.0) -> Heard:
    """Seeded tokens, and the layers with ``offset`` added to every number of every key."""
    layers = deepcopy(layers)
    layers.kv_linear.bias[:WIDTH] += offset
    torch.manual_seed(2)
    normed = torch.randn(1, frames * tokens, WIDTH, device=device())
    context = torch.randn(1, frames, speakers * VOICE_TOKENS, AUDIO_WIDTH, device=device())
    mapped = torch.randn(1, speakers + 1, frames * tokens, device=device()).softmax(1) if speakers > 1 else None
    return Heard(layers, normed, context, mapped)


def plain(given: Heard) -> torch.Tensor:
    from longtalk.infinitetalk.model.audio_attention import cross_attend

    attention = torch.nn.functional.scaled_dot_product_attention
    return cross_attend(given.layers, given.normed, given.context, given.tokens_per_frame, attention, given.mapped)


def folded_by(module: ModuleType) -> Way:
    """The folded products of a ``folded_attention.py``."""
    from longtalk.infinitetalk.host.wan.audio_patch import turn_by_comfyui
    from longtalk.infinitetalk.host.wan.layer_weights import layer_weights

    def folded(given: Heard) -> torch.Tensor:
        nothing = torch.zeros_like(given.normed)
        added: torch.Tensor = module.add_audio(
            given.layers,
            nothing,
            given.normed,
            given.context,
            given.tokens_per_frame,
            1.0,
            layer_weights,
            given.mapped,
            turn_by_comfyui,
        )
        return added

    return folded


def module_of(file: Path) -> ModuleType:
    """A file in the place of ``folded_attention.py``, so that it finds the modules beside it."""
    spec = importlib.util.spec_from_file_location(f"{PACKAGE}.folded_attention_before", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise SystemExit(f"error: expected a folded_attention.py, got {file}. To go on: give the path of that file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def errors(ways: dict[str, Way], given: Heard, dtype: torch.dtype) -> dict[str, float]:
    """The relative error of each way in ``dtype``; float64 begins with the rounded weights and tokens."""
    rounded = given.to(dtype)
    exact = plain(rounded.to(torch.float64))
    return {name: float((way(rounded) - exact).norm() / exact.norm()) for name, way in ways.items()}


def costs(ways: dict[str, Way], given: Heard) -> dict[str, tuple[float, float]]:
    """Milliseconds of each way, and the MiB of GPU memory that it takes at its peak beside what it is given."""
    on_gpu = device() == "cuda"
    times: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, float] = {}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            if on_gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            lying = torch.cuda.memory_allocated() if on_gpu else 0
            began = time.perf_counter()
            way(given)
            if on_gpu:
                torch.cuda.synchronize()
                peaks[name] = (torch.cuda.max_memory_allocated() - lying) / 2**20
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: (statistics.median(each[1:]), peaks.get(name, 0.0)) for name, each in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another folded_attention.py, to compare with")
    args = parser.parse_args()
    comfyui.start()
    from longtalk.infinitetalk.model import folded_attention

    ways = {"plain": plain, "folded": folded_by(folded_attention)}
    if args.before is not None:
        ways["before"] = folded_by(module_of(args.before))
    layers = seeded_layers()
    worst = 0.0
    print("type      speakers  common part  " + "".join(f"{name:>12}" for name in ways))
    for dtype in HALVES:
        for speakers in (1, 2, 3):
            for offset in OFFSETS:
                found = errors(ways, heard(layers, speakers, *FEW, offset), dtype)
                worst = max(worst, found["folded"] / found["plain"])
                figures = "".join(f"{100 * found[name]:>10.3f} %" for name in ways)
                print(f"{str(dtype)[6:]:<10}{speakers:>8}{offset:>13}  {figures}")
    print(f"folded products are at most {worst:.2f} times as far off as plain attention (limit {LIMIT})\n")

    print("type      speakers  picture tokens  " + "".join(f"{name:>22}" for name in ways))
    size, dtypes = (WINDOW, HALVES) if device() == "cuda" else (FEW, (torch.float32,))
    for dtype in dtypes:
        for speakers in (1, 2, 3):
            took = costs(ways, heard(layers, speakers, *size).to(dtype))
            figures = "".join(f"{ms:>11.3f} ms{mib:>4.0f} MiB" for ms, mib in took.values())
            print(f"{str(dtype)[6:]:<10}{speakers:>8}{size[0] * size[1]:>16}  {figures}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
