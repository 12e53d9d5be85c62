"""LongTalk: talking video of any length in ComfyUI, with WAN 2.1 and InfiniteTalk or with LTX-2.3.

ComfyUI loads this package by path and calls :func:`comfy_entrypoint`. Nothing else happens at import.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """Give ComfyUI the extension with all nodes; imported here so that a plain import needs no ComfyUI."""
    from .nodes import LongTalkExtension

    return LongTalkExtension()
