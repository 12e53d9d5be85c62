"""Before the first step: will the run fit into the GPU, the machine and the disk, and how long will it take?

Only what cannot work is refused, with numbers and with what would fit. What may work is left to try.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import torch

from ...base.codecs import CODEC_SIZES
from ...base.errors import DiskError, TooBigError
from ...base.grid import WAN_GRID, LatentGrid
from ..plan import estimate
from ..plan.estimate import Estimate, Transformer, size_text
from ..plan.windows import Plan
from ..run.video.formats import VideoFormat

log = logging.getLogger(__name__)

# How far ComfyUI's estimate for one forward may be above what is needed at the very least. For the 14B model it is
# 0.01 * 2 * 5120 / 2222 MiB per latent pixel: 18.9 numbers of 2 bytes per token and channel. On an H200 (torch 2.11,
# ComfyUI 0.33, fp16 and bf16, 832x480 and 1280x720) a forward's peak is 10.2 of them, 1.86 times less; the 1.3B model's
# is 1.17 times less. The feed-forward alone needs 8.4: the residual, the normalised and the modulated input, and its
# hidden layer before and after GELU (3 + 2 * 13824 / 5120), 2.25 times less. 2.5 leaves something for kernels to come;
# what does not fit even then would fail in the first step. Weights are not in it, ComfyUI offloads them. The audio
# attention of two speakers holds 11.1 of those numbers (queries are turned in float32), that of four 11.2, besides the
# residual and the normalised input: below ComfyUI's figure too.
_ABOVE_LEAST = 2.5
# ComfyUI's two formulas per latent pixel, in MiB (comfy.model_base.BaseModel.memory_required): with an attention that
# does not store scores, per byte of the type; and any other. The second counts scores that sub-quadratic and split
# attention cut to the memory there is, so it says nothing about what will not fit.
_FUSED_MIB_PER_BYTE = 0.01
_OTHER_MIB = 0.15

# Beyond it a face falls into blocks; not worth advising.
_WORST_CRF = 35

_PROBE_SIDES = (256, 512, 1024, 2048, 4096)
_PROBE_S = 0.03
_PROBE_TRIES = 5
_PROBE_TYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class _Shrink:
    """Shorter windows or a smaller size for which something fits, in words."""

    plan: Plan
    size: tuple[int, int]
    grid: LatentGrid
    window_setting: str

    def __call__(self, fits: Callable[[int, int, int], bool]) -> str:
        frames = estimate.longest(self.plan).length
        ways = []
        window = estimate.largest_window(
            frames, self.plan.motion_frames, lambda count: fits(count, *self.size), self.grid.step
        )
        if window is not None:
            in_frames = self.window_setting == "window_frames"
            ways.append(f"{self.window_setting} {window if in_frames else f'{window / self.plan.fps:.2f}'} or fewer")
        smaller = estimate.largest_size(*self.size, lambda w, h: fits(frames, w, h), self.grid.side)
        if smaller is not None:
            ways.append(f"a size of {smaller[0]}x{smaller[1]} or smaller")
        return f"Use {' or '.join(ways)}" if ways else "Use a much smaller size and shorter windows"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a run asks of the machine.

    Attributes:
        plan: the windows.
        width, height: of the video, multiples of the grid's side.
        steps: denoising steps of each window.
        forwards: of the model per step, 1 to 3.
        model: ModelPatcher of a model that the family has checked.
        video: codec and quality.
        speakers: whose features are kept; several take longer than one.
        return_images: whether all frames are collected in memory.
        vae: the VAE, to know its width; by default the published one's.
        grid: of the family's latents.
        window_setting: the widget that makes windows shorter.
    """

    plan: Plan
    width: int
    height: int
    steps: int
    forwards: int
    model: Any
    video: VideoFormat
    speakers: int
    return_images: bool
    vae: Any = None
    grid: LatentGrid = WAN_GRID
    window_setting: str = "window_frames"

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def shrink(self) -> _Shrink:
        return _Shrink(self.plan, self.size, self.grid, self.window_setting)


def preflight(demand: Demand, made: int, folder: Path, window_s: float | None) -> Estimate:
    """Estimate the rest of a run, and refuse it when it cannot fit.

    Args:
        demand: of the whole run.
        made: how many of its windows are finished.
        folder: where the run is written; need not exist.
        window_s: seconds per window as this run's finished ones took; then nothing is computed for the time.

    Raises:
        LongTalkError: one forward does not fit into the whole GPU; the frames of one window, the features and the
            images do not fit into the machine's memory; the video does not fit on the disk.
    """
    gpu_bytes = _check_gpu(demand)
    host_bytes = _check_host(demand)
    disk_bytes = _check_disk(demand, made, folder)
    windows = len(demand.plan.windows) - made
    return Estimate(
        windows=windows,
        windows_total=len(demand.plan.windows),
        gpu_bytes=gpu_bytes,
        host_bytes=host_bytes,
        disk_bytes=disk_bytes,
        seconds=windows * window_s if window_s is not None else _computed_s(demand, made),
        measured=window_s is not None,
    )


def forward_bytes(model: Any, frames: int, width: int, height: int, grid: LatentGrid = WAN_GRID) -> int:
    """ComfyUI's estimate of GPU memory for the activations of one forward, batch 1.

    This is the minimum that comfy.sampler_helpers.estimate_memory asks for. Where ComfyUI counts with its formula for
    attention that stores scores, the figure is brought down to the other formula's, see above.
    """
    needed = float(model.model.memory_required(grid.sampled_shape(frames, width, height)))
    manager = comfy.model_management
    if not (manager.xformers_enabled() or manager.pytorch_attention_flash_attention()):
        needed *= _FUSED_MIB_PER_BYTE * manager.dtype_size(model.model.get_dtype_inference()) / _OTHER_MIB
    return round(needed)


def _check_gpu(demand: Demand) -> int | None:
    """Bytes for one forward of the longest window; None where that means nothing or cannot be known."""
    size, model, grid = demand.size, demand.model, demand.grid
    device = model.load_device
    # DirectML does not say how much there is; ComfyUI then counts with 1 GB.
    if comfy.model_management.is_device_cpu(device) or comfy.model_management.directml_enabled:
        return None
    frames = estimate.longest(demand.plan).length
    try:
        needed = forward_bytes(model, frames, *size, grid)
        total = int(comfy.model_management.get_total_memory(device))
    except Exception as error:  # a wrapper that has not what a ModelPatcher has: the run itself will show
        log.info("GPU memory cannot be estimated: %s: %s", type(error).__name__, error)
        return None
    least = needed / _ABOVE_LEAST
    if least > total:
        # Advice with ComfyUI's own figure, so that following it leaves room.
        raise TooBigError(
            "GPU memory",
            expected=f"a forward of the model that fits into the {size_text(total)} of the GPU ({device})",
            actual=f"{frames} frames of {size[0]}x{size[1]}, which take at least {size_text(least)} "
            f"(ComfyUI reserves {size_text(needed)}), even with all of the model offloaded",
            action=demand.shrink(lambda count, w, h: forward_bytes(model, count, w, h, grid) <= total),
        )
    return needed


def _check_host(demand: Demand) -> int:
    plan, size, speakers, return_images = demand.plan, demand.size, demand.speakers, demand.return_images
    cpu = torch.device("cpu")
    total = int(comfy.model_management.get_total_memory(cpu))
    needed = estimate.host_bytes(plan, *size, speakers, return_images)
    if needed <= total:
        free = int(comfy.model_management.get_free_memory(cpu))
        if needed > free:
            log.warning(
                "the run needs about %s of memory besides the models, %s are free now; other programs or models may "
                "have to make room",
                size_text(needed),
                size_text(free),
            )
        return needed
    without = estimate.host_bytes(plan, *size, speakers, False)
    if return_images and without <= total:
        action = f"Turn return_images off and use the video: {size_text(without)} are enough then"
    else:
        features = estimate.features_bytes(plan.requested_frames, speakers)

        def fits(frames: int, width: int, height: int) -> bool:
            return features + estimate.window_host_bytes(frames, width, height) <= total

        action = demand.shrink(fits)
        if return_images:
            action = f"Turn return_images off. {action}"
    raise TooBigError(
        "memory of this machine",
        expected=f"a run that fits into its {size_text(total)}",
        actual=f"{estimate.longest(plan).length} frames of {size[0]}x{size[1]} per window"
        + (f" and {plan.frames} as images" if return_images else "")
        + f", which take {size_text(needed)} besides the models",
        action=action,
    )


def _check_disk(demand: Demand, made: int, folder: Path) -> int:
    video = demand.video

    def written(made: int, codec: str, crf: int) -> int:
        return estimate.disk_bytes(demand.plan, made, *demand.size, codec, crf, demand.grid)

    needed = written(made, video.codec, video.crf)
    place = _existing(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:  # a network drive that does not say
        log.info("the free space of %s cannot be found out: %s", place, error)
        return needed
    if needed <= free:
        return needed
    raise DiskError(
        f"disk of {place}",
        expected=f"{size_text(needed)} for the windows and the joined video",
        actual=f"{size_text(free)} free",
        action=_less_disk(written, video, made, needed - free, free),
    )


def _less_disk(written: Callable[[int, str, int], int], video: VideoFormat, made: int, more: int, free: int) -> str:
    """What to change so that it fits, in words; settings only where they are enough."""
    ways = []
    for codec in (name for name, size in CODEC_SIZES.items() if size.takes_crf):
        # Other settings are another run, which begins at its first window.
        below = video.crf if codec == video.codec else video.crf - 1
        fitting = (crf for crf in range(below + 1, _WORST_CRF + 1) if written(0, codec, crf) <= free)
        if (crf := next(fitting, None)) is not None:
            ways.append(f"codec {codec} with crf {crf} or more")
    anew = " (a new run)" if made else ""
    use = f"Use {' or '.join(ways)}{anew}, or free" if ways else "Free"
    return (
        f"{use} at least {size_text(more)}: delete old runs (runs delete), set finished_runs to 'video only' for the "
        "next ones, or start ComfyUI with another --output-directory"
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest of those above it that exists."""
    folder = folder.absolute()
    return next((place for place in (folder, *folder.parents) if place.exists()), folder)


def _computed_s(demand: Demand, made: int) -> float | None:
    """Seconds by counting operations; None when the model's sizes or the device's rate cannot be found out."""
    model = demand.model
    try:
        net = model.model.diffusion_model
        sizes = Transformer(int(net.dim), int(net.ffn_dim), int(net.num_layers))
        rate = matmul_flops_per_s(model.load_device, model.model.get_dtype_inference())
    except Exception as error:  # an odd wrapper, a type or a device without this product, no memory left for it
        log.info("the time cannot be estimated before the first window: %s: %s", type(error).__name__, error)
        return None
    return estimate.run_seconds(
        demand.plan,
        made,
        *demand.size,
        steps=demand.steps * demand.forwards,
        forwards=1,
        model=sizes,
        flops_per_s=rate,
        vae_width=int(getattr(getattr(demand.vae, "first_stage_model", None), "dim", estimate.VAE_WIDTH)),
        speakers=demand.speakers,
    )


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product, as large as takes a few hundredths of a second.

    Weights in other types (fp8) are multiplied in bfloat16, as ComfyUI casts them. Takes up to half a second, and
    100 MB in half precision.

    Raises:
        RuntimeError: the device cannot do it (out of memory, a type it has not).
    """
    dtype = dtype if dtype in _PROBE_TYPES else torch.bfloat16
    with torch.no_grad():
        for side in _PROBE_SIDES:
            left = torch.randn((side, side), device=device, dtype=dtype)
            right = torch.randn((side, side), device=device, dtype=dtype)
            # The quickest counts: the first one chooses a kernel, others are disturbed by what else runs.
            once_s = min(_product_s(left, right, 1) for _ in range(_PROBE_TRIES))
            if 8 * once_s > _PROBE_S:
                break
        repeats = max(1, int(_PROBE_S / once_s))
        batch_s = min(_product_s(left, right, repeats) for _ in range(_PROBE_TRIES))
    return 2.0 * side**3 * repeats / batch_s


def _product_s(left: torch.Tensor, right: torch.Tensor, repeats: int) -> float:
    _wait(left)
    began = time.perf_counter()
    for _ in range(repeats):
        product = left @ right
    _wait(product)
    return max(time.perf_counter() - began, 1e-9)


def _wait(result: torch.Tensor) -> None:
    """Return when the device has computed ``result``."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
    else:
        result[0, 0].item()
