"""What ffmpeg calls so many channels."""

from __future__ import annotations

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""What the channels are taken for. Three are left, right and centre, because AAC cuts everything but the bass out of a
low-frequency channel; six and eight have one."""


def layout_name(channels: int) -> str:
    return LAYOUTS.get(channels, f"{channels} channels")
