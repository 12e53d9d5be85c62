"""Write the compact weights file; scripts/tiny_talker.py reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from .hearing import Hearing
from .lowrank import LowRank


def _rows(matrix: torch.Tensor, kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers and one factor per row."""
    top = torch.iinfo(kind).max
    scale = (matrix.abs().amax(dim=1).clamp(min=1e-12) / top).float()
    return (matrix.double() / scale.double()[:, None]).round().clamp(-top, top).to(kind), scale


def _factors(left: torch.Tensor, right: torch.Tensor, kind: torch.dtype) -> dict[str, torch.Tensor]:
    """A product as whole numbers: the right factor's row scales go into the left one, whose rows keep theirs.

    The thin product's own axes come first (its singular value decomposition), so that none of them is large in one
    factor and cancelled in the other.
    """
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.double().T)
    u, s, v = torch.linalg.svd(r_left @ r_right.T)
    whole, scale = _rows((v @ q_right.T), kind)
    numbers, rows = _rows((q_left @ (u * s)) * scale.double(), torch.int16)
    return {"left": numbers, "scale": rows, "right": whole}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().half().contiguous().cpu()


def _collect(prefix: str, net: nn.Module, out: dict[str, torch.Tensor]) -> None:
    thin = {name: module for name, module in net.named_modules() if isinstance(module, LowRank)}
    for name, module in thin.items():
        for part, tensor in _factors(module.left.detach().cpu(), module.right.detach().cpu(), torch.int8).items():
            out[f"{prefix}{name}.weight.{part}"] = tensor
        if module.bias is not None:
            out[f"{prefix}{name}.bias"] = _plain(module.bias)
    for name, tensor in net.state_dict().items():
        if not any(name.startswith(f"{each}.") for each in thin):
            out[prefix + name] = _plain(tensor)


def collect(vae: dict[str, torch.Tensor], talker: Any, heard: Hearing) -> dict[str, torch.Tensor]:
    out = {f"vae.{name}": _plain(tensor) for name, tensor in vae.items()}
    _collect("wan.", talker.dit, out)
    _collect("patch.", talker.patch, out)
    hear = talker.hear
    frame = (heard.basis @ hear.frame.detach().T).T.double().cpu()  # [HEARD, 9216]
    offset = frame @ heard.mean.double().cpu()
    # Each row of the frame's map keeps to 16 bits; its size goes into the taps, so sums are of whole numbers.
    top = torch.iinfo(torch.int16).max
    sizes = frame.abs().amax(dim=1) / top
    out["patch.audio_proj.frame"] = (frame / sizes[:, None]).round().to(torch.int16)
    for name, weight, bias in (
        ("proj1", hear.first, hear.bias_first),
        ("proj1_vf", hear.later, hear.bias_later),
    ):
        taps = weight.detach().double().cpu()  # [I, 5 or 8, HEARD]
        numbers, rows = _rows((taps * sizes).flatten(1), torch.int16)
        out[f"patch.audio_proj.{name}.weight.taps"] = numbers.unflatten(1, taps.shape[1:])
        out[f"patch.audio_proj.{name}.weight.scale"] = rows
        out[f"patch.audio_proj.{name}.bias"] = (bias.detach().double().cpu() - (taps @ offset).sum(1)).float()
    rest = nn.ModuleDict({"proj2": hear.proj2, "proj3": hear.proj3, "norm": hear.norm})
    _collect("patch.audio_proj.", rest, out)
    return {name: tensor.contiguous() for name, tensor in out.items()}


def write(path: Path, vae: dict[str, torch.Tensor], talker: Any, heard: Hearing) -> int:
    """Returns the file's size in bytes."""
    save_file(collect(vae, talker, heard), str(path))
    return path.stat().st_size
