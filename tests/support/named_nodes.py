"""Names that runs get behind each of ComfyUI's nodes, from one installation: a program that prints them as JSON.

    PYTHONPATH=COMFYUI python named_nodes.py COMFYUI PACK MODELS BASE [--nodes SAG,...]

The pack is loaded by ComfyUI's own loader from the folder PACK, as are the nodes that ComfyUI has in files and every
other pack in the folder of PACK. For each node of :data:`NODES` a small run is named with the node's defaults, then
with each widget at another value. Nothing is rendered.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

#: Which input of a run a node gives, and the nodes, with the file of ComfyUI's that each is in.
NODES: dict[str, dict[str, str]] = {
    "model": {
        "APG": "nodes_apg",
        "CFGZeroStar": "nodes_cfg",
        "CFGNorm": "nodes_cfg",
        "CFGOverride": "nodes_custom_sampler",
        "RescaleCFG": "nodes_model_advanced",
        "ModelSamplingSD3": "nodes_model_advanced",
        "ModelSamplingAuraFlow": "nodes_model_advanced",
        "ModelSamplingFlux": "nodes_model_advanced",
        "ModelSamplingDiscrete": "nodes_model_advanced",
        "ModelSamplingContinuousEDM": "nodes_model_advanced",
        "ModelSamplingContinuousV": "nodes_model_advanced",
        "ModelComputeDtype": "nodes_model_advanced",
        "ModelSamplingLTXV": "nodes_lt",
        "TCFG": "nodes_tcfg",
        "Mahiro": "nodes_mahiro",
        "FreSca": "nodes_fresca",
        "TemporalScoreRescaling": "nodes_eps",
        "EasyCache": "nodes_easycache",
        "LazyCache": "nodes_easycache",
        "ContextWindowsManual": "nodes_context_windows",
        "SkipLayerGuidanceDiT": "nodes_slg",
        "SkipLayerGuidanceDiTSimple": "nodes_slg",
        "PerturbedAttentionGuidance": "nodes_pag",
        "SelfAttentionGuidance": "nodes_sag",
        "HyperTile": "nodes_hypertile",
        "TomePatchModel": "nodes_tomesd",
        "PatchModelAddDownscale": "nodes_model_downscale",
        "DifferentialDiffusion": "nodes_differential_diffusion",
        "NAGuidance": "nodes_nag",
        "ScaleROPE": "nodes_rope",
        "VideoLinearCFGGuidance": "nodes_video_model",
        "VideoTriangleCFGGuidance": "nodes_video_model",
        "PerpNeg": "nodes_perpneg",
        "UNetSelfAttentionMultiply": "nodes_attention_multiply",
        "UNetCrossAttentionMultiply": "nodes_attention_multiply",
        "TorchCompileModel": "nodes_torch_compile",
        "ModelMergeSimple": "nodes_model_merging",
        "ModelMergeBlocks": "nodes_model_merging",
        "ModelMergeAdd": "nodes_model_merging",
        "ModelMergeSubtract": "nodes_model_merging",
        "LoraLoaderModelOnly": "",
        "NagLikeNode": "",
        "NagUsedNode": "",
    },
    "positive": {
        "ConditioningSetTimestepRange": "",
        "ConditioningSetMask": "",
        "ConditioningSetArea": "",
        "ConditioningCombine": "",
        "ConditioningConcat": "",
        "ConditioningAverage": "",
        "ConditioningZeroOut": "",
        "FluxGuidance": "nodes_flux",
        "HookedConditioning": "",
    },
    "guider": {
        "BasicGuider": "nodes_custom_sampler",
        "CFGGuider": "nodes_custom_sampler",
        "DualCFGGuider": "nodes_custom_sampler",
        "DualModelGuider": "nodes_custom_sampler",
        "PerpNegGuider": "nodes_perpneg",
    },
    "sampler": {
        "KSamplerSelect": "nodes_custom_sampler",
        "SamplerDPMPP_3M_SDE": "nodes_custom_sampler",
        "SamplerDPMPP_2M_SDE": "nodes_custom_sampler",
        "SamplerDPMPP_SDE": "nodes_custom_sampler",
        "SamplerDPMPP_2S_Ancestral": "nodes_custom_sampler",
        "SamplerEulerAncestral": "nodes_custom_sampler",
        "SamplerEulerAncestralCFGPP": "nodes_custom_sampler",
        "SamplerLMS": "nodes_custom_sampler",
        "SamplerDPMAdaptative": "nodes_custom_sampler",
        "SamplerER_SDE": "nodes_custom_sampler",
        "SamplerSASolver": "nodes_custom_sampler",
        "SamplerSEEDS2": "nodes_custom_sampler",
        "SamplerLCM": "nodes_advanced_samplers",
        "SamplerLCMUpscale": "nodes_advanced_samplers",
        "SamplerEulerCFGpp": "nodes_advanced_samplers",
    },
    "noise": {"RandomNoise": "nodes_custom_sampler"},
    "sigmas": {
        "BasicScheduler": "nodes_custom_sampler",
        "BetaSamplingScheduler": "nodes_custom_sampler",
        "LTXVScheduler": "nodes_lt",
    },
}

#: Values of widgets whose default means nothing here, or says that the node does nothing.
_VALUES: dict[tuple[str, str], Any] = {
    ("APG", "momentum"): 0.5,
    ("SkipLayerGuidanceDiTSimple", "double_layers"): "0",
    ("LoraLoaderModelOnly", "lora_name"): "lora_1.safetensors",
    ("ModelSamplingFlux", "width"): 512,
    ("SamplerER_SDE", "solver_type"): "Reverse-time SDE",
}
#: Another value of a widget, where the next one means the same.
_OTHERS: dict[tuple[str, str], Any] = {("HyperTile", "tile_size"): 512, ("BasicScheduler", "denoise"): 0.5}
#: Widgets that change nothing here, and why.
NO_EFFECT = {
    ("ModelSamplingLTXV", "base_shift"): "without a latent the shift is max_shift",
    ("LTXVScheduler", "base_shift"): "without a latent the shift is max_shift",
    ("ModelMergeBlocks", "middle"): "the model has no such blocks",
    ("ModelMergeBlocks", "out"): "the model has no such blocks",
}


def comfyui(base: Path) -> None:
    """ComfyUI in this process, on the CPU; it is on Python's path."""
    sys.argv = ["main.py", "--cpu", "--base-directory", str(base)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args
    import torch

    torch.set_grad_enabled(False)
    torch.set_num_threads(1)


class Inputs:
    """What the sockets of nodes get."""

    def __init__(self, package: str, models: Path) -> None:
        import torch

        files = importlib.import_module(f"{package}.infinitetalk.host.files")
        stored = importlib.import_module(f"{package}.infinitetalk.model.conditioning_file")

        def file(kind: str, name: str) -> Path:
            return models / kind / f"longtalk_tiny_ltx{name}.safetensors"

        def model() -> Any:
            return files.load_diffusion_model(file("diffusion_models", ""), torch.float32)

        self.package = package
        self.model, self.other = model(), model()
        self.positive, self.negative = (
            stored.load(file("conditioning", name))[0] for name in ("_positive", "_negative")
        )
        self.vae = files.load_vae(file("vae", "_video_vae"), torch.float32)
        self.audio_vae = files.load_audio_vae(file("checkpoints", "_audio"), torch.float32)
        generator = torch.Generator().manual_seed(1)
        self.image = torch.rand((1, 64, 96, 3), generator=generator)
        self.audio = {"waveform": torch.rand((1, 1, 8000), generator=generator) - 0.5, "sample_rate": 16000}
        self.mask = torch.rand((1, 8, 8), generator=generator)
        with torch.no_grad():
            for weight in self.other.model.parameters():
                weight.mul_(1.5)

    def of(self, kind: str, name: str) -> Any:
        """For a socket, by its kind and name."""
        if kind == "MODEL":
            return self.other if name.endswith("2") or name == "model_negative" else self.model
        if kind == "CONDITIONING":
            return self.negative if "neg" in name or name.endswith(("2", "from")) else self.positive
        return {"MASK": self.mask, "IMAGE": self.image}[kind]

    def name(self, **changes: Any) -> str:
        """The name of a run with other inputs than usual."""
        import comfy.samplers

        def ours(module: str) -> Any:
            return importlib.import_module(f"{self.package}.{module}")

        run = ours("infinitetalk.host.ltx.run")
        windows = ours("infinitetalk.plan.ltx_windows")
        track = ours("audio.tracks").track_from_audio(self.audio)
        model, positive = changes.pop("model", self.model), changes.pop("positive", self.positive)
        guider = changes.pop("guider", None)
        if guider is None:
            guider = comfy.samplers.CFGGuider(model)
            guider.set_conds(positive, self.negative)
            guider.set_cfg(3.0)
        import torch

        fields = {
            "plan": windows.plan_ltx(run.frames_of(track, 25), windows.geometry(33 / 25, 17 / 25, 25), 0),
            "guider": guider,
            "vae": self.vae,
            "audio_vae": self.audio_vae,
            "image": self.image,
            "track": track,
            "width": 96,
            "height": 64,
            "noise": ours("infinitetalk.host.noise").SeedNoise(3),
            "sampler": comfy.samplers.sampler_object("euler"),
            "sigmas": torch.tensor([1.0, 0.5, 0.0]),
            "options": run.LtxOptions(image_strength=1.0),
        }
        parts = run.LtxRun(**{**fields, **changes}).parts()
        return str(ours("infinitetalk.host.identity").identity_of(parts))


def called(node: Any, inputs: dict[str, Any]) -> Any:
    """The first output of a node of either of ComfyUI's kinds."""
    if hasattr(node, "define_schema"):
        made = node.execute(**inputs)
        return made.result[0] if hasattr(made, "result") else made[0]
    return getattr(node(), node.FUNCTION)(**inputs)[0]


def other_value(kind: Any, options: dict[str, Any], value: Any) -> Any:
    """Another value that a widget can have."""
    if isinstance(kind, list) or kind == "COMBO":
        choices = kind if isinstance(kind, list) else options["options"]
        return next((choice for choice in choices if choice != value), value)
    if kind == "BOOLEAN":
        return not value
    if kind in ("INT", "FLOAT"):
        step = options.get("step") or (1 if kind == "INT" else 0.01)
        return value + step if value + step <= options.get("max", value + step) else value - step
    return f"{value}, 1" if value else "1"


def names_behind(node_id: str, node: Any, gives: str, inputs: Inputs) -> dict[str, str]:
    """The name with a node's defaults, and by the name of each widget the one with another value of it."""
    schema = node.INPUT_TYPES()
    usual, widgets = {}, {}
    for name, entry in {**schema.get("required", {}), **schema.get("optional", {})}.items():
        kind, options = entry[0], (entry[1] if len(entry) > 1 else {})
        if isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "BOOLEAN", "STRING"):
            widgets[name] = kind, options
            choices = kind if isinstance(kind, list) else options.get("options") or [""]
            usual[name] = _VALUES.get((node_id, name), options.get("default", choices[0]))
        elif kind in ("MODEL", "CONDITIONING", "MASK", "IMAGE"):
            usual[name] = inputs.of(kind, name)
    settings = {"": usual}
    for name, widget in widgets.items():
        other = _OTHERS.get((node_id, name), other_value(*widget, usual[name]))
        settings[name] = {**usual, name: other}
    found = {}
    for name, values in settings.items():
        if name and values[name] == usual[name]:
            continue  # a widget with one choice
        found[name] = inputs.name(**{gives: called(node, values)})
    return found


def write_loras(folder: Path) -> None:
    """Two LoRAs on one matrix."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    key = "diffusion_model.transformer_blocks.0.attn1.to_q"
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        shapes = {"lora_A": (2, 64), "lora_B": (64, 2)}
        weights = {f"{key}.{name}.weight": torch.rand(shape, generator=generator) for name, shape in shapes.items()}
        save_file(weights, folder / f"lora_{seed}.safetensors")


async def load(comfy_root: Path, pack: Path, chosen: set[str]) -> str:
    """The nodes, by ComfyUI's loader; returns the name of our package."""
    import nodes

    files = {file for kind in NODES.values() for node, file in kind.items() if node in chosen and file}
    for file in sorted(files):
        assert await nodes.load_custom_node(
            str(comfy_root / "comfy_extras" / f"{file}.py"), module_parent="comfy_extras"
        )
    for each in sorted(pack.parent.iterdir()):
        assert await nodes.load_custom_node(str(each)), each
    return str(pack).replace(".", "_x_")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("comfyui", "pack", "models", "base"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--nodes", default="")
    asked = parser.parse_args()
    chosen = set(asked.nodes.split(",")) if asked.nodes else {node for kind in NODES.values() for node in kind}
    comfyui(asked.base)
    write_loras(asked.base / "models" / "loras")
    package = asyncio.run(load(asked.comfyui, asked.pack, chosen))
    import nodes

    inputs = Inputs(package, asked.models)
    found: dict[str, Any] = {}
    for gives, kind in NODES.items():
        for node_id in kind:
            if node_id not in chosen:
                continue
            try:
                found[node_id] = names_behind(node_id, nodes.NODE_CLASS_MAPPINGS[node_id], gives, inputs)
            except Exception as error:  # told by the test, for every node at once
                found[node_id] = {"error": repr(error)}
    sys.__stdout__.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
