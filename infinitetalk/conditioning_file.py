"""Conditioning as a safetensors file, so that a prompt runs again without its 11 GB text encoder.

A file holds tensors plus, in the header's metadata, a JSON tree in which ``{"tensor": name}`` stands for a tensor.
Only tensors, numbers, strings, booleans, None, lists and dictionaries can be stored: no pickle, nothing executable.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .errors import LongTalkError

FORMAT = "longtalk.conditioning"
FORMAT_VERSION = 1

#: The parts of a CLIP_VISION_OUTPUT that samplers read.
CLIP_VISION_PARTS = (
    "last_hidden_state",
    "image_embeds",
    "penultimate_hidden_states",
    "all_hidden_states",
    "mm_projected",
)


def _flatten(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        # A copy of its own memory: safetensors refuses views that share storage.
        tensors[path] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": path}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {"dict": {str(key): _flatten(item, f"{path}.{key}", tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"list": [_flatten(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]}
    raise LongTalkError(
        "conditioning",
        expected="tensors, numbers and text",
        actual=f"a {type(value).__name__} at '{path}'",
        action="Save the conditioning before the node that adds it (a ControlNet or a hook cannot be stored)",
    )


def _unflatten(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    kind, body = next(iter(tree.items()))
    if kind == "tensor":
        return tensors[body]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in body.items()}
    if kind == "list":
        return [_unflatten(item, tensors) for item in body]
    raise KeyError(kind)


def pack(
    conditioning: Sequence[Sequence[Any]], clip_vision: Mapping[str, Any] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Turn a ComfyUI CONDITIONING into the tensors and the metadata of a safetensors file.

    Args:
        conditioning: ``[[text [B, tokens, width], {extra}], ...]``.
        clip_vision: the parts of a CLIP vision output, by name (see :data:`CLIP_VISION_PARTS`).

    Raises:
        LongTalkError: the conditioning is empty or holds something that is not data.
    """
    if not conditioning:
        raise LongTalkError(
            "conditioning", expected="at least one entry", actual="an empty list", action="Connect a text encode node"
        )
    tensors: dict[str, torch.Tensor] = {}
    tree = {
        "conditioning": [
            [_flatten(text, f"cond.{index}.text", tensors), _flatten(dict(extra), f"cond.{index}", tensors)]
            for index, (text, extra) in enumerate(conditioning)
        ],
        "clip_vision": _flatten(clip_vision, "clip_vision", tensors),
    }
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "tree": json.dumps(tree)}
    return tensors, metadata


def unpack(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None, name: str = "conditioning file"
) -> tuple[list[list[Any]], dict[str, Any] | None]:
    """The inverse of :func:`pack`: ``(conditioning, clip vision parts or None)``.

    Raises:
        LongTalkError: the file was not written by LongTalkSaveConditioning, or by a newer version of it.
    """
    metadata = metadata or {}
    if metadata.get("format") != FORMAT:
        raise LongTalkError(
            name,
            expected="a file written by Save Conditioning (LongTalk)",
            actual="a safetensors file of another kind",
            action="Save the conditioning again with Save Conditioning (LongTalk)",
        )
    if metadata.get("version") != str(FORMAT_VERSION):
        raise LongTalkError(
            name,
            expected=f"format version {FORMAT_VERSION}",
            actual=f"version {metadata.get('version')}",
            action="Update LongTalk or save the conditioning again",
        )
    try:
        tree = json.loads(metadata["tree"])
        conditioning = [[_unflatten(text, tensors), _unflatten(extra, tensors)] for text, extra in tree["conditioning"]]
        clip_vision = _unflatten(tree["clip_vision"], tensors)
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise LongTalkError(
            name,
            expected="a complete conditioning",
            actual=f"a damaged description ({type(error).__name__}: {error})",
            action="Save the conditioning again",
        ) from error
    return conditioning, clip_vision


def save(path: Path, conditioning: Sequence[Sequence[Any]], clip_vision: Mapping[str, Any] | None = None) -> None:
    """Write a conditioning file; the folder must exist."""
    tensors, metadata = pack(conditioning, clip_vision)
    save_file(tensors, str(path), metadata=metadata)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, read from its header alone; empty when there is none."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size)) if size <= path.stat().st_size else {}
    return dict(header.get("__metadata__") or {})


def load(path: Path) -> tuple[list[list[Any]], dict[str, Any] | None]:
    """Read what :func:`save` wrote.

    Raises:
        LongTalkError: not a safetensors file, or not one of ours.
    """
    try:
        tensors = load_file(str(path))
        metadata = read_metadata(path)
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise LongTalkError(
            path.name,
            expected="a safetensors file written by Save Conditioning (LongTalk)",
            actual=f"a file that cannot be read ({error})",
            action="Save the conditioning again",
        ) from error
    return unpack(tensors, metadata, path.name)
