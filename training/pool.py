"""Clips for the talker to learn from, as latents: one, two or three faces, each with a track or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from . import faces, parallel_vae
from .common import device
from .hearing import Hearing
from .train_vae import PINNED_FRAMES

#: Of the window before, seen by the VAE only: enough for its decoder to have settled.
LEAD = 16
#: The most by which a window's latents are off: all of them alike, and each by itself.
OFFSET, JITTER = 0.15, 0.05


#: What a pool holds for each of its canvases.
TENSORS = ("latents", "reference", "again", "error", "clips", "starts")


@dataclass(frozen=True)
class Pool:
    """Canvases of one kind.

    Attributes:
        latents: ``[N, 16, 21, 10, 8 * wide]``, normalised as the diffusion model sees them.
        reference: the same shape: the face at rest, followed by grey.
        again: the first three latents as a window is pinned to the one before, which was a little off.
        error: by how much its latents were off, the same in all of them, ``[N, 16, 1, 10, 8 * wide]``.
        clips, starts: the track of each tile and the frame it starts at, ``[N, wide]``; -1 for a face without a track.
        first: whether the canvas is the start of a video: its first frame is the reference.
        silent: the tile without a track; -1 for all of them; None for no such tile.
    """

    latents: torch.Tensor
    reference: torch.Tensor
    again: torch.Tensor
    error: torch.Tensor
    clips: torch.Tensor
    starts: torch.Tensor
    first: bool
    wide: int
    silent: int | None


class Latents:
    """The VAE and WAN's normalisation."""

    def __init__(self, net: Any) -> None:
        import comfy.latent_formats

        form = comfy.latent_formats.Wan21()
        self.net = net
        self.mean, self.deviation = form.latents_mean.to(device()), form.latents_std.to(device())

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        return (parallel_vae.encode(self.net, clips) - self.mean) / self.deviation

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return parallel_vae.decode(self.net, latents * self.deviation + self.mean)


@torch.no_grad()
def make(
    vae: Latents,
    hearing: Hearing,
    generator: torch.Generator,
    count: int,
    wide: int,
    first: bool,
    silent: int | None,
    length: int,
) -> Pool:
    """Canvases of one kind, each ``length`` frames long."""
    lengths, openings = hearing.lengths.cpu(), hearing.openings
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in TENSORS}
    chunk = 48 // wide
    for done in range(0, count, chunk):
        size = min(chunk, count - done)
        tiles = size * wide
        clips = torch.randint(0, len(lengths), (tiles,), generator=generator)
        # Real starts of tracks among them.
        starts = (torch.rand(tiles, generator=generator) * 1.15 - 0.15).clamp(min=0)
        starts = (starts * (lengths[clips] - length)).long()
        frames = starts[:, None] + torch.arange(-faces.HISTORY - LEAD, length)
        heard = openings[(hearing.starts.cpu()[clips][:, None] + frames.clamp(min=0)).to(device())]
        heard = torch.where(frames.to(device()) < 0, torch.zeros_like(heard), heard)
        rest = (torch.rand(tiles, 1, generator=generator) * 0.5 - 0.4).clamp(min=0).to(device())
        if silent is not None:
            quiet = torch.ones(tiles, dtype=torch.bool) if silent < 0 else torch.arange(tiles) % wide == silent
            clips[quiet] = -1
            heard[quiet.to(device())] = 0.0
        number = torch.randint(0, faces.SWAY_FRAMES, (size,), generator=generator).repeat_interleave(wide)
        if first:
            number = torch.zeros_like(number)
            past = faces.HISTORY + LEAD + 1
            heard = torch.cat([rest.expand(-1, past), heard[:, past:]], dim=1)
        drawn = faces.draw_canvases(size, wide, generator, device())
        x = faces.beside(faces.render(drawn, faces.motion(heard, number - LEAD)), wide)
        still = faces.beside(faces.render(drawn, faces.at_rest(rest)), wide)
        before, x = x[:, :, : LEAD + PINNED_FRAMES], x[:, :, LEAD:]
        with torch.autocast(device().type, torch.bfloat16, enabled=torch.cuda.is_available()):
            latents, off = vae.encode(x), vae.encode(before)
            parts["reference"].append(vae.encode(torch.cat([still, torch.zeros_like(x[:, :, 1:])], 2)).bfloat16())
            level = torch.rand(size, 1, 1, 1, 1, device=x.device)
            error = OFFSET * level * torch.randn_like(latents[:, :, :1])
            off = off + error + JITTER * level * torch.randn_like(off)
            seen = vae.decode(off)[:, :, -PINNED_FRAMES:].clamp(-1, 1)
            parts["again"].append(vae.encode(seen).bfloat16())
            parts["error"].append(error.bfloat16())
        parts["latents"].append(latents.bfloat16())
        parts["clips"].append(clips.reshape(size, wide))
        parts["starts"].append(starts.reshape(size, wide))
    joined = {name: torch.cat(values).to(device()) for name, values in parts.items()}
    return Pool(**joined, first=first, wide=wide, silent=silent)
