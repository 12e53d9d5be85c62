"""ffmpeg's names for numbers of channels."""

from __future__ import annotations

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""The layout that a sound of so many channels is taken to have. Three channels are left, right and centre, because AAC
cuts all but the bass out of a low-frequency channel; the layouts of six and eight channels have one."""


def layout_name(channels: int) -> str:
    return LAYOUTS.get(channels, f"{channels} channels")
