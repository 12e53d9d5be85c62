"""Reads safetensors files that may hold anything: names and shapes first, values only of what is asked for.

The library checks the header (its size, the offsets, the JSON); what the names and shapes MEAN is for the reader to
check before it reserves any memory by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ...base.errors import FileError, LongTalkError, TooBigError

_HEAD_BYTES = 9
#: The first bytes of files that people take for safetensors.
_MAGIC = (
    (b"GGUF", "a GGUF file"),
    (b"PK\x03\x04", "a pickled PyTorch file, which could run code"),
    *((bytes((0x80, protocol)), "a pickled PyTorch file, which could run code") for protocol in range(2, 6)),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"),
    (b"<", "a web page: the download was not allowed or went to a wrong address"),
)


#: The errors that reading a tensor raises where PyTorch lacks its type or cannot count its shape.
_UNKNOWN_TO_TORCH = (AttributeError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header is sound.

    Attributes:
        shapes: the shape of every tensor, by name.
        kinds: the type of every tensor, by name, as safetensors calls it: "F16", "F8_E4M3".
        metadata: the header's free text; empty when there is none.
        expected: what the reader wanted, for errors.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    kinds: dict[str, str]
    metadata: dict[str, str]
    expected: str

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The tensors of these names.

        The file is mapped into memory for it, so the system must be willing to promise as much as the file is long.

        Raises:
            LongTalkError: a name that is not there, values of a type PyTorch does not have, a file that is too large.
        """
        tensors: dict[str, torch.Tensor] = {}
        try:
            with _mapped(self.path, "pt") as file:
                for name in names:
                    tensors[name] = file.get_tensor(name)
        except (SafetensorError, OSError, *_UNKNOWN_TO_TORCH) as error:
            raise _unreadable(self.path, self.expected, error) from error
        return tensors


def _mapped(path: Path, framework: str) -> Any:
    """The file as the library opens it: for "np" mapped to be read, for "pt" as if it were to be written, too.

    Raises:
        LongTalkError: the system does not promise as much memory.
        SafetensorError, OSError, ValueError: it cannot be read.
    """
    try:
        return safe_open(str(path), framework)
    except (MemoryError, RuntimeError) as error:
        raise TooBigError(
            path.name,
            expected=f"memory to map a file of {path.stat().st_size / 1e9:.1f} GB",
            actual=f"less ({shorten(str(error), 200)})",
            action="Close other programs, allow more swap, or choose a smaller file",
        ) from error


def _unreadable(path: Path, expected: str, error: Exception) -> LongTalkError:
    trouble = "cannot be read" if isinstance(error, OSError) else "is not valid safetensors"
    return FileError(
        path.name,
        expected=expected,
        actual=f"a file that {trouble} ({shorten(str(error), 200)})",
        action="Download or save it again; it may have been cut off",
    )


def _sniff(path: Path, expected: str) -> None:
    """Refuse a file that is no safetensors file by its first bytes, with a message that says what it is.

    A safetensors file begins with the length of its header, which may look like another file's magic: 640 is a pickle's
    ``80 02``. But its upper four bytes are zero, and a ``{`` follows.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if head[4:_HEAD_BYTES] == b"\0\0\0\0{":
        return
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            raise FileError(path.name, expected=expected, actual=kind, action="Choose the safetensors file")


def open_tensors(path: Path, expected: str) -> TensorFile:
    """Read the header of a safetensors file; a file that is larger than memory, too.

    Args:
        path: a file; a folder, a pipe or nothing at all is refused.
        expected: what to call the right file in errors.

    Raises:
        LongTalkError: not a file, not readable, not safetensors.
    """
    try:
        if not path.is_file():
            actual = "a folder" if path.is_dir() else "no file of this name"
            raise FileError(path.name, expected=expected, actual=actual, action="Choose a file from the list")
        _sniff(path, expected)
        with _mapped(path, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
            kinds = {name: str(each.get_dtype()) for name, each in slices.items()}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, expected, error) from error
    return TensorFile(path, shapes, kinds, metadata, expected)
