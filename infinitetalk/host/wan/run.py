"""WAN 2.1 with InfiniteTalk: what one video is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch

from ....audio.tracks import Track
from ....base.grid import WAN_GRID, LatentGrid
from ....base.values import check_number
from ...model.speakers import Speech
from ...plan.estimate import longest, tokens_of
from ...run.loop import Carry
from ..events import RunEvents
from ..identity import vision_of
from ..memory import twice
from ..noise import WindowNoise
from ..run import Apart, Run
from .advice import advice
from .checks import check_guider, check_vae
from .conditioning import check_clip_vision, check_text
from .guider import forwards_of
from .packed_linear import PackedLinear
from .patch_file import check_patch
from .renderer import WanRenderer, fits

#: The range of audio_scale's widget, both ways.
SCALE_MAX = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class WanRun(Run):
    """One run of WAN 2.1 with InfiniteTalk.

    Attributes:
        model_patch: InfiniteTalk's layers.
        speech: gives the speakers and their features; called once, when everything else has been checked. ``plan``
            must be made for its speakers' frames.
        clip_vision: CLIP vision output of the reference, or None.
        audio_scale: strength of the audio cross-attention; 0 leaves the patch out altogether.
    """

    model_patch: Annotated[Any, Apart("counts by its weights")]
    speech: Annotated[Callable[[], Speech], Apart("counts as what it gives")]
    clip_vision: Annotated[Any, Apart("counts as what it holds")] = None
    audio_scale: Annotated[float, Apart("counts as a number, however it was written")] = 1.0

    grid: ClassVar[LatentGrid] = WAN_GRID
    sizes: ClassVar[str] = "832x480, 480x832, 1280x720 or 720x1280"
    window_setting: ClassVar[str] = "window_frames"

    def check_models(self) -> None:
        check_guider(self.guider)
        check_patch(self.model_patch, self.model)
        check_vae(self.vae)
        check_clip_vision(self.clip_vision)

    def check_settings(self) -> None:
        check_number(self.audio_scale, "audio_scale", -SCALE_MAX, SCALE_MAX)

    def check_prompt(self, conditioning: Any, name: str) -> None:
        check_text(conditioning, name)

    @cached_property
    def heard(self) -> Speech:
        """What the model hears."""
        return twice("the speech features", self.speech).timed(self.timing)

    @property
    def spoken(self) -> Track:
        return self.heard.speakers.arrangement.mix

    @property
    def speakers(self) -> int:
        return self.heard.speakers.count

    @property
    def forwards(self) -> int:
        return forwards_of(self.guider)

    def heard_notes(self) -> list[str]:
        return list(self.heard.notes)

    def own_values(self) -> dict[str, Any]:
        heard = self.heard
        return {
            "model patch": [self.model_patch, *_packing(self.model_patch.model)],
            "speech": [heard.speakers, heard.encoded_by or list(heard.features), *heard.gates],
            "clip vision": vision_of(self.clip_vision),
            "audio scale": float(self.audio_scale),
        }

    def settings(self) -> str:
        return f"audio scale {self.audio_scale:g}, {self.speakers} speaker(s)"

    def fits(self, carry: Carry) -> bool:
        return fits(carry, self.plan, *self.size)

    def renderer(self, noise: WindowNoise, events: RunEvents) -> WanRenderer:
        return WanRenderer(self, noise, events)

    def advice(self) -> list[str]:
        return advice(self.model, tokens_of(longest(self.plan).length, *self.size))


def _packing(model: torch.nn.Module) -> list[tuple[str, str]]:
    """How each packed weight is packed: two of GGUF's formats may have the same size."""
    return [(name, layer.kind) for name, layer in model.named_modules() if isinstance(layer, PackedLinear)]
