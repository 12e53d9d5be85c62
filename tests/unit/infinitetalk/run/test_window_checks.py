"""What is measured of a window, and which windows are called broken. Synthetic pictures only."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from still_pictures import DEVICES, GOOD, LATENTS, REFERENCE, after, detailed, eight_bit, grain, solid, waves

from longtalk.infinitetalk.run.window_checks import look_of, measure, what_is_broken
from longtalk.infinitetalk.run.window_stats import WindowStats, jumps


def cie_lab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """sRGB (IEC 61966-2-1) to CIE 1976 L*a*b* with the D65 white point, in float64."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (red, green, blue)]
    matrix = [(0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041)]
    xyz = [sum(weight * value for weight, value in zip(row, linear, strict=True)) for row in matrix]
    x, y, z = (
        share ** (1 / 3) if share > (6 / 29) ** 3 else share / (3 * (6 / 29) ** 2) + 4 / 29
        for share in (value / white for value, white in zip(xyz, (0.95047, 1.0, 1.08883), strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


# --- the look -------------------------------------------------------------------------------------------------------


def test_the_oracle_itself_against_published_values() -> None:
    assert cie_lab(1, 0, 0) == pytest.approx((53.24, 80.09, 67.20), abs=0.01)
    assert cie_lab(1, 1, 1) == pytest.approx((100, 0, 0), abs=0.01)


@settings(max_examples=examples(60), deadline=None)
@given(colour=st.tuples(*[st.floats(0, 1, width=32)] * 3))
def test_lab_is_the_cie_formula(colour: tuple[float, float, float]) -> None:
    assert look_of(solid(*colour)).lab == pytest.approx(cie_lab(*colour), abs=0.05)


def test_the_mean_colour_is_the_mean_of_the_colours() -> None:
    """Not the colour of the mean: Lab is not linear."""
    halves = torch.cat([solid(1, 0, 0), solid(0, 0, 1)], dim=2)
    wanted = [(a + b) / 2 for a, b in zip(cie_lab(1, 0, 0), cie_lab(0, 0, 1), strict=True)]
    assert look_of(halves).lab == pytest.approx(wanted, abs=0.05)


def test_the_mean_colour_is_taken_over_the_whole_length() -> None:
    frames = torch.cat([solid(0.2, 0.2, 0.2, frames=40), solid(0.8, 0.8, 0.8, frames=40)])
    wanted = (cie_lab(0.2, 0.2, 0.2)[0] + cie_lab(0.8, 0.8, 0.8)[0]) / 2
    assert look_of(frames).lab[0] == pytest.approx(wanted, abs=0.05)


def test_brightness_and_contrast() -> None:
    half = torch.cat([solid(1, 1, 1), solid(0, 0, 0)], dim=2)
    assert look_of(half).brightness == pytest.approx(0.5)
    assert look_of(half).contrast == pytest.approx(0.5)
    # In luma red counts for 0.2126 (BT.709); the brightness is the mean over all values.
    red = torch.cat([solid(1, 0, 0), solid(0, 0, 0)], dim=2)
    assert look_of(red).contrast == pytest.approx(0.2126 / 2)
    assert look_of(red).brightness == pytest.approx(1 / 6)
    # Contrast lies within the frames: between them there may be any difference.
    assert look_of(torch.cat([solid(1, 1, 1), solid(0, 0, 0)])).contrast == pytest.approx(0, abs=1e-6)


def test_values_outside_are_what_will_be_shown() -> None:
    assert look_of(solid(-3, 0.5, 7)) == look_of(solid(0, 0.5, 1))


def test_a_large_picture_is_measured_on_fewer_pixels_with_the_same_result() -> None:
    picture = detailed(480, 832)[None]
    look = look_of(picture)
    luma = picture @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert look.brightness == pytest.approx(float(picture.mean()), abs=0.005)
    assert look.contrast == pytest.approx(float(luma.std()), abs=0.005)


@pytest.mark.parametrize("period", [2, 4, 6, 8])
@pytest.mark.parametrize("axis", [1, 2])
def test_stripes_are_not_flat(period: int, axis: int) -> None:
    """A lattice in step with a pattern would see one colour of it."""
    size = 480 if axis == 1 else 832
    stripe = (torch.arange(size) % period < period // 2).float()
    shape = [1, 1, 1, 1]
    shape[axis] = size
    frames = stripe.view(shape).expand(1, 480, 832, 3)
    assert look_of(frames).contrast == pytest.approx(0.5, abs=0.01)


# --- what is measured of a window -----------------------------------------------------------------------------------


def test_drift_is_cie76() -> None:
    stats = measure(solid(0.5, 0.4, 0.4), look_of(solid(0.4, 0.4, 0.4)), None)
    assert stats.drift == pytest.approx(math.dist(cie_lab(0.5, 0.4, 0.4), cie_lab(0.4, 0.4, 0.4)), abs=0.05)
    assert measure(solid(0.4, 0.4, 0.4), look_of(solid(0.4, 0.4, 0.4)), None).drift == pytest.approx(0, abs=1e-4)


def test_changes_are_mean_absolute_differences() -> None:
    frames = torch.cat([solid(0.6, 0.5, 0.4), solid(0.7, 0.5, 0.4), solid(0.8, 0.5, 0.4)])
    stats = measure(frames, REFERENCE, eight_bit(solid(0.4, 0.6, 0.4)[0]))
    assert stats.boundary_change == pytest.approx((0.2 + 0.1) / 3, abs=1e-6)
    assert stats.interior_change == pytest.approx(0.1 / 3, abs=1e-6)
    assert stats.seam_ratio == pytest.approx(3, rel=1e-4)


def test_the_first_window_has_no_boundary_and_one_frame_no_interior() -> None:
    first = measure(waves(torch.arange(5) / 100), REFERENCE, None)
    assert first.boundary_change is None
    assert first.interior_change is not None
    assert first.seam_ratio is None
    single = measure(solid(0.5, 0.5, 0.5), REFERENCE, eight_bit(solid(0, 0, 0)[0]))
    assert single.boundary_change == pytest.approx(0.5)
    assert single.interior_change is None
    assert single.seam_ratio is None
    assert not jumps(first)
    assert not jumps(single)


def test_a_single_cut_inside_does_not_hide_a_seam() -> None:
    frames = waves(torch.arange(30) / 500)
    cut = torch.cat([frames[:15], 1 - frames[15:]])
    assert measure(cut, REFERENCE, None).interior_change == pytest.approx(
        measure(frames, REFERENCE, None).interior_change, rel=0.05
    )


def test_a_smooth_movement_has_ratio_one_and_a_cut_a_large_one() -> None:
    frames = waves(torch.arange(21) / 100)
    smooth = measure(frames[1:], REFERENCE, eight_bit(frames[0]))
    assert smooth.seam_ratio == pytest.approx(1, abs=0.05)
    cut = measure(1 - frames[1:], REFERENCE, eight_bit(frames[0]))
    assert cut.seam_ratio is not None
    assert cut.seam_ratio > 15


def test_the_ratio_of_a_still_picture_stays_finite() -> None:
    """An interior of zero counts as half a level of 8 bits."""
    assert replace(GOOD, boundary_change=1.0, interior_change=0.0).seam_ratio == pytest.approx(510)
    assert replace(GOOD, boundary_change=0.0, interior_change=0.0).seam_ratio == 0
    assert replace(GOOD, boundary_change=0.3, interior_change=0.1).seam_ratio == pytest.approx(3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_frames_with_nan_are_measured_without_an_exception(bad: float) -> None:
    frames = waves(torch.arange(5) / 100)
    frames[2] = bad
    for last_frame in (None, eight_bit(frames[0])):
        stats = measure(frames, REFERENCE, last_frame)
        assert what_is_broken(LATENTS, frames, stats, REFERENCE) == "frame 3 of 5 has NaN or infinite values"
        assert not jumps(stats)
    if math.isnan(bad):
        assert math.isnan(stats.brightness)
        assert not jumps(measure(frames[2:3], REFERENCE, eight_bit(frames[0])))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@torch.inference_mode()
def test_any_float_on_any_device(dtype: torch.dtype, device: str) -> None:
    frames = waves(torch.arange(20) / 50, width=300)
    last_frame = eight_bit(frames[0])
    wanted = measure(frames[1:], REFERENCE, last_frame)
    moved = frames[1:].to(device=device, dtype=dtype)
    stats = measure(moved, look_of(moved[:1]), last_frame)
    assert stats == measure(moved.float(), look_of(moved[:1].float()), last_frame)
    assert stats.brightness == pytest.approx(wanted.brightness, abs=0.002)
    assert stats.contrast == pytest.approx(wanted.contrast, abs=0.002)
    assert stats.seam_ratio == pytest.approx(wanted.seam_ratio, abs=0.05)
    there = measure(moved, REFERENCE, last_frame.to(device))
    assert there.drift == pytest.approx(wanted.drift, abs=0.2)
    # A GPU may divide by 255 with another last bit.
    assert there.boundary_change == pytest.approx(stats.boundary_change, rel=1e-5)
    assert what_is_broken(LATENTS.to(moved), moved, stats, REFERENCE) is None
    moved[-1, 0, 0, 0] = math.nan
    broken = what_is_broken(LATENTS.to(moved), moved, measure(moved, REFERENCE, last_frame), REFERENCE)
    assert broken == "frame 19 of 19 has NaN or infinite values"


@pytest.mark.parametrize(
    "frames",
    [torch.zeros(2, 4, 3), torch.zeros(2, 4, 4, 4), torch.zeros(0, 4, 4, 3), torch.zeros(1, 4, 4, 3).to(torch.uint8)],
)
def test_frames_of_another_kind_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected float \[F, H, W, 3\]"):
        look_of(frames)
    with pytest.raises(ValueError, match=r"expected float \[F, H, W, 3\]"):
        measure(frames, REFERENCE, None)


@pytest.mark.parametrize("last_frame", [torch.zeros(6, 8, 3), solid(0, 0, 0, width=1)[0].to(torch.uint8)])
def test_a_last_frame_of_another_kind_is_refused(last_frame: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[6, 8, 3\]"):
        measure(solid(0.5, 0.5, 0.5), REFERENCE, last_frame)


# --- what is broken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_latents_that_are_not_finite(bad: float) -> None:
    latents = LATENTS.clone()
    latents[0, 3, 1, 2, :2] = bad
    words = what_is_broken(latents, torch.full((3, 4, 4, 3), math.nan), GOOD, REFERENCE)
    assert words == "the model's latents have NaN or infinite values (2 of 512)"


def test_several_frames_that_are_not_finite() -> None:
    frames = torch.full((81, 4, 4, 3), 0.5)
    frames[16:20, 1, 2, 0] = math.inf
    frames[40] = math.nan
    words = what_is_broken(LATENTS, frames, GOOD, REFERENCE)
    assert words == "5 of 81 frames have NaN or infinite values, frame 17 first"


def test_a_good_window_and_one_of_noise_are_not_broken() -> None:
    """The demo's models are untrained: what they draw is noise, and must be let through."""
    noise = torch.rand(9, 64, 112, 3, generator=torch.Generator().manual_seed(0))
    reference = look_of(detailed()[None])
    for frames in (noise, grain(torch.full((9, 64, 112, 3), 0.5), 20), detailed()[None]):
        assert what_is_broken(LATENTS, frames, measure(frames, reference, None), reference) is None


def test_a_black_picture() -> None:
    picture = detailed()
    frames = (picture / picture.mean() * 0.004).expand(9, -1, -1, -1)
    reference = look_of((picture / picture.mean() * 0.41)[None])
    words = what_is_broken(LATENTS, frames, measure(frames, reference, None), reference)
    assert words == "the picture is black (mean brightness 0.004, the reference image 0.41)"


def test_a_flat_picture() -> None:
    frames = grain(solid(0.5, 0.4, 0.3, frames=9, height=64, width=64), levels=1)
    reference = look_of(detailed()[None])
    words = what_is_broken(LATENTS, frames, measure(frames, reference, None), reference)
    assert words == f"the picture is one flat colour (contrast 0.003, the reference image {reference.contrast:.2f})"


@pytest.mark.parametrize(
    ("brightness", "of_reference", "broken"),
    [
        (0.019, 0.41, True),
        (0.021, 0.41, False),
        (0.0, 0.41, True),
        # A dark scene: a tenth of it counts, not the limit for bright ones.
        (0.019, 0.1, False),
        (0.009, 0.1, True),
        (0.011, 0.1, False),
        # A night scene's or black card's own blackness is meant.
        (0.0, 0.0, False),
        (0.0, 0.019, False),
        (0.001, 0.021, True),
    ],
)
def test_where_black_begins(brightness: float, of_reference: float, broken: bool) -> None:
    stats = replace(GOOD, brightness=brightness)
    words = what_is_broken(LATENTS, solid(0, 0, 0), stats, replace(REFERENCE, brightness=of_reference))
    assert (words or "").startswith("the picture is black") == broken
    assert (words is not None) == broken


@pytest.mark.parametrize(
    ("contrast", "of_reference", "broken"),
    [
        (0.009, 0.2, True),
        (0.011, 0.2, False),
        (0.0, 0.2, True),
        # Fog.
        (0.009, 0.05, False),
        (0.004, 0.05, True),
        (0.006, 0.05, False),
        # A title card of one colour.
        (0.0, 0.0, False),
        (0.0, 0.009, False),
        (0.001, 0.011, True),
    ],
)
def test_where_flat_begins(contrast: float, of_reference: float, broken: bool) -> None:
    stats = replace(GOOD, contrast=contrast)
    words = what_is_broken(LATENTS, solid(0, 0, 0), stats, replace(REFERENCE, contrast=of_reference))
    assert (words or "").startswith("the picture is one flat colour") == broken
    assert (words is not None) == broken


@pytest.mark.parametrize("dim", [1.0, 0.5, 0.0])
def test_a_dark_or_flat_reference_may_get_darker_and_flatter(dim: float) -> None:
    night = detailed()[None] * 0.03
    card = solid(0.7, 0.1, 0.1)
    silhouette = torch.cat([solid(0, 0, 0), solid(0.06, 0.06, 0.06, width=1)], dim=2)
    for reference in (night, card, silhouette):
        frames = reference.expand(5, -1, -1, -1) * (dim if reference is not card else 1 - 0.1 * dim)
        stats = measure(frames, look_of(reference), None)
        assert what_is_broken(LATENTS, frames, stats, look_of(reference)) is None


def test_a_grey_picture_is_broken_even_in_the_dark() -> None:
    silhouette = torch.cat([solid(0, 0, 0), solid(0.1, 0.1, 0.1, width=1)], dim=2)
    grey = solid(0.5, 0.5, 0.5, frames=5)
    reference = look_of(silhouette)
    assert reference.brightness < 0.02
    words = what_is_broken(LATENTS, grey, measure(grey, reference, None), reference)
    assert words == "the picture is one flat colour (contrast 0.000, the reference image 0.03)"


def test_a_fade_is_not_broken() -> None:
    picture = detailed()
    frames = picture * torch.linspace(1, 0, 25)[:, None, None, None]
    stats = after(picture, frames)
    assert what_is_broken(LATENTS, frames, stats, look_of(picture[None])) is None
    assert not jumps(stats)


# --- any picture ---------------------------------------------------------------------------------------------------

SIDES = st.one_of(st.integers(1, 20), st.sampled_from([95, 97, 191, 192, 193]))


@settings(max_examples=examples(80), deadline=None)
@given(
    frames=st.integers(1, 20),
    height=SIDES,
    width=SIDES,
    scale=st.sampled_from([0.0, 1e-6, 0.02, 1.0, -5.0, 1e4, 3e38]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    previous=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_finite_frames_of_any_size_never_raise(
    frames: int, height: int, width: int, scale: float, dtype: torch.dtype, previous: bool, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    # A few values over all frames keep it quick; 1e4 is what half precision can hold.
    values = torch.rand(frames, 1, width, 3, generator=random, dtype=torch.float64)
    values = values * (min(scale, 1e4) if dtype == torch.float16 else scale)
    video = values.to(dtype).expand(-1, height, -1, -1)
    last_frame = torch.randint(0, 256, (height, width, 3), generator=random).to(torch.uint8) if previous else None
    reference = look_of(torch.rand(1, height, width, 3, generator=random))
    stats = measure(video, reference, last_frame)
    words = what_is_broken(LATENTS, video, stats, reference)
    assert words is None or words.startswith("the picture is ")
    assert 0 <= stats.brightness <= 1
    assert 0 <= stats.contrast <= 0.5001
    assert 0 <= stats.drift < 400
    assert (stats.boundary_change is None) == (not previous)
    assert (stats.interior_change is None) == (frames == 1)
    assert (stats.seam_ratio is None) == (not previous or frames == 1)
    assert WindowStats.from_json(json.loads(json.dumps(stats.to_json(), allow_nan=False))) == stats
