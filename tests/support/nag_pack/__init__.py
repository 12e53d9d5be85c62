"""A custom node pack, built as KJNodes' NAG nodes are (LTX2_NAG, WanVideoNAG)."""

from __future__ import annotations

import types
from typing import Any

import comfy.hooks
import comfy.samplers
import torch


class CrossAttentionPatch:
    """As LTXVCrossAttentionPatch of KJNodes: a closure that is bound to a module."""

    def __init__(self, scale: float, context: torch.Tensor) -> None:
        self.scale = scale
        self.context = context

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        def wrapped_attention(self_module: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            self_module.nag_scale = self.scale
            self_module.nag_context = self.context
            return type(self_module).forward(self_module, x, *args, **kwargs) * (1 + self_module.nag_scale / 100)

        return types.MethodType(wrapped_attention, obj)


class NagLikeNode:
    """A closure bound to modules, as an object patch."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> Any:  # noqa: N802
        scale = ("FLOAT", {"default": 11.0, "min": 0.0, "max": 100.0, "step": 1.0})
        return {"required": {"model": ("MODEL",), "conditioning": ("CONDITIONING",), "scale": scale}}

    def patch(self, model: Any, conditioning: Any, scale: float) -> Any:
        clone = model.clone()
        blocks = clone.get_model_object("diffusion_model").transformer_blocks
        for index, block in enumerate(blocks):
            patch = CrossAttentionPatch(scale, conditioning[0][0]).__get__(block.attn2, type(block))
            clone.add_object_patch(f"diffusion_model.transformer_blocks.{index}.attn2.forward", patch)
        return (clone,)


class NagUsedNode(NagLikeNode):
    """The same, on modules that another sampler has run with a scale of 5 before."""

    def patch(self, model: Any, conditioning: Any, scale: float) -> Any:
        for block in model.get_model_object("diffusion_model").transformer_blocks:
            block.attn2.nag_scale, block.attn2.nag_context = 5.0, torch.rand(3)
        return super().patch(model, conditioning, scale)


class HookedConditioning:
    """Create Hook LoRA, Set CLIP Hooks and keyframes in one: a LoRA on one matrix, for one prompt."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "hook"

    @classmethod
    def INPUT_TYPES(cls) -> Any:  # noqa: N802
        def number(value: float) -> Any:
            return "FLOAT", {"default": value, "min": 0.0, "max": 2.0, "step": 0.1}

        numbers = {"strength_model": 1.0, "strength_clip": 1.0, "keyframe": 0.5, "start_percent": 0.2}
        steps = ("INT", {"default": 1, "min": 0, "max": 100})
        widgets = {name: number(value) for name, value in numbers.items()}
        return {"required": {"conditioning": ("CONDITIONING",), **widgets, "guarantee_steps": steps}}

    def hook(
        self,
        conditioning: Any,
        strength_model: float,
        strength_clip: float,
        keyframe: float,
        start_percent: float,
        guarantee_steps: int,
    ) -> Any:
        generator = torch.Generator().manual_seed(1)
        key = "diffusion_model.transformer_blocks.0.attn1.to_q"
        lora = {f"{key}.lora_up.weight": torch.rand(8, 2, generator=generator)}
        hooks = comfy.hooks.create_hook_lora(lora, strength_model, strength_clip)
        keyframes = comfy.hooks.HookKeyframeGroup()
        keyframes.add(comfy.hooks.HookKeyframe(1.0))
        keyframes.add(comfy.hooks.HookKeyframe(keyframe, start_percent, guarantee_steps))
        hooks.set_keyframes_on_hooks(keyframes)
        for hook in hooks.hooks:  # what a sampling leaves on it
            hook.hook_keyframe.keyframes[0].start_t = id(hook) / 7
            hook.hook_keyframe._curr_t = id(hook) / 9
        return (comfy.hooks.set_hooks_for_conditioning(conditioning, hooks),)


NODE_CLASS_MAPPINGS = {
    "NagLikeNode": NagLikeNode,
    "NagUsedNode": NagUsedNode,
    "HookedConditioning": HookedConditioning,
}
