"""The same clip by three ways: ComfyUI core's own nodes, the native loop sampler pack, and LongTalk."""

from __future__ import annotations

import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from .models import halves, portrait, speech

FPS = 25
WINDOW, MOTION = 81, 9


@dataclass(frozen=True)
class Job:
    """What is to be made.

    Attributes:
        seconds: of speech.
        width, height: of the video.
        steps: denoising steps of each window.
        window: frames of a window.
        speakers: 1 or 2.
        attention: LongTalk's class of kernels.
    """

    seconds: float
    width: int
    height: int
    steps: int = 4
    window: int = WINDOW
    speakers: int = 1
    attention: str = "exact"

    @property
    def frames(self) -> int:
        return math.ceil(self.seconds * FPS)


@dataclass
class Outcome:
    """What it took.

    Attributes:
        name: of the contender.
        seconds: from the inputs to the frames, or to LongTalk's finished file.
        frames: that came out.
        forward_ms: median time of the model's forward.
        peak_gib: of GPU memory.
        text: what the contender says about itself.
    """

    name: str
    seconds: float
    frames: int
    forward_ms: float
    peak_gib: float
    text: str = ""
    forwards: list[float] = field(default_factory=list)


class Stopwatch:
    """``APPLY_MODEL`` wrapper: times each forward of the model on its device."""

    def __init__(self) -> None:
        self._marks: list[tuple[Any, Any]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Stopwatch:
        """The same one: LongTalk gives each window copies of what is on a model."""
        return self

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        before = self._mark()
        out = executor(*args, **kwargs)
        self._marks.append((before, self._mark()))
        return out

    @staticmethod
    def _mark() -> Any:
        if not torch.cuda.is_available():
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms(self) -> list[float]:
        """Milliseconds of each forward so far."""
        if not torch.cuda.is_available():
            return [(after - before) * 1e3 for before, after in self._marks]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) for before, after in self._marks]


def timed(name: str, parts: SimpleNamespace, make: Callable[[Any], tuple[int, str]]) -> Outcome:
    """Run a contender with a model clone that is timed. ``make`` takes it, and gives frames and a text."""
    from comfy.patcher_extension import WrappersMP

    watch = Stopwatch()
    model = parts.model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "benchmark", watch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with torch.inference_mode():
        frames, text = make(model)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    forwards = watch.ms()
    return Outcome(name, seconds, frames, statistics.median(forwards), peak, text, forwards)


def _encoded(parts: SimpleNamespace, audio: Any) -> Any:
    from comfy_extras.nodes_audio_encoder import AudioEncoderEncode

    return AudioEncoderEncode.execute(parts.audio_encoder, audio).result[0]


def core(parts: SimpleNamespace, job: Job) -> Outcome:
    """WanInfiniteTalkToVideo, KSampler and VAE Decode, a window after the other, as a graph of them does it."""
    from comfy_extras.nodes_wan import WanInfiniteTalkToVideo

    import nodes

    def make(model: Any) -> tuple[int, str]:
        audio = [_encoded(parts, speech(job.seconds, seed)) for seed in range(job.speakers)]
        mode: dict[str, Any] = {"mode": "single_speaker"}
        if job.speakers == 2:
            masks = halves(job.width, job.height)
            mode = {
                "mode": "two_speakers",
                "audio_encoder_output_2": audio[1],
                "mask_1": masks[0],
                "mask_2": masks[1],
            }
        frames: torch.Tensor | None = None
        seed = 0
        while frames is None or frames.shape[0] < job.frames:
            patched, positive, negative, latent, trim = WanInfiniteTalkToVideo.execute(
                mode,
                model,
                parts.patch,
                parts.positive,
                parts.negative,
                parts.vae,
                job.width,
                job.height,
                job.window,
                audio[0],
                MOTION,
                start_image=portrait(job.width, job.height),
                previous_frames=frames,
                audio_scale=1.0,
                clip_vision_output=parts.vision,
            ).result
            samples = nodes.common_ksampler(
                patched, seed, job.steps, 1.0, "euler", "simple", positive, negative, latent
            )[0]["samples"]
            decoded = nodes.VAEDecode().decode(parts.vae, {"samples": samples})[0][trim:]
            frames = decoded if frames is None else torch.cat([frames, decoded])
            seed += 1
        return min(frames.shape[0], job.frames), f"{seed} windows"

    return timed("ComfyUI core", parts, make)


def native_pack(path: Path) -> Any:
    """The native loop sampler pack from a checkout of it."""
    spec = importlib.util.spec_from_file_location("native_sampler", path / "nodes.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"error: {path} has no nodes.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["native_sampler"] = module
    spec.loader.exec_module(module)
    return module


def native(pack: Any, parts: SimpleNamespace, job: Job) -> Outcome:
    """The pack's one-node sampler."""

    def make(model: Any) -> tuple[int, str]:
        sound = speech(job.seconds)
        images, _ = pack.InfiniteTalkAutoSampler().execute(
            model,
            parts.patch,
            parts.positive,
            parts.negative,
            parts.vae,
            _encoded(parts, sound),
            sound,
            job.width,
            job.height,
            job.window,
            MOTION,
            1.0,
            0,
            job.steps,
            1.0,
            "euler",
            "simple",
            1.0,
            start_image=portrait(job.width, job.height),
            clip_vision_output=parts.vision,
        )
        return images.shape[0], ""

    return timed("native loop sampler", parts, make)


def longtalk(parts: SimpleNamespace, job: Job, name: str = "LongTalk") -> Outcome:
    """Sampler (LongTalk), to the finished file with its sound."""
    from longtalk.nodes import LongTalkSampler, LongTalkSpeakers

    def make(model: Any) -> tuple[int, str]:
        sound: dict[str, Any] = {"audio": speech(job.seconds)}
        if job.speakers == 2:
            masks = halves(job.width, job.height)
            speakers = LongTalkSpeakers.execute(
                audio_1=speech(job.seconds, 0),
                mode="para",
                mask_1=masks[0],
                audio_2=speech(job.seconds, 1),
                mask_2=masks[1],
            ).result[0]
            sound = {"speakers": speakers}
        video, _, report = LongTalkSampler.execute(
            model=model,
            model_patch=parts.patch,
            positive=parts.positive,
            negative=parts.negative,
            vae=parts.vae,
            image=portrait(job.width, job.height),
            width=job.width,
            height=job.height,
            seed=0,
            steps=job.steps,
            cfg=1.0,
            audio_cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            audio_scale=1.0,
            window_frames=job.window,
            motion_frames=MOTION,
            plan_mode="exact",
            features="official",
            codec="h264",
            crf=18,
            return_images=False,
            audio_encoder=parts.audio_encoder,
            clip_vision_output=parts.vision,
            resume="start over",
            attention=job.attention,
            **sound,
        ).result
        return round(video.get_duration() * FPS), report

    return timed(name, parts, make)
