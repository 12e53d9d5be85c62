"""Guidance by text and by audio, as the official InfiniteTalk code combines them."""

from __future__ import annotations

import math
from typing import Any

import comfy.samplers
import torch

from ....base.values import check_number
from ..guiders import CFG_MAX, text_forwards
from .audio_patch import AUDIO_ON
from .checks import check_model
from .conditioning import check_text


class AudioGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance on text (``cfg``) and on audio (``audio_cfg``).

    With D the denoised prediction, positive or negative by the text it sees and "deaf" when it sees absent audio:

    - ``audio_cfg`` 1: ordinary guidance, one forward (``cfg`` 1) or two.
    - ``cfg`` 1: ``D_deaf + audio_cfg * (D_positive - D_deaf)``, two forwards.
    - else: ``D_negative_deaf + cfg * (D_positive - D_negative) + audio_cfg * (D_negative - D_negative_deaf)``, three.

    Source: MeiGen-AI/InfiniteTalk, ``wan/multitalk.py``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.audio_cfg = 1.0

    def set_audio_cfg(self, audio_cfg: float) -> None:
        self.audio_cfg = audio_cfg

    def predict_noise(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> torch.Tensor:
        options = model_options or {}
        if math.isclose(self.audio_cfg, 1.0):
            out: torch.Tensor = super().predict_noise(x, timestep, options, seed)
            return out
        positive, negative = self.conds["positive"], self.conds["negative"]
        if math.isclose(self.cfg, 1.0):
            heard, deaf = self._predict([positive, positive], (True, False), x, timestep, options)
            return deaf + self.audio_cfg * (heard - deaf)
        conditions, hears = [positive, negative, negative], (True, True, False)
        heard, untold, deaf = self._predict(conditions, hears, x, timestep, options)
        return deaf + self.cfg * (heard - untold) + self.audio_cfg * (untold - deaf)

    def _predict(
        self,
        conditions: list[Any],
        hears: tuple[bool, ...],
        x: torch.Tensor,
        timestep: torch.Tensor,
        options: dict[str, Any],
    ) -> list[torch.Tensor]:
        """One prediction per condition; ``hears`` tells which of them see the audio."""
        transformer = {**options.get("transformer_options", {}), AUDIO_ON: hears}
        options = {**options, "transformer_options": transformer}
        out: list[torch.Tensor] = comfy.samplers.calc_cond_batch(self.inner_model, conditions, x, timestep, options)
        return out


def make_guider(model: Any, positive: Any, negative: Any, cfg: float, audio_cfg: float) -> AudioGuider:
    """A guider over ``model`` with the two prompts and the two scales.

    Raises:
        LongTalkError: not a WAN 2.1 image-to-video model, prompts of another text encoder, scales out of range.
    """
    cfg = check_number(cfg, "cfg", 0.0, CFG_MAX)
    audio_cfg = check_number(audio_cfg, "audio_cfg", 0.0, CFG_MAX)
    check_model(model)
    check_text(positive, "positive")
    check_text(negative, "negative")
    guider = AudioGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    guider.set_audio_cfg(audio_cfg)
    return guider


def needs_silence(guider: Any) -> bool:
    """Whether the guider will ask for predictions without audio."""
    return isinstance(guider, AudioGuider) and not math.isclose(guider.audio_cfg, 1.0)


def forwards_of(guider: Any) -> int:
    """How many forwards of the model one step takes."""
    return text_forwards(guider) + needs_silence(guider)
