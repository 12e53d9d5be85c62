"""Runs on disk for tests without ComfyUI: real segments, carries and records through the real recorder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from written_video import HEIGHT, WIDTH, smooth, tone

from longtalk.base.rates import FPS
from longtalk.infinitetalk.plan.shots import join_shots
from longtalk.infinitetalk.plan.windows import Plan, plan_windows
from longtalk.infinitetalk.run.loop import Fallbacks, MadeWindow
from longtalk.infinitetalk.run.seeds import parse_rerender, window_seeds
from longtalk.infinitetalk.run.store.folder import RunFolder
from longtalk.infinitetalk.run.store.manifest import About, Manifest
from longtalk.infinitetalk.run.store.record import FileSum, video_key
from longtalk.infinitetalk.run.store.recorder import Recorder
from longtalk.infinitetalk.run.store.take import Take
from longtalk.infinitetalk.run.store.video_record import remove_video
from longtalk.infinitetalk.run.video.formats import VideoFormat
from longtalk.infinitetalk.run.video.join import WrittenVideo, join
from longtalk.infinitetalk.run.video.soundtrack import write_sound
from longtalk.infinitetalk.run.window_checks import look_of, measure

NAME = "0123456789abcdef"
PARTS = {"seed": "a", "model": "b"}


def made_window(
    plan: Plan,
    number: int,
    fallbacks: Fallbacks = Fallbacks(),  # noqa: B008 - frozen
) -> tuple[MadeWindow, torch.Tensor]:
    """A window, counted from 1, of a slowly moving gradient, and its new frames."""
    window = plan.window(number)
    start, end = window.output
    frames = smooth(end)[start:]
    before = None if plan.is_fresh(window) else (smooth(start)[-1] * 255).to(torch.uint8)
    stats = measure(frames, look_of(frames[:1]), before)
    carry = {"motion": torch.full((1, 16, 3, 6, 8), float(number - 1))} if plan.hands_on(window) else {}
    last = (frames[-1] * 255 + 0.5).to(torch.uint8)
    return MadeWindow(window, last, carry, fallbacks, stats, 2.5), frames


def make_run(
    root: Path,
    *,
    name: str = NAME,
    frames: int | Sequence[int] = 45,
    motion_frames: int = 9,
    windows: int | None = None,
    video: VideoFormat = VideoFormat(),  # noqa: B008 - frozen
    seed: int = 5,
    rerender: str = "",
    fallbacks: Fallbacks = Fallbacks(),  # noqa: B008 - frozen
    finish: bool = False,
) -> tuple[RunFolder, Plan, tuple[str, ...]]:
    """A run of 21-frame windows with the first ``windows`` made (all by default); its folder, plan and keys.

    ``frames``: of the one shot, or of each of several. Where the run is there already, it goes on as a session does:
    windows that are there stay as they are.
    """
    shots = [frames] if isinstance(frames, int) else frames
    plan = join_shots([plan_windows(count, 21, motion_frames) for count in shots])
    folder = RunFolder(root, name, video.suffix)
    folder.create()
    begins = plan.shot_starts
    seeds = window_seeds(seed, len(plan.windows), parse_rerender(rerender, len(plan.windows)), begins)
    take = Take(name, seeds, begins)
    write_sound(folder.sound_path, tone(plan.frames / FPS), video, frames=plan.frames, fps=FPS)
    about = About(
        created="2026-11-21 08:00:00",
        width=WIDTH,
        height=HEIGHT,
        codec=video.codec,
        crf=video.crf,
        fps=FPS,
        frames=plan.frames,
        seed=seed,
        steps=4,
        ends=tuple(window.output[1] for window in plan.windows),
        shots=begins,
    )
    folder.write_manifest(Manifest(PARTS, about, FileSum.of(folder.sound_path)))
    recorder = Recorder(folder, video, take)
    for window in plan.windows[:windows]:
        if not folder.record_path(window.number, take.key_of(window.number)).exists():
            recorder.put(*made_window(plan, window.number, fallbacks))
    recorder.wait()
    if finish:
        finish_run(folder, take.keys, video, begins)
    return folder, plan, take.keys


def finish_run(
    folder: RunFolder, keys: Sequence[str], video: VideoFormat, shots: Sequence[int] = (), *, sound: bool = True
) -> WrittenVideo:
    """Join all windows and note it, as a session does; without the sound it comes out otherwise, as if made anew."""
    segments = [folder.segment_path(number, key) for number, key in enumerate(keys, start=1)]
    key = video_key(keys, shots)
    heard = folder.sound_path if sound else None
    return folder.keep_video(join(folder.joined_path(key), segments, heard, video, fps=FPS), key)


def video_of(folder: RunFolder) -> Path:
    """The video of a run that was asked for last."""
    return folder.video_path(folder.video_names()[0])


def discard_videos(folder: RunFolder) -> None:
    for name in folder.video_names():
        remove_video(folder, name)


def damage(path: Path) -> None:
    """Flip a bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
