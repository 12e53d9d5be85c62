"""Models from files, as ComfyUI's own loader nodes load them, for what runs without a graph.

InfiniteTalk's patch, which ComfyUI's loader takes in one form only, has a loader of its own in the WAN wing
(``wan.patch_file``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.audio_encoders.audio_encoders
import comfy.sd
import comfy.utils
import torch

from ...base.errors import FileError, LongTalkError

#: What LTX's checkpoints call the parts of the audio VAE, and what ComfyUI's class calls them.
_AUDIO_VAE_PARTS = {"audio_vae.": "autoencoder.", "vocoder.": "vocoder."}


def load_diffusion_model(path: Path, dtype: torch.dtype | None = None) -> Any:
    """MODEL of a file of a diffusion model.

    Args:
        path: of the file.
        dtype: what the weights are kept in; by default what ComfyUI finds best.

    Raises:
        LongTalkError: no diffusion model that ComfyUI knows.
    """
    _require(path)
    try:
        return comfy.sd.load_diffusion_model(str(path), {} if dtype is None else {"dtype": dtype})
    except RuntimeError as error:
        raise _unknown(path, "a diffusion model", error) from error


def load_vae(path: Path, dtype: torch.dtype | None = None) -> Any:
    """VAE of a file of a VAE.

    Raises:
        LongTalkError: no VAE that ComfyUI knows.
    """
    return _vae(path, None, dtype)


def load_audio_vae(path: Path, dtype: torch.dtype | None = None) -> Any:
    """VAE of the audio VAE in one of LTX's checkpoints.

    Raises:
        LongTalkError: there is none in it.
    """
    return _vae(path, _AUDIO_VAE_PARTS, dtype)


def load_audio_encoder(path: Path) -> Any:
    """AUDIO_ENCODER of a file of wav2vec2.

    Raises:
        LongTalkError: no audio encoder that ComfyUI knows.
    """
    _require(path)
    weights = comfy.utils.load_torch_file(str(path))
    try:
        return comfy.audio_encoders.audio_encoders.load_audio_encoder_from_sd(weights)
    except RuntimeError as error:
        raise _unknown(path, "an audio encoder", error) from error


def _vae(path: Path, parts: dict[str, str] | None, dtype: torch.dtype | None) -> Any:
    _require(path)
    weights, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
    if parts is not None:
        weights = comfy.utils.state_dict_prefix_replace(weights, parts, filter_keys=True)
    vae = comfy.sd.VAE(sd=weights, metadata=metadata, dtype=dtype)
    try:
        vae.throw_exception_if_invalid()
    except RuntimeError as error:
        raise _unknown(path, "a VAE", error) from error
    return vae


def _require(path: Path) -> None:
    if not path.is_file():
        raise FileError(
            "model file", expected=f"a file {path}", actual="nothing there", action="Check the name, or download it"
        )


def _unknown(path: Path, kind: str, error: Exception) -> LongTalkError:
    words = f" ({str(error).splitlines()[0][:120]})" if str(error) else ""
    return FileError(
        "model file",
        expected=f"{kind} that ComfyUI knows in {path.name}",
        actual=f"weights of something else, or an incomplete file{words}",
        action="Check that it lies in the right folder of models, or download it again",
    )
