"""WAN 2.1 image-to-video, InfiniteTalk, the VAE and wav2vec2 through ComfyUI's own classes, with seeded random weights.

Speed and memory are those of the real files: kernels do not know what the numbers mean. Nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import tiny_networks
import torch


@dataclass(frozen=True)
class Size:
    """Of the models: ``full`` is WAN 2.1 14B, ``tiny`` runs on a CPU."""

    width: int
    ffn: int
    layers: int
    vae_width: int
    dtype: torch.dtype


SIZES = {
    "full": Size(5120, 13824, 40, 96, torch.float16),
    "tiny": Size(640, 1280, 2, 16, torch.float32),
}


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def random_weights(model: torch.nn.Module, dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    """Weights for a model on the meta device: norms of one, biases of zero, matrices that keep signals alive."""
    generator = torch.Generator(device()).manual_seed(seed)
    out = {}
    for name, shape_of in model.state_dict().items():
        weight = torch.empty(shape_of.shape, dtype=dtype, device=device())
        is_norm = "norm" in name or name.endswith("gamma")
        if name.endswith("bias"):
            weight.zero_()
        elif is_norm:
            weight.fill_(1.0)
        else:
            inputs = weight[0].numel() if weight.ndim > 1 else 1
            weight.normal_(0.0, min(0.02, max(inputs, 1) ** -0.5), generator=generator)
        out[name] = weight
    return out


def diffusion_weights(size: Size) -> dict[str, torch.Tensor]:
    """State dict of the diffusion model."""
    with torch.device("meta"):
        net = tiny_networks.wan_i2v(size.layers, width=size.width, ffn=size.ffn, device="meta", dtype=size.dtype)
    return random_weights(net, size.dtype, 1)


def load_diffusion(weights: dict[str, torch.Tensor], **options: Any) -> Any:
    """A MODEL of these weights, as Load Diffusion Model makes it with these model options. Empties the dict."""
    import comfy.sd

    model = comfy.sd.load_diffusion_model_state_dict(weights, model_options=options)
    if model is None:
        raise SystemExit("error: ComfyUI does not know its own WAN model by these weights")
    return model


def patch_weights(size: Size) -> dict[str, torch.Tensor]:
    """State dict of an InfiniteTalk file."""
    from longtalk.infinitetalk.model.audio_attention import InfiniteTalkModel

    with torch.device("meta"):
        net = InfiniteTalkModel(size.width, size.layers, device="meta", dtype=size.dtype)
    return random_weights(net, size.dtype, 2)


def load_patch(size: Size) -> Any:
    """A MODEL_PATCH as core's loader makes it, in the size's own dtype, so that all contenders can share it."""
    import comfy.model_management as manager
    import comfy.model_patcher
    import comfy.ops

    offload = manager.unet_offload_device()
    net = tiny_networks.infinitetalk(
        size.layers, width=size.width, device=offload, dtype=size.dtype, operations=comfy.ops.manual_cast
    )
    patcher = comfy.model_patcher.CoreModelPatcher(net, load_device=manager.get_torch_device(), offload_device=offload)
    net.load_state_dict(patch_weights(size), assign=patcher.is_dynamic())
    return patcher


def vae_weights(size: Size) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        net = tiny_networks.wan_vae(size.vae_width)
    return random_weights(net, torch.float32 if size.dtype == torch.float32 else torch.bfloat16, 3)


def audio_encoder_weights() -> dict[str, torch.Tensor]:
    """wav2vec2-base, the only size that InfiniteTalk takes."""
    import comfy.ops

    half = torch.float16 if device() == "cuda" else torch.float32
    with torch.device("meta"):
        net = tiny_networks.wav2vec2_base(dtype=half, device="meta", operations=comfy.ops.manual_cast)
    return random_weights(net, half, 4)


def everything(
    size: Size,
    model: Any = None,
    patch: Any = None,
    vae: dict[str, torch.Tensor] | None = None,
    audio_encoder: dict[str, torch.Tensor] | None = None,
) -> SimpleNamespace:
    """All inputs of a sampler but sound and picture; what is not given is made."""
    import comfy.audio_encoders.audio_encoders
    import comfy.clip_vision
    import comfy.sd

    generator = torch.Generator().manual_seed(5)
    vision = comfy.clip_vision.Output()
    vision["penultimate_hidden_states"] = torch.randn(1, 257, 1280, generator=generator) * 0.1
    return SimpleNamespace(
        model=model or load_diffusion(diffusion_weights(size)),
        patch=patch or load_patch(size),
        vae=comfy.sd.VAE(sd=vae or vae_weights(size)),
        audio_encoder=comfy.audio_encoders.audio_encoders.load_audio_encoder_from_sd(
            audio_encoder or audio_encoder_weights()
        ),
        positive=[[torch.randn(1, 512, 4096, generator=generator) * 0.1, {}]],
        negative=[[torch.randn(1, 512, 4096, generator=generator) * 0.1, {}]],
        vision=vision,
    )


def speech(seconds: float, seed: int = 0) -> dict[str, Any]:
    """A voiced buzz under syllables, as ComfyUI's AUDIO at 16 kHz."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * 16000)) / 16000
    buzz = sum(torch.sin(2 * torch.pi * (120 + 17 * seed) * k * time) / k for k in range(1, 8))
    wave = 0.2 * buzz * torch.sin(2 * torch.pi * 3.1 * time).clamp(min=0)
    wave = wave + torch.randn(time.shape, generator=generator) * 0.01
    return {"waveform": wave.clamp(-1, 1)[None, None], "sample_rate": 16000}


def portrait(width: int, height: int) -> torch.Tensor:
    """A smooth picture ``[1, H, W, 3]``."""
    generator = torch.Generator().manual_seed(7)
    small = torch.rand(1, 3, 8, 12, generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1).movedim(1, -1)


def halves(width: int, height: int) -> list[torch.Tensor]:
    """Masks of two speakers side by side, each ``[1, H, W]``."""
    left, right = torch.zeros(1, height, width), torch.zeros(1, height, width)
    left[:, :, : width * 3 // 8] = 1.0
    right[:, :, width * 5 // 8 :] = 1.0
    return [left, right]
