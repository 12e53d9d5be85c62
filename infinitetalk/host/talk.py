"""One run from inputs to a finished video file: check, plan, loop, write."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch

from ...audio.tracks import Track
from ..errors import LongTalkError
from ..plan.report import plan_report
from ..plan.windows import FPS, Plan
from ..run.loop import RunReport, run_windows
from ..run.progress import RunProgress, clock_text
from ..run.writer import Soundtrack, VideoFormat, VideoWriter, WrittenVideo
from ..speech import Speech
from .checks import check_clip_vision, check_image, check_model, check_text, check_vae, snapped_size
from .events import RunEvents, check_interrupt
from .patch import check_patch
from .wan import WanFamily

log = logging.getLogger(__name__)


def _is_copied_on(video: VideoFormat) -> bool:
    """Whether core's SaveVideo, which writes mp4, can take the file over without encoding again."""
    return video.container == "mp4"


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        video: the file.
        images: all frames ``[F, H, W, 3]`` when they were asked for.
        report: what was done, for a person.
    """

    video: WrittenVideo
    images: torch.Tensor | None
    report: str


@dataclass(frozen=True)
class Inputs:
    """Everything a run needs; see :class:`~.wan.WanFamily` for the tensors.

    ``speech`` is called once, when everything else has been checked; ``plan`` must be made for its speakers' frames.
    """

    plan: Plan
    guider: Any
    model_patch: Any
    vae: Any
    image: Any
    speech: Callable[[], Speech]
    noise: Any
    sampler: Any
    sigmas: torch.Tensor
    width: int = 832
    height: int = 480
    clip_vision: Any = None
    soundtrack: Track | None = None
    audio_scale: float = 1.0
    video: VideoFormat = field(default_factory=VideoFormat)
    return_images: bool = False


def _check(inputs: Inputs) -> None:
    """Refuse wrong files before anything is loaded or encoded.

    Raises:
        LongTalkError
    """
    model = inputs.guider.model_patcher
    check_model(model)
    check_patch(inputs.model_patch, model)
    check_vae(inputs.vae)
    check_image(inputs.image)
    check_clip_vision(inputs.clip_vision)
    for name, entries in inputs.guider.original_conds.items():
        check_text(entries, name)
        for entry in entries:
            check_clip_vision(entry.get("clip_vision_output"), f"clip_vision_output in {name}")
    if inputs.sigmas.numel() < 2:
        raise LongTalkError(
            "sigmas",
            expected="at least one step",
            actual=f"{max(0, inputs.sigmas.numel() - 1)} steps",
            action="Raise the steps, or denoise above 0",
        )


def _target(video: VideoFormat) -> Path:
    """Where the file goes: temporary for what SaveVideo copies on, the output folder for what it cannot hold."""
    root = folder_paths.get_temp_directory() if _is_copied_on(video) else folder_paths.get_output_directory()
    folder = Path(root) / "longtalk"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"talk_{time.strftime('%Y%m%d-%H%M%S')}_{uuid.uuid4().hex[:8]}{video.suffix}"


def _sound(track: Track, plan: Plan, notes: list[str]) -> Soundtrack:
    """The sound for the video; adds a note when it is not as long as the picture."""
    video_s = plan.frames / FPS
    if abs(track.duration_s - video_s) > 1 / FPS:
        change = "cut at its end" if track.duration_s > video_s else "silent after it"
        notes.append(f"sound: {track.name} is {track.duration_s:.2f} s, the video {video_s:.2f} s; {change}")
    return Soundtrack(track.waveform.numpy(), track.sample_rate)


class _Images:
    """Collects the frames of the whole video, when the user asked for them, in memory reserved beforehand.

    Raises:
        LongTalkError: they do not fit into the memory that is free.
    """

    def __init__(self, plan: Plan, width: int, height: int) -> None:
        shape = (plan.frames, height, width, 3)
        gigabytes = math.prod(shape) * 4 / 1e9
        free = comfy.model_management.get_free_memory(torch.device("cpu")) / 1e9
        if gigabytes > free:
            raise LongTalkError(
                "return_images",
                expected=f"frames that fit into the {free:.1f} GB of memory that are free",
                actual=f"{plan.frames} frames of {width}x{height}, {gigabytes:.1f} GB",
                action="Turn return_images off and use the video, which needs no memory",
            )
        log.warning("return_images: %d frames as one IMAGE take %.1f GB of memory", plan.frames, gigabytes)
        self.frames = torch.empty(shape)
        self._filled = 0

    def add(self, frames: torch.Tensor) -> None:
        self.frames[self._filled : self._filled + frames.shape[0]] = frames
        self._filled += frames.shape[0]


def talk(inputs: Inputs) -> Result:
    """Make the video.

    Raises:
        LongTalkError: an input cannot work; raised before the speech is encoded, let alone a model loaded.
    """
    _check(inputs)
    width, height, notice = snapped_size(inputs.width, inputs.height)
    speech = inputs.speech()
    notes = [*speech.notes, *([notice] if notice else [])]
    plan = inputs.plan
    log.info("%d frames, windows: %d, size: %dx%d", plan.frames, len(plan.windows), width, height)

    model = inputs.guider.model_patcher
    progress = RunProgress(plan, inputs.sigmas.numel() - 1)
    images = _Images(plan, width, height) if inputs.return_images else None
    sound = _sound(inputs.soundtrack or speech.speakers.arrangement.mix, plan, notes)
    # The writer first: a full disk or a missing codec is found before the diffusion model is loaded.
    with VideoWriter(_target(inputs.video), width=width, height=height, video=inputs.video, soundtrack=sound) as writer:
        family = WanFamily(
            plan=plan,
            guider=inputs.guider,
            model_patch=inputs.model_patch,
            vae=inputs.vae,
            image=check_image(inputs.image),
            clip_vision=inputs.clip_vision,
            features=speech.features,
            masks=speech.speakers.masks,
            width=width,
            height=height,
            noise=inputs.noise,
            sampler=inputs.sampler,
            sigmas=inputs.sigmas,
            audio_scale=inputs.audio_scale,
            events=RunEvents(model, progress),
        )
        run = run_windows(plan, family, _tee(writer.write, images), check_interrupt=check_interrupt)
        video = writer.close()
    report = _report(run, video, notes, inputs, speech.speakers.count, progress.elapsed_s)
    log.info("%s: %d frames in %s", video.path.name, video.frames, clock_text(progress.elapsed_s))
    return Result(video, images.frames if images else None, report)


def _tee(write: Callable[[torch.Tensor], None], images: _Images | None) -> Callable[[torch.Tensor], None]:
    if images is None:
        return write

    def both(frames: torch.Tensor) -> None:
        write(frames)
        images.add(frames)

    return both


def _report(
    run: RunReport, video: WrittenVideo, notes: list[str], inputs: Inputs, speakers: int, elapsed_s: float
) -> str:
    plan = inputs.plan
    lines = [
        f"{video.frames} frames, {video.frames / FPS:.2f} s, {video.width}x{video.height}, "
        f"{video.video_codec}, sound {video.audio_codec or 'none'}, {video.bytes / 1e6:.1f} MB",
        f"took {clock_text(elapsed_s)}: {run.render_s:.1f} s rendering, {run.write_s:.1f} s waiting for the writer, "
        f"{run.render_s / len(plan.windows):.2f} s per window",
        f"seed {getattr(inputs.noise, 'seed', 'none')} plus the window's index, audio scale {inputs.audio_scale:g}, "
        f"{speakers} speaker(s)",
    ]
    if not _is_copied_on(inputs.video):
        lines.append(f"saved as {video.path} (Save Video writes mp4, which cannot hold {inputs.video.codec})")
    lines += [f"note: {note}" for note in notes]
    return "\n".join([*lines, "", plan_report(plan)])
