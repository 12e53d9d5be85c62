"""InfiniteTalk files in fp8 and GGUF: kept as they are, moved by ComfyUI, and equal to the same weights unpacked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gguf_files
import pytest
import torch
from comfy_runs import make_renderer, make_speech
from safetensors.torch import load_file, save_file

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.model.quantised import BLOCKS, PackedWeight

FP8 = "float8_e4m3fn"
KINDS = [*BLOCKS, FP8]
ROWS, COLUMNS = 48, 512
PROJ = "blocks.1.audio_cross_attn.proj"


def packed_weight(kind: str, seed: int = 0) -> PackedWeight:
    if kind != FP8:
        return PackedWeight(kind, gguf_files.random_blocks(kind, ROWS, COLUMNS, seed))
    generator = torch.Generator().manual_seed(seed)
    return PackedWeight(
        kind, torch.randn(ROWS, COLUMNS, generator=generator).to(getattr(torch, kind)), torch.full((1, 1), 0.03)
    )


def packed_linear(kind: str) -> Any:
    from longtalk.infinitetalk.host.wan.packed_linear import PackedLinear

    packed = packed_weight(kind)
    layer = PackedLinear(packed)
    weights = {"weight": packed.stored, "bias": torch.linspace(-1, 1, ROWS)}
    if packed.factor is not None:
        weights["weight_factor"] = packed.factor
    layer.load_state_dict(weights, assign=True)
    return layer


# ---------------------------------------------------------------- one layer


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_through_the_real_linear(comfy: ModuleType, kind: str, dtype: torch.dtype) -> None:
    layer, packed = packed_linear(kind), packed_weight(kind)
    values = packed.expand(torch.float32) if kind == FP8 else gguf_files.library_values(kind, packed.stored)
    x = torch.randn(2, 5, COLUMNS, generator=torch.Generator().manual_seed(1)).to(dtype)
    out = layer(x)
    assert out.dtype == dtype
    assert torch.equal(out, torch.nn.functional.linear(x, values.to(dtype), layer.bias.to(dtype)))
    assert layer.weight.dtype == (torch.float8_e4m3fn if kind == FP8 else torch.uint8)


#: What LongTalk computes with on a device that is not the weight's; only its type is the processor's.
ELSEWHERE = torch.device("cpu", 0)


class Stream:
    """One of ComfyUI's streams, on a machine without any."""

    waited = 0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def wait_stream(self, _: Any) -> None:
        self.waited += 1


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_travel_through_comfyui_s_offload_streams(
    comfy: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    from longtalk.infinitetalk.host.wan.layer_weights import layer_weights

    stream = Stream()
    monkeypatch.setattr(comfy.model_management, "get_offload_stream", lambda device: stream)
    monkeypatch.setattr(comfy.model_management, "STREAM_CAST_BUFFERS", {})
    monkeypatch.setattr(comfy.model_management, "LARGEST_CASTED_WEIGHT", (None, 0))
    layer = packed_linear(kind)
    like: Any = SimpleNamespace(device=ELSEWHERE, dtype=torch.float16)
    with layer_weights(layer, like) as (weight, bias):
        assert torch.equal(weight, packed_weight(kind).expand(torch.float16))
        assert torch.equal(bias, layer.bias.half())
        assert stream.waited == 0
    assert stream.waited == 1
    (buffer,) = comfy.model_management.STREAM_CAST_BUFFERS.values()
    assert buffer.numel() < layer.weight.nbytes + layer.bias.nbytes + 2048, "no larger than the packed weight"


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_travel_through_dynamic_vram(comfy: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI's own code for it, with ordinary memory in place of the GPU's pages."""
    import comfy.cli_args
    import comfy.memory_management
    import comfy.model_management
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch

    from longtalk.infinitetalk.host.wan.layer_weights import layer_weights

    layer = packed_linear(kind)
    unpinned: list[Any] = []
    pages = torch.zeros(comfy.memory_management.vram_aligned_size([layer.weight, layer.bias]), dtype=torch.uint8)
    monkeypatch.setattr(comfy_aimdo.model_vbar, "vbar_fault", lambda place: "resident")
    monkeypatch.setattr(comfy_aimdo.model_vbar, "vbar_signature_compare", lambda one, two: one == two)
    monkeypatch.setattr(comfy_aimdo.model_vbar, "vbar_unpin", unpinned.append)
    monkeypatch.setattr(comfy_aimdo.torch, "aimdo_to_tensor", lambda place, device: pages)
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(comfy.cli_args.args, "disable_pinned_memory", True)
    layer._v, layer._v_signature, layer._pin_state = "place", None, {}
    layer.weight_lowvram_function = layer.bias_lowvram_function = None
    like: Any = SimpleNamespace(device=ELSEWHERE, dtype=torch.bfloat16)
    for _ in range(2):  # brought there, then found there
        with layer_weights(layer, like) as (weight, bias):
            assert torch.equal(weight, packed_weight(kind).expand(torch.bfloat16))
            assert torch.equal(bias, layer.bias.bfloat16())
    assert unpinned == ["place", "place"]
    assert torch.equal(pages[: layer.weight.nbytes], layer.weight.view(torch.uint8).flatten())


@pytest.mark.parametrize("kind", ["Q4_K", FP8])
def test_functions_on_a_packed_weight_get_it_unpacked(comfy: ModuleType, kind: str) -> None:
    layer = packed_linear(kind)
    layer.weight_function = functions = [lambda weight: weight * 2]
    x = torch.randn(3, COLUMNS)
    doubled = torch.nn.functional.linear(x, packed_weight(kind).expand(torch.float32) * 2, layer.bias)
    assert torch.equal(layer(x), doubled)
    assert layer.weight_function is functions


# ---------------------------------------------------------------- whole files


@pytest.fixture(scope="module")
def tiny_weights(tiny_models: Path) -> dict[str, torch.Tensor]:
    return load_file(str(tiny_models / "model_patches" / "longtalk_tiny_infinitetalk.safetensors"))


@pytest.fixture(scope="module")
def write(tiny_weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny patch as a file of this kind."""
    folder = tmp_path_factory.mktemp("patches")

    def make(kind: str) -> Path:
        path = folder / f"{kind}.{'safetensors' if kind == FP8 else 'gguf'}"
        if path.exists():
            return path
        if kind != FP8:
            tensors = {name: gguf_files.packed_by_library(tensor, kind) for name, tensor in tiny_weights.items()}
            return gguf_files.write_gguf(path, tensors, kind)
        scaled = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
        for number, (name, tensor) in enumerate(tiny_weights.items()):
            scaled[name] = tensor
            if tensor.ndim == 2:
                rows = number % 2 == 0  # half of them with a factor per row
                factor = tensor.abs().amax(1, keepdim=True) / 448 if rows else tensor.abs().max() / 448
                scaled[name] = (tensor / factor).to(torch.float8_e4m3fn)
                scaled[name.removesuffix("weight") + "scale_weight"] = factor
        save_file(scaled, str(path))
        return path

    return make


@pytest.fixture(scope="module")
def load(comfy: ModuleType, write: Callable[[str], Path]) -> Callable[[str], Any]:
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    return lambda kind: load_patch(write(kind))


@pytest.fixture(scope="module")
def unpacked(comfy: ModuleType, write: Callable[[str], Path]) -> Callable[[str], Any]:
    """The same file's values, unpacked beforehand, in an ordinary fp32 file."""
    from longtalk.infinitetalk.host.wan.patch_file import load_patch
    from longtalk.infinitetalk.model.checkpoint import open_patch

    def make(kind: str) -> Any:
        path = write(kind)
        file = open_patch(path).read()
        values = {name: packed.expand(torch.float32) for name, packed in file.packed.items()}
        assert len(values) == sum(tensor.ndim == 2 for tensor in (*values.values(), *file.weights.values()))
        plain = path.with_name(f"{kind}_unpacked.safetensors")
        save_file({**file.weights, **values}, str(plain))
        return load_patch(plain)

    return make


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1", FP8])
def test_in_memory_as_large_as_on_disk(load: Callable[[str], Any], write: Callable[[str], Path], kind: str) -> None:
    patcher, size = load(kind), write(kind).stat().st_size
    assert 0.98 * size < patcher.model_size() <= size
    weights = patcher.model.state_dict()
    stored = {name: tensor for name, tensor in weights.items() if tensor.element_size() == 1}
    assert len(stored) == 4 + 2 * 3  # the projection's and each block's
    assert sum(tensor.nbytes for tensor in stored.values()) > 0.95 * size
    if kind == FP8:
        assert {tensor.dtype for tensor in stored.values()} == {torch.float8_e4m3fn}


@pytest.mark.parametrize("kind", ["Q8_0", FP8])
def test_it_drives_the_real_sampler_as_the_same_weights_unpacked(
    parts: SimpleNamespace,
    load: Callable[[str], Any],
    unpacked: Callable[[str], Any],
    make_audio: Callable[..., Any],
    portrait: torch.Tensor,
    kind: str,
) -> None:
    speech = make_speech(parts, make_audio(0.8))

    def latents(patch: Any) -> torch.Tensor:
        renderer, plan = make_renderer(SimpleNamespace(**{**vars(parts), "patch": patch}), speech, portrait)
        return renderer.sample(plan.windows[0], {})

    ours = latents(load(kind))
    assert torch.equal(ours, latents(unpacked(kind)))
    assert not torch.equal(ours, latents(parts.patch))


def tokens_and_attention(patcher: Any) -> list[torch.Tensor]:
    """What every packed layer has a part in."""
    from longtalk.infinitetalk.model.audio_attention import cross_attend
    from longtalk.infinitetalk.model.audio_projection import audio_context

    generator = torch.Generator().manual_seed(5)
    features = torch.randn(9, 12, 768, generator=generator)
    context = audio_context(patcher.model.audio_proj, [features], 0, 9)
    x = torch.randn(1, 3 * 6, 640, generator=generator)
    attention = torch.nn.functional.scaled_dot_product_attention
    blocks = [cross_attend(block.audio_cross_attn, x, context[None], 6, attention) for block in patcher.model.blocks]
    return [context, *blocks]


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", FP8])
def test_partly_offloaded_gives_the_same_numbers(
    load: Callable[[str], Any], unpacked: Callable[[str], Any], kind: str
) -> None:
    patcher = load(kind)
    whole = tokens_and_attention(unpacked(kind))
    patcher.load(torch.device("cpu"), lowvram_model_memory=patcher.model_size() // 2)
    kept_out = [
        name for name, module in patcher.model.named_modules() if getattr(module, "prev_comfy_cast_weights", False)
    ]
    assert 0 < patcher.loaded_size() < patcher.model_size()
    assert PROJ in kept_out or "audio_proj.proj1" in kept_out
    assert all(torch.equal(one, two) for one, two in zip(tokens_and_attention(patcher), whole, strict=True))
    patcher.partially_unload(torch.device("cpu"), patcher.model_size())
    assert all(torch.equal(one, two) for one, two in zip(tokens_and_attention(patcher), whole, strict=True))
    patcher.detach()
    patcher.load(torch.device("cpu"), full_load=True)
    assert all(torch.equal(one, two) for one, two in zip(tokens_and_attention(patcher), whole, strict=True))


@pytest.mark.parametrize("memory", ["whole", "low"])
@pytest.mark.parametrize("kind", ["Q8_0", FP8])
def test_a_lora_on_packed_weights_is_refused(load: Callable[[str], Any], kind: str, memory: str) -> None:
    patcher = load(kind)
    before = tokens_and_attention(patcher)
    assert patcher.add_patches({f"{PROJ}.weight": (torch.ones(640, 640),)}) == [f"{PROJ}.weight"]

    def use() -> None:
        patcher.load(torch.device("cpu"), **({"full_load": True} if memory == "whole" else {"lowvram_model_memory": 1}))
        tokens_and_attention(patcher)

    with pytest.raises(LongTalkError, match="no LoRA on an InfiniteTalk file in fp8 or GGUF"):
        use()
    patcher.patches.clear()
    patcher.detach()
    assert all(torch.equal(one, two) for one, two in zip(tokens_and_attention(patcher), before, strict=True))


def test_a_lora_is_refused_with_dynamic_vram_too(comfy: ModuleType) -> None:
    """There ComfyUI would add it to the bytes while it copies them."""
    layer = packed_linear("Q8_0")
    layer.weight_lowvram_function = lambda weight: weight
    with pytest.raises(LongTalkError, match="no LoRA"):
        layer(torch.zeros(1, COLUMNS))


def test_a_lora_on_the_layers_beside_them_works(load: Callable[[str], Any]) -> None:
    patcher = load("Q8_0")
    bias = patcher.model.get_submodule(PROJ).bias.clone()
    patcher.add_patches({f"{PROJ}.bias": (torch.ones(640),)})
    patcher.load(torch.device("cpu"), full_load=True)
    assert torch.equal(patcher.model.get_submodule(PROJ).bias, bias + 1)
    patcher.detach()
    assert torch.equal(patcher.model.get_submodule(PROJ).bias, bias)


# ---------------------------------------------------------------- the node


@pytest.fixture
def folder(comfy: ModuleType, tmp_path: Path) -> Any:
    """A folder of ours among ComfyUI's for patches."""
    import folder_paths

    folder_paths.add_model_folder_path("model_patches", str(tmp_path))
    yield tmp_path
    folder_paths.folder_names_and_paths["model_patches"][0].remove(str(tmp_path))
    folder_paths.filename_list_cache.pop("model_patches", None)


def test_gguf_files_are_in_our_list_and_in_nobody_else_s(folder: Path, write: Callable[[str], Path]) -> None:
    import folder_paths

    import longtalk.nodes
    import nodes

    before = {name: set(kinds[1]) for name, kinds in folder_paths.folder_names_and_paths.items()}
    (folder / "deeper").mkdir()
    (folder / "deeper" / "Q8.GGUF").symlink_to(write("Q8_0"))
    (folder / "fp8.safetensors").symlink_to(write(FP8))
    (folder / "notes.txt").touch()

    (options,) = (each.options for each in longtalk.nodes.LongTalkLoadPatch.define_schema().inputs)
    assert options == ["deeper/Q8.GGUF", "fp8.safetensors"]
    assert "deeper/Q8.GGUF" not in folder_paths.get_filename_list("model_patches")
    assert {name: set(kinds[1]) for name, kinds in folder_paths.folder_names_and_paths.items()} == before
    assert nodes is not longtalk.nodes
    for name in options:
        assert len(longtalk.nodes.LongTalkLoadPatch.execute(name).result[0].model.blocks) == 2


def test_another_pack_may_list_them_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import folder_paths

    import longtalk.nodes

    (folder / "a.gguf").touch()
    paths, kinds = folder_paths.folder_names_and_paths["model_patches"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "model_patches", (paths, {*kinds, ".gguf"}))
    folder_paths.filename_list_cache.pop("model_patches", None)
    (options,) = (each.options for each in longtalk.nodes.LongTalkLoadPatch.define_schema().inputs)
    assert options == ["a.gguf"]
