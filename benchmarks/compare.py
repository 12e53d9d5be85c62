"""How fast, how exact, how much memory: LongTalk beside ComfyUI core's nodes and the native loop sampler pack.

    python -m benchmarks.compare --size full --peer PATH    on a GPU: the whole comparison, 832x480
    python -m benchmarks.compare --size tiny                on a CPU: does it all run?

All contenders run in this one process, on the same models with random weights, and their forwards are timed by the
same wrapper. --peer is a checkout of comfyui-infinitalk-native-sampler; without it that contender is left out. The
results go to OUT/benchmarks.json as they come, beside those of other cases that are there already; `python -m
benchmarks.tables` makes the table and the plot of them. Exits 1 when a contender gives another number of frames than it
was asked for, or when an exact kernel changes the latents by more than 1 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from . import comfyui
from .contenders import Job, Outcome, core, longtalk, native, native_pack
from .models import SIZES, Size, device, diffusion_weights, everything, speech

log = logging.getLogger("benchmarks")

#: Relative change of a window's latents by another attention kernel of the class "exact".
LATENTS_LIMIT = 0.01
RESULTS = "benchmarks.json"
CASES = ("window", "long", "two", "fp8", "speech", "core_two", "accuracy")


@dataclasses.dataclass
class Bench:
    """One comparison: the models, what is made of them, and what came of it."""

    size: Size
    peer: Any
    out: Path
    job: Job
    long_s: float
    speech_minutes: float
    others: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)
    _parts: SimpleNamespace | None = None

    @property
    def parts(self) -> SimpleNamespace:
        """The models, built when first needed."""
        if self._parts is None:
            self._parts = everything(self.size)
        return self._parts

    def add(self, case: str, outcome: Outcome, job: Job) -> None:
        """Keep and show a result."""
        self.row(
            case,
            outcome.name,
            seconds=outcome.seconds,
            frames=outcome.frames,
            asked=job.frames,
            forward_ms=outcome.forward_ms,
            forwards=len(outcome.forwards),
            peak_gib=outcome.peak_gib,
            text=outcome.text,
        )
        if outcome.frames != job.frames:
            self.faults.append(f"{case}: {outcome.name} made {outcome.frames} frames of {job.frames}")

    def row(self, case: str, name: str, **values: Any) -> None:
        self.rows.append({"case": case, "name": name, **values})
        shown = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in values.items()
            if key != "text"
        )
        print(f"{case:9} {name:28} {shown}", flush=True)
        self.save()

    def save(self) -> None:
        about = {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU",
            "torch": torch.__version__,
            "dtype": str(self.size.dtype).removeprefix("torch."),
            "size": f"{self.job.width}x{self.job.height}",
            "steps": self.job.steps,
            "window": self.job.window,
            "weights": "random",
        }
        self.out.mkdir(parents=True, exist_ok=True)
        content = {"about": about, "rows": [*self.others, *self.rows]}
        (self.out / RESULTS).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def window(bench: Bench) -> None:
    """Two windows: core, the pack, and LongTalk for the first time, with its measurement of the kernels."""
    job = dataclasses.replace(bench.job, seconds=_seconds_of(bench.job, 2))
    bench.add("window", core(bench.parts, job), job)
    if bench.peer is not None:
        bench.add("window", native(bench.peer, bench.parts, job), job)
    bench.add("window", longtalk(bench.parts, job, "LongTalk exact, first run"), job)


def long(bench: Bench) -> None:
    """The clip that people make, end to end."""
    job = dataclasses.replace(bench.job, seconds=bench.long_s)
    if bench.peer is not None:
        bench.add("long", native(bench.peer, bench.parts, job), job)
    bench.add("long", longtalk(bench.parts, job, "LongTalk exact"), job)


def two(bench: Bench) -> None:
    """One speaker and two, two windows each."""
    for speakers in (1, 2):
        job = dataclasses.replace(bench.job, seconds=_seconds_of(bench.job, 2), speakers=speakers)
        bench.add(
            "two", longtalk(bench.parts, job, f"LongTalk exact, {'1 speaker' if speakers == 1 else '2 speakers'}"), job
        )


def core_two(bench: Bench) -> None:
    """Core's speaker map, one window."""
    job = dataclasses.replace(bench.job, seconds=_seconds_of(bench.job, 1), speakers=2)
    bench.add("core_two", core(bench.parts, job), job)


def fp8(bench: Bench) -> None:
    """The same weights in fp8, multiplied in fp8, as Load Diffusion Model's fp8_e4m3fn_fast does."""
    if not torch.cuda.is_available():
        return
    import comfy.model_management as manager

    from .models import load_diffusion

    parts = bench.parts
    manager.unload_all_models()
    model = load_diffusion(diffusion_weights(bench.size), dtype=torch.float8_e4m3fn, fp8_optimizations=True)
    job = dataclasses.replace(bench.job, seconds=_seconds_of(bench.job, 1))
    small = SimpleNamespace(**{**vars(parts), "model": model})
    longtalk(small, job)  # loads
    job = dataclasses.replace(bench.job, seconds=bench.long_s)
    bench.add("fp8", longtalk(small, job, "LongTalk exact, fp8 weights"), job)
    manager.unload_all_models()


def speech_features(bench: Bench) -> None:
    """The features of a podcast."""
    import comfy.model_management as manager
    from comfy_extras.nodes_audio_encoder import AudioEncoderEncode

    from longtalk.nodes import LongTalkEncodeSpeech

    audio = speech(bench.speech_minutes * 60)
    encoder = bench.parts.audio_encoder

    def run(name: str, encode: Callable[[], Any]) -> None:
        best, peak = float("inf"), 0.0
        for _ in range(2):
            if torch.cuda.is_available():
                manager.soft_empty_cache()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                torch.cuda.synchronize()
            began = time.perf_counter()
            with torch.inference_mode():
                encoded = encode()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - began)
            if torch.cuda.is_available():
                peak = (torch.cuda.max_memory_allocated() - before) / 2**30
            del encoded
        bench.row("speech", name, seconds=best, extra_gib=peak, minutes=bench.speech_minutes)

    manager.unload_all_models()
    manager.load_model_gpu(encoder.patcher)
    if bench.size.layers > 2:  # core holds 32 GiB here: not on a CPU
        run("ComfyUI core", lambda: AudioEncoderEncode.execute(encoder, audio))
    run(
        "LongTalk",
        lambda: LongTalkEncodeSpeech.execute(encoder, "official", False, audio=audio),
    )


def accuracy(bench: Bench) -> None:
    """A window's latents with each class of kernels against those with ComfyUI's attention, same seed and type."""
    import longtalk.infinitetalk.host.wan.renderer as wan

    job = dataclasses.replace(bench.job, seconds=_seconds_of(bench.job, 1))
    latents: dict[str, torch.Tensor] = {}
    sample = wan.WanRenderer.sample

    def keep(self: Any, *args: Any) -> torch.Tensor:
        latents[choice] = sample(self, *args)
        return latents[choice]

    wan.WanRenderer.sample = keep  # type: ignore[method-assign]
    try:
        for choice in ("as ComfyUI", "exact", "fast"):
            outcome = longtalk(bench.parts, dataclasses.replace(job, attention=choice), f"LongTalk {choice}")
            reference = latents["as ComfyUI"]
            error = float((latents[choice] - reference).norm() / reference.norm())
            bench.row("accuracy", outcome.name, forward_ms=outcome.forward_ms, error=error, text=outcome.text)
            if choice == "exact" and not error <= LATENTS_LIMIT:
                bench.faults.append(f"accuracy: exact kernels change the latents by {error:.2%}")
    finally:
        wan.WanRenderer.sample = sample  # type: ignore[method-assign]


def _seconds_of(job: Job, windows: int) -> float:
    """Speech that fills so many windows to the last frame."""
    return (job.window + (windows - 1) * (job.window - 9)) / 25


RUN: dict[str, Callable[[Bench], None]] = {
    "window": window,
    "long": long,
    "two": two,
    "fp8": fp8,
    "speech": speech_features,
    "core_two": core_two,
    "accuracy": accuracy,
}


def kept(path: Path, chosen: list[str]) -> list[dict[str, Any]]:
    """Results of other cases that are there from before."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text("utf-8"))["rows"]
    return [row for row in rows if row["case"] not in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=SIZES, default="full" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--peer", type=Path, help="a checkout of comfyui-infinitalk-native-sampler")
    parser.add_argument("--cases", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where benchmarks.json is written")
    arguments = parser.parse_args()
    chosen = arguments.cases.split(",")
    unknown = [case for case in chosen if case not in RUN]
    if unknown:
        parser.error(f"expected cases among {', '.join(CASES)}, got {', '.join(unknown)}")
    comfyui.start()
    full = arguments.size == "full"
    bench = Bench(
        size=SIZES[arguments.size],
        peer=native_pack(arguments.peer) if arguments.peer else None,
        out=arguments.out,
        job=Job(0.0, 832, 480) if full else Job(0.0, 96, 64, steps=2, window=21),
        long_s=20.0 if full else 2.0,
        speech_minutes=30.0 if full else 0.5,
        others=kept(arguments.out / RESULTS, chosen),
    )
    print(f"{device()}, {arguments.size} models, {bench.job.width}x{bench.job.height}", flush=True)
    for case in chosen:
        RUN[case](bench)
    for fault in bench.faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if bench.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
