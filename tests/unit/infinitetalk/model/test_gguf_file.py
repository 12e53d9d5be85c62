"""The GGUF reader: what the library writes comes back, and no header makes it crash, hang or fill memory."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from amounts import examples
from gguf_files import Kind, RawTensor, library_values, note, random_blocks, raw_gguf, text, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.model.gguf_file import KINDS, is_gguf, open_gguf
from longtalk.infinitetalk.model.quantised import BLOCKS, PackedWeight

NOTES: dict[str, Any] = {"a": "text", "b": 7, "c": 0.5, "d": True, "e": [1, 2, 3], "f": ["x", "yy"], "g": [0.5, 1.5]}
HUGE = (2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)


def written(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "a.gguf"
    path.write_bytes(raw)
    return path


def refusal(tmp_path: Path, raw: bytes) -> str:
    """What is said of these bytes; quickly, and without memory for what they claim."""
    path = written(tmp_path, raw)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(LongTalkError) as caught:
            open_gguf(path, "a patch")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 5
    return str(caught.value)


# ---------------------------------------------------------------- files that are sound


@pytest.mark.parametrize("alignment", [None, 8, 1024])
def test_what_the_library_writes(tmp_path: Path, alignment: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    blocks = {kind: random_blocks(kind, 3, 512, seed) for seed, kind in enumerate(BLOCKS)}
    plain = {
        "F32": torch.randn(5, 7, generator=generator),
        "F16": torch.randn(3, generator=generator).half(),
        "BF16": torch.randn(2, 6, generator=generator).bfloat16(),
    }
    names = {kind: kind for kind in BLOCKS}
    path = write_gguf(tmp_path / "a.gguf", {**blocks, **plain}, names, NOTES, alignment)
    assert is_gguf(path)
    file = open_gguf(path, "a patch")
    assert file.shapes == {**dict.fromkeys(BLOCKS, (3, 512)), "F32": (5, 7), "F16": (3,), "BF16": (2, 6)}
    assert set(file.shapes) == set(KINDS)
    read = file.read(file.shapes)
    for kind, stored in blocks.items():
        packed = read[kind]
        assert isinstance(packed, PackedWeight)
        assert packed.kind == kind
        assert torch.equal(packed.stored, stored)
        assert torch.equal(packed.expand(torch.float32), library_values(kind, stored))
    for kind, tensor in plain.items():
        found = read[kind]
        assert isinstance(found, torch.Tensor)
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {"a": torch.ones(4), "b": torch.zeros(4)}, {})
    assert list(open_gguf(path, "a patch").read(["b"])) == ["b"]


def test_version_2_and_vectors_in_blocks(tmp_path: Path) -> None:
    stored = random_blocks("Q8_0", 1, 64)
    path = write_gguf(tmp_path / "a.gguf", {"v": stored[0]}, "Q8_0")
    raw = bytearray(path.read_bytes())
    raw[4:8] = struct.pack("<I", 2)
    found = open_gguf(written(tmp_path, bytes(raw)), "a patch").read(["v"])["v"]
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, library_values("Q8_0", stored)[0])


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    length = int.from_bytes(b"GGUF", "little")
    for head in (b"", b"GG", b"PK\3\4", b"GGUF\0\0\0\0{", struct.pack("<Q", length) + b'{"a":'):
        assert not is_gguf(written(tmp_path, head))
    os.mkfifo(tmp_path / "pipe.gguf")
    for name in (".", "nothing.gguf", "pipe.gguf"):
        assert not is_gguf(tmp_path / name)


# ---------------------------------------------------------------- headers that claim what is not so


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (raw_gguf(version=1), "version 1"),
        (raw_gguf(version=0), "version 0"),
        (raw_gguf(version=3 << 24), "big-endian"),
        (raw_gguf(counts=(2, 0), data=b""), "ends before its header"),
        (raw_gguf(counts=(1, 1), data=b""), "a GGUF file that"),
        (raw_gguf([RawTensor(), RawTensor()]), "two tensors of the name a"),
        (raw_gguf([RawTensor(), RawTensor(b"b", (31,), 0, 64)]), "two tensors in one place"),
        (raw_gguf([RawTensor(), RawTensor(b"b")]), "two tensors in one place"),
        (raw_gguf(data=bytes(127)), "ends before a does"),
        (raw_gguf([RawTensor(place=32)]), "ends before a does"),
        (raw_gguf([RawTensor(dimensions=(1,) * 6)]), "claims 6 dimensions for a"),
        (raw_gguf([RawTensor(dimensions=(40,), kind=int(Kind.Q8_0))]), "rows of 40 values in blocks of 32"),
        (raw_gguf([RawTensor(dimensions=(), kind=int(Kind.Q8_0))]), "rows of 1 values in blocks of 32"),
        (raw_gguf([RawTensor(dimensions=(2**40, 2**40))]), "ends before a does"),
        (raw_gguf([RawTensor(name=b"\xff\xfe")]), "a name that is no text"),
        (raw_gguf(notes=[note(b"n", 13, b"")]), "unknown type 13"),
        (raw_gguf(notes=[note(b"n", 9, struct.pack("<IQ", 9, 1))]), "list of the unknown type 9"),
        (raw_gguf(notes=[note(b"n", 9, struct.pack("<IQ", 8, 3_000_001))]), "claims 3000001 texts"),
        *(
            (raw_gguf(notes=[note(b"general.alignment", 4, struct.pack("<I", value))]), f"alignment of {value} bytes")
            for value in (0, 3, 2**21, 2**31)
        ),
    ],
)
def test_refused(tmp_path: Path, raw: bytes, words: str) -> None:
    assert words in refusal(tmp_path, raw)


@pytest.mark.parametrize("count", HUGE)
def test_huge_claims(tmp_path: Path, count: int) -> None:
    claim = struct.pack("<Q", count)
    for raw in (
        raw_gguf(counts=(count, 0)),
        raw_gguf(counts=(1, count)),
        raw_gguf([RawTensor(dimensions=(count,))]),
        raw_gguf([RawTensor(dimensions=(32, count), kind=int(Kind.Q4_K) - 10)]),
        raw_gguf([RawTensor(place=count)]),
        raw_gguf(notes=[claim]),
        raw_gguf(notes=[note(b"n", 8, claim)]),
        *(raw_gguf(notes=[note(b"n", 9, struct.pack("<I", kind) + claim)]) for kind in range(14)),
        raw_gguf(notes=[note(b"n", 9, struct.pack("<IQ", 8, 1) + claim)]),
    ):
        refusal(tmp_path, raw)


def test_many_empty_texts_end_with_the_file(tmp_path: Path) -> None:
    """Each entry of a list costs the file eight bytes, so no list keeps the reader longer than its file is."""
    listed = struct.pack("<IQ", 8, 2_000_000) + text(b"") * 1000
    assert "ends before its header" in refusal(tmp_path, raw_gguf(notes=[note(b"n", 9, listed)]))


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    values = {"a": torch.ones(3), "b": random_blocks("Q4_K", 2, 256)}
    raw = write_gguf(tmp_path / "whole.gguf", values, "Q4_K", NOTES).read_bytes()
    for end in range(8, len(raw) - 32):
        path = written(tmp_path, raw[:end])
        with pytest.raises(LongTalkError, match="a GGUF file that"):
            open_gguf(path, "a patch")


@settings(max_examples=examples(150), deadline=None)
@given(places=st.lists(st.tuples(st.integers(4, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes(tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]]) -> None:
    """A sound file with some bytes of its header changed is read, at most as large as it is, or refused."""
    folder = tmp_path_factory.mktemp("changed")
    values = {"a": torch.ones(3), "b": random_blocks("Q4_K", 2, 256)}
    raw = bytearray(write_gguf(folder / "whole.gguf", values, "Q4_K", NOTES).read_bytes())
    for place, value in places:
        raw[place] = value
    try:
        file = open_gguf(written(folder, bytes(raw)), "a patch")
        read = file.read(file.shapes)
    except LongTalkError:
        return
    stored = [each.stored if isinstance(each, PackedWeight) else each for each in read.values()]
    assert sum(each.numel() * each.element_size() for each in stored) <= 4 * len(raw)


@pytest.mark.parametrize("kind", [each for each in Kind if each.name not in KINDS])
def test_types_that_are_not_supported_are_named(tmp_path: Path, kind: Kind) -> None:
    path = written(tmp_path, raw_gguf([RawTensor(dimensions=(256, 2), kind=int(kind))], data=bytes(1 << 13)))
    file = open_gguf(path, "a patch")
    with pytest.raises(LongTalkError, match=rf"Q6_K.*got {kind.name} for a\. Choose the Q8_0.* or the fp16"):
        file.read(["a"])


def test_types_that_nobody_knows(tmp_path: Path) -> None:
    path = written(tmp_path, raw_gguf([RawTensor(kind=999), RawTensor(b"b")]))
    file = open_gguf(path, "a patch")
    assert torch.equal(file.read(["b"])["b"], torch.zeros(32))
    with pytest.raises(LongTalkError, match="got the unknown type 999 for a"):
        file.read(["a"])


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {"a": np.ones(1000, np.float32)}, {})
    file = open_gguf(path, "a patch")
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(LongTalkError, match="became shorter"):
        file.read(["a"])
    path.unlink()
    with pytest.raises(LongTalkError, match="cannot be read"):
        file.read(["a"])
    with pytest.raises(LongTalkError, match="cannot be read"):
        open_gguf(path, "a patch")
