"""The voice out of a mix, by a node pack that is made for it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import folder_paths
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ..audio.tracks import track_from_audio
from ..base.errors import FileError, InstallError
from ..base.values import check_choice
from .inputs import CATEGORY

PACK = "ComfyUI-MelBandRoFormer"
LOADER, SAMPLER = "MelBandRoFormerModelLoader", "MelBandRoFormerSampler"
FOLDER = "diffusion_models"
VOICE_MODEL = "MelBandRoformer_fp16.safetensors"
CROWD_MODEL = "mel_band_roformer_crowd_aufr33_viperx_sdr_8.7144.ckpt"
#: By what the model was trained to find: which of the sampler's two outputs (found, rest) is the voice.
MODEL_FINDS = {"voice": 0, "crowd": 1}


def model_names() -> list[str]:
    """The published models' names, and every file that has the architecture in its name."""
    there = [name for name in folder_paths.get_filename_list(FOLDER) if "roformer" in name.lower()]
    return list(dict.fromkeys([VOICE_MODEL, CROWD_MODEL, *there]))


class LongTalkVocals(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkVocals",
            display_name="Vocals (LongTalk)",
            category=CATEGORY,
            description=f"The voice out of music or a noisy crowd, so that the mouth follows it alone. Needs the node "
            f"pack {PACK}. Connect 'voice' to the sampler's audio and the original sound to its soundtrack.",
            search_aliases=["vocal separation", "stem separation", "remove music"],
            inputs=[
                io.Audio.Input("audio", tooltip="Speech or song with music, or with an audience."),
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    default=VOICE_MODEL,
                    tooltip=f"A Mel-Band RoFormer in models/{FOLDER}.",
                ),
                io.Combo.Input(
                    "model_finds",
                    options=list(MODEL_FINDS),
                    default="voice",
                    tooltip="What the model was trained to find. voice: the usual one. crowd: applause and audience; "
                    "the voice is then what is left.",
                ),
            ],
            outputs=[
                io.Audio.Output(display_name="voice", tooltip="44.1 kHz, stereo."),
                io.Audio.Output(display_name="rest", tooltip="Everything else: music, or the crowd."),
            ],
            enable_expand=True,
        )

    @classmethod
    def execute(cls, audio: Any, model_name: str, model_finds: str) -> io.NodeOutput:
        track_from_audio(audio, "audio")
        check_choice(model_finds, "model_finds", tuple(MODEL_FINDS))
        known = import_module("nodes").NODE_CLASS_MAPPINGS  # ComfyUI's module; checkers take our folder for it
        missing = [name for name in (LOADER, SAMPLER) if name not in known]
        if missing:
            raise InstallError(
                "vocal separation",
                expected=f"the node pack {PACK}",
                actual=f"no node {' and no node '.join(missing)}",
                action=f"Install {PACK} through ComfyUI Manager and start ComfyUI again; or bypass this node (Ctrl+B) "
                "when the sound is speech without music",
            )
        if folder_paths.get_full_path(FOLDER, str(model_name)) is None:
            raise FileError(
                "model_name",
                expected=f"a Mel-Band RoFormer in models/{FOLDER}",
                actual=f"no file {model_name} there",
                action=f"Put {VOICE_MODEL} (repository Kijai/MelBandRoFormer_comfy) into models/{FOLDER}",
            )
        graph = GraphBuilder()
        loader = graph.node(LOADER, model_name=model_name)
        found = graph.node(SAMPLER, model=loader.out(0), audio=audio)
        voice = MODEL_FINDS[model_finds]
        return io.NodeOutput(found.out(voice), found.out(1 - voice), expand=graph.finalize())
