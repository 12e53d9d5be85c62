"""A custom node pack of test nodes, as ComfyUI loads it: a loop as loop packs make it, and some for looking on.

The loop is a node expansion: when its body has run, the closing node looks at ``stop``, and unless it is set puts a
copy of every node between the two ends into the graph, beginning with what this pass made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import torch
from comfy.patcher_extension import WrappersMP
from comfy_execution.graph_utils import GraphBuilder, is_link
from safetensors.torch import save_file
from torchvision.transforms import functional as vision

CARRIED = ("whole", "earlier")


class LoopOpen:
    """Where a pass begins: its number and what it goes on from."""

    CATEGORY, FUNCTION = "test", "begin"
    RETURN_TYPES = ("FLOW_CONTROL", "INT", "LATENT", "LATENT")
    RETURN_NAMES = ("flow", "iteration", *CARRIED)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"iteration": ("INT", {}), **dict.fromkeys(CARRIED, ("LATENT",))}}

    def begin(self, iteration: int, whole: Any, earlier: Any) -> tuple[Any, ...]:
        return None, iteration, whole, earlier


class LoopClose:
    """Where a pass ends: another one, or the end. `once_more` passes are made after the one that said stop."""

    CATEGORY, FUNCTION = "test", "end"
    RETURN_TYPES = ("LATENT", "LATENT")
    RETURN_NAMES = CARRIED

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "flow": ("FLOW_CONTROL", {"rawLink": True}),
                "stop": ("BOOLEAN", {"forceInput": True}),
                "once_more": ("INT", {}),
                **dict.fromkeys(CARRIED, ("LATENT",)),
            },
            "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"},
        }

    def end(self, flow: Any, stop: bool, once_more: int, dynprompt: Any, unique_id: str, **carried: Any) -> Any:
        if stop and not once_more:
            return tuple(carried[name] for name in CARRIED)
        begin = flow[0]
        body = self._between(begin, unique_id, dynprompt)
        # The copies of this node are named alike, or names would grow with every pass.
        names = {node: "Again" if node == unique_id else node for node in body}
        graph = GraphBuilder()
        for node, name in names.items():
            graph.node(dynprompt.get_node(node)["class_type"], name).set_override_display_id(node)
        for node, name in names.items():
            for key, value in dynprompt.get_node(node)["inputs"].items():
                inside = is_link(value) and value[0] in body
                given = graph.lookup_node(names[value[0]]).out(value[1]) if inside else value
                graph.lookup_node(name).set_input(key, given)
        first, last = graph.lookup_node(names[begin]), graph.lookup_node("Again")
        first.set_input("iteration", dynprompt.get_node(begin)["inputs"]["iteration"] + 1)
        for name in CARRIED:
            first.set_input(name, carried[name])
        last.set_input("once_more", once_more - int(stop))
        return {"result": tuple(last.out(index) for index in range(len(CARRIED))), "expand": graph.finalize()}

    @staticmethod
    def _between(begin: str, end: str, dynprompt: Any) -> set[str]:
        """Every node on a way from `begin` to `end`, both included."""
        found: dict[str, bool] = {begin: True}

        def leads_back(node: str) -> bool:
            if node not in found:
                found[node] = False
                for value in dynprompt.get_node(node)["inputs"].values():
                    if is_link(value) and leads_back(value[0]):
                        found[node] = True
            return found[node]

        leads_back(end)
        return {node for node, inside in found.items() if inside}


class StaleMask:
    """The mistake that a loop can make: the noise mask of an earlier pass stays with what the next one samples."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "keep", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"latent": ("LATENT",), "earlier": ("LATENT",)}}

    def keep(self, latent: Any, earlier: Any) -> tuple[Any]:
        if "noise_mask" not in earlier:
            return (latent,)
        return ({**latent, "noise_mask": earlier["noise_mask"][:, :, : latent["samples"].shape[2]]},)


class Resize:
    """A picture scaled over all pixels that one of the result covers, which no node of ComfyUI does bilinearly."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "resize", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",), "width": ("INT", {}), "height": ("INT", {})}}

    def resize(self, image: torch.Tensor, width: int, height: int) -> tuple[torch.Tensor]:
        return (vision.resize(image.movedim(-1, 1), [height, width], antialias=True).movedim(1, -1),)


class RecordSampling:
    """A model that writes the video latents of each sampling to ``output/<name>/<seed>.safetensors``."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "record", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("MODEL",), "name": ("STRING", {})}}

    def record(self, model: Any, name: str) -> tuple[Any]:
        folder = Path(folder_paths.get_output_directory()) / name
        folder.mkdir(exist_ok=True)
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "record", recorder(folder))
        return (model,)


def recorder(folder: Path) -> Any:
    def outer_sample(executor: Any, *args: Any, latent_shapes: Any, **kwargs: Any) -> Any:
        made = executor(*args, latent_shapes=latent_shapes, **kwargs)
        video: torch.Tensor = comfy.utils.unpack_latents(made, latent_shapes)[0]
        seed = args[7]  # noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed
        save_file({"video": video.float().cpu().contiguous()}, folder / f"{seed}.safetensors")
        return made

    return outer_sample


NODE_CLASS_MAPPINGS = {
    "TestLoopOpen": LoopOpen,
    "TestLoopClose": LoopClose,
    "TestStaleMask": StaleMask,
    "TestResize": Resize,
    "TestRecordSampling": RecordSampling,
}
