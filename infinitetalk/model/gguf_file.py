"""Reads GGUF files that may hold anything: names, shapes and places first, values only of what is asked for.

The header is read here rather than with the ``gguf`` library, whose reader believes every count in it: an array that
claims 2**60 entries keeps it busy until memory is full. Source of the layout: ggml, ``docs/gguf.md``.
Little-endian files of versions 2 and 3 are read. Before memory is reserved for any tensor, each is known to lie in the
file and no two to share bytes, so together they are never larger than the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from textwrap import shorten

import gguf
import torch

from ...base.errors import FileError, LongTalkError
from .quantised import BLOCKS, PackedWeight

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
#: ggml has at most 4, but the tools that convert WAN add its patch embedding, with 5, after ggml has packed the rest.
_DIMENSIONS = 5
_ALIGNMENT = 32
_LONGEST_NAME = 65535
_MOST_ALIGNMENT = 1 << 20
#: The most tensors, notes, and texts in lists. The largest language models have 3000 tensors and 600 000 texts.
_MOST_TENSORS = 100_000
_MOST_NOTES = 100_000
_MOST_TEXTS = 3_000_000

_TEXT, _LIST, _UINT32 = 8, 9, 4
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
#: The types that a weight may have, by ggml's names.
KINDS = (*_PLAIN, *BLOCKS)


@dataclass(frozen=True)
class _Entry:
    shape: tuple[int, ...]
    kind: str
    place: int
    #: None for types whose size is unknown.
    size: int | None


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file whose header is sound.

    Attributes:
        shapes: the shape of every tensor, by name, as PyTorch counts dimensions: rows first.
        kinds: the type of every tensor, by name, as ggml calls it: "F16", "Q4_K".
        expected: what the reader wanted, for errors.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    kinds: dict[str, str]
    expected: str
    entries: dict[str, _Entry]

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor | PackedWeight]:
        """The tensors of these names: F32, F16 and BF16 as they are, matrices in blocks packed.

        Other tensors in blocks (a norm, for example) are unpacked to float32.

        Raises:
            LongTalkError: a type that is not supported, a file that became shorter.
        """
        wanted = list(names)
        self.check_kinds(wanted)
        out: dict[str, torch.Tensor | PackedWeight] = {}
        try:
            with open(self.path, "rb") as file:
                for name in sorted(wanted, key=lambda each: self.entries[each].place):
                    out[name] = self._read(file, self.entries[name])
        except OSError as error:
            raise _damaged(self.path, self.expected, f"cannot be read ({error})") from error
        return out

    def check_kinds(self, names: Iterable[str]) -> None:
        """Whether the tensors of these names can be read.

        Raises:
            LongTalkError: a type that is not supported.
        """
        for name in names:
            if self.kinds[name] not in KINDS:
                raise FileError(
                    self.path.name,
                    expected=f"weights in {', '.join(KINDS)}",
                    actual=f"{self.kinds[name]} for {name}",
                    action="Choose the Q8_0, Q6_K, Q5_K or Q4_K file, or the fp16 or fp8 safetensors file",
                )

    def _read(self, file: BufferedReader, entry: _Entry) -> torch.Tensor | PackedWeight:
        assert entry.size is not None, "of a supported kind"
        raw = torch.empty(entry.size, dtype=torch.uint8)
        file.seek(entry.place)
        if entry.size and file.readinto(raw.numpy().data) != entry.size:
            raise _damaged(self.path, self.expected, "became shorter while it was read")
        if entry.kind in _PLAIN:
            return raw.view(_PLAIN[entry.kind]).view(entry.shape)
        form = BLOCKS[entry.kind]
        rows = raw.view(prod(entry.shape[:-1]), entry.shape[-1] // form.values * form.size)
        packed = PackedWeight(entry.kind, rows)
        return packed if len(entry.shape) == 2 else packed.expand(torch.float32).view(entry.shape)


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do, whatever its name; False where there is no file."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError:
        return False
    # A safetensors file begins with the length of its header, which may look the same; then zeros and a brace follow.
    return head.startswith(MAGIC) and head[4:] != b"\0\0\0\0{"


def open_gguf(path: Path, expected: str) -> GGUFFile:
    """Read the header of a GGUF file.

    Args:
        path: a file for which :func:`is_gguf` is true.
        expected: what to call the right file in errors.

    Raises:
        LongTalkError: not readable, or the header claims what cannot be.
    """
    try:
        with open(path, "rb") as file:
            entries = _Header(file, path, expected).read()
    except OSError as error:
        raise _damaged(path, expected, f"cannot be read ({error})") from error
    shapes = {name: entry.shape for name, entry in entries.items()}
    kinds = {name: entry.kind for name, entry in entries.items()}
    return GGUFFile(path, shapes, kinds, expected, entries)


def _damaged(path: Path, expected: str, trouble: str) -> LongTalkError:
    return FileError(
        path.name,
        expected=expected,
        actual=f"a GGUF file that {shorten(trouble, 200)}",
        action="Download it again; it may have been cut off",
    )


class _Header:
    """One pass over a header; never reads past the file, and never more than a name at once."""

    def __init__(self, file: BufferedReader, path: Path, expected: str) -> None:
        self._file = file
        self._path = path
        self._expected = expected
        self._size = path.stat().st_size
        self._at = 0
        self._texts = 0

    def _fail(self, trouble: str) -> LongTalkError:
        return _damaged(self._path, self._expected, trouble)

    def _skip(self, count: int) -> None:
        if count > self._size - self._at:
            raise self._fail("ends before its header does")
        self._at += count
        self._file.seek(self._at)

    def _take(self, count: int) -> bytes:
        raw = self._file.read(min(count, self._size - self._at))
        if len(raw) < count:
            raise self._fail("ends before its header does")
        self._at += count
        return raw

    def _int(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0])

    def _count(self, most: int, what: str) -> int:
        count = self._int("Q")
        if count > most:
            raise self._fail(f"claims {count} {what}")
        return count

    def _name(self) -> str:
        length = self._count(_LONGEST_NAME, "bytes for a name")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise self._fail("has a name that is no text") from error

    def read(self) -> dict[str, _Entry]:
        """Read the header: all tensors by name, with their places in the file."""
        self._skip(len(MAGIC))
        version = self._int("I")
        if version not in _VERSIONS:
            kind = "is big-endian" if version and not version & 0xFFFF else f"is of version {version}"
            raise self._fail(f"{kind}, where version 2 or 3, little-endian, can be read")
        tensors = self._count(_MOST_TENSORS, "tensors")
        alignment = self._notes(self._count(_MOST_NOTES, "notes"))
        found = [self._tensor() for _ in range(tensors)]
        start = -(-self._at // alignment) * alignment
        entries: dict[str, _Entry] = {}
        for name, entry in found:
            if name in entries:
                raise self._fail(f"has two tensors of the name {shorten(name, 60)}")
            entries[name] = _Entry(entry.shape, entry.kind, start + entry.place, entry.size)
        self._check_places(entries)
        return entries

    def _notes(self, count: int) -> int:
        """Pass over the notes; returns the alignment, which is the only note that decides how the file is read."""
        alignment = _ALIGNMENT
        for _ in range(count):
            name = self._name()
            kind = self._int("I")
            if name == "general.alignment" and kind == _UINT32:
                alignment = self._int("I")
                if not 0 < alignment <= _MOST_ALIGNMENT or alignment & (alignment - 1):
                    raise self._fail(f"claims an alignment of {alignment} bytes")
            else:
                self._skip_value(kind)
        return alignment

    def _skip_value(self, kind: int) -> None:
        if kind == _TEXT:
            self._skip(self._int("Q"))
        elif kind == _LIST:
            self._skip_list()
        elif kind in _BYTES:
            self._skip(_BYTES[kind])
        else:
            raise self._fail(f"has a note of the unknown type {kind}")

    def _skip_list(self) -> None:
        kind, count = self._int("I"), self._int("Q")
        if kind in _BYTES:
            self._skip(count * _BYTES[kind])
            return
        if kind != _TEXT:
            raise self._fail(f"has a list of the unknown type {kind}")
        self._texts += count
        if self._texts > _MOST_TEXTS:
            raise self._fail(f"claims {self._texts} texts in lists")
        for _ in range(count):
            self._skip(self._int("Q"))

    def _tensor(self) -> tuple[str, _Entry]:
        """Read the next tensor's name, shape and type; its place counts from where the values begin."""
        name = self._name()
        dimensions = self._int("I")
        if dimensions > _DIMENSIONS:
            raise self._fail(f"claims {dimensions} dimensions for {shorten(name, 60)}")
        # The first dimension is the one whose values lie side by side.
        shape = tuple(reversed([self._int("Q") for _ in range(dimensions)]))
        number, place = self._int("I"), self._int("Q")
        try:
            kind = gguf.GGMLQuantizationType(number)
        except ValueError:
            return name, _Entry(shape, f"the unknown type {number}", place, None)
        values, size = gguf.GGML_QUANT_SIZES.get(kind, (1, None))
        row = shape[-1] if shape else 1
        if row % values:
            raise self._fail(f"claims rows of {row} values in blocks of {values} for {shorten(name, 60)}")
        return name, _Entry(shape, kind.name, place, None if size is None else prod(shape) // values * size)

    def _check_places(self, entries: dict[str, _Entry]) -> None:
        """Refuse a file in which a tensor reaches past the end, or lies on another one."""
        end = 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].place, item[1].size or 0)):
            if entry.size is None:
                continue
            if entry.place < end:
                raise self._fail(f"has two tensors in one place, one of them {shorten(name, 60)}")
            end = entry.place + entry.size
            if end > self._size:
                raise self._fail(f"ends before {shorten(name, 60)} does")
