"""Does memory stay flat over a long video? The real pipeline at full resolution, with a fake model.

    python -m benchmarks.memory --minutes 10 --size 832x480

Plan, loop, sanity checks, segments, records, sound and join are the real ones. The fake model makes float32 frames of a
moving gradient and checks that each window is handed what the one before ended with. The resident memory is sampled all
the time, joining included; the table shows its peak in each minute of video. Then every window's files are checked as a
resumed run would, and the video is decoded and its frames counted. Exits 1 when the peak grows by more than 300 MB
after the first minute, or when a file is not what it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import psutil
import torch

from longtalk.base.grid import WAN_GRID
from longtalk.base.rates import FPS
from longtalk.infinitetalk.plan.windows import Plan, Window, plan_windows
from longtalk.infinitetalk.run.loop import Carry, Fallbacks, MadeWindow, Rendered, run_windows
from longtalk.infinitetalk.run.seeds import window_seeds
from longtalk.infinitetalk.run.store.folder import RunFolder
from longtalk.infinitetalk.run.store.recorder import Recorder
from longtalk.infinitetalk.run.store.take import Take
from longtalk.infinitetalk.run.video.formats import CODECS, VideoFormat
from longtalk.infinitetalk.run.video.join import WrittenVideo, join
from longtalk.infinitetalk.run.video.soundtrack import Soundtrack, write_sound
from longtalk.infinitetalk.run.window_checks import look_of
from longtalk.infinitetalk.run.window_stats import jumps

LIMIT_MB = 300.0
SAMPLE_RATE_HZ = 48000
SAMPLE_EVERY_S = 0.05
FRAMES_PER_MINUTE = 60 * FPS
RUN_NAME = "0123456789abcdef"
MOTION = "motion"


class MovingGradient:
    """A family whose frames are a gradient that drifts: full size, never the same, cheap to make.

    What a window continues from is as large as latents of its last frames, and made of these frames.
    """

    attention = "none"

    def __init__(self, width: int, height: int, motion_frames: int) -> None:
        x = torch.linspace(0, 1, width).reshape(1, width, 1)
        y = torch.linspace(0, 1, height).reshape(height, 1, 1)
        self._still = 0.25 + 0.25 * torch.cat((x.expand(height, -1, -1), y.expand(-1, width, -1), x * y), dim=-1)
        self._motion_frames = motion_frames
        self._ended_with: torch.Tensor | None = None

    def frame(self, number: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """Frame ``number`` of the video, float ``[H, W, 3]``."""
        # 2 pixels to the right per frame, and brighter and darker over 4 s.
        light = 0.2 + 0.2 * float(np.sin(number * np.pi / 50))
        return torch.add(torch.roll(self._still, 2 * number, dims=1), light, out=out)

    def render(self, window: Window, carry: Carry) -> Rendered:
        """The window's frames; ends the benchmark when ``carry`` is not what the window before ended with."""
        given = carry.get(MOTION)
        if (given is None) != (window.number == 1) or (
            given is not None and (self._ended_with is None or not torch.equal(given, self._ended_with))
        ):
            raise SystemExit(f"window {window.number}: is not handed what the window before ended with")
        height, width, _ = self._still.shape
        frames = torch.empty(window.length, height, width, 3)
        for i in range(window.length):
            self.frame(window.start + i, frames[i])
        return Rendered(torch.zeros(WAN_GRID.shape(window.length, width, height)), frames)

    def hand_on(self, window: Window, carry: Carry, rendered: Rendered) -> Carry:
        """As many numbers as the VAE's latents of the window's last frames would be."""
        side = WAN_GRID.spatial
        motion = rendered.frames[-self._motion_frames :, ::side, ::side].clone()
        self._ended_with = motion.clone()
        return {MOTION: motion}

    def fall_back(self, fallbacks: Fallbacks) -> None:
        """Nothing here can be given up: the checks found fault with a good picture."""
        raise SystemExit(f"the loop asks for {fallbacks}, although the frames are good")

    def is_out_of_memory(self, error: Exception) -> bool:
        return False


class PeakMemory:
    """Samples this process's resident memory in a thread; the peak of each minute of video, and where it stands."""

    def __init__(self, total_frames: int) -> None:
        self._total_frames = total_frames
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)
        self.frames = 0
        self.peaks_mb: dict[int, float] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            # The end of the video, and closing the file, belong to its last minute.
            minute = min(self.frames, self._total_frames - 1) // FRAMES_PER_MINUTE + 1
            self.peaks_mb[minute] = max(self.peaks_mb.get(minute, 0.0), self._process.memory_info().rss / 1e6)


def synthetic_speech(seconds: float) -> Soundtrack:
    """A hum that swells and fades, stereo, made a second at a time."""
    waveform = np.empty((2, round(seconds * SAMPLE_RATE_HZ)), np.float32)
    for start in range(0, waveform.shape[1], SAMPLE_RATE_HZ):
        t = np.arange(start, min(start + SAMPLE_RATE_HZ, waveform.shape[1])) / SAMPLE_RATE_HZ
        swell = 0.3 + 0.2 * np.sin(2 * np.pi * 3 * t)
        waveform[0, start : start + t.size] = swell * np.sin(2 * np.pi * 180 * t)
        waveform[1, start : start + t.size] = swell * np.sin(2 * np.pi * 240 * t)
    return Soundtrack(waveform, SAMPLE_RATE_HZ)


def decoded(path: Path) -> tuple[int, float]:
    """Frames counted by decoding, and seconds of decoded sound."""
    frames = samples = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if frame.time is None or abs(frame.time - frames / FPS) > 1e-3:
                raise SystemExit(f"frame {frames} is shown at {frame.time} s")
            frames += 1
    with av.open(str(path)) as container:
        for block in container.decode(audio=0):
            samples += block.samples
            rate_hz = block.sample_rate
    return frames, samples / rate_hz


@dataclass(frozen=True)
class Made:
    """What the pipeline made: the video, how many windows are whole on the disk, and the memory it took."""

    video: WrittenVideo
    windows_whole: int
    memory: PeakMemory


def render(plan: Plan, width: int, height: int, video: VideoFormat, root: Path) -> Made:
    sound = synthetic_speech(plan.frames / FPS)
    family = MovingGradient(width, height, plan.motion_frames)
    folder = RunFolder(root, RUN_NAME, video.suffix)
    take = Take(RUN_NAME, window_seeds(0, len(plan.windows)))
    memory = PeakMemory(plan.frames)
    recorder = Recorder(folder, video, take)

    def put(made: MadeWindow, frames: torch.Tensor) -> None:
        if jumps(made.stats):
            raise SystemExit(f"window {made.window.number}: seems to jump, although the frames go on")
        recorder.put(made, frames)
        memory.frames += frames.shape[0]

    memory.start()
    try:
        with folder.owned():
            write_sound(folder.sound_path, sound, video, frames=plan.frames, fps=FPS)
            run_windows(plan, family, put, look_of(family.frame(0)[None]))
            recorder.wait()
            segments = [folder.segment_path(record.window, record.key) for record in recorder.records]
            joined = join(folder.joined_path(take.video_key), segments, folder.sound_path, video, fps=FPS)
            written = folder.keep_video(joined, take.video_key)
    finally:
        memory.stop()
    return Made(written, len(folder.finished(take.keys).records), memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="length of the video, 2 or more to see growth")
    parser.add_argument("--size", default="832x480", help="WIDTHxHEIGHT")
    parser.add_argument("--codec", choices=CODECS, default="h264")
    parser.add_argument("--out", type=Path, help="folder for the run; by default it is made and removed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    try:
        width, height = (int(side) for side in args.size.lower().split("x"))
    except ValueError:
        parser.error(f"--size must look like 832x480, got {args.size}")
    if args.minutes <= 0:
        parser.error("--minutes must be more than 0")

    plan = plan_windows(round(args.minutes * FRAMES_PER_MINUTE))
    frames, windows = plan.frames, len(plan.windows)
    video = VideoFormat(args.codec)
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        with torch.inference_mode():  # as ComfyUI runs nodes
            made = render(plan, width, height, video, args.out or Path(scratch))
        made_s = time.perf_counter() - began
        counted, sound_s = decoded(made.video.path)

    peaks_mb = made.memory.peaks_mb
    first_mb, growth_mb = peaks_mb[1], max(peaks_mb.values()) - peaks_mb[1]
    good_file = counted == made.video.frames == frames and abs(sound_s - frames / FPS) < 1 / FPS
    good = good_file and made.windows_whole == windows
    passed = good and growth_mb <= LIMIT_MB
    if args.json:
        figures = {
            "frames": counted, "expected_frames": frames, "windows": windows, "windows_whole": made.windows_whole,
            "sound_s": sound_s, "seconds": made_s, "bytes": made.video.bytes,
            "peak_mb_by_minute": [peaks_mb[minute] for minute in sorted(peaks_mb)], "growth_mb": growth_mb,
            "limit_mb": LIMIT_MB, "passed": passed,
        }  # fmt: skip
        print(json.dumps(figures))
        return 0 if passed else 1
    print(f"{args.minutes:g} min of {width}x{height} {args.codec}, {windows} windows")
    print(f"{'minute':>7} {'peak RSS MB':>12} {'since minute 1':>15}")
    for minute in sorted(peaks_mb):
        print(f"{minute:7d} {peaks_mb[minute]:12.1f} {peaks_mb[minute] - first_mb:+15.1f}")
    print(f"made in {made_s:.1f} s ({frames / made_s:.1f} fps), {made.video.bytes / 1e6:.1f} MB")
    print(
        f"on the disk: {made.windows_whole} of {windows} windows whole; decoded: {counted} of {frames} frames, "
        f"{sound_s:.3f} s of sound: {'good' if good else 'BAD'}"
    )
    print(f"growth {growth_mb:.1f} MB, limit {LIMIT_MB:.0f} MB: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
