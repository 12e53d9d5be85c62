"""Drawn faces: few parameters, so that the truth of every frame is known exactly.

A face fills a tile of 64x80 pixels; several tiles side by side make a wide canvas. What moves follows from the mouth's
opening in the last :data:`HISTORY` frames and from the number of the frame in its video: the mouth; the brows, with the
loudness of the last quarter of a second; the eyes, which blink when a loud passage ends; and the head, which sways all
the time, sinks while it speaks and comes up again in pauses. So every frame is decided, and a model can learn to get it
right instead of an average of what might have been. The head remembers more than the frames that windows share: a
window knows where it is and where it is going from the frames that it is pinned to, and from nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812

TILE_WIDTH, TILE_HEIGHT = 64, 80
#: Frames before a frame that it depends on.
HISTORY = 80
#: Frames in which the head comes up again to a third (1/e).
SINKING = 20.0
INNER = (0.25, 0.02, 0.05)
LIPS = (0.74, 0.24, 0.28)
SKIN = (0.93, 0.76, 0.62)
#: Of the neck, beside the skin. Not darker in red, by which the mouth is told.
SHADE = (1.0, 0.93, 0.9)
#: Half the mouth's height, pixels: at rest, and what a wide open one adds.
MOUTH_REST, MOUTH_SPAN = 0.7, 6.3
#: Pixels over which an edge changes by a factor e (a drawn edge is about two pixels wide).
SOFTNESS = 0.75
#: Pixels by which the head sinks and the brows rise at most.
NOD, BROW = 3.0, 2.0
#: The head sways in a figure of eight: so many pixels to each side and, twice as fast, up and down.
SWAY_ACROSS, SWAY_DOWN = 2.0, 1.5
#: Frames that it takes. It begins in the middle.
SWAY_FRAMES = 50

#: Those of the parameters that are lengths; the others are colours.
LENGTHS = ("centre_x", "centre_y", "half_width", "half_height", "mouth")


@dataclass(frozen=True)
class Faces:
    """Parameters of B faces: colours ``[B, 3]`` in 0..1, lengths ``[B]`` in pixels."""

    above: torch.Tensor
    below: torch.Tensor
    skin: torch.Tensor
    hair: torch.Tensor
    shirt: torch.Tensor
    iris: torch.Tensor
    centre_x: torch.Tensor
    centre_y: torch.Tensor
    half_width: torch.Tensor
    half_height: torch.Tensor
    mouth: torch.Tensor


def draw_parameters(count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Faces:
    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return (torch.rand(count, *shape, generator=generator) * (high - low) + low).to(device)

    return Faces(
        above=uniform(0.15, 0.85, 3),
        below=uniform(0.15, 0.85, 3),
        skin=torch.tensor(SKIN, device=device) * uniform(0.55, 1.0, 1),
        hair=uniform(0.02, 0.35, 1) + uniform(0.0, 0.3, 3) * torch.tensor([1.0, 0.6, 0.25], device=device),
        shirt=uniform(0.1, 0.9, 3),
        iris=uniform(0.0, 0.6, 3),
        centre_x=uniform(31.0, 33.0),
        centre_y=uniform(36.0, 40.0),
        half_width=uniform(17.0, 20.5),
        half_height=uniform(24.0, 27.0),
        mouth=uniform(8.0, 10.0),
    )


def draw_canvases(count: int, wide: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Faces:
    """Faces for the tiles of so many canvases, canvas by canvas; those of one canvas share its background."""
    drawn = draw_parameters(count * wide, generator, device)
    shared = {name: getattr(drawn, name)[::wide].repeat_interleave(wide, 0) for name in ("above", "below")}
    return replace(drawn, **shared)


def beside(tiles: torch.Tensor, wide: int) -> torch.Tensor:
    """Tiles side by side: ``[B * wide, 3, T, H, W]`` to ``[B, 3, T, H, W * wide]``."""
    if wide == 1:
        return tiles
    return tiles.unflatten(0, (-1, wide)).permute(0, 2, 3, 4, 1, 5).flatten(4)


@dataclass(frozen=True)
class Motion:
    """What moves, ``[B, T]``: the mouth's opening, loudness of late and blink, 0..1; the head, in pixels."""

    opening: torch.Tensor
    late: torch.Tensor
    blink: torch.Tensor
    across: torch.Tensor
    down: torch.Tensor


def motion(opening: torch.Tensor, number: torch.Tensor) -> Motion:
    """From openings ``[B, HISTORY + T]``, those before the first frame among them, and that frame's number ``[B]``."""
    before = opening[:, None]
    recent = F.avg_pool1d(before[:, :, HISTORY - 2 :], 3, 1)[:, 0]
    earlier = F.avg_pool1d(before[:, :, HISTORY - 8 : opening.shape[1] - 3], 6, 1)[:, 0]
    late = F.avg_pool1d(before[:, :, HISTORY - 5 :], 6, 1)[:, 0]
    kernel = torch.exp(torch.arange(-HISTORY, 1, device=opening.device) / SINKING)
    sunk = F.conv1d(before, (kernel / kernel.sum())[None, None])[:, 0]
    frames = torch.arange(sunk.shape[1], device=opening.device)
    angle = 2 * math.pi / SWAY_FRAMES * (number.to(opening.device)[:, None] + frames)
    return Motion(
        opening=opening[:, HISTORY:],
        late=late,
        blink=((earlier - recent - 0.3) * 5.0).clamp(0, 1),
        across=SWAY_ACROSS * torch.sin(angle),
        down=NOD * sunk + SWAY_DOWN * torch.sin(2 * angle),
    )


def at_rest(opening: torch.Tensor) -> Motion:
    """A face that has held these openings ``[B, T]`` for a while and does not sway."""
    still = torch.zeros_like(opening)
    return Motion(opening, opening, still, still, NOD * opening)


def render(faces: Faces, moved: Motion) -> torch.Tensor:
    """``[B, 3, T, 80, 64]`` in -1..1."""
    device = moved.opening.device
    y = torch.arange(TILE_HEIGHT, device=device)[:, None] + 0.5
    x = torch.arange(TILE_WIDTH, device=device)[None, :] + 0.5

    def still(value: torch.Tensor) -> torch.Tensor:
        return value[:, None, None, None]

    def moving(value: torch.Tensor) -> torch.Tensor:
        return value[:, :, None, None]

    def ellipse(
        centre_x: torch.Tensor, centre_y: torch.Tensor, half_width: torch.Tensor, half_height: torch.Tensor
    ) -> torch.Tensor:
        # Signed distance, approximately: the level function over the length of its gradient.
        u, v = (x - centre_x) / half_width, (y - centre_y) / half_height
        level = torch.sqrt(u * u + v * v + 1e-6)
        slope = torch.sqrt((u / half_width) ** 2 + (v / half_height) ** 2 + 1e-9) / level
        # Beyond the tips of a flat ellipse that is too little.
        inside = torch.minimum((1 - level) / slope.clamp(min=0.02), half_width - (x - centre_x).abs() + 0.5)
        return torch.sigmoid(inside / SOFTNESS)

    def colour(value: torch.Tensor | tuple[float, float, float]) -> torch.Tensor:
        return torch.as_tensor(value, device=device).reshape(-1, 3, 1, 1, 1)

    def paint(picture: torch.Tensor, where: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.lerp(picture, value, where[:, None])

    cx, cy = still(faces.centre_x), still(faces.centre_y)
    picture = torch.lerp(colour(faces.above), colour(faces.below), (y / TILE_HEIGHT).expand(-1, TILE_WIDTH))
    rx, ry = still(faces.half_width), still(faces.half_height)
    neck = colour(faces.skin) * colour(SHADE)
    picture = paint(picture, ellipse(cx, cy + ry + 14, rx * 1.5, torch.full_like(cx, 18.0)), colour(faces.shirt))
    picture = paint(picture, ellipse(cx, cy + ry + 2, torch.full_like(cx, 7.0), torch.full_like(cx, 14.0)), neck)
    cx, cy = cx + moving(moved.across), cy + moving(moved.down)
    picture = paint(picture, ellipse(cx, cy - 4, rx + 2.5, ry + 2.5), colour(faces.hair))
    picture = paint(picture, ellipse(cx, cy + 2, rx, ry), colour(faces.skin))
    lid = 3.2 * (1 - moving(moved.blink)) + 0.4
    white = torch.ones(1, 3, device=device)
    for side in (-7.5, 7.5):
        brow = cy - 12 - BROW * moving(moved.late)
        picture = paint(picture, ellipse(cx + side, cy - 6, torch.full_like(cx, 4.2), lid), colour(white))
        picture = paint(
            picture, ellipse(cx + side, cy - 6, torch.full_like(cx, 2.0), lid.clamp(max=2.0)), colour(faces.iris)
        )
        picture = paint(
            picture, ellipse(cx + side, brow, torch.full_like(cx, 4.8), torch.full_like(cx, 1.2)), colour(faces.hair)
        )
    height = MOUTH_REST + MOUTH_SPAN * moving(moved.opening)
    mouth = still(faces.mouth)
    picture = paint(picture, ellipse(cx, cy + 10, mouth + 1.8, height + 1.8), colour(LIPS))
    picture = paint(picture, ellipse(cx, cy + 10, mouth, height), colour(INNER))
    return picture * 2 - 1
