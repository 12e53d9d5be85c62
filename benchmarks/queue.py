"""What an hour of video with many guides takes before its first step, in seconds.

    python -m benchmarks.queue --minutes 60 --every 2

The LTX Sampler is queued with tiny models, an hour of sound and the reference as a guide every two seconds: 1,800 of
them. It is stopped at its first step. Told apart are ComfyUI loading models and all else: naming the run (the digests
of all that decides its result), the pictures and the first window's sound in the VAEs, plan, checks and files. Exits 1
when the latter take longer than 3 s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import comfyui

LIMIT_S = 3.0
FPS = 25
LOADING = "loading models"


class FirstStepError(Exception):
    """The first step was reached.

    Args:
        at: when, by ``time.perf_counter``.
    """

    def __init__(self, at: float) -> None:
        super().__init__("the first step was reached")
        self.at = at


class Phases:
    """Seconds spent in functions that are replaced by counting ones."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inside: list[str] = []

    @contextmanager
    def counted(self, owner: Any, name: str, phase: str) -> Iterator[None]:
        plain: Callable[..., Any] = getattr(owner, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            self._inside.append(phase)
            try:
                return plain(*arguments, **named)
            finally:
                took = time.perf_counter() - began
                self._inside.pop()
                self.seconds[phase] = self.seconds.get(phase, 0.0) + took
                self.calls[phase] = self.calls.get(phase, 0) + 1
                if self._inside:  # counted there already
                    self.seconds[self._inside[-1]] = self.seconds.get(self._inside[-1], 0.0) - took

        setattr(owner, name, counting)
        try:
            yield
        finally:
            setattr(owner, name, plain)


def queue(minutes: float, every_s: float) -> tuple[float, Phases]:
    """Seconds until the first step, and how they were spent."""
    import comfy.model_management
    import server  # noqa: F401  ComfyUI's own program has imported it long before
    from comfy.patcher_extension import WrappersMP

    from longtalk.infinitetalk.host import run as run_module
    from longtalk.infinitetalk.host.ltx import renderer
    from longtalk.nodes import LongTalkLTXSampler

    from .contenders import portrait, speech
    from .ltx import audio_vae, prompt, transformer, video_vae

    model, vae, sound_vae, text = transformer(False), video_vae(False), audio_vae(), prompt(False)
    audio, picture = speech(minutes * 60), portrait(96, 64)

    def stop(*arguments: Any, **named: Any) -> Any:
        raise FirstStepError(time.perf_counter())

    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "benchmark", stop)
    phases = Phases()
    began = time.perf_counter()
    try:
        with (
            phases.counted(run_module, "digests", "naming the run"),
            phases.counted(renderer.LtxRenderer, "_encode", "pictures in the VAE"),
            phases.counted(renderer, "encode_sound", "a window's sound in the VAE"),
            phases.counted(comfy.model_management, "load_models_gpu", LOADING),
        ):
            LongTalkLTXSampler.execute(
                vae=vae,
                audio_vae=sound_vae,
                image=picture,
                audio=audio,
                width=96,
                height=64,
                fps=FPS,
                window_seconds=19.88,
                overlap_seconds=2.0,
                overlap_mode="trim",
                seed=0,
                steps=2,
                cfg=1.0,
                sampler_name="euler",
                scheduler="linear_quadratic",
                image_strength=1.0,
                img_compression=18,
                adain=0.0,
                reanchor_seconds=every_s,
                codec="h264",
                crf=18,
                return_images=False,
                model=model,
                positive=text,
                negative=text,
            )
    except FirstStepError as step:
        return step.at - began, phases
    raise SystemExit("error: the video was made without a step")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=2.0, help="seconds from one guide to the next")
    arguments = parser.parse_args()
    comfyui.start()
    took_s, phases = queue(arguments.minutes, arguments.every)
    print(f"{arguments.minutes:g} minutes, a guide every {arguments.every:g} s")
    for phase, seconds in phases.seconds.items():
        print(f"{phase:28} {seconds:7.2f} s in {phases.calls[phase]} call(s)")
    without_s = took_s - phases.seconds.get(LOADING, 0.0)
    print(f"{'until the first step':28} {took_s:7.2f} s")
    print(f"{'of which not loading':28} {without_s:7.2f} s (limit {LIMIT_S:g} s)")
    return int(without_s > LIMIT_S)


if __name__ == "__main__":
    raise SystemExit(main())
