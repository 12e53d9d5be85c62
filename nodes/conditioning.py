"""Saving and loading conditioning, so that a prompt runs again without its text encoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import comfy.clip_vision
import folder_paths
from comfy_api.latest import io, ui

from ..base.errors import SettingError
from ..base.values import shown
from ..infinitetalk.host.wan.conditioning import check_clip_vision
from ..infinitetalk.model import conditioning_file
from .inputs import CATEGORY, file_named

#: Folder name among the models and in the output folder.
FOLDER = "conditioning"


#: Of the name's last part; file systems take 255, and the counter and the suffix follow.
NAME_BYTES = 200


def _new_file(prefix: Any) -> Path:
    """The next free name in output/conditioning for this prefix, which may hold subfolders and ComfyUI's %date%.

    Raises:
        LongTalkError: no name, or one that leads out of that folder.
    """
    root = folder_paths.get_output_directory()
    inside = Path(root) / FOLDER
    named = isinstance(prefix, str) and prefix.isprintable()
    wanted = Path(os.path.normpath(inside / prefix.lstrip("/\\"))) if named else inside
    parts = wanted.relative_to(inside).parts if inside in wanted.parents else ()
    if not parts or max(len(part.encode()) for part in parts) > NAME_BYTES:
        raise SettingError(
            "filename_prefix",
            expected=f"the name of a file inside output/{FOLDER}, up to {NAME_BYTES} letters",
            actual=shown(prefix),
            action="Enter a plain name, such as prompt or talks/prompt",
        )
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(str(wanted.relative_to(root)), root)
    except OSError as error:
        raise SettingError(
            "filename_prefix",
            expected=f"folders that can be made inside output/{FOLDER}",
            actual=f"{shown(prefix)} ({error.strerror})",
            action="Enter another name",
        ) from error
    return Path(folder) / f"{name}_{counter:05}_.safetensors"


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
        path = _new_file(filename_prefix)
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
        path = file_named(FOLDER, name)
        return f"{path}:{path.stat().st_mtime_ns}"

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        conditioning, parts = conditioning_file.load(file_named(FOLDER, name))
        vision = None
        if parts is not None:
            vision = comfy.clip_vision.Output()
            for part in conditioning_file.CLIP_VISION_PARTS:
                vision[part] = parts.get(part)
            check_clip_vision(vision, f"clip_vision_output in {name}")
        return io.NodeOutput(conditioning, vision)
