"""What the nodes hand to one another: who speaks where, and the encoded speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...audio.tracks import Arrangement, Track, TrackMode, arrange
from ...base.errors import LinkError, PictureError
from ...base.tensors import described, is_plain
from ..plan.timing import Timing
from ..plan.windows import frames_for_samples
from .gate import Gate
from .speaker_map import MAX_SPEAKERS


@dataclass(frozen=True)
class Speakers:
    """One to four speakers on a common timeline.

    Attributes:
        arrangement: the tracks, equally long, with silence where a speaker is silent; and their mix.
        masks: where each speaker is in the reference image, ``[speakers, H, W]`` in 0..1; None for one speaker.
    """

    arrangement: Arrangement
    masks: torch.Tensor | None

    @property
    def count(self) -> int:
        return len(self.arrangement.tracks)

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which messages call the speakers."""
        return tuple(track.name for track in self.arrangement.tracks)

    @property
    def frames(self) -> int:
        """How many video frames the speech needs: the smallest count that covers the longest track."""
        return max(frames_for_samples(track.samples, track.sample_rate) for track in self.arrangement.tracks)


@dataclass(frozen=True)
class Speech:
    """Encoded speech, ready for sampling.

    Attributes:
        speakers: whose speech it is.
        features: one ``[T, 12, 768]`` per speaker, 25 per second.
        notes: what was changed on the way (padding, loudness), in plain words.
        encoded_by: a digest of the encoder and its settings, which with the tracks decide the features.
        silence: the features that the same encoder gives for silence, ``[12, 768]``; None where nobody asked for them.
        gates: one per speaker, where the model is to hear silence in pauses.
    """

    speakers: Speakers
    features: tuple[torch.Tensor, ...]
    notes: tuple[str, ...]
    encoded_by: str = ""
    silence: torch.Tensor | None = None
    gates: tuple[Gate, ...] = ()

    def timed(self, timing: Timing | None) -> Speech:
        """The same speech, with silence where a timing wants it."""
        if timing is None or not any(timing.quiet_each):
            return self
        if self.silence is None:
            raise ValueError("speech that was encoded without silence cannot be gated")
        gates = tuple(
            Gate.of(quiet, features.shape[0], self.silence)
            for quiet, features in zip(timing.quiet_each, self.features, strict=True)
        )
        return replace(self, gates=gates)


def _checked_mask(mask: torch.Tensor | None, name: str, count: int) -> torch.Tensor:
    what = f"mask of {name}"
    if mask is None:
        raise LinkError(
            what,
            expected=f"{count} masks for {count} speakers",
            actual="no mask connected",
            action=f"Connect a mask that covers {name} in the reference image",
        )
    if not is_plain(mask) or mask.is_complex() or mask.ndim not in (2, 3) or 0 in mask.shape:
        raise PictureError(
            what, expected="one mask [1, H, W]", actual=described(mask), action="Connect the output of a mask node"
        )
    mask = mask.detach().float().cpu()
    if mask.ndim == 3:
        if mask.shape[0] != 1:
            raise PictureError(
                what,
                expected="one mask",
                actual=f"a batch of {mask.shape[0]}",
                action="Connect each speaker's mask by itself (use Get Mask from Batch or a single image)",
            )
        mask = mask[0]
    if not bool(torch.isfinite(mask).all()) or float(mask.max()) <= 0.0:
        raise PictureError(
            what,
            expected="white where the speaker is",
            actual="an entirely black mask" if bool(torch.isfinite(mask).all()) else "NaN or infinite values",
            action="Paint the speaker's face and body white; invert the mask if it is the wrong way round",
        )
    return mask


def _stack(masks: Sequence[torch.Tensor], names: Sequence[str]) -> torch.Tensor:
    sizes = {tuple(mask.shape) for mask in masks}
    if len(sizes) > 1:
        listed = ", ".join(
            f"{mask.shape[1]}x{mask.shape[0]} for {name}" for mask, name in zip(masks, names, strict=True)
        )
        raise PictureError(
            "speaker masks",
            expected="masks of one size, that of the reference image",
            actual=listed,
            action="Draw all masks on the same image",
        )
    stacked = torch.stack(list(masks))
    for first in range(len(masks)):
        for second in range(first + 1, len(masks)):
            if bool(torch.equal(stacked[first] > 0, stacked[second] > 0)):
                raise PictureError(
                    f"masks of {names[first]} and {names[second]}",
                    expected="different places",
                    actual="the same mask twice",
                    action="Connect each speaker's own mask",
                )
    return stacked


def make_speakers(
    tracks: Sequence[Track],
    masks: Sequence[torch.Tensor | None],
    mode: TrackMode | str = TrackMode.PARA,
    starts_s: Sequence[float] | None = None,
) -> Speakers:
    """Lay the tracks out on one timeline and check a mask for each of several speakers.

    Args:
        tracks: one to four, each with its speaker's name.
        masks: as many as tracks; ignored for a single speaker, who owns the whole picture.
        mode: ``para`` (all start at 0) or ``add`` (one after the other).
        starts_s: the silence before each track in seconds, see :func:`~...audio.tracks.arrange`.

    Raises:
        LongTalkError: there are no speakers or too many; a mask is missing, empty, a batch, of another size or another
            speaker's; a start is out of range.
    """
    if not 1 <= len(tracks) <= MAX_SPEAKERS:
        raise LinkError(
            "speakers",
            expected=f"1 to {MAX_SPEAKERS} tracks",
            actual=str(len(tracks)),
            action="Connect one audio per speaker",
        )
    checked = None
    if len(tracks) > 1:
        names = [track.name for track in tracks]
        each = [_checked_mask(mask, name, len(tracks)) for mask, name in zip(masks, names, strict=True)]
        checked = _stack(each, names)
    return Speakers(arrange(tracks, mode, starts_s), checked)
