"""Whether windows join without a seam, and whether the picture stays what it was."""

from __future__ import annotations

from collections.abc import Sequence

import torch

#: Frames that a video VAE draws from one latent, as WAN's does.
FRAMES_PER_LATENT = 4


def _changes(frames: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of each frame from the one before it, ``[F - 1]``."""
    return (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3)).double()


def seam_ratio(frames: torch.Tensor, starts: Sequence[int], around: int = 12, period: int = FRAMES_PER_LATENT) -> float:
    """How much more a picture changes where a window begins than where any other latent begins; 1 is seamless.

    Like is compared with like: frames of one latent are drawn together, so the picture changes more from latent to
    latent, in a video without any windows, too (:func:`pulse` says how much).

    The ratio is that of the means over all windows, as much may well move in the first frame of a single one. (A
    run's report looks at each window by itself, against the median inside it; there, a person who talks has up to 3.)

    Args:
        frames: all frames of the video.
        starts: the windows' first frames, ascending, without the first window's.
        around: a window's first frame is compared with every ``period``-th frame so far before and after it.
        period: frames per latent; 1 compares with all frames.
    """
    change = _changes(frames)
    at = torch.tensor([start - 1 for start in starts])
    near = torch.zeros_like(change, dtype=torch.bool)
    for place in at.tolist():
        near[max(place % period, place - around // period * period) : place + around + 1 : period] = True
    near[at] = False
    return float(change[at].mean() / change[near].mean().clamp(min=1e-6))


def pulse(frames: torch.Tensor, period: int = FRAMES_PER_LATENT) -> float:
    """How much more a picture changes from latent to latent than from frame to frame; 1 is even.

    Args:
        frames: all frames of a video whose first latent has one frame, and every later latent ``period`` frames.
    """
    change = _changes(frames)
    return float(change[::period].mean() / change.mean().clamp(min=1e-6))


def colour_drift(frames: torch.Tensor, span: int = 125) -> float:
    """The largest difference of a channel's mean between the first ``span`` frames and any later ones, in 255ths.

    Five seconds by default: a mouth that opens and a head that moves change a picture's mean, too.
    """
    means = frames.double().mean(dim=(1, 2))
    later = means[span:].unfold(0, span, 1).mean(dim=2) if len(means) >= 2 * span else means[-1:]
    return float((later - means[:span].mean(dim=0)).abs().max()) * 255


def still_difference(frames: torch.Tensor, reference: torch.Tensor, still: torch.Tensor) -> torch.Tensor:
    """How far what does not move is from the reference in each frame: mean absolute difference in 255ths, ``[F]``.

    Args:
        frames: ``[F, H, W, 3]``.
        reference: ``[H, W, 3]``.
        still: bool ``[H, W]``, the pixels that do not move.
    """
    return (frames[:, still] - reference[still]).abs().mean(dim=(1, 2)) * 255


def flicker(frames: torch.Tensor) -> float:
    """How far frames lie off the middle between their neighbours, mean absolute difference in 255ths.

    A picture that moves evenly has no flicker; in one that changes to and fro all change is flicker.
    """
    middle = (frames[:-2] + frames[2:]) / 2
    return float((frames[1:-1] - middle).abs().mean()) * 255
