"""What runs on a small card: a window of 832x480x81 with 24, 16 and 12 GB of GPU memory.

    python -m benchmarks.cards --gib 24,16,12

For each size another process first takes all memory but that much, so that ComfyUI and the driver see, and fail at,
what a card of that size has. Then a fresh process loads the preset's files as users have them, with ComfyUI's dynamic
VRAM, and runs Sampler (LongTalk) over two windows. Exits 1 when one does not end in a video.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import comfyui
from .compare import RESULTS, kept
from .contenders import Job, longtalk
from .models import SIZES, audio_encoder_weights, diffusion_weights, everything, patch_weights, vae_weights

CASE = "cards"
GIB = 2**30


@dataclass(frozen=True)
class Preset:
    """Files for a card.

    Attributes:
        base, patch: their precision.
    """

    base: str
    patch: str


#: By GiB of the card.
PRESETS = {24: Preset("fp8", "fp16"), 16: Preset("fp8", "fp8"), 12: Preset("fp8", "Q8_0")}
FILES = {"base": "base_fp8.safetensors", "fp16": "patch_fp16.safetensors", "fp8": "patch_fp8.safetensors"}
FILES |= {"Q8_0": "patch_Q8_0.gguf", "vae": "vae.safetensors", "audio_encoder": "wav2vec2.safetensors"}


def write_files(folder: Path, kinds: set[str]) -> None:
    """The models of the presets, with random weights."""
    from safetensors.torch import save_file

    size = SIZES["full"]
    fp8 = torch.float8_e4m3fn
    save_file({name: weight.to(fp8).cpu() for name, weight in diffusion_weights(size).items()}, folder / FILES["base"])
    save_file({name: weight.cpu() for name, weight in vae_weights(size).items()}, folder / FILES["vae"])
    save_file({name: weight.cpu() for name, weight in audio_encoder_weights().items()}, folder / FILES["audio_encoder"])
    patch = patch_weights(size)
    for kind in kinds & {"fp16", "fp8"}:
        matrices = fp8 if kind == "fp8" else torch.float16
        save_file(
            {name: (weight.to(matrices) if weight.ndim > 1 else weight).cpu() for name, weight in patch.items()},
            folder / FILES[kind],
        )
    if "Q8_0" in kinds:
        write_q8(folder / FILES["Q8_0"], patch)


def write_q8(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """A GGUF file in Q8_0: per 32 numbers a scale in fp16 and 32 signed bytes."""
    import gguf

    writer = gguf.GGUFWriter(path, "infinitetalk")
    for name, weight in weights.items():
        if weight.ndim < 2:
            writer.add_tensor(name, weight.float().cpu().numpy())
            continue
        groups = weight.float().unflatten(-1, (-1, 32))
        scale = (groups.abs().amax(-1, keepdim=True) / 127).half()
        numbers = (groups / scale.float().clamp_min(1e-12)).round().clamp(-127, 127).to(torch.int8)
        packed = torch.cat([scale.view(torch.uint8), numbers.view(torch.uint8)], dim=-1).flatten(1)
        raw: np.ndarray = packed.cpu().numpy()
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Ballast:
    """Another process that holds all GPU memory but so many GiB."""

    def __init__(self, gib: int) -> None:
        code = (
            "import sys, time, torch\n"
            "torch.zeros(1, device='cuda')\n"
            f"size = torch.cuda.mem_get_info()[0] - {gib} * 2**30\n"
            "held = [torch.empty(min(2**30, size - at), dtype=torch.uint8, device='cuda')"
            " for at in range(0, size, 2**30)]\n"
            "print(torch.cuda.mem_get_info()[0], flush=True)\n"
            "sys.stdin.read()\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.free = int(self._process.stdout.readline() or 0)

    def __enter__(self) -> Ballast:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class PeakUse:
    """Samples how much of the card's free memory this process takes, whoever allocates it."""

    def __init__(self, free_before: int) -> None:
        self._free = free_before
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.bytes = max(self.bytes, self._free - torch.cuda.mem_get_info()[0])

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self.bytes / GIB


def worker(gib: int, folder: Path, free_before: int, steps: int) -> dict[str, Any]:
    """Run a preset in this process."""
    peak = PeakUse(free_before)
    comfyui.start(dynamic_vram=True)
    import comfy.sd
    import comfy.utils

    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    preset = PRESETS[gib]
    began = time.perf_counter()
    model = comfy.sd.load_diffusion_model(str(folder / FILES["base"]))
    patch = load_patch(folder / FILES[preset.patch])
    vae, audio_encoder = (comfy.utils.load_torch_file(str(folder / FILES[name])) for name in ("vae", "audio_encoder"))
    parts = everything(SIZES["full"], model, patch, vae, audio_encoder)
    loading_s = time.perf_counter() - began
    job = Job((81 + 72) / 25, 832, 480, steps=steps)
    outcome = longtalk(parts, job, f"{gib} GiB: {preset.base} model, {preset.patch} patch")
    windows = [line.split() for line in outcome.text.splitlines() if line.strip()[:2] in ("1 ", "2 ")]
    return {
        "case": CASE,
        "name": outcome.name,
        "gib": gib,
        "seconds": outcome.seconds,
        "loading_s": loading_s,
        "frames": outcome.frames,
        "asked": job.frames,
        "forward_ms": outcome.forward_ms,
        "window_s": [float(words[words.index("s") - 1]) for words in windows if "s" in words],
        "peak_gib": peak.stop(),
        "text": outcome.text,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cards", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gib", default="24,16,12", help=f"some of {', '.join(map(str, PRESETS))}")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs"), help=f"where {RESULTS} is")
    parser.add_argument("--files", type=Path, help="a folder with the models from an earlier run, or for them")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--free", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: this needs an NVIDIA GPU")
    if arguments.worker:
        row = worker(arguments.worker, arguments.files, arguments.free, arguments.steps)
        print(json.dumps(row), flush=True)
        return 0
    cards = [int(gib) for gib in arguments.gib.split(",")]
    folder = arguments.files or Path(tempfile.mkdtemp(prefix="longtalk_cards_"))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / FILES["base"]).exists():
        script = [sys.executable, "-m", "benchmarks.cards_files", str(folder), *(PRESETS[gib].patch for gib in cards)]
        subprocess.run(script, check=True)
    path = arguments.out / RESULTS
    content = json.loads(path.read_text("utf-8")) if path.exists() else {"about": {}, "rows": []}
    content["rows"] = kept(path, [CASE])
    failed = False
    for gib in cards:
        with Ballast(gib) as ballast:
            command = [sys.executable, "-m", "benchmarks.cards", "--worker", str(gib), "--files", str(folder)]
            command += ["--free", str(ballast.free), "--steps", str(arguments.steps)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            print(f"FAILED: {gib} GiB", file=sys.stderr)
            failed = True
            continue
        row = json.loads(lines[-1])
        content["rows"].append(row)
        failed |= row["frames"] != row["asked"]
        print(
            f"{row['name']:36} free {ballast.free / GIB:.1f} GiB, loading {row['loading_s']:.0f} s, "
            f"windows {row['window_s']} s, a forward {row['forward_ms']:.0f} ms, peak {row['peak_gib']:.1f} GiB",
            flush=True,
        )
        arguments.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
