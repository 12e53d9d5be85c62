"""Which feature frames each latent frame sees."""

from __future__ import annotations

import pytest
import torch

from longtalk.infinitetalk.model.audio_projection import frame_windows, split_windows


def numbered(count: int) -> torch.Tensor:
    """Features whose value is their frame number, ``[count, 1, 1]``."""
    return torch.arange(count).float()[:, None, None]


@pytest.mark.parametrize(("count", "end"), [(50, 53), (50, 51), (10, 17), (5, 9), (3, 13), (1, 9), (4, 41)])
def test_a_window_past_the_end_sees_the_track_mirrored(count: int, end: int) -> None:
    """As the official code does it: append the last frames in reverse order until there are enough, then clamp."""
    extended = torch.arange(count)
    while extended.shape[0] < end:
        missing = end - extended.shape[0]
        extended = torch.cat([extended, torch.flip(extended[-min(missing, count) :], dims=[0])])
    centres = torch.arange(end)[:, None] + torch.arange(-2, 3)
    expected = extended[centres.clamp(0, end - 1)].float()
    assert torch.equal(frame_windows(numbered(count), 0, end)[..., 0, 0], expected)


def test_inside_the_track_nothing_is_mirrored() -> None:
    windows = frame_windows(numbered(100), 40, 45)[..., 0, 0]
    assert windows.tolist() == [[float(centre + step) for step in range(-2, 3)] for centre in range(40, 45)]


def test_latent_frames_take_left_half_middles_and_right_half() -> None:
    first, later = split_windows(frame_windows(numbered(100), 20, 29))
    assert first[..., 0, 0].tolist() == [[18, 19, 20, 21, 22]]
    # Frames 21 to 24: the left half of 21, the centres of 22 and 23, the right half of 24; then 25 to 28.
    assert later[..., 0, 0].tolist() == [[19, 20, 21, 22, 23, 24, 25, 26], [23, 24, 25, 26, 27, 28, 29, 30]]


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (5, 5), (6, 5)])
def test_no_interval(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        frame_windows(numbered(10), start, end)
