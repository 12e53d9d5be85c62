"""Draw the pack's icon and banner for ComfyUI's registry (docs/icon.png, docs/banner.png).

The results are in the repository; this is how they came about: `.venv/bin/python scripts/make_icon.py`.
The registry takes a square icon of at most 400x400 and a banner of 21:9, as URLs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from setup_common import CLONE

ICON_SIZE = 400
BANNER_SIZE = (1680, 720)
SCALE = 4
"""Everything is drawn larger and reduced, for smooth edges."""

NIGHT_TOP, NIGHT_BOTTOM = (20, 42, 62), (24, 92, 102)
HEAD = (250, 230, 205)
VOICE_NEAR, VOICE_FAR = (255, 122, 89), (255, 198, 92)
WHITE = (255, 248, 238)
PALE = (176, 208, 208)

#: The outline of a head that looks to the right and speaks, clockwise from the nape. The head is about one wide, and
#: (0, 0) is its middle.
HEAD_OUTLINE = (
    *((-0.36, 0.52), (-0.49, 0.22), (-0.54, -0.06), (-0.455, -0.364), (-0.23, -0.558), (0.01, -0.582)),
    *(
        (0.232, -0.466),
        (0.355, -0.27),
        (0.395, -0.08),
        (0.43, 0.02),
        (0.515, 0.17),
        (0.485, 0.215),
        (0.415, 0.225),
        (0.43, 0.29),
        (0.40, 0.325),
    ),
    *((0.27, 0.35), (0.375, 0.43), (0.39, 0.475), (0.36, 0.52), (0.365, 0.60), (0.28, 0.68), (0.08, 0.68)),
    *((0.04, 0.78), (0.10, 0.90), (0.42, 1.02), (0.66, 1.22), (0.76, 1.60), (-0.98, 1.60), (-0.90, 1.22)),
    *((-0.70, 1.00), (-0.40, 0.88), (-0.33, 0.72)),
)
MOUTH = (0.40, 0.375)
"""Where the voice leaves the head, in the outline's measure."""
SPOKEN = (0.44, 1.0, 0.62)
"""Heights of the icon's bars, as parts of the tallest."""

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Head:
    """The speaking head, and the voice that leaves it to the right.

    Attributes:
        x: the middle of the head, in pixels of the large drawing.
        y: the same, downwards.
        size: the head's width in pixels; everything else follows from it.
    """

    x: float
    y: float
    size: float

    def draw_on(self, picture: Image.Image) -> None:
        outline = [(self.x + x * self.size, self.y + y * self.size) for x, y in smooth(HEAD_OUTLINE)]
        ImageDraw.Draw(picture).polygon(outline, fill=HEAD)

    @property
    def step(self) -> float:
        """From the middle of one bar of the voice to that of the next."""
        return 0.22 * self.size

    @property
    def first(self) -> float:
        """The middle of the first bar."""
        return self.x + (MOUTH[0] + 0.26) * self.size

    def voice_on(self, picture: Image.Image, heights: Sequence[float]) -> None:
        draw = ImageDraw.Draw(picture)
        middle = self.y + MOUTH[1] * self.size
        width, tallest = 0.115 * self.size, 0.72 * self.size
        for number, height in enumerate(heights):
            x, tall = self.first + number * self.step, height * tallest
            box = (x - width / 2, middle - tall / 2, x + width / 2, middle + tall / 2)
            colour = between(VOICE_NEAR, VOICE_FAR, number / max(len(heights) - 1, 1))
            draw.rounded_rectangle(box, width / 2, fill=colour)


def smooth(points: Sequence[Point], pieces: int = 12) -> list[Point]:
    """A closed curve through the points (Catmull-Rom)."""
    curve = []
    for number in range(len(points)):
        before, start, end, after = (points[(number + step) % len(points)] for step in (-1, 0, 1, 2))
        for piece in range(pieces):
            t = piece / pieces
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            corners = (before, start, end, after)
            x, y = (sum(w * c[axis] for w, c in zip(weights, corners, strict=True)) / 2 for axis in (0, 1))
            curve.append((x, y))
    return curve


def between(one: Colour, other: Colour, part: float) -> Colour:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def night(size: tuple[int, int]) -> Image.Image:
    """The ground: dark above, lighter below."""
    column = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        column.putpixel((0, y), between(NIGHT_TOP, NIGHT_BOTTOM, y / (size[1] - 1)))
    return column.resize(size)


def icon() -> Image.Image:
    side = ICON_SIZE * SCALE
    picture = night((side, side))
    head = Head(0.33 * side, 0.41 * side, 0.54 * side)
    head.draw_on(picture)
    head.voice_on(picture, SPOKEN)
    corners = Image.new("L", (side, side))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, side - 1, side - 1), 0.2 * side, fill=255)
    picture.putalpha(corners)
    return picture.resize((ICON_SIZE, ICON_SIZE), Image.Resampling.LANCZOS)


def speech(bars: int) -> list[float]:
    """Heights that rise and fall as words do."""
    heights = []
    for number in range(bars):
        word = abs(math.sin(0.47 * number + 0.6)) * (0.62 + 0.38 * math.cos(1.9 * number))
        heights.append(max(0.16, word))
    return heights


def banner() -> Image.Image:
    width, height = (length * SCALE for length in BANNER_SIZE)
    picture = night((width, height))
    head = Head(0.16 * width, 0.40 * height, 0.60 * height)
    head.draw_on(picture)
    spoken = picture.copy()
    head.voice_on(spoken, speech(math.ceil((width - head.first) / head.step) + 1))
    # The voice goes on beyond the edge.
    ramp = Image.new("L", (width, 1))
    for x in range(width):
        ramp.putpixel((x, 0), round(255 * min(1.0, (width - x) / (0.25 * width))))
    picture.paste(spoken, mask=ramp.resize(picture.size))
    draw = ImageDraw.Draw(picture)
    left = head.first - 0.06 * head.size
    large, small = ImageFont.load_default(0.21 * height), ImageFont.load_default(0.062 * height)
    draw.text((left, 0.30 * height), "LongTalk", WHITE, large, anchor="ls", stroke_width=0.0025 * height)
    draw.text((left, 0.89 * height), "talking video of any length", PALE, small, anchor="ls")
    return picture.resize(BANNER_SIZE, Image.Resampling.LANCZOS)


def main() -> None:
    icon().save(CLONE / "docs" / "icon.png", optimize=True)
    banner().save(CLONE / "docs" / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
