"""Keeps conditioning as a safetensors file, so that a prompt runs again without its 11 GB text encoder.

A file holds tensors plus, in the header's metadata, a JSON tree in which ``{"tensor": name}`` stands for a tensor.
Only tensors, numbers, strings, booleans, None, lists and dictionaries can be stored: no pickle, nothing executable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors

from ...base.errors import FileError, LongTalkError, PromptError
from ...base.files import atomic
from ...base.tensors import described, is_plain
from .tensor_file import open_tensors

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


#: The deepest nesting: conditioning is nested three deep, and a list that contains itself is nested without end.
MAX_DEPTH = 32

_WHOLE_LIMIT = 2**63
_DTYPES = {
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}


def _not_data(value: object, path: str) -> LongTalkError:
    return PromptError(
        "conditioning",
        expected="tensors, numbers and text",
        actual=f"{described(value)} at '{path[:200]}'",
        action="Save the conditioning before the node that adds it (a ControlNet or a hook cannot be stored)",
    )


def _flatten(value: Any, path: str, tensors: dict[str, torch.Tensor], depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise PromptError(
            "conditioning",
            expected=f"lists and dictionaries up to {MAX_DEPTH} deep",
            actual=f"deeper ones at '{path[:60]}...'",
            action="Save the conditioning before the node that adds them",
        )
    if isinstance(value, torch.Tensor):
        if not is_plain(value) or value.dtype not in _DTYPES:
            raise _not_data(value, path)
        name = path.encode("ascii", "backslashreplace").decode()
        while name in tensors:  # the text itself and an extra of the name "text"
            name += "'"
        # A copy of its own memory: safetensors refuses views that share storage.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if value is None or isinstance(value, (bool, float, str)):
        return value
    if isinstance(value, int) and abs(value) < _WHOLE_LIMIT:
        return value
    if isinstance(value, Mapping):
        items = {str(key): _flatten(item, f"{path}.{key}", tensors, depth + 1) for key, item in value.items()}
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        return {"list": [_flatten(item, f"{path}.{index}", tensors, depth + 1) for index, item in enumerate(value)]}
    raise _not_data(value, path)


def _unflatten(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, body),) = tree.items()
    if kind == "tensor":
        return tensors[body]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in body.items()}
    if kind == "list":
        return [_unflatten(item, tensors) for item in body]
    raise KeyError(kind)


def _checked(conditioning: Any, name: str) -> list[tuple[torch.Tensor, Mapping[str, Any]]]:
    """The entries of a CONDITIONING, one by one ``(text [B, tokens, width], extra)``.

    Raises:
        LongTalkError: it is none.
    """
    action = "Connect a text encode node"
    if not isinstance(conditioning, (list, tuple)):
        raise PromptError(name, expected="a CONDITIONING", actual=described(conditioning), action=action)
    if not conditioning:
        raise PromptError(name, expected="at least one entry", actual="an empty list", action=action)
    entries = []
    for entry in conditioning:
        pair = tuple(entry) if isinstance(entry, (list, tuple)) else ()
        text, extra = pair if len(pair) == 2 else (entry, None)
        if not is_plain(text) or not text.is_floating_point() or text.ndim != 3 or not isinstance(extra, Mapping):
            actual = f"{described(text)} with {described(extra)}" if len(pair) == 2 else described(entry)
            raise PromptError(
                name, expected="entries of text [1, tokens, width] with a dictionary", actual=actual, action=action
            )
        entries.append((text, extra))
    return entries


def pack(
    conditioning: Sequence[Sequence[Any]], clip_vision: Mapping[str, Any] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Turn a ComfyUI CONDITIONING into the tensors and the metadata of a safetensors file.

    Args:
        conditioning: ``[[text [B, tokens, width], {extra}], ...]``.
        clip_vision: the parts of a CLIP vision output, by name (see :data:`CLIP_VISION_PARTS`).

    Raises:
        LongTalkError: not a conditioning, an empty one, or one that holds something that is not data.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = {
        "conditioning": [
            [_flatten(text, f"cond.{index}.text", tensors), _flatten(extra, f"cond.{index}", tensors)]
            for index, (text, extra) in enumerate(_checked(conditioning, "conditioning"))
        ],
        "clip_vision": _flatten(clip_vision, "clip_vision", tensors),
    }
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "tree": json.dumps(tree)}
    return tensors, metadata


def _check_form(metadata: Mapping[str, str], name: str) -> None:
    """Refuse a safetensors file by its metadata, before anything in it is read.

    Raises:
        LongTalkError: the file was not written by LongTalkSaveConditioning, or by a newer version of it.
    """
    if metadata.get("format") != FORMAT:
        raise FileError(
            name,
            expected="a file written by Save Conditioning (LongTalk)",
            actual="a safetensors file of another kind",
            action="Save the conditioning again with Save Conditioning (LongTalk)",
        )
    if metadata.get("version") != str(FORMAT_VERSION):
        raise FileError(
            name,
            expected=f"format version {FORMAT_VERSION}",
            actual=f"version {str(metadata.get('version'))[:20]}",
            action="Update LongTalk or save the conditioning again",
        )


def _unpack(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], name: str
) -> tuple[list[list[Any]], dict[str, Any] | None]:
    """The inverse of :func:`pack`: ``(conditioning, clip vision parts or None)``.

    Raises:
        LongTalkError: the description is damaged.
    """
    try:
        tree = json.loads(metadata["tree"])
        conditioning = [[_unflatten(text, tensors), _unflatten(extra, tensors)] for text, extra in tree["conditioning"]]
        clip_vision = _unflatten(tree["clip_vision"], tensors)
        if not (clip_vision is None or isinstance(clip_vision, dict)):
            raise TypeError(f"{described(clip_vision)} as CLIP vision")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(
            name,
            expected="a complete conditioning",
            actual=f"a damaged description ({type(error).__name__}: {str(error)[:200]})",
            action="Save the conditioning again",
        ) from error
    _checked(conditioning, name)
    return conditioning, clip_vision


def save(path: Path, conditioning: Sequence[Sequence[Any]], clip_vision: Mapping[str, Any] | None = None) -> None:
    """Write a conditioning file; the folder must exist.

    Raises:
        LongTalkError: see :func:`pack`; also a full disk.
    """
    tensors, metadata = pack(conditioning, clip_vision)
    content = save_tensors(tensors, metadata)
    with atomic(path) as part:
        part.write_bytes(content)


def load(path: Path) -> tuple[list[list[Any]], dict[str, Any] | None]:
    """Read what :func:`save` wrote.

    Raises:
        LongTalkError: not a safetensors file, or not one of ours.
    """
    file = open_tensors(path, "a safetensors file written by Save Conditioning (LongTalk)")
    _check_form(file.metadata, path.name)
    return _unpack(file.read(file.shapes), file.metadata, path.name)
