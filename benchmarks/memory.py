"""Does memory stay flat over a long video? The real plan, loop and writer at full resolution, with a fake model.

    python -m benchmarks.memory --minutes 10 --size 832x480

The fake model makes float32 frames of a moving gradient and checks that the motion frames it is handed are the ones it
ended the last window with. The resident memory is sampled all the time; the table shows its peak in each minute of
video. The file is then decoded and its frames counted. Exits 1 when the peak grows by more than 300 MB after the first
minute, or when the file is not what it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import av
import numpy as np
import psutil
import torch

from longtalk.infinitetalk.plan.windows import FPS, Window, plan_windows
from longtalk.infinitetalk.run.loop import run_windows
from longtalk.infinitetalk.run.writer import CODECS, Soundtrack, VideoFormat, VideoWriter, WrittenVideo

LIMIT_MB = 300.0
SAMPLE_RATE_HZ = 48000
SAMPLE_EVERY_S = 0.05
FRAMES_PER_MINUTE = 60 * FPS


class MovingGradient:
    """A family whose frames are a gradient that drifts: full size, never the same, cheap to make."""

    def __init__(self, width: int, height: int, motion_frames: int) -> None:
        x = torch.linspace(0, 1, width).reshape(1, width, 1)
        y = torch.linspace(0, 1, height).reshape(height, 1, 1)
        self._still = 0.25 + 0.25 * torch.cat((x.expand(height, -1, -1), y.expand(-1, width, -1), x * y), dim=-1)
        self._motion_frames = motion_frames
        self._last: torch.Tensor | None = None

    def _frame(self, out: torch.Tensor, frame: int) -> None:
        # 2 pixels to the right per frame, and brighter and darker over 4 s.
        torch.add(torch.roll(self._still, 2 * frame, dims=1), 0.2 + 0.2 * float(np.sin(frame * np.pi / 50)), out=out)

    def render(self, window: Window, motion: torch.Tensor | None) -> torch.Tensor:
        if (motion is None) != (self._last is None) or (
            motion is not None and self._last is not None and not torch.equal(motion, self._last)
        ):
            raise SystemExit(f"window {window.index + 1}: the motion frames are not the last window's end")
        frames = torch.empty(window.length, *self._still.shape)
        for i in range(window.length):
            self._frame(frames[i], window.start + i)
        self._last = frames[-self._motion_frames :].clone()
        return frames


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
        for frame in container.decode(audio=0):
            samples += frame.samples
            rate_hz = frame.sample_rate
    return frames, samples / rate_hz


def render(frames: int, width: int, height: int, video: VideoFormat, path: Path) -> tuple[WrittenVideo, PeakMemory]:
    plan = plan_windows(frames)
    sound = synthetic_speech(frames / FPS)
    memory = PeakMemory(frames)
    memory.start()
    try:
        with VideoWriter(path, width=width, height=height, video=video, soundtrack=sound) as out:

            def write(piece: torch.Tensor) -> None:
                out.write(piece)
                memory.frames += piece.shape[0]

            run_windows(plan, MovingGradient(width, height, plan.motion_frames), write)
            written = out.close()
    finally:
        memory.stop()
    return written, memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="length of the video, 2 or more to see growth")
    parser.add_argument("--size", default="832x480", help="WIDTHxHEIGHT")
    parser.add_argument("--codec", choices=CODECS, default="h264")
    parser.add_argument("--out", type=Path, help="folder for the video; by default it is made and removed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    try:
        width, height = (int(side) for side in args.size.lower().split("x"))
    except ValueError:
        parser.error(f"--size must look like 832x480, got {args.size}")
    if args.minutes <= 0:
        parser.error("--minutes must be more than 0")

    frames = round(args.minutes * FRAMES_PER_MINUTE)
    video = VideoFormat(args.codec)
    with tempfile.TemporaryDirectory() as scratch:
        path = (args.out or Path(scratch)) / f"memory{video.suffix}"
        began = time.perf_counter()
        with torch.inference_mode():  # as ComfyUI runs nodes
            written, memory = render(frames, width, height, video, path)
        made_s = time.perf_counter() - began
        counted, sound_s = decoded(path)

    peaks_mb = memory.peaks_mb
    first_mb, growth_mb = peaks_mb[1], max(peaks_mb.values()) - peaks_mb[1]
    good_file = counted == written.frames == frames and abs(sound_s - frames / FPS) < 1 / FPS
    passed = good_file and growth_mb <= LIMIT_MB
    if args.json:
        figures = {
            "frames": counted, "expected_frames": frames, "sound_s": sound_s, "seconds": made_s, "bytes": written.bytes,
            "peak_mb_by_minute": [peaks_mb[minute] for minute in sorted(peaks_mb)], "growth_mb": growth_mb,
            "limit_mb": LIMIT_MB, "passed": passed,
        }  # fmt: skip
        print(json.dumps(figures))
        return 0 if passed else 1
    print(f"{args.minutes:g} min of {width}x{height} {args.codec}, {len(plan_windows(frames).windows)} windows")
    print(f"{'minute':>7} {'peak RSS MB':>12} {'since minute 1':>15}")
    for minute in sorted(peaks_mb):
        print(f"{minute:7d} {peaks_mb[minute]:12.1f} {peaks_mb[minute] - first_mb:+15.1f}")
    print(f"made in {made_s:.1f} s ({frames / made_s:.1f} fps), {written.bytes / 1e6:.1f} MB")
    print(f"decoded: {counted} of {frames} frames, {sound_s:.3f} s of sound: {'good' if good_file else 'BAD'}")
    print(f"growth {growth_mb:.1f} MB, limit {LIMIT_MB:.0f} MB: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
