"""Safetensors files: what is refused by its first bytes or its header, and that nothing else is mistaken for it."""

from __future__ import annotations

import os
import pickle
import resource
from pathlib import Path

import hostile_files as files
import pytest
import torch
from safetensors.torch import save_file

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.model.tensor_file import open_tensors


def test_names_shapes_and_values(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"a": torch.randn(2, 3), "b": torch.tensor(1.5, dtype=torch.bfloat16), "c": torch.zeros(0, 4)}
    save_file(tensors, str(path), metadata={"format": "x"})
    file = open_tensors(path, "a file")
    assert file.shapes == {"a": (2, 3), "b": (), "c": (0, 4)}
    assert file.metadata == {"format": "x"}
    read = file.read(["b", "a"])
    assert list(read) == ["b", "a"]
    assert torch.equal(read["a"], tensors["a"])
    with pytest.raises(LongTalkError, match="not valid safetensors"):
        file.read(["d"])


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50, 0x3C])
def test_a_header_as_long_as_a_magic_number(tmp_path: Path, length: int) -> None:
    """Safetensors begin with the header's length: 640 is a pickle's first bytes, 19280 a zip file's."""
    entry = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(files.packed(entry.ljust(length), bytes(4)))
    assert open_tensors(path, "a file").shapes == {"a": (1,)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "a GGUF file"),
        (pickle.dumps({"a": 1}), "pickled"),
        (b"PK\x03\x04" + bytes(40), "pickled"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html>", "web page"),
        (b"", "not valid safetensors"),
        (b"plain text", "not valid safetensors"),
        (files.packed(b"[" * 200_000, b""), "not valid safetensors"),
        (files.packed(b"{}", b"", 10**15), "not valid safetensors"),
    ],
)
def test_other_files_say_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(LongTalkError, match=rf"^a\.safetensors: expected a file, got .*{words}"):
        open_tensors(path, "a file")


def test_shapes_beyond_what_pytorch_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(files.laid_out(files.Content((files.Piece("a", "F32", (2**64 - 1, 0), b""),), None)))
    file = open_tensors(path, "a file")
    with pytest.raises(LongTalkError, match="not valid safetensors"):
        file.read(["a"])


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # which would block whoever opens it
    (tmp_path / "link").symlink_to(tmp_path / "link")
    for name, words in (("folder", "a folder"), ("pipe", "no file"), ("link", "no file"), ("nothing", "no file")):
        with pytest.raises(LongTalkError, match=words):
            open_tensors(tmp_path / name, "a file")


def test_a_file_that_is_larger_than_memory(tmp_path: Path) -> None:
    """Its header is read as any other; only for its values memory is asked for, and what is missing is said."""
    path, size = tmp_path / "a.safetensors", 1 << 36
    header = {"a": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}
    path.write_bytes(files.packed(header, b""))
    os.truncate(path, path.stat().st_size + size)
    file = open_tensors(path, "a file")
    assert file.shapes == {"a": (size // 2,)}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))
    words = r"memory to map a file of 68\.7 GB, got less \(.*\[LT-MEMORY\]"
    try:
        with pytest.raises(LongTalkError, match=words):
            file.read(["a"])
        with pytest.raises(LongTalkError, match=words):
            open_tensors(path, "a file")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
