"""What a run needs: formulas against numbers worked out by hand, and disk against files that were really encoded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from longtalk.infinitetalk.plan.estimate import (
    Estimate,
    Transformer,
    bits_per_pixel,
    carry_bytes,
    disk_bytes,
    duration_text,
    features_bytes,
    forward_flops,
    frames_bytes,
    host_bytes,
    largest_size,
    largest_window,
    linear_share,
    run_seconds,
    size_text,
    sound_bytes,
    tokens_of,
    video_bytes,
    window_host_bytes,
)
from longtalk.infinitetalk.plan.windows import plan_windows
from longtalk.infinitetalk.run.video.formats import CODECS, VideoFormat
from longtalk.infinitetalk.run.video.segment import write_segment
from longtalk.infinitetalk.run.video.soundtrack import Soundtrack, write_sound

WAN_14B = Transformer(hidden=5120, ffn=13824, layers=40)
PORTRAIT = Path(__file__).parents[4] / "scripts" / "assets" / "portrait.png"

lengths = st.integers(1, 3000)
sides = st.integers(1, 120).map(lambda blocks: 16 * blocks)
crfs = st.integers(1, 51)
codecs = st.sampled_from(CODECS)


# Disk.


@pytest.mark.parametrize(
    ("codec", "crf", "bits"),
    [
        ("h264", 18, 0.25),
        ("h264", 24, 0.125),
        ("h264", 36, 0.03125),
        ("h264", 14, 0.5),
        ("h264", 10, 1.0),
        ("h265", 18, 0.2),
        ("h265", 30, 0.05),
        ("ffv1", 18, 12.0),
        ("ffv1", 40, 12.0),
        ("prores", 1, 6.2),
    ],
)
def test_bits_per_pixel_halve_every_six_crf_and_double_every_four_below_18(codec: str, crf: int, bits: float) -> None:
    assert bits_per_pixel(codec, crf) == pytest.approx(bits)


def test_bytes_of_one_file_by_hand() -> None:
    # 832 * 480 * 0.25 / 8 = 12480 bytes a picture, 120 of overhead
    assert video_bytes(100, 832, 480, "h264", 18) == 100 * (12480 + 120) + 4000
    # 10 s of 2 * 96 kbit/s
    assert sound_bytes(250, "h264") == 240_000 + 4000
    # 9 frames are 3 latents: 4 * 16 * 3 * 60 * 104 = 1198080; a frame of 832 * 480 * 3 = 1198080; 6000 for headers
    assert carry_bytes(9, 832, 480) == 1_198_080 + 1_198_080 + 6000


def test_disk_is_segments_carries_the_joined_video_and_the_sound_twice() -> None:
    plan = plan_windows(153)
    assert [window.length for window in plan.windows] == [81, 81]
    carry = carry_bytes(9, 832, 480)
    segments = [video_bytes(frames, 832, 480, "h264", 18) + carry for frames in (81, 72)]
    rest = video_bytes(153, 832, 480, "h264", 18) + 2 * sound_bytes(153, "h264")
    assert disk_bytes(plan, 0, 832, 480, "h264", 18) == sum(segments) + rest
    assert disk_bytes(plan, 1, 832, 480, "h264", 18) == segments[1] + rest
    assert disk_bytes(plan, 2, 832, 480, "h264", 18) == rest


@given(frames=lengths, more=st.integers(1, 200), width=sides, height=sides, codec=codecs, crf=crfs)
def test_disk_grows_with_length_and_size(frames: int, more: int, width: int, height: int, codec: str, crf: int) -> None:
    def needed(frames: int, width: int, height: int) -> int:
        return disk_bytes(plan_windows(frames), 0, width, height, codec, crf)

    assert needed(frames + more, width, height) > needed(frames, width, height)
    assert needed(frames, width + 16, height) > needed(frames, width, height)
    assert needed(frames, width, height + 16) > needed(frames, width, height)


@given(crf=st.integers(1, 50), codec=st.sampled_from(["h264", "h265"]))
def test_a_higher_crf_needs_less(crf: int, codec: str) -> None:
    assert video_bytes(100, 832, 480, codec, crf + 1) < video_bytes(100, 832, 480, codec, crf)


@given(frames=lengths, data=st.data())
def test_every_finished_window_leaves_less_to_write(frames: int, data: st.DataObject) -> None:
    plan = plan_windows(frames)
    start = data.draw(st.integers(0, len(plan.windows) - 1))
    first, end = plan.windows[start].output
    written = video_bytes(end - first, 832, 480, "h264", 18) + carry_bytes(9, 832, 480)
    whole = disk_bytes(plan, start, 832, 480, "h264", 18)
    assert disk_bytes(plan, start + 1, 832, 480, "h264", 18) == whole - written


@cache
def swaying_portrait(frames: int, width: int, height: int) -> np.ndarray:
    """A portrait that sways by fractions of a pixel, with grain of half a level; uint8 ``[F, H, W, 3]``."""
    random = np.random.default_rng(1)
    with Image.open(PORTRAIT) as image:
        larger = image.convert("RGB").resize((round(width * 1.1), round(height * 1.1)), Image.Resampling.LANCZOS)
    out = []
    for turn in np.arange(frames) / 8:
        left, top = 0.05 * width + 2 * np.sin(turn), 0.05 * height + 1.5 * np.cos(0.7 * turn)
        lean = 0.01 * np.sin(2 * turn)
        moved = larger.transform(
            (width, height), Image.Transform.AFFINE, (1, lean, left, -lean, 1, top), Image.Resampling.BICUBIC
        )
        grain = random.normal(0, 0.5, (height, width, 1))
        out.append(np.clip(np.asarray(moved) + grain + 0.5, 0, 255).astype(np.uint8))
    return np.stack(out)


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize(("width", "height", "frames"), [(416, 240, 36), (96, 64, 12), (96, 64, 1)])
@pytest.mark.parametrize(
    ("codec", "crf"),
    [(codec, crf) for codec in ("h264", "h265") for crf in (8, 18, 30, 51)] + [("ffv1", 18), ("prores", 18)],
)
def test_disk_estimate_covers_what_is_really_encoded(
    tmp_path: Path, codec: str, crf: int, width: int, height: int, frames: int
) -> None:
    video = VideoFormat(codec, crf)
    path = tmp_path / f"segment{video.suffix}"
    write_segment(path, swaying_portrait(frames, width, height), video)
    real = path.stat().st_size
    assert real <= video_bytes(frames, width, height, codec, crf) <= 20 * real


@pytest.mark.parametrize("codec", CODECS)
def test_sound_estimate_covers_what_is_really_encoded(tmp_path: Path, codec: str) -> None:
    video = VideoFormat(codec)
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (2, 48000 * 4)).astype(np.float32)
    path = tmp_path / f"sound{video.suffix}"
    write_sound(path, Soundtrack(noise, 48000), video, frames=100)
    real = path.stat().st_size
    assert real <= sound_bytes(100, codec) <= 4 * real


@pytest.mark.parametrize("motion_frames", [1, 9, 25])
def test_carry_estimate_covers_the_tensors_file(motion_frames: int) -> None:
    width, height = 96, 64
    latents = (motion_frames - 1) // 4 + 1
    tensors = {
        "motion": torch.zeros(1, 16, latents, height // 8, width // 8),
        "last_frame": torch.zeros(height, width, 3, dtype=torch.uint8),
    }
    real = len(save(tensors))
    assert real <= carry_bytes(motion_frames, width, height) <= real + 6000


# Host memory.


def test_host_memory_by_hand() -> None:
    plan = plan_windows(500)  # 4 windows of 81, 3 of 77
    frame = 832 * 480 * 3
    assert frames_bytes(1, 832, 480) == 4 * frame
    assert window_host_bytes(81, 832, 480) == 81 * frame * (3 * 4 + 2)  # three in float32, two in bytes
    assert features_bytes(500, 2) == 500 * 12 * 768 * 4 * 2
    assert host_bytes(plan, 832, 480, 1, False) == 81 * frame * 14 + 500 * 36864
    assert host_bytes(plan, 832, 480, 2, True) == 81 * frame * 14 + 2 * 500 * 36864 + 500 * frame * 4


@given(frames=lengths, width=sides, height=sides)
def test_without_images_only_the_features_grow_with_the_length(frames: int, width: int, height: int) -> None:
    plan = plan_windows(frames)
    without = host_bytes(plan, width, height, 1, False)
    assert without - frames * 36864 <= window_host_bytes(81, width, height)
    assert host_bytes(plan, width, height, 1, True) - without == frames * width * height * 12


# Time.


def test_flops_of_a_forward_by_hand() -> None:
    # weights: 2*7 * (8*2*2 + 2*2*3) + 2*769 * 2*2*2 = 616 + 12304; attention: 4*7 * (7+769) * 2 = 43456
    assert forward_flops(Transformer(hidden=2, ffn=3, layers=5), 7) == 5 * (616 + 12304 + 43456)
    assert tokens_of(81, 832, 480) == 21 * 30 * 52


def test_the_part_of_the_linear_layers_by_hand() -> None:
    # 2*7 * (6*2*2 + 2*2*3) = 504 of the 56376 above
    assert linear_share(Transformer(hidden=2, ffn=3, layers=5), 7) == pytest.approx(504 / 56376)
    # The 14B model at 832x480x81: half of it is attention, a sixteenth InfiniteTalk's.
    assert linear_share(WAN_14B, tokens_of(81, 832, 480)) == pytest.approx(0.43, abs=0.005)


def test_seconds_by_hand() -> None:
    plan = plan_windows(9, 5, 1)
    assert [window.length for window in plan.windows] == [5, 5]
    model = Transformer(hidden=2, ffn=3, layers=5)
    transformer = 2 * 4 * 3 * forward_flops(model, 2 * 2 * 3)  # two windows, four steps, three forwards
    vae = 48 * 32 * (10 * 8.43e6 + (5 + 1) * 5.01e6)  # both windows out; the reference and one motion frame in
    settings = {"steps": 4, "forwards": 3, "model": model, "flops_per_s": 1e9}
    assert run_seconds(plan, 0, 48, 32, **settings) == pytest.approx((transformer / 0.6 + vae / 0.24) / 1e9)
    narrow = run_seconds(plan, 0, 48, 32, **settings, vae_width=24)
    assert narrow == pytest.approx((transformer / 0.6 + vae / 16 / 0.24) / 1e9)
    assert run_seconds(plan, 2, 48, 32, **settings) == 0.0


def test_seconds_agree_with_an_h200() -> None:
    # 4.2 s a step and 18.6 s a window of 81 frames, where a matrix product reaches 660 to 700 TFLOP/s.
    plan = plan_windows(81 + 99 * 72)
    settings = {"forwards": 1, "model": WAN_14B, "flops_per_s": 680e12}
    none = run_seconds(plan, 0, 832, 480, steps=0, **settings) / 100
    four = run_seconds(plan, 0, 832, 480, steps=4, **settings) / 100
    assert (four - none) / 4 == pytest.approx(4.2, rel=0.15)
    assert four == pytest.approx(18.6, rel=0.15)


@pytest.mark.parametrize(("speakers", "more_ms"), [(1, 0.0), (2, 6.3), (3, 8.7), (4, 11.5)])
def test_several_speakers_agree_with_an_h200(speakers: int, more_ms: float) -> None:
    settings = {"steps": 1, "forwards": 1, "model": WAN_14B, "flops_per_s": 680e12}
    plan = plan_windows(81)
    more_s = run_seconds(plan, 0, 832, 480, speakers=speakers, **settings) - run_seconds(plan, 0, 832, 480, **settings)
    assert more_s == pytest.approx(40 * more_ms / 1000, rel=0.05)


def test_features_of_four_speakers() -> None:
    plan = plan_windows(1500)
    each = 1500 * 12 * 768 * 4
    assert host_bytes(plan, 96, 64, 4, False) - host_bytes(plan, 96, 64, 1, False) == 3 * each


@given(
    frames=lengths,
    width=sides,
    height=sides,
    steps=st.integers(1, 50),
    forwards=st.integers(1, 3),
)
def test_time_grows_with_everything(frames: int, width: int, height: int, steps: int, forwards: int) -> None:
    def needed(frames: int = frames, width: int = width, steps: int = steps, forwards: int = forwards) -> float:
        settings = {"model": WAN_14B, "flops_per_s": 1e14, "steps": steps, "forwards": forwards}
        # Full windows: with even ones, a frame more can mean one more window and less attention in each.
        return run_seconds(plan_windows(frames, mode="aligned_up"), 0, width, height, **settings)

    assert needed(frames=frames + 81) > needed()
    assert needed(width=width + 16) > needed()
    assert needed(steps=steps + 1) > needed()
    assert needed(forwards=forwards + 1) > needed()
    assert needed(steps=2 * steps, forwards=3) == pytest.approx(needed(steps=6 * steps, forwards=1))


# In words.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (45.4, "45 s"), (90, "2 min"), (1680, "28 min"), (5400, "1 h 30 min"), (7500, "2 h 05 min")],
)
def test_time_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "1 MB"), (1_000_001, "2 MB"), (420e6, "420 MB"), (999e6, "1.0 GB"), (6.33e9, "6.3 GB")]
)
def test_size_in_words(size: float, text: str) -> None:
    assert size_text(size) == text


def test_the_report_line() -> None:
    whole = Estimate(97, 97, 6_330_000_000, 1_400_000_000, 420_000_000, 1680.0)
    assert whole.text() == (
        "estimate: 97 windows, 6.3 GB GPU memory per window besides the model, 1.4 GB host memory, 420 MB disk, "
        "about 28 min (before the first window; then measured)"
    )
    rest = Estimate(85, 97, None, 1_400_000_000, 420_000_000, 1680.0, measured=True)
    assert rest.text() == (
        "estimate: 85 of 97 windows to make, 1.4 GB host memory, 420 MB disk, "
        "about 28 min (from the windows made before)"
    )
    assert Estimate(1, 1, None, 1, 1, None).text().endswith("1 MB disk, time unknown before the first window")


# What would fit.


@pytest.mark.parametrize(
    ("below", "above", "limit", "expected"),
    [(81, 9, 60, 57), (81, 9, 57, 57), (81, 9, 500, 77), (77, 9, 12, None), (13, 9, 500, None), (5, 1, 4, None)],
)
def test_largest_window(below: int, above: int, limit: int, expected: int | None) -> None:
    assert largest_window(below, above, lambda frames: frames <= limit) == expected


@given(width=sides, height=sides, limit=st.integers(0, 2_000_000))
def test_largest_size_fits_and_the_next_larger_does_not(width: int, height: int, limit: int) -> None:
    def fits(w: int, h: int) -> bool:
        return w * h <= limit

    found = largest_size(width, height, fits)
    if found is None:
        assert width == 16 or limit < 16 * max(16, 16 * height // width // 16 * 16)
        return
    smaller, lower = found
    assert fits(smaller, lower)
    assert smaller < width
    assert lower <= height
    assert smaller % 16 == lower % 16 == 0
    assert lower == 16 or 0 <= smaller * height / width - lower < 16
    wider = smaller + 16
    assert wider == width or not fits(wider, max(16, wider * height // width // 16 * 16))


def test_a_portrait_stays_a_portrait() -> None:
    at_most: Callable[[int], Callable[[int, int], bool]] = lambda area: lambda w, h: w * h <= area  # noqa: E731
    assert largest_size(832, 480, at_most(832 * 480)) == (816, 464)
    assert largest_size(480, 832, at_most(200_000)) == (336, 576)
