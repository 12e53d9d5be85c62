"""Loading the InfiniteTalk patch."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ..infinitetalk.host.wan.patch_file import load_patch
from .inputs import CATEGORY, file_named

FOLDER = "model_patches"


def patch_files() -> list[str]:
    """ComfyUI's list of the folder and the GGUF files in it, which other nodes could not load and so do not see."""
    names = set(folder_paths.get_filename_list(FOLDER))
    for folder in folder_paths.get_folder_paths(FOLDER):
        found, _ = folder_paths.recursive_search(folder, excluded_dir_names=[".git"])
        names.update(folder_paths.filter_files_extensions(found, [".gguf"]))
    return sorted(names)


class LongTalkLoadPatch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLoadPatch",
            display_name="Load InfiniteTalk Patch (LongTalk)",
            category=CATEGORY,
            description="Loads an InfiniteTalk file (audio layers for WAN 2.1), as small in memory as on disk. "
            "Files go to models/model_patches.",
            search_aliases=["infinitetalk", "multitalk", "model patch loader"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=patch_files(),
                    tooltip="wan2.1_infiniteTalk_single_fp16 for one speaker, ..._multi_fp16 for several. "
                    "safetensors in fp32, fp16, bf16 or scaled fp8; GGUF in Q8_0, Q6_K, Q5 or Q4.",
                ),
            ],
            outputs=[io.ModelPatch.Output(display_name="model_patch")],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        return io.NodeOutput(load_patch(file_named(FOLDER, name)))
