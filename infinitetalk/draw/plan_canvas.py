"""A canvas on which the parts of a plan's picture have their places."""

from __future__ import annotations

from ...base.canvas import Canvas
from .layout import Layout


class PlanCanvas(Canvas):
    """A canvas with the layout of a plan's picture."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.width, layout.height, layout.strip.left)
        self.layout = layout
