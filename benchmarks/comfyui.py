"""ComfyUI in this process, for benchmarks: on the GPU where there is one, otherwise on the CPU.

scripts/start.py has put it on the path.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def start(*, dynamic_vram: bool = False) -> Path:
    """Import ComfyUI with an output folder of its own, which is returned.

    Args:
        dynamic_vram: switch ComfyUI's dynamic VRAM on, as its server does by default on NVIDIA GPUs.
    """
    import torch

    base = Path(tempfile.mkdtemp(prefix="longtalk_benchmark_"))
    for name in ("input", "output", "temp", "user", "models", "custom_nodes"):
        (base / name).mkdir()
    argv = sys.argv
    sys.argv = ["main.py", "--base-directory", str(base), *([] if torch.cuda.is_available() else ["--cpu"])]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args

    sys.argv = argv
    if dynamic_vram:
        _dynamic_vram()
    import comfy.sd
    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False
    torch.set_grad_enabled(False)
    return base / "output"


def _dynamic_vram() -> None:
    """What the server's main.py does, with the protocol of comfy-aimdo 0.4.10 and newer."""
    import comfy_aimdo.control

    started = comfy_aimdo.control.init()
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher

    devices = [(device.index, 0) for device in comfy.model_management.get_all_torch_devices()]
    if started is False or not comfy_aimdo.control.init_devices(devices):
        raise SystemExit("error: dynamic VRAM cannot be switched on here")
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
