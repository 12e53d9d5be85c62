"""Saving and loading conditioning, so that a prompt runs again without its text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.clip_vision
import folder_paths
from comfy_api.latest import io, ui

from ..infinitetalk import conditioning_file
from ..infinitetalk.host.checks import check_clip_vision
from .common import CATEGORY

#: Folder name among the models and in the output folder.
FOLDER = "conditioning"


class LongTalkSaveConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkSaveConditioning",
            display_name="Save Conditioning (LongTalk)",
            category=CATEGORY,
            description="Writes conditioning (and CLIP vision) to output/conditioning as safetensors. "
            "Load it again with Load Conditioning (LongTalk), without the 11 GB text encoder.",
            inputs=[
                io.Conditioning.Input("conditioning"),
                io.String.Input(
                    "filename_prefix", default="prompt", tooltip="Name of the file in output/conditioning."
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_output", optional=True, tooltip="Saved beside the text, to load both from one file."
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, conditioning: Any, filename_prefix: str, clip_vision_output: Any = None) -> io.NodeOutput:
        check_clip_vision(clip_vision_output)
        folder, name, counter, _, _ = folder_paths.get_save_image_path(
            f"{FOLDER}/{filename_prefix}", folder_paths.get_output_directory()
        )
        path = Path(folder) / f"{name}_{counter:05}_.safetensors"
        parts = None
        if clip_vision_output is not None:
            found = {part: getattr(clip_vision_output, part, None) for part in conditioning_file.CLIP_VISION_PARTS}
            parts = {part: tensor for part, tensor in found.items() if tensor is not None}
        conditioning_file.save(path, conditioning, parts)
        return io.NodeOutput(conditioning, ui=ui.PreviewText(f"saved {path.name}"))


class LongTalkLoadConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLoadConditioning",
            display_name="Load Conditioning (LongTalk)",
            category=CATEGORY,
            description="Loads what Save Conditioning (LongTalk) wrote, from output/conditioning or "
            "models/conditioning.",
            inputs=[io.Combo.Input("name", options=folder_paths.get_filename_list(FOLDER))],
            outputs=[
                io.Conditioning.Output(display_name="conditioning"),
                io.ClipVisionOutput.Output(
                    display_name="clip_vision_output", tooltip="Empty when the file holds none."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str) -> str:
        path = Path(folder_paths.get_full_path_or_raise(FOLDER, name))
        return f"{path}:{path.stat().st_mtime_ns}"

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        conditioning, parts = conditioning_file.load(Path(folder_paths.get_full_path_or_raise(FOLDER, name)))
        vision = None
        if parts is not None:
            vision = comfy.clip_vision.Output()
            for part in conditioning_file.CLIP_VISION_PARTS:
                vision[part] = parts.get(part)
        return io.NodeOutput(conditioning, vision)
