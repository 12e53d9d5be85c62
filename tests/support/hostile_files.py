"""Safetensors files damaged in every way a download, an editor or a malicious author can think of."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import torch
from hostile_values import Sent
from hypothesis import strategies as st
from safetensors.torch import save

Draw = Callable[[st.SearchStrategy[Any]], Any]

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I8": 1, "BOOL": 1, "C64": 8}
GIGANTIC = (2**31, 2**32 + 1, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)


@dataclass(frozen=True)
class Piece:
    """One tensor as it lies in a file."""

    name: str
    dtype: str
    shape: tuple[Any, ...]
    data: bytes


@dataclass(frozen=True)
class Content:
    """What a file holds, before it is laid out."""

    pieces: tuple[Piece, ...]
    metadata: Any

    def without(self, name: str) -> Content:
        return replace(self, pieces=tuple(piece for piece in self.pieces if piece.name != name))

    def with_piece(self, piece: Piece) -> Content:
        """With this tensor, in the place of the one of its name."""
        return replace(self, pieces=(*self.without(piece.name).pieces, piece))


def content_of(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Content:
    raw = save(tensors, metadata)
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    found = header.pop("__metadata__", None)
    pieces = (
        Piece(name, entry["dtype"], tuple(entry["shape"]), data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    )
    return Content(tuple(pieces), found)


def header_of(content: Content) -> dict[str, Any]:
    header: dict[str, Any] = {} if content.metadata is None else {"__metadata__": content.metadata}
    end = 0
    for piece in content.pieces:
        start, end = end, end + len(piece.data)
        header[piece.name] = {"dtype": piece.dtype, "shape": list(piece.shape), "data_offsets": [start, end]}
    return header


def packed(header: Any, data: bytes, length: int | None = None) -> bytes:
    """A file with this header (JSON, or text as it is) that claims to be ``length`` bytes long."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def laid_out(content: Content) -> bytes:
    return packed(header_of(content), b"".join(piece.data for piece in content.pieces))


def small_network() -> torch.nn.Module:
    """InfiniteTalk, as small as its features allow."""
    from longtalk.infinitetalk.model.audio_attention import InfiniteTalkModel

    return InfiniteTalkModel(40, 2, intermediate=1, tokens=2, audio_width=4, dtype=torch.float16)


def small_patch() -> Content:
    """A complete file of it."""
    torch.manual_seed(3)
    return content_of(dict(small_network().state_dict()))


def small_conditioning() -> Content:
    from longtalk.infinitetalk.model import conditioning_file

    entry = [torch.ones(1, 3, 8), {"strength": 0.5, "extra": [torch.ones(2)]}]
    vision = {"penultimate_hidden_states": torch.ones(1, 2, 1280)}
    return content_of(*conditioning_file.pack([entry, entry], vision))


# ---------------------------------------------------------------- the container


def truncated(draw: Draw, content: Content) -> bytes:
    raw = laid_out(content)
    header = 8 + int.from_bytes(raw[:8], "little")
    return raw[: draw(st.one_of(st.integers(0, 9), st.integers(9, header), st.integers(header, len(raw) - 1)))]


def header_length(draw: Draw, content: Content) -> bytes:
    good = len(json.dumps(header_of(content)))
    wrong = st.sampled_from([0, 1, 2, good - 1, good + 1, good + 10**6, 10**8, 10**8 + 1, 2**31, 2**63, 2**64 - 1])
    return packed(header_of(content), b"".join(piece.data for piece in content.pieces), draw(wrong))


def header_text(draw: Draw, content: Content) -> bytes:
    good = json.dumps(header_of(content)).encode()
    depth = draw(st.sampled_from([100, 200, 5000, 200_000]))
    texts = [
        b"[" * depth + b"]" * depth,
        b'{"a":' * depth + b"1" + b"}" * depth,
        b'{"__metadata__":' + b"[" * depth + b"]" * depth + b"}",
        *(b"", b"{", b"{}", b"[]", b"null", b"7", b'"text"', b"{'a': 1}", b'{"a": NaN}', b" " * depth),
        b"\xff\xfe" + good[2:],
        good[:-1],
        good + b" " * 7,
        good.replace(b":", b"=", 1),
        good.replace(b'{"', b'{"audio_proj.norm.bias": 1, "', 1),
        good[:-1] + b", " + good[1:],
    ]
    return packed(draw(st.sampled_from(texts)), b"".join(piece.data for piece in content.pieces))


def offsets(draw: Draw, content: Content) -> bytes:
    header = header_of(content)
    name = draw(st.sampled_from([piece.name for piece in content.pieces]))
    start, end = header[name]["data_offsets"]
    wrong: list[Any] = [
        *([0, end - start], [end, start], [start, end + 4], [start + 4, end + 4], [-4, 0], [start], []),
        *([0, size] for size in GIGANTIC),
        *([start, end, end], "0", None, [start, 1.5], list(GIGANTIC)),
    ]
    header[name]["data_offsets"] = draw(st.sampled_from(wrong))
    return packed(header, b"".join(piece.data for piece in content.pieces))


def shapes(draw: Draw, content: Content) -> bytes:
    piece = draw(st.sampled_from(content.pieces))
    size = draw(st.sampled_from(GIGANTIC))
    empty = st.sampled_from([(0,), (size, 0), (0, size), (size, size, 0), (0,) * 30])
    other = [(), (1,), (-1,), (size,), (size, size), (1,) * 100, (1.5,), ("4",), (None,), (True,), ([4],)]
    full = st.sampled_from([*other, (*piece.shape, 1), (1, *piece.shape), (*piece.shape, -1), piece.shape[::-1]])
    if draw(st.booleans()):
        return laid_out(content.with_piece(replace(piece, shape=draw(empty), data=b"")))
    return laid_out(content.with_piece(replace(piece, shape=draw(full))))


def dtypes(draw: Draw, content: Content) -> bytes:
    piece = draw(st.sampled_from(content.pieces))
    unknown = st.sampled_from(["", "F8", "Q4_K", "float32", "F6_E2M3", "I1", None, 7, "F32 "])
    if draw(st.booleans()):
        return laid_out(content.with_piece(replace(piece, dtype=draw(unknown))))
    dtype = draw(st.sampled_from(sorted(SIZES)))
    count = len(piece.data) // SIZES[piece.dtype]
    return laid_out(content.with_piece(replace(piece, dtype=dtype, data=bytes(count * SIZES[dtype]))))


def metadata(draw: Draw, content: Content) -> bytes:
    wrong = st.sampled_from([7, "text", [], {"a": 1}, {"a": None}, {"a": {"b": "c"}}, {"format": "pt"}, {}])
    return laid_out(replace(content, metadata=draw(wrong)))


def bit_flips(draw: Draw, content: Content) -> bytes:
    raw = bytearray(laid_out(content))
    header = 8 + int.from_bytes(raw[:8], "little")
    places = st.one_of(st.integers(0, header - 1), st.integers(0, len(raw) - 1))
    for place, bit in draw(st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=8)):
        raw[place] ^= 1 << bit
    return bytes(raw)


def foreign(draw: Draw, content: Content) -> bytes:
    noise = draw(st.binary(min_size=0, max_size=64))
    count = struct.pack("<Q", draw(st.sampled_from([0, *(size for size in GIGANTIC if size < 2**64)])))
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return draw(
        st.sampled_from(
            [
                *(pickle.dumps({"weights": [1.0]}, protocol) for protocol in range(6)),
                *(b"GGUF" + struct.pack("<I", version) + count * 2 + noise for version in (0, 2, 3, 2**32 - 1)),
                b"GGUF" + noise,
                archive.getvalue(),
                archive.getvalue()[:30],
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2\n",
                b"<!DOCTYPE html><html>404</html>",
                b"just some text\n",
                b"\x89PNG\r\n\x1a\n" + noise,
                b"RIFF\x00\x00\x00\x00WAVE" + noise,
                bytes(draw(st.sampled_from([1, 7, 8, 9, 4096]))),
                b"\xff" * 4096,
                noise,
            ]
        )
    )


# ---------------------------------------------------------------- what the names and values mean


def claimed_blocks(draw: Draw, content: Content) -> bytes:
    """Blocks that are not there, up to numbers no machine could build."""
    numbers = ["1", "7", "999", "1000", "99999999", "007", "-1", "1e9", "\u0663", str(10**30), "9" * 5000]
    for number in draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=3, unique=True)):
        leaf = draw(st.sampled_from(["norm_x.weight", "norm_x.bias", "audio_cross_attn.proj.weight"]))
        shape, data = draw(st.sampled_from([((0,), b""), ((1,), bytes(4)), ((), bytes(4)), ((2**62, 0), b"")]))
        content = content.with_piece(Piece(f"blocks.{number}.{leaf}", "F32", shape, data))
    return laid_out(content)


def names(draw: Draw, content: Content) -> bytes:
    """Weights left out, or under another name."""
    piece = draw(st.sampled_from(content.pieces))
    content = content.without(piece.name)
    others = ["", "__metadata", "\u0000", "\U0001f600" * 50, "x" * 10**5, "../../etc/passwd", f"{piece.name} "]
    other = draw(st.sampled_from([None, *others, f"diffusion_model.{piece.name}", piece.name.upper()]))
    return laid_out(content if other is None else content.with_piece(replace(piece, name=other)))


def values(draw: Draw, content: Content) -> bytes:
    """A value that is no number among the weights."""
    piece = draw(st.sampled_from([piece for piece in content.pieces if piece.dtype in ("F16", "F32")]))
    code = {"F16": "<e", "F32": "<f"}[piece.dtype]
    bad = struct.pack(code, draw(st.sampled_from([float("nan"), float("inf"), float("-inf")])))
    place = draw(st.integers(0, len(piece.data) // len(bad) - 1)) * len(bad)
    return laid_out(content.with_piece(replace(piece, data=piece.data[:place] + bad + piece.data[place + len(bad) :])))


def scales(draw: Draw, content: Content) -> bytes:
    """Scaled fp8 whose factor would blow the weight up, or is none."""
    piece = draw(st.sampled_from([piece for piece in content.pieces if piece.name.endswith("weight") and piece.shape]))
    count = len(piece.data) // SIZES[piece.dtype]
    content = content.with_piece(replace(piece, dtype="F8_E4M3", data=b"\x38" * count))
    stem = piece.name.removesuffix("weight")
    shape, data = draw(
        st.sampled_from(
            [
                ((), struct.pack("<f", 2.0)),
                ((), struct.pack("<f", float("nan"))),
                ((), struct.pack("<f", 1e30)),
                ((0,), b""),
                ((2**40, 0), b""),
                ((7,), bytes(28)),
                ((100_000, 1, 1), bytes(400_000)),
            ]
        )
    )
    name = stem + draw(st.sampled_from(["scale_weight", "weight_scale"]))
    return laid_out(content.with_piece(Piece(name, draw(st.sampled_from(["F32", "F32", "I32"])), shape, data)))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(10**400)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["tensor", "dict", "list", "call", "a"]), inner, max_size=2),
        st.sampled_from(["cond.0.text", "cond.9.text", "clip_vision", ""]).map(lambda name: {"tensor": name}),
    ),
    max_leaves=8,
)


def trees(draw: Draw, content: Content) -> bytes:
    """The description in a conditioning file: any JSON, at any place of it."""
    metadata = dict(content.metadata)
    tree = json.loads(metadata["tree"])
    depth = draw(st.sampled_from([50, 2000, 200_000]))
    place = draw(st.sampled_from(["all", "conditioning", "entry", "text", "extra", "clip", "depth", "version", "gone"]))
    if place == "all":
        tree = draw(JSON)
    elif place == "conditioning":
        tree["conditioning"] = draw(JSON)
    elif place == "entry":
        tree["conditioning"][0] = draw(JSON)
    elif place in ("text", "extra"):
        tree["conditioning"][0][place == "extra"] = draw(JSON)
    elif place == "clip":
        tree["clip_vision"] = draw(st.one_of(JSON, st.fixed_dictionaries({"dict": st.fixed_dictionaries({"a": JSON})})))
    metadata["tree"] = json.dumps(tree)
    if place == "depth":
        deep = draw(st.sampled_from([("[", "]"), ('{"list":[', "]}"), ('{"dict":{"a":', "}}")]))
        where = draw(st.sampled_from(['"strength"', '{"tensor": "cond.0.text"}', "null", '{"list"']))
        metadata["tree"] = metadata["tree"].replace(where, deep[0] * depth + where + deep[1] * depth, 1)
    elif place == "version":
        key = draw(st.sampled_from(["format", "version", "tree"]))
        metadata[key] = draw(st.sampled_from(["", "2", "NaN", "1" * 5000, "\u0000", "[" * depth]))
    elif place == "gone":
        del metadata[draw(st.sampled_from(["format", "version", "tree"]))]
    return laid_out(replace(content, metadata=metadata))


Damage = Callable[[Draw, Content], bytes]


def damaged(damage: Damage, content: Content) -> st.SearchStrategy[Sent]:
    """Files with this damage, labelled by their contents."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Sent:
        raw = damage(draw, content)
        return Sent(f"{damage.__name__} {hashlib.sha256(raw).hexdigest()}", raw)

    return drawn()


#: Damage that any safetensors file can suffer.
CONTAINER: tuple[Damage, ...] = (
    truncated,
    header_length,
    header_text,
    offsets,
    shapes,
    dtypes,
    metadata,
    bit_flips,
    foreign,
)
#: Damage to what an InfiniteTalk file means.
WEIGHTS: tuple[Damage, ...] = (claimed_blocks, names, values, scales)
