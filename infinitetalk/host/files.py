"""Models from files, as ComfyUI's own loader nodes load them, for what runs without a graph.

InfiniteTalk's patch, which ComfyUI's loader takes in one form only, has a loader of its own in the WAN wing
(``wan.patch_file``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.audio_encoders.audio_encoders
import comfy.sd
import comfy.utils
import torch
from safetensors import SafetensorError

from ...base.errors import FileError, LongTalkError
from ..model.file_kinds import kind_of
from ..model.tensor_file import open_tensors

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
    with _known_to_comfyui(path, "a diffusion model"):
        return comfy.sd.load_diffusion_model(str(path), {} if dtype is None else {"dtype": dtype})


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
    with _known_to_comfyui(path, "an audio encoder"):
        return comfy.audio_encoders.audio_encoders.load_audio_encoder_from_sd(comfy.utils.load_torch_file(str(path)))


def _vae(path: Path, parts: dict[str, str] | None, dtype: torch.dtype | None) -> Any:
    with _known_to_comfyui(path, "a VAE"):
        weights, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
        if parts is not None:
            weights = comfy.utils.state_dict_prefix_replace(weights, parts, filter_keys=True)
        vae = comfy.sd.VAE(sd=weights, metadata=metadata, dtype=dtype)
        vae.throw_exception_if_invalid()
        return vae


@contextmanager
def _known_to_comfyui(path: Path, kind: str) -> Iterator[None]:
    """Around the loading of a file: what ComfyUI says when it cannot becomes a message that says what the file is.

    Raises:
        LongTalkError
    """
    if not path.is_file():
        raise FileError(
            "model file", expected=f"a file {path}", actual="nothing there", action="Check the name, or download it"
        )
    try:
        yield
    except (RuntimeError, ValueError, SafetensorError) as error:
        words = f" ({str(error).splitlines()[0][:120]})" if str(error) else ""
        raise FileError(
            "model file",
            expected=f"{kind} that ComfyUI knows in {path.name}",
            actual=f"{_content(path)}{words}",
            action="Check that it lies in the right folder of models, or download it again",
        ) from error


def _content(path: Path) -> str:
    """What a file is by the names in it."""
    try:
        return kind_of(open_tensors(path, "weights").shapes)[0]
    except LongTalkError:
        return "no complete safetensors file"
