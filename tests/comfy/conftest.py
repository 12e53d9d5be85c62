"""The real ComfyUI in this process, on the CPU, with the tiny models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny_networks
import torch


@pytest.fixture(scope="session")
def comfy(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """ComfyUI imported once, with a base folder of its own."""
    base = tmp_path_factory.mktemp("comfy_base")
    for name in ("input", "output", "temp", "user", "models", "custom_nodes"):
        (base / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(comfyui_path)
        with pytest.MonkeyPatch.context() as started:
            started.setattr("sys.argv", ["main.py", "--cpu", "--base-directory", str(base)])
            import comfy.options

            comfy.options.enable_args_parsing()
            import comfy.cli_args
        yield _ready(comfy, base)


def _ready(comfy: ModuleType, base: Path) -> ModuleType:
    """With everything that the tests take for granted."""
    import folder_paths

    assert folder_paths.base_path == str(base)
    import comfy.sd
    import comfy.utils

    torch.set_grad_enabled(False)
    # The tiny models are as fast on one thread, and many times faster on a machine that does something else too.
    torch.set_num_threads(1)
    return comfy


@pytest.fixture(autouse=True)
def output_folder(comfy: ModuleType, tmp_path: Path) -> Iterator[Path]:
    """An output folder for each test alone: a run goes on with what it finds there."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder = tmp_path / "output"
    folder.mkdir()
    folder_paths.set_output_directory(str(folder))
    yield folder
    folder_paths.set_output_directory(before)


@pytest.fixture(scope="session")
def tiny(comfy: ModuleType, tiny_models: Path) -> SimpleNamespace:
    """Loaders for the tiny files; each call loads afresh, in fp32."""
    from longtalk.infinitetalk.host import files
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    def path(name: str) -> Path:
        return next(tiny_models.glob(f"*/longtalk_tiny_{name}.safetensors"))

    def conditioning(name: str) -> Any:
        import comfy.clip_vision

        from longtalk.infinitetalk.model import conditioning_file

        entries, parts = conditioning_file.load(tiny_models / "conditioning" / f"longtalk_tiny_{name}.safetensors")
        vision = comfy.clip_vision.Output()
        for part in conditioning_file.CLIP_VISION_PARTS:
            value = parts.get(part)
            vision[part] = value.float() if isinstance(value, torch.Tensor) else value
        return [[text.float(), extra] for text, extra in entries], vision

    return SimpleNamespace(
        model=lambda: files.load_diffusion_model(path("wan_i2v"), torch.float32),
        vae=lambda: files.load_vae(path("wan_vae")),
        patch=lambda: load_patch(path("infinitetalk")),
        audio_encoder=lambda: files.load_audio_encoder(path("wav2vec2")),
        conditioning=conditioning,
    )


@pytest.fixture(scope="session")
def parts(tiny: SimpleNamespace) -> SimpleNamespace:
    """One of each tiny part, shared by the tests that do not change them."""
    positive, vision = tiny.conditioning("positive")
    negative, _ = tiny.conditioning("negative")
    return SimpleNamespace(
        model=tiny.model(),
        vae=tiny.vae(),
        patch=tiny.patch(),
        audio_encoder=tiny.audio_encoder(),
        positive=positive,
        negative=negative,
        vision=vision,
    )


@pytest.fixture(scope="session")
def core_patch(comfy: ModuleType, parts: SimpleNamespace) -> Any:
    """The tiny patch `parts.patch` in core's own module (its loader only takes 40 blocks)."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.ops

    weights = parts.patch.model.state_dict()
    intermediate = weights["audio_proj.proj1.weight"].shape[0]
    net = tiny_networks.infinitetalk(len(parts.patch.model.blocks), intermediate, operations=comfy.ops.manual_cast)
    net.load_state_dict(weights)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(net, load_device=device, offload_device=device)


@pytest.fixture(scope="session")
def ltx(comfy: ModuleType, tiny_models: Path) -> SimpleNamespace:
    """The tiny LTX-2.3 in fp32, shared by the tests: `model`, `vae`, `audio_vae`, `positive`, `negative`."""
    from longtalk.infinitetalk.host import files
    from longtalk.infinitetalk.model import conditioning_file

    def file(kind: str, name: str) -> Path:
        return tiny_models / kind / f"longtalk_tiny_ltx{name}.safetensors"

    model = files.load_diffusion_model(file("diffusion_models", ""), torch.float32)
    positive, negative = (conditioning_file.load(file("conditioning", name))[0] for name in ("_positive", "_negative"))
    return SimpleNamespace(
        model=model,
        vae=files.load_vae(file("vae", "_video_vae"), torch.float32),
        audio_vae=files.load_audio_vae(file("checkpoints", "_audio"), torch.float32),
        positive=positive,
        negative=negative,
    )


@pytest.fixture(scope="session")
def wan_14b(comfy: ModuleType) -> SimpleNamespace:
    """WAN 2.1 I2V 14B as ComfyUI builds it, in fp16, its weights on the meta device; as if on a GPU."""
    import comfy.supported_models

    sizes = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40, "in_dim": 36, "out_dim": 16}
    config = comfy.supported_models.WAN21_I2V({"image_model": "wan2.1", "model_type": "i2v", **sizes})
    config.set_inference_dtype(torch.float16, None)
    with torch.device("meta"):
        model = config.get_model({}, device="meta")
    return SimpleNamespace(model=model, load_device=torch.device("cuda", 0))


@pytest.fixture(scope="session")
def make_audio() -> Callable[..., dict[str, Any]]:
    """Speech-like sound as ComfyUI's AUDIO: a voiced buzz under a syllable envelope, seeded."""

    def make(seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        time = torch.arange(round(seconds * rate)) / rate
        buzz = sum(torch.sin(2 * torch.pi * (110 + 17 * seed) * k * time) / k for k in range(1, 12))
        syllables = torch.sin(2 * torch.pi * (3.1 + 0.3 * seed) * time).clamp(min=0)
        noise = torch.randn(time.shape, generator=generator) * 0.02
        wave = (0.2 * buzz * syllables + noise).clamp(-1, 1)
        return {"waveform": wave.expand(1, channels, -1).contiguous(), "sample_rate": rate}

    return make


@pytest.fixture(scope="session")
def portrait() -> torch.Tensor:
    """A seeded smooth picture ``[1, 64, 96, 3]``."""
    generator = torch.Generator().manual_seed(7)
    small = torch.rand((1, 3, 6, 8), generator=generator)
    return torch.nn.functional.interpolate(small, size=(64, 96), mode="bicubic").clamp(0, 1).movedim(1, -1)
