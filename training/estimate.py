"""Parameters of a drawn face, from its pixels: the drawing that comes nearest to them, found by gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from . import faces

_STEPS = 250
_RATE = 0.05

#: Where the search begins, and how far one unit of it is: the middle and the width of what is drawn.
_COLOUR, _COLOUR_STEP = 0.5, 0.5
_RANGES = {
    "centre_x": (32.0, 2.0),
    "centre_y": (38.0, 4.0),
    "half_width": (18.75, 3.0),
    "half_height": (25.5, 3.0),
    "mouth": (9.0, 2.0),
}
#: Pixels by which the head is elsewhere.
_SHIFT = 3.0


@dataclass(frozen=True)
class Estimate:
    """One face in several frames.

    Attributes:
        face: its parameters, of a batch of one.
        motion: of the frames, ``[1, F]``.
        residual: mean absolute difference between the nearest drawing and the frames, in 255ths.
    """

    face: faces.Faces
    motion: faces.Motion
    residual: float

    def off(self, truth: faces.Faces) -> dict[str, float]:
        """The largest difference from each of a face's parameters: of lengths in pixels, of colours in 255ths."""
        found = {}
        for field in fields(truth):
            difference = float((getattr(self.face, field.name) - getattr(truth, field.name)).abs().max())
            found[field.name] = difference * (1 if field.name in faces.LENGTHS else 255)
        return found


def estimate(frames: torch.Tensor) -> Estimate:
    """The face in these frames.

    Args:
        frames: of one tile, float 0..1 ``[F, 80, 64, 3]``; ten or so are enough.
    """
    target = frames.permute(3, 0, 1, 2)[None].float() * 2 - 1
    count = target.shape[2]
    unknown = {
        field.name: torch.zeros(1, *([] if field.name in faces.LENGTHS else [3])) for field in fields(faces.Faces)
    }
    moved = {field.name: torch.zeros(1, count) for field in fields(faces.Motion)}
    # Where hair and background begin is told by their colours, so those come first.
    unknown["above"] += target[0, :, :, 1, :6].mean((1, 2)) / 2 / _COLOUR_STEP
    unknown["below"] += target[0, :, :, -4, :2].mean((1, 2)) / 2 / _COLOUR_STEP
    parameters = [value.requires_grad_() for value in (*unknown.values(), *moved.values())]
    optimiser = torch.optim.Adam(parameters, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)

    def drawing() -> tuple[faces.Faces, faces.Motion, torch.Tensor]:
        face = faces.Faces(
            **{
                name: _RANGES[name][0] + _RANGES[name][1] * value if name in _RANGES else _COLOUR + _COLOUR_STEP * value
                for name, value in unknown.items()
            }
        )
        motion = faces.Motion(
            **{
                name: _SHIFT * value if name in ("across", "down") else (0.3 + value).clamp(-0.1, 1.1)
                for name, value in moved.items()
            }
        )
        return face, motion, faces.render(face, motion)

    with torch.enable_grad():
        for _ in range(_STEPS):
            optimiser.zero_grad()
            (drawing()[2] - target).abs().mean().backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        face, motion, drawn = drawing()
        return Estimate(face, motion, float((drawn - target).abs().mean()) * 127.5)
