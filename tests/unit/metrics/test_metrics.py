"""The metrics on videos made so that the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from longtalk.metrics import look, mouth, sync
from longtalk.metrics.opening import HOP, RATE_HZ, audio_opening

BOX = mouth.Box(top=4, bottom=28, left=10, right=20)


def talking(heights: torch.Tensor) -> torch.Tensor:
    """A dark bar of such heights on a light ground, ``[F, 32, 32, 3]``."""
    rows = torch.arange(32)[None, :] + 0.5
    inside = ((heights[:, None] / 2 - (rows - 16).abs()) + 0.5).clamp(0, 1)
    return (0.9 - 0.7 * inside)[:, :, None, None].expand(-1, -1, 32, 3).contiguous()


def wave(frames: int, period: float = 11.0) -> torch.Tensor:
    return 0.5 + 0.5 * torch.sin(2 * math.pi * torch.arange(frames) / period)


def test_mouth_height_in_pixels() -> None:
    heights = torch.tensor([0.0, 2.0, 7.0, 7.5, 14.0])
    middle = 0.55  # between bar and ground
    assert mouth.mouth_height(talking(heights), BOX, middle) == pytest.approx(heights, abs=0.5)


def test_a_box_moves_to_the_face_beside() -> None:
    frames = torch.cat([talking(torch.zeros(3)), talking(torch.full((3,), 10.0))], dim=2)
    assert mouth.mouth_height(frames, BOX).max() < 0.5
    assert mouth.mouth_height(frames, BOX.moved(32)).min() > 9.5


@pytest.mark.parametrize("late", [-4, -1, 0, 2, 6])
def test_lag_is_found(late: int) -> None:
    generator = torch.Generator().manual_seed(0)
    voice = torch.rand(400, generator=generator)
    found = sync.follow(torch.roll(voice, late) * 3 + 1, voice)
    assert found.lag == late
    assert found.best > 0.95
    assert (found.r > 0.9) == (late == 0)


def test_correlation_is_pearsons() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 200, generator=generator)
    expected = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
    assert sync.correlation(a, b) == pytest.approx(expected, abs=1e-6)
    assert sync.correlation(a, -a) == pytest.approx(-1)
    assert sync.correlation(a, torch.ones(200)) == 0.0
    assert sync.correlation(a[:150], b) == pytest.approx(sync.correlation(a[:150], b[:150]))


def test_the_nearest_of_equal_lags() -> None:
    assert sync.follow(torch.ones(50), wave(50)).lag == 0


def test_who_follows_whom() -> None:
    first, second = wave(300, 11), wave(300, 7.3)
    (own, others), (theirs, its) = sync.who_follows([second, first], [first, second])
    assert abs(own) < 0.1
    assert abs(its) < 0.1
    assert others == pytest.approx(1)
    assert theirs == pytest.approx(1)


def test_resting() -> None:
    opening = torch.cat([wave(40).clamp(min=0.1), torch.zeros(30), wave(40).clamp(min=0.1), torch.zeros(8)])
    closes = torch.cat([torch.full((40,), 8.0), torch.linspace(8, 1, 5), torch.ones(25), torch.full((48,), 8.0)])
    rest = mouth.resting(closes, opening)
    assert (rest.frames, rest.height, rest.spread) == (25, 1.0, 0.0)
    with pytest.raises(ValueError, match="no silence of 40 frames in 118"):
        mouth.resting(closes, opening, at_least=40)


def moving_bar(frames: int) -> torch.Tensor:
    return talking(8 + 6 * wave(frames, 23.0))


def test_seams() -> None:
    frames = moving_bar(600)
    starts = list(range(37, 600, 37))
    assert look.seam_ratio(frames, starts) == pytest.approx(1, abs=0.15)
    jumped = frames.clone()
    for start in starts[::2]:
        jumped[start:] += 0.03 if (start // 37) % 4 == 1 else -0.03
    assert look.seam_ratio(jumped, starts) > 1.5
    assert look.seam_ratio(jumped, [start + 4 for start in starts]) < 1
    assert look.seam_ratio(torch.zeros(40, 8, 8, 3), [20]) == 0


def test_what_every_latent_does_is_a_pulse_and_no_seam() -> None:
    """Each latent's frames are as bright as they like, as a video VAE draws them."""
    frames = moving_bar(601)
    starts = list(range(37, 600, 36))
    assert look.pulse(frames) == pytest.approx(1, abs=0.05)
    own = torch.randn(150, generator=torch.Generator().manual_seed(0)) * 0.01
    frames[1:] += own.repeat_interleave(4)[:, None, None, None]
    assert look.pulse(frames) > 1.3
    assert look.seam_ratio(frames, starts) == pytest.approx(1, abs=0.2)
    assert look.seam_ratio(frames, starts, period=1) > 1.3
    for start in starts[::2]:
        frames[start:] += 0.04 if (start // 36) % 4 == 1 else -0.04
    assert look.seam_ratio(frames, starts) > 1.5


def test_colour_drift() -> None:
    frames = torch.full((100, 8, 8, 3), 0.5)
    assert look.colour_drift(frames, span=25) == 0
    frames[60:90, :, :, 1] += 5 / 255  # it comes back at the end
    assert look.colour_drift(frames, span=25) == pytest.approx(5, abs=0.01)


def test_still_difference_looks_at_what_does_not_move() -> None:
    frames = moving_bar(20)
    still = torch.zeros(32, 32, dtype=torch.bool)
    still[:4] = True
    assert look.still_difference(frames, frames[0], still).max() == 0
    frames[10:, 0] += 8 / 255
    found = look.still_difference(frames, frames[0], still)
    assert found[:10].max() == 0
    assert found[10:] == pytest.approx(torch.full((10,), 2.0), abs=0.01)


def test_flicker() -> None:
    even = torch.linspace(0, 0.5, 40)[:, None, None, None].expand(-1, 8, 8, 3).clone()
    assert look.flicker(even) == pytest.approx(0, abs=1e-4)
    even[::2] += 2 / 255
    assert look.flicker(even) == pytest.approx(2, abs=0.05)


def spoken(loud_db: float, seconds: float = 2.0) -> torch.Tensor:
    """Noise in the second half, silence before it."""
    samples = torch.randn(round(RATE_HZ * seconds), generator=torch.Generator().manual_seed(2)) * 10 ** (loud_db / 20)
    samples[: len(samples) // 2] = 0
    return samples


def test_opening_of_sound() -> None:
    opening = audio_opening(spoken(-18.0))
    assert opening.shape == (50,)
    assert opening[:23].max() == 0
    assert opening[27:-1].min() > 0.85
    half = audio_opening(spoken(-28.0))[27:-1]
    assert half.mean() == pytest.approx(0.5, abs=0.05)
    assert audio_opening(spoken(-45.0)).max() == 0


def test_opening_changes_in_the_frame_in_which_the_sound_does() -> None:
    """A frame is 640 samples; the step lies between frames 24 and 25."""
    opening = audio_opening(spoken(-18.0))
    assert opening[23] < 0.5 < opening[26]
    later = audio_opening(torch.cat([torch.zeros(3 * HOP), spoken(-18.0)]))
    assert later[3:50] == pytest.approx(opening[:47], abs=1e-6)
