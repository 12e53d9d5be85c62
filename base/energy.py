"""How strong a section of a song is beside the loudest one."""

from __future__ import annotations

from enum import Enum

STRONG_DB, CALM_DB = -2.0, -8.0
"""Levels of a section below the loudest section: at the first and above it is strong, below the second it is calm."""


class Energy(str, Enum):
    """How strong a section is, in a word."""

    CALM = "calm"
    STEADY = "steady"
    STRONG = "strong"

    @classmethod
    def of(cls, level_db: float) -> Energy:
        """The energy of a section that is so many dB below the loudest section, 0 or less."""
        if level_db >= STRONG_DB:
            return cls.STRONG
        return cls.STEADY if level_db >= CALM_DB else cls.CALM
