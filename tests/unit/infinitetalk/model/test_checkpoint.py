"""Reading InfiniteTalk files: every shape is checked before any memory is reserved by it."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import gguf_files
import hostile_files as files
import pytest
import torch

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.model.audio_attention import InfiniteTalkModel
from longtalk.infinitetalk.model.checkpoint import PatchFile, open_patch
from longtalk.infinitetalk.model.quantised import BLOCKS

GOOD = files.small_patch()


def read_patch(path: Path) -> PatchFile:
    return open_patch(path).read()


def write(tmp_path: Path, content: files.Content) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(files.laid_out(content))
    return path


def piece(name: str) -> files.Piece:
    return next(each for each in GOOD.pieces if each.name == name)


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
def test_a_whole_file(tmp_path: Path, prefix: str) -> None:
    content = files.Content(tuple(replace(each, name=prefix + each.name) for each in GOOD.pieces), None)
    header = open_patch(write(tmp_path, content.with_piece(files.Piece("other", "I8", (3,), bytes(3)))))
    file, sizes = header.read(), header.sizes
    assert (sizes.width, sizes.layers, sizes.intermediate, sizes.tokens, sizes.audio_width) == (40, 2, 1, 2, 4)
    assert str(header) == (
        "InfiniteTalk, width 40, 2 blocks, 26 tensors, float16; other tensors in the file, which are not read: 1"
    )
    assert file.packed == {}
    files.small_network().load_state_dict(file.weights)


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
    with pytest.raises(LongTalkError, match=rf"proj2\.weight in fp32, fp16, bf16 or scaled fp8, got {dtype} \[1, 1\]"):
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
    for shape, factor in (((), 0.25), ((1,), 0.25), ((40,), 0.5), ((40, 1), 0.5)):
        count = 40 if 40 in shape else 1
        given = replace(scale, shape=shape, data=struct.pack(f"<{count}f", *([factor] * count)))
        file = read_patch(write(tmp_path, content.with_piece(given)))
        packed = file.packed[name]
        assert name not in file.weights
        assert packed.stored.dtype == torch.float8_e4m3fn
        assert set(packed.expand(torch.float32).flatten().tolist()) == {factor}
    wide = replace(scale, shape=(100_000, 1, 1), data=bytes(400_000))  # times 40x40: 640 MB
    with pytest.raises(LongTalkError, match="one factor for"):
        read_patch(write(tmp_path, content.with_piece(wide)))


def test_fp8_without_a_factor_and_vectors_of_it(tmp_path: Path) -> None:
    name, bias = "blocks.0.audio_cross_attn.proj.weight", "blocks.0.audio_cross_attn.proj.bias"
    content = GOOD.with_piece(replace(piece(name), dtype="F8_E5M2", data=b"\x3c" * 1600))
    content = content.with_piece(replace(piece(bias), dtype="F8_E4M3", data=b"\x38" * 40))
    header = open_patch(write(tmp_path, content))
    file = header.read()
    assert header.kinds == "float16, float8_e5m2"
    assert set(file.packed[name].expand(torch.float32).flatten().tolist()) == {1.0}
    assert torch.equal(file.weights[bias], torch.ones(40, dtype=torch.float16))


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e30])
def test_factors_that_make_no_numbers(tmp_path: Path, factor: float) -> None:
    name = "blocks.0.audio_cross_attn.proj.weight"
    content = GOOD.with_piece(replace(piece(name), dtype="F8_E4M3", data=b"\x38" * 1600))
    scale = files.Piece(name.removesuffix("weight") + "scale_weight", "F32", (), struct.pack("<f", factor))
    with pytest.raises(LongTalkError, match=r"NaN or infinity in blocks\.0\.audio_cross_attn\.proj\.weight"):
        read_patch(write(tmp_path, content.with_piece(scale)))


# ---------------------------------------------------------------- how ComfyUI says that weights are packed


PROJ = "blocks.0.audio_cross_attn.proj."


def with_format(content: files.Content, said: bytes, dtype: str = "F8_E4M3") -> files.Content:
    """One weight packed, with a factor of 0.25 and what ``comfy_quant`` says."""
    content = content.with_piece(replace(piece(f"{PROJ}weight"), dtype=dtype, data=b"\x38" * 1600))
    content = content.with_piece(files.Piece(f"{PROJ}weight_scale", "F32", (), struct.pack("<f", 0.25)))
    return content.with_piece(files.Piece(f"{PROJ}comfy_quant", "U8", (len(said),), said))


@pytest.mark.parametrize("form", ["float8_e4m3fn", "float8_e4m3fn_rowwise"])
def test_fp8_as_comfyui_names_it(tmp_path: Path, form: str) -> None:
    said = f'{{"format": "{form}", "full_precision_matrix_mult": true}}'.encode()
    content = with_format(GOOD, said).with_piece(files.Piece(f"{PROJ}input_scale", "F32", (), struct.pack("<f", 7)))
    header = open_patch(write(tmp_path, content))
    assert header.others == 0
    assert header.factors == {f"{PROJ}weight": f"{PROJ}weight_scale"}
    assert set(header.read().packed[f"{PROJ}weight"].expand(torch.float32).flatten().tolist()) == {0.25}


@pytest.mark.parametrize(
    ("said", "dtype", "words"),
    [
        # fp8 by its type and its factor, but something else: read as fp8 it would be noise
        (b'{"format": "float8_e4m3fn", "convrot": true}', "F8_E4M3", r"got float8_e4m3fn, F8_E4M3 \[40, 40\]"),
        (b'{"format": "mxfp8"}', "F8_E4M3", r"got mxfp8, F8_E4M3 \[40, 40\]"),
        (b'{"format": "int8_tensorwise"}', "I8", r"got int8_tensorwise, I8 \[40, 40\]"),
        (b'{"format": "float8_e4m3fn"}', "I8", r"got float8_e4m3fn, I8 \[40, 40\]"),
        (b"{}", "F8_E4M3", r"got None, F8_E4M3 \[40, 40\]"),
        (b'{"format": [7]}', "F8_E4M3", r"got \[7\], F8_E4M3"),
        (b"[]", "F8_E4M3", r"JSON in blocks.*comfy_quant, got U8 \[2\] that is none"),
        (b"\xff{", "F8_E4M3", "that is none"),
        (b"", "F8_E4M3", "that is none"),
        (b"[" * 4000, "F8_E4M3", "that is none"),
        (b" " * 4095 + b"{}", "F8_E4M3", r"up to 4096 bytes of JSON in blocks.*got U8 \[4097\]"),
    ],
)
def test_other_ways_to_pack(tmp_path: Path, said: bytes, dtype: str, words: str) -> None:
    with pytest.raises(LongTalkError, match=words):
        open_patch(write(tmp_path, with_format(GOOD, said, dtype)))


def test_a_format_that_is_no_text(tmp_path: Path) -> None:
    content = with_format(GOOD, b"{}").with_piece(files.Piece(f"{PROJ}comfy_quant", "F32", (1,), bytes(4)))
    with pytest.raises(LongTalkError, match=r"JSON in blocks.*got F32 \[1\] that is none"):
        open_patch(write(tmp_path, content))


@pytest.mark.parametrize(
    "name", ["blocks.1.audio_cross_attn.q_norm.weight", "audio_proj.proj4.weight", "blocks.0.norm_x.lora"]
)
def test_audio_layers_of_another_model(tmp_path: Path, name: str) -> None:
    """LongCat-Avatar's have norms of q and k: without them InfiniteTalk's layers would compute something else."""
    content = GOOD.with_piece(files.Piece(f"diffusion_model.{name}", "F16", (4,), bytes(8)))
    with pytest.raises(LongTalkError, match=f"got audio layers of another model, with {name}"):
        open_patch(write(tmp_path, content))


# ---------------------------------------------------------------- GGUF


def whole_model() -> dict[str, torch.Tensor]:
    """The smallest whose every matrix has rows of 256."""
    torch.manual_seed(4)
    return dict(InfiniteTalkModel(1280, 1, intermediate=256, tokens=1, audio_width=256).state_dict())


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
def test_a_gguf_of_many_types(tmp_path: Path, prefix: str) -> None:
    """As the quantising tools write them: each matrix in the type its name suggests, vectors in F32."""
    model = whole_model()
    kinds = dict(zip((name for name in model if model[name].ndim == 2), itertools.cycle(BLOCKS), strict=False))
    tensors = {
        prefix + name: gguf_files.random_blocks(kinds[name], *tensor.shape) if tensor.ndim == 2 else tensor
        for name, tensor in model.items()
    }
    path = tmp_path / "a.safetensors"  # a wrong name, which people give downloads
    gguf_files.write_gguf(path, tensors, {prefix + name: kind for name, kind in kinds.items()})
    file = read_patch(path)
    assert (file.sizes.width, file.sizes.layers, file.sizes.intermediate, file.sizes.tokens) == (1280, 1, 256, 1)
    assert {name: packed.kind for name, packed in file.packed.items()} == kinds
    assert set(file.packed) | set(file.weights) == set(model)
    for name, packed in file.packed.items():
        assert torch.equal(packed.stored, tensors[prefix + name])
    for name, tensor in file.weights.items():
        assert torch.equal(tensor, model[name])


def test_a_gguf_with_a_scale_that_is_no_number(tmp_path: Path) -> None:
    model: dict[str, torch.Tensor] = whole_model()
    blocks = gguf_files.random_blocks("Q8_0", 1280, 1280)
    blocks[7, 34:36] = torch.tensor([0x00, 0x7C], dtype=torch.uint8)
    name = "blocks.0.audio_cross_attn.proj.weight"
    with pytest.raises(LongTalkError, match=r"NaN or infinity in blocks\.0\.audio_cross_attn\.proj\.weight"):
        read_patch(gguf_files.write_gguf(tmp_path / "a.gguf", {**model, name: blocks}, "Q8_0"))


def test_ggufs_that_are_no_patch(tmp_path: Path) -> None:
    path = gguf_files.write_gguf(tmp_path / "a.gguf", {"blocks.0.self_attn.q.weight": torch.ones(2, 2)}, {})
    with pytest.raises(LongTalkError, match=r"got a diffusion model\. Choose the InfiniteTalk file"):
        read_patch(path)
    model = whole_model()
    del model["audio_proj.proj2.bias"]
    with pytest.raises(LongTalkError, match=r"1 missing, such as audio_proj\.proj2\.bias"):
        read_patch(gguf_files.write_gguf(path, model, {}))
    model["audio_proj.proj2.bias"] = torch.ones(3)
    with pytest.raises(LongTalkError, match=r"proj2\.bias of shape \[256\], got \[3\]"):
        read_patch(gguf_files.write_gguf(path, model, {}))
