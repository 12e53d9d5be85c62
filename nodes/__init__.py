"""Thin ComfyUI nodes over the core. Node ids and input order never change once released; inputs are appended."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths
from comfy_api.latest import ComfyExtension, io

from .attention import LongTalkAttention
from .audio import LongTalkAudioPrepare
from .audio_report import LongTalkAudioReport
from .conditioning import FOLDER, LongTalkLoadConditioning, LongTalkSaveConditioning
from .ltx import LongTalkLTXSampler
from .ltx_loop import LongTalkKeyframes, LongTalkLoopController, LongTalkLoopPlan
from .ltx_parts import (
    LongTalkConditioningAt,
    LongTalkConditioningBlend,
    LongTalkFrameAt,
    LongTalkLatentContext,
    LongTalkLatentCrossfade,
    LongTalkLatentPin,
    LongTalkLatentTrim,
    LongTalkPurgeVRAM,
)
from .ltx_sound import LongTalkLTXEncodeSound
from .patch import LongTalkLoadPatch
from .plan import LongTalkPlan
from .sampler import LongTalkGuider, LongTalkSampler, LongTalkSamplerAdvanced
from .schedule import LongTalkPromptSchedule
from .silence import LongTalkSilence
from .speech import LongTalkEncodeSpeech, LongTalkSpeakers
from .vocals import LongTalkVocals

log = logging.getLogger(__name__)

NODES: list[type[io.ComfyNode]] = [
    LongTalkPlan,
    LongTalkLoadPatch,
    LongTalkEncodeSpeech,
    LongTalkSpeakers,
    LongTalkSampler,
    LongTalkSamplerAdvanced,
    LongTalkGuider,
    LongTalkSaveConditioning,
    LongTalkLoadConditioning,
    LongTalkAttention,
    LongTalkLTXSampler,
    LongTalkLoopController,
    LongTalkLoopPlan,
    LongTalkLatentContext,
    LongTalkLatentTrim,
    LongTalkLatentCrossfade,
    LongTalkConditioningBlend,
    LongTalkConditioningAt,
    LongTalkKeyframes,
    LongTalkFrameAt,
    LongTalkPurgeVRAM,
    LongTalkPromptSchedule,
    LongTalkLTXEncodeSound,
    LongTalkLatentPin,
    LongTalkAudioPrepare,
    LongTalkVocals,
    LongTalkAudioReport,
    LongTalkSilence,
]


class LongTalkExtension(ComfyExtension):
    """All LongTalk nodes."""

    async def on_load(self) -> None:
        """Register the folders of saved conditioning: where the save node writes, and one among the models."""
        for root in (folder_paths.models_dir, folder_paths.get_output_directory()):
            folder_paths.add_model_folder_path(FOLDER, str(Path(root) / FOLDER))
        log.info("LongTalk: %d nodes", len(NODES))

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
