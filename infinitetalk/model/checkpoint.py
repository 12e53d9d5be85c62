"""Reads an InfiniteTalk file: the weights in their own dtypes, or a clear word about what the file is instead."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...base.errors import FileError
from ...base.tensors import described, is_finite
from ...base.wav2vec2 import LAYERS as AUDIO_LAYERS
from ...base.wav2vec2 import WIDTH as AUDIO_WIDTH
from .audio_attention import AUDIO_HEADS
from .audio_projection import AUDIO_WINDOW, LATER_WINDOW
from .gguf_file import GGUFFile, is_gguf, open_gguf
from .quantised import FP8_DTYPES, PackedWeight
from .tensor_file import TensorFile, open_tensors

log = logging.getLogger(__name__)

WANTED = "an InfiniteTalk patch (wan2.1_infiniteTalk_single_fp16.safetensors, ..._multi_fp16.safetensors or a GGUF)"
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)
#: The largest weight: a larger one would be infinite in half precision.
LARGEST = 65504.0
#: How the names of the factors of scaled fp8 weights end.
SCALES = ("scale_weight", "weight_scale")
PER_FRAME = AUDIO_LAYERS * AUDIO_WIDTH

#: The most blocks, 25 times those of the 14B model: the number in a file says how many are built.
_OURS = re.compile(
    r"audio_proj\.(proj1|proj1_vf|proj2|proj3|norm)\.(weight|bias)"
    r"|blocks\.(0|[1-9][0-9]{0,2})\.(audio_cross_attn\.(q_linear|kv_linear|proj)|norm_x)\.(weight|bias)"
)

#: Parts of weight names that tell what a file is, the most telling first, and where such a file belongs.
_KINDS = (
    (("lora_up.", "lora_A.", "lora_down."), "a LoRA", "Load it with Load LoRA (Model Only)"),
    (("feature_extractor.conv_layers.",), "a speech encoder", "Load it with Load Audio Encoder"),
    (("vision_model.", "visual.transformer."), "a CLIP vision model", "Load it with Load CLIP Vision"),
    (("shared.weight", "encoder.block.0.", "text_model."), "a text encoder", "Load it with Load CLIP"),
    (("decoder.middle.", "decoder.conv_in.", "decoder.conv1."), "a VAE", "Load it with Load VAE"),
    (
        ("self_attn.q.weight", "attn.to_q.weight", "patch_embedding."),
        "a diffusion model",
        "Load it with Load Diffusion Model",
    ),
)


def _kind_of(keys: list[str]) -> tuple[str, str]:
    for fragments, kind, action in _KINDS:
        if any(fragment in key for key in keys for fragment in fragments):
            return kind, action
    such_as = ", ".join(key[:60] for key in keys[:3]) or "none"
    return f"an unknown file with keys such as {such_as}", "Choose the InfiniteTalk file"


@dataclass(frozen=True)
class PatchSizes:
    """What the shapes of a file say about its model.

    Attributes:
        width: the hidden size of the diffusion model that the file was made for.
        layers: how many transformer blocks that model has.
        intermediate, tokens, audio_width: see :class:`~.audio_projection.AudioProjection`.
    """

    width: int
    layers: int
    intermediate: int
    tokens: int
    audio_width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight of the model, by name."""
        linears = {
            "audio_proj.proj1": (self.intermediate, AUDIO_WINDOW * PER_FRAME),
            "audio_proj.proj1_vf": (self.intermediate, LATER_WINDOW * PER_FRAME),
            "audio_proj.proj2": (self.intermediate, self.intermediate),
            "audio_proj.proj3": (self.tokens * self.audio_width, self.intermediate),
        }
        norms = {"audio_proj.norm": self.audio_width}
        for block in range(self.layers):
            linears[f"blocks.{block}.audio_cross_attn.q_linear"] = (self.width, self.width)
            linears[f"blocks.{block}.audio_cross_attn.kv_linear"] = (2 * self.width, self.audio_width)
            linears[f"blocks.{block}.audio_cross_attn.proj"] = (self.width, self.width)
            norms[f"blocks.{block}.norm_x"] = self.width
        out: dict[str, tuple[int, ...]] = {}
        for name, shape in linears.items():
            out[f"{name}.weight"], out[f"{name}.bias"] = shape, shape[:1]
        for name, width in norms.items():
            out[f"{name}.weight"] = out[f"{name}.bias"] = (width,)
        return out


@dataclass(frozen=True)
class PatchFile:
    """An InfiniteTalk file in memory, about as large as on disk.

    Attributes:
        weights: by the names of :class:`~.audio_attention.InfiniteTalkModel`, finite.
        packed: the matrices in fp8 or in GGUF's block formats, by the same names; there are no further weights.
    """

    weights: dict[str, torch.Tensor]
    packed: dict[str, PackedWeight]
    sizes: PatchSizes

    @property
    def kinds(self) -> str:
        """The formats that the matrices are kept in, the most frequent first: "Q4_K, Q6_K, float32"."""
        matrices = [str(each.dtype).removeprefix("torch.") for each in self.weights.values() if each.ndim == 2]
        counts = Counter([*(each.kind for each in self.packed.values()), *matrices])
        return ", ".join(kind for kind, _ in counts.most_common())


def _size(name: str, shapes: Mapping[str, tuple[int, ...]], weight: str, dimensions: int) -> int:
    """The first dimension of a weight, which must be there and have so many dimensions."""
    shape = shapes.get(weight)
    if shape is None or len(shape) != dimensions or 0 in shape:
        raise FileError(
            name,
            expected=f"all InfiniteTalk weights, {weight} with {dimensions} dimension(s)",
            actual="none of that name" if shape is None else f"one of shape {list(shape)}",
            action="Download the file again",
        )
    return shape[0]


def _sizes(name: str, shapes: Mapping[str, tuple[int, ...]]) -> PatchSizes:
    """The sizes of the model that the shapes belong to; every shape must be the one that this model needs.

    Memory is reserved only after that: then the weights together are as large as the file.
    """
    blocks = {int(match[3]) for weight in shapes if (match := _OURS.fullmatch(weight)) and match[3]}
    if not blocks:
        raise FileError(
            name, expected="all InfiniteTalk weights", actual="no transformer blocks", action="Download the file again"
        )
    audio_width = _size(name, shapes, "audio_proj.norm.weight", 1)
    sizes = PatchSizes(
        width=_size(name, shapes, f"blocks.{min(blocks)}.norm_x.weight", 1),
        layers=max(blocks) + 1,
        intermediate=_size(name, shapes, "audio_proj.proj1.weight", 2),
        tokens=_size(name, shapes, "audio_proj.proj3.weight", 2) // audio_width,
        audio_width=audio_width,
    )
    wanted = sizes.shapes()
    missing = [weight for weight in wanted if weight not in shapes]
    if missing:
        raise FileError(
            name,
            expected="all InfiniteTalk weights",
            actual=f"{len(missing)} missing, such as {missing[0]}",
            action="Download the file again",
        )
    if sizes.width % AUDIO_HEADS:
        raise FileError(
            name,
            expected=f"a hidden size divisible by {AUDIO_HEADS}",
            actual=str(sizes.width),
            action="Choose another InfiniteTalk file",
        )
    for weight, shape in wanted.items():
        if shapes[weight] != shape:
            raise FileError(
                name,
                expected=f"{weight} of shape {list(shape)}",
                actual=str(list(shapes[weight])),
                action="Choose an InfiniteTalk or MultiTalk file made for wav2vec2-base features",
            )
    return sizes


def _scale_name(weight: str, known: Mapping[str, object]) -> str | None:
    """The name of a scaled fp8 weight's factor, of which there are two conventions."""
    stem = weight.removesuffix("weight")
    return next((stem + end for end in SCALES if stem != weight and stem + end in known), None)


def _fp8(name: str, weight: str, tensor: torch.Tensor, scale: torch.Tensor | None) -> PackedWeight:
    """A float8 matrix with its factor.

    Raises:
        LongTalkError: the factor has another shape or kind.
    """
    rows = tensor.shape[0]
    if scale is not None:
        if not scale.is_floating_point() or not (scale.numel() == 1 or scale.shape in ((rows,), (rows, 1))):
            raise FileError(
                name,
                expected=f"one factor for {weight}, or one per row",
                actual=described(scale),
                action="Choose the fp16 file, or download this one again",
            )
        scale = scale.float().reshape(-1, 1)
    return PackedWeight(str(tensor.dtype).removeprefix("torch."), tensor, scale)


def _checked(name: str, weight: str, value: torch.Tensor | PackedWeight) -> torch.Tensor | PackedWeight:
    """The weight, which must be of a kind that can be computed with.

    Raises:
        LongTalkError: it has another kind of numbers, or NaN or infinite values.
    """
    if isinstance(value, torch.Tensor) and value.dtype not in PRECISIONS:
        raise FileError(
            name,
            expected=f"{weight} in fp32, fp16, bf16 or fp8",
            actual=described(value),
            action="Choose a file in one of these precisions",
        )
    if not (is_finite(value) if isinstance(value, torch.Tensor) else value.largest() <= LARGEST):
        raise FileError(
            name, expected="finite weights", actual=f"NaN or infinity in {weight}", action="Download the file again"
        )
    return value


def _read_tensors(
    file: TensorFile, sources: Mapping[str, str], wanted: Iterable[str]
) -> dict[str, torch.Tensor | PackedWeight]:
    """The weights of a safetensors file: float8 matrices stay packed, float8 vectors become float16."""
    scales = {weight: sources[found] for weight in wanted if (found := _scale_name(weight, sources))}
    raw = file.read([*(sources[weight] for weight in wanted), *scales.values()])
    out: dict[str, torch.Tensor | PackedWeight] = {}
    for weight in wanted:
        tensor = raw[sources[weight]]
        if tensor.dtype not in FP8_DTYPES:
            out[weight] = tensor
        elif tensor.ndim == 2:
            out[weight] = _fp8(file.path.name, weight, tensor, raw[scales[weight]] if weight in scales else None)
        else:
            out[weight] = tensor.half()
    return out


def read_patch(path: Path) -> PatchFile:
    """Read an InfiniteTalk file, safetensors or GGUF, whatever its name ends with.

    The weights stay as the file has them: fp32, fp16 and bf16 as tensors, fp8 and GGUF's block formats packed. Names
    and shapes are checked before any weight is read.

    Raises:
        LongTalkError: neither of the two formats, not InfiniteTalk (the message says what it is), a type of numbers
            that is not supported, incomplete or damaged.
    """
    file = open_gguf(path, WANTED) if is_gguf(path) else open_tensors(path, WANTED)
    sources = {name: name for name in file.shapes}
    for prefix in PREFIXES:
        sources = {name.removeprefix(prefix): source for name, source in sources.items()}
    shapes = {name: file.shapes[source] for name, source in sources.items()}
    if "audio_proj.proj1.weight" not in shapes:
        kind, action = _kind_of(list(shapes))
        if isinstance(file, GGUFFile):
            action = "Choose the InfiniteTalk file; other GGUF files have loaders of their own"
        raise FileError(path.name, expected=WANTED, actual=kind, action=action)
    sizes = _sizes(path.name, shapes)
    wanted = sizes.shapes()
    others = sorted(name for name in sources if name not in wanted and not name.endswith((*SCALES, "scaled_fp8")))
    if others:
        log.info("%s: %d other tensors ignored, such as %s", path.name, len(others), others[0])
    if isinstance(file, TensorFile):
        found = _read_tensors(file, sources, wanted)
    else:
        raw = file.read([sources[weight] for weight in wanted])
        found = {weight: raw[sources[weight]] for weight in wanted}
    found = {weight: _checked(path.name, weight, value) for weight, value in found.items()}
    return PatchFile(
        {weight: value for weight, value in found.items() if isinstance(value, torch.Tensor)},
        {weight: value for weight, value in found.items() if isinstance(value, PackedWeight)},
        sizes,
    )
