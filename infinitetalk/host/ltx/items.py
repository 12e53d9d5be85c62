"""What is given to a window of LTX beside its prompt and sound: pictures, latents of its neighbours, colours.

Each item puts something into the window's draft before it is sampled, and after that has a say in what came of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from comfy_extras.nodes_lt import LTXVAddGuide

from ...model.adain import towards_statistics
from ...model.latents import blended, rising
from ...plan.windows import Window


@dataclass(eq=False)
class Draft:
    """One window's input in the making.

    Attributes:
        window: which.
        video: its latents ``[1, 128, f, h, w]``; items that show a picture elsewhere append latents.
        mask: 1 where the model makes the latents, 0 where it keeps them, ``[1, 1, f, 1, 1]``; as long as ``video``.
        conditioning: entries for each of the window's prompts.
        new: the latents ``[begin, end)`` that no item keeps or blends.
    """

    window: Window
    video: torch.Tensor
    mask: torch.Tensor
    conditioning: dict[str, Any] = field(default_factory=dict)
    new: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.new = (0, self.window.latents)


class Item(Protocol):
    """Something that is given to a window."""

    def place(self, draft: Draft) -> None:
        """Put it into the window's input."""
        ...

    def settle(self, draft: Draft, latents: torch.Tensor) -> torch.Tensor:
        """The window's latents ``[1, 128, window.latents, h, w]`` as they shall be, of what was sampled."""
        ...


class Picture:
    """The window begins with a picture.

    Args:
        latents: ``[1, 128, 1, h, w]``.
        strength: 1 keeps the first latent as it is; below, the model may change it, the more the lower.
    """

    def __init__(self, latents: torch.Tensor, strength: float) -> None:
        self._latents = latents
        self._strength = strength

    def place(self, draft: Draft) -> None:
        count = self._latents.shape[2]
        draft.video[:, :, :count] = self._latents.to(draft.video)
        draft.mask[:, :, :count] = 1.0 - self._strength
        if self._strength == 1.0:
            draft.new = (count, draft.new[1])

    def settle(self, draft: Draft, latents: torch.Tensor) -> torch.Tensor:
        count = self._latents.shape[2]
        if self._strength == 1.0:
            latents[:, :, :count] = draft.video[:, :, :count].to(latents)
        return latents


class Overlap:
    """The window begins with the last latents of the window before.

    Args:
        latents: ``[1, 128, f, h, w]``.
        late: how many of them, at their end, are made anew, the later the more freely, and cross-faded.
    """

    def __init__(self, latents: torch.Tensor, late: int) -> None:
        self._latents = latents
        self._kept = latents.shape[2] - late
        self._shares = rising(late)

    def place(self, draft: Draft) -> None:
        count, kept = self._latents.shape[2], self._kept
        draft.video[:, :, :count] = self._latents.to(draft.video)
        draft.mask[:, :, :kept] = 0.0
        draft.mask[:, :, kept:count] = self._shares.to(draft.mask)[None, None, :, None, None]
        draft.new = (count, draft.new[1])

    def settle(self, draft: Draft, latents: torch.Tensor) -> torch.Tensor:
        count, kept = self._latents.shape[2], self._kept
        given = draft.video[:, :, :count].to(latents)
        if kept < count:
            latents[:, :, kept:count] = blended(given[:, :, kept:], latents[:, :, kept:count], self._shares)
        latents[:, :, :kept] = given[:, :, :kept]
        return latents


class Ending:
    """The window ends with given latents, which the window after it goes on from.

    Args:
        latents: ``[1, 128, f, h, w]``.
    """

    def __init__(self, latents: torch.Tensor) -> None:
        self._latents = latents

    def _place(self, draft: Draft) -> slice:
        return slice(draft.window.latents - self._latents.shape[2], draft.window.latents)

    def place(self, draft: Draft) -> None:
        place = self._place(draft)
        draft.video[:, :, place] = self._latents.to(draft.video)
        draft.mask[:, :, place] = 0.0
        draft.new = (draft.new[0], place.start)

    def settle(self, draft: Draft, latents: torch.Tensor) -> torch.Tensor:
        place = self._place(draft)
        latents[:, :, place] = draft.video[:, :, place].to(latents)
        return latents


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture that the video shall come to in a window.

    Attributes:
        frame: of the window.
        latents: ``[1, 128, 1, h, w]``.
        strength: 1 holds it; as in LTXVAddGuide.
    """

    frame: int
    latents: torch.Tensor
    strength: float


class Guides:
    """Pictures that the video shall come to, appended to the window's latents.

    As ComfyUI's LTXVAddGuide does it with one picture, but without encoding it again.

    Args:
        pictures: in the order of their frames; none clears what a conditioning brought along of another latent, which
            would be looked for in this one.
        scale: the VAE's frames, rows and columns per latent, as ComfyUI's VAE gives them.
    """

    def __init__(self, pictures: Sequence[Shown], scale: Any) -> None:
        self._pictures = pictures
        self._scale = scale

    def place(self, draft: Draft) -> None:
        conditioning: Any = [[draft.video, {}]]
        entries = []
        for shown in self._pictures:
            latents = shown.latents.to(draft.video)
            conditioning, _, draft.video, draft.mask = LTXVAddGuide.append_keyframe(
                conditioning, conditioning, shown.frame, draft.video, draft.mask, latents, shown.strength, self._scale
            )
            shape = list(shown.latents.shape[2:])
            entries.append(
                {
                    "pre_filter_count": shape[0] * shape[1] * shape[2],
                    "strength": shown.strength,
                    "pixel_mask": None,
                    "latent_shape": shape,
                }
            )
        draft.conditioning["keyframe_idxs"] = conditioning[0][1].get("keyframe_idxs")
        draft.conditioning["guide_attention_entries"] = entries or None

    def settle(self, draft: Draft, latents: torch.Tensor) -> torch.Tensor:
        return latents


class Colours:
    """The colours of what is new are drawn towards those of the first window.

    Args:
        statistics: of the first window's channels, see :func:`~...model.adain.channel_statistics`.
        share: 1 takes them over, 0 changes nothing.
    """

    def __init__(self, statistics: torch.Tensor, share: float) -> None:
        self._statistics = statistics
        self._share = share

    def place(self, draft: Draft) -> None:
        return

    def settle(self, draft: Draft, latents: torch.Tensor) -> torch.Tensor:
        new = slice(*draft.new)
        latents[:, :, new] = towards_statistics(latents[:, :, new], self._statistics, self._share)
        return latents
