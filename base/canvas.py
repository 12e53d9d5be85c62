"""A surface to draw pictures on, of a plan or of a sound: boxes and hatching with numpy, text with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import InstallError
from .strip import scaled

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (32, 32, 32)
FAINT: Colour = (96, 96, 96)

TITLE, BODY = 42, 28  # font sizes at width 1600


class Canvas:
    """Boxes and hatching go straight onto an array; texts are kept and laid over all of it at the end.

    Args:
        width, height: pixels.
        margin: columns at the left that are kept for the rows' names.
    """

    def __init__(self, width: int, height: int, margin: int) -> None:
        self.width, self.margin = width, margin
        self.pixels = np.full((height, width, 3), PAPER, np.uint8)
        self._texts: list[tuple[tuple[float, float], str, int, Colour, str]] = []

    def px(self, size: float) -> int:
        """Pixels of a size given for a picture 1600 pixels wide; at least 1."""
        return scaled(size, self.width)

    def box(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """Fill columns [left, right) of rows [top, bottom)."""
        self.pixels[top:bottom, left:right] = colour

    def hatch(self, left: int, top: int, right: int, bottom: int, colour: Colour, *, crossed: bool = False) -> None:
        """Fill a box and lay white diagonals over it. All diagonals run on one grid, so neighbouring parts join up."""
        self.box(left, top, right, bottom, colour)
        period, line = max(self.px(12), 4), max(self.px(3), 1)
        rows, columns = np.ogrid[top:bottom, left:right]
        white = (rows + columns) % period < line
        if crossed:
            white |= (rows - columns) % period < line
        self.pixels[top:bottom, left:right][white] = PAPER

    def text(
        self, x: float, y: float, text: str, colour: Colour = INK, *, size: int = BODY, anchor: str = "la"
    ) -> None:
        """Keep a text for the end. The anchor is one of Pillow's: horizontal l, m, r; vertical a (top), m (middle)."""
        self._texts.append(((x, y), text, self.px(size), colour, anchor))

    def row_label(self, y: float, text: str, colour: Colour = INK) -> None:
        """Write a row's name left of the timeline, shortened to fit there."""
        left = self.px(24)
        text = self.shortened(text, self.margin - self.px(36))
        self.text(left, y, text, colour, anchor="lm")

    def time_axis(self, left: int, right: int, top: int, marks: Sequence[tuple[int, str]]) -> None:
        """Draw a line with ticks below it.

        Args:
            left, right: columns [left, right) of the line.
            top: its row.
            marks: the column and the words of each tick.
        """
        self.box(left, top, right, top + self.px(2), FAINT)
        for x, text in marks:
            self.box(x, top + self.px(2), x + self.px(2), top + self.px(10), FAINT)
            self.text(x, top + self.px(14), text, FAINT, anchor="ma")
        self.row_label(top + self.px(30), "time", FAINT)

    def text_width(self, text: str, size: int = BODY) -> float:
        return _font(self.px(size)).getlength(text)

    def shortened(self, text: str, room: float, size: int = BODY) -> str:
        """The text where there is room for it, else as much of its beginning as fits, and three dots."""
        if self.text_width(text, size) <= room:
            return text
        while text and self.text_width(text + "...", size) > room:
            text = text[:-1]
        return text + "..."

    def finish(self) -> np.ndarray:
        """The picture as uint8 [H, W, 3]."""
        image = Image.fromarray(self.pixels)
        draw = ImageDraw.Draw(image)
        for place, text, pixels, colour, anchor in self._texts:
            draw.text(place, text, font=_font(pixels), fill=colour, anchor=anchor)
        return np.array(image)


@lru_cache(maxsize=16)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    """Pillow's own scalable font, so that no font file is needed and every machine draws the same."""
    font = ImageFont.load_default(size=pixels)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise InstallError(
            "Pillow",
            expected="a build with FreeType",
            actual="one without",
            action="Install Pillow from its wheel: pip install --force-reinstall Pillow",
        )
    return font
