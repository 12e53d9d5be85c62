"""Reading InfiniteTalk files: every shape is checked before any memory is reserved by it."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import hostile_files as files
import pytest
import torch

from longtalk.infinitetalk.errors import LongTalkError
from longtalk.infinitetalk.model.audio_attention import InfiniteTalkModel
from longtalk.infinitetalk.model.checkpoint import read_patch

GOOD = files.small_patch()


def write(tmp_path: Path, content: files.Content) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(files.laid_out(content))
    return path


def piece(name: str) -> files.Piece:
    return next(each for each in GOOD.pieces if each.name == name)


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
def test_a_whole_file(tmp_path: Path, prefix: str) -> None:
    content = files.Content(tuple(replace(each, name=prefix + each.name) for each in GOOD.pieces), None)
    file = read_patch(write(tmp_path, content.with_piece(files.Piece("other", "I8", (3,), bytes(3)))))
    sizes = file.sizes
    assert (sizes.width, sizes.layers, sizes.intermediate, sizes.tokens, sizes.audio_width) == (40, 2, 1, 2, 4)
    assert file.dtype == torch.float16
    model = InfiniteTalkModel(40, 2, intermediate=1, tokens=2, audio_width=4, dtype=torch.float16)
    model.load_state_dict(file.weights)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("blocks.0.norm_x.weight", (2**40, 0), r"one of shape \[1099511627776, 0\]"),
        ("audio_proj.proj1.weight", (2**40, 0), "proj1.weight with 2"),
        ("audio_proj.norm.weight", (0,), "norm.weight with 1"),
        ("audio_proj.proj3.weight", (), "proj3.weight with 2"),
        ("audio_proj.proj2.bias", (7, 0), r"proj2\.bias of shape \[1\], got \[7, 0\]"),
        ("blocks.1.audio_cross_attn.kv_linear.weight", (0, 4), "kv_linear"),
    ],
)
def test_claimed_sizes(tmp_path: Path, name: str, shape: tuple[int, ...], words: str) -> None:
    data = b"" if 0 in shape else bytes(2)
    with pytest.raises(LongTalkError, match=words):
        read_patch(write(tmp_path, GOOD.with_piece(files.Piece(name, "F16", shape, data))))


@pytest.mark.parametrize("number", ["99999999", "9" * 5000, "007", "\u0663", "-1", "1000"])
def test_blocks_that_no_model_has_are_other_tensors(tmp_path: Path, number: str) -> None:
    """The names of all blocks up to the highest number are made: 99999999 would make 800 million."""
    content = GOOD.with_piece(files.Piece(f"blocks.{number}.norm_x.weight", "F16", (0,), b""))
    path = write(tmp_path, content)
    tracemalloc.start()
    try:
        assert read_patch(path).sizes.layers == 2
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_gap_between_blocks(tmp_path: Path) -> None:
    content = GOOD.with_piece(files.Piece("blocks.7.norm_x.weight", "F16", (40,), bytes(80)))
    with pytest.raises(LongTalkError, match=r"47 missing, such as blocks\.2\.audio_cross_attn\.q_linear\.weight"):
        read_patch(write(tmp_path, content))


@pytest.mark.parametrize("dtype", ["F64", "I8", "BOOL", "C64", "I64"])
def test_other_kinds_of_numbers(tmp_path: Path, dtype: str) -> None:
    found = piece("audio_proj.proj2.weight")
    content = GOOD.with_piece(replace(found, dtype=dtype, data=bytes(files.SIZES[dtype])))
    with pytest.raises(LongTalkError, match=r"proj2\.weight in fp32, fp16, bf16 or fp8"):
        read_patch(write(tmp_path, content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    found = piece("blocks.1.norm_x.bias")
    data = found.data[:-2] + struct.pack("<e", value)
    with pytest.raises(LongTalkError, match=r"NaN or infinity in blocks\.1\.norm_x\.bias"):
        read_patch(write(tmp_path, GOOD.with_piece(replace(found, data=data))))


@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
def test_scaled_fp8_by_both_names(tmp_path: Path, ending: str) -> None:
    name = "blocks.0.audio_cross_attn.proj.weight"
    content = GOOD.with_piece(replace(piece(name), dtype="F8_E4M3", data=b"\x38" * 1600))  # all 1.0
    scale = files.Piece(name.removesuffix("weight") + ending, "F32", (), struct.pack("<f", 0.25))
    assert set(read_patch(write(tmp_path, content.with_piece(scale))).weights[name].flatten().tolist()) == {0.25}
    rows = replace(scale, shape=(40, 1), data=struct.pack("<40f", *([0.5] * 40)))
    assert set(read_patch(write(tmp_path, content.with_piece(rows))).weights[name].flatten().tolist()) == {0.5}
    wide = replace(scale, shape=(100_000, 1, 1), data=bytes(400_000))  # times 40x40: 640 MB
    with pytest.raises(LongTalkError, match="one factor for"):
        read_patch(write(tmp_path, content.with_piece(wide)))
