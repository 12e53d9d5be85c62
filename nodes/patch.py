"""Loading the InfiniteTalk patch."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ..infinitetalk.host.patch import load_patch
from .common import CATEGORY, file_named

FOLDER = "model_patches"


class LongTalkLoadPatch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLoadPatch",
            display_name="Load InfiniteTalk Patch (LongTalk)",
            category=CATEGORY,
            description="Loads an InfiniteTalk file (audio layers for WAN 2.1) in its own precision. "
            "Files go to models/model_patches.",
            search_aliases=["infinitetalk", "multitalk", "model patch loader"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip="wan2.1_infiniteTalk_single_fp16 for one speaker, ..._multi_fp16 for several. "
                    "fp32, fp16, bf16 and scaled fp8 safetensors.",
                ),
            ],
            outputs=[io.ModelPatch.Output(display_name="model_patch")],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        return io.NodeOutput(load_patch(file_named(FOLDER, name)))
