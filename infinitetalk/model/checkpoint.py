"""Reads an InfiniteTalk file: the weights in their own dtypes, or a clear word about what the file is instead."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...base.errors import FileError
from ...base.tensors import is_finite
from ...base.wav2vec2 import LAYERS as AUDIO_LAYERS
from ...base.wav2vec2 import WIDTH as AUDIO_WIDTH
from .audio_attention import AUDIO_HEADS
from .audio_projection import AUDIO_WINDOW, LATER_WINDOW
from .file_kinds import is_quanto, kind_of
from .gguf_file import GGUFFile, is_gguf, open_gguf
from .packing import BESIDE, FP8, PRECISIONS, check_kinds, factor_of
from .quantised import FP8_DTYPES, PackedWeight
from .tensor_file import TensorFile, open_tensors

WANTED = "an InfiniteTalk patch (wan2.1_infiniteTalk_single_fp16.safetensors, ..._multi_fp16.safetensors or a GGUF)"
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
#: The largest weight: a larger one would be infinite in half precision.
LARGEST = 65504.0
PER_FRAME = AUDIO_LAYERS * AUDIO_WIDTH

_NAMES = {**PRECISIONS, **FP8}

#: The most blocks, 25 times those of the 14B model: the number in a file says how many are built.
_BLOCK = r"blocks\.(0|[1-9][0-9]{0,2})\."
_OURS = re.compile(
    r"audio_proj\.(proj1|proj1_vf|proj2|proj3|norm)\.(weight|bias)"
    rf"|{_BLOCK}(audio_cross_attn\.(q_linear|kv_linear|proj)|norm_x)\.(weight|bias)"
)
#: Whatever lies in the audio layers.
_AUDIO_LAYERS = re.compile(rf"(audio_proj|{_BLOCK}(audio_cross_attn|norm_x))\.")


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


def _check_layers(name: str, others: Iterable[str]) -> None:
    """Refuse audio layers with weights that InfiniteTalk's do not have; without those they compute something else.

    Raises:
        LongTalkError
    """
    strange = next((other for other in others if _AUDIO_LAYERS.match(other)), None)
    if strange is not None:
        raise FileError(
            name,
            expected=WANTED,
            actual=f"audio layers of another model, with {strange[:80]}",
            action="Choose the InfiniteTalk file",
        )


@dataclass(frozen=True)
class PatchHeader:
    """An InfiniteTalk file of which everything was checked that can be without reading a weight.

    Attributes:
        weights: the file's name of each weight, by the names of :class:`~.audio_attention.InfiniteTalkModel`.
        factors: the file's name of the factor of each scaled fp8 weight, by the weight's name.
        others: how many tensors the file has that are neither weights of the model nor lie beside them.
    """

    file: TensorFile | GGUFFile
    sizes: PatchSizes
    weights: dict[str, str]
    factors: dict[str, str]
    others: int

    @property
    def kinds(self) -> str:
        """The formats that the matrices are kept in, the most frequent first: "Q4_K, Q6_K, float32"."""
        matrices = [source for source in self.weights.values() if len(self.file.shapes[source]) == 2]
        counts = Counter(_NAMES.get(self.file.kinds[source], self.file.kinds[source]) for source in matrices)
        return ", ".join(kind for kind, _ in counts.most_common())

    def __str__(self) -> str:
        """For people: "InfiniteTalk, width 5120, 40 blocks, 330 tensors, float16"."""
        sizes = f"width {self.sizes.width}, {self.sizes.layers} blocks, {len(self.weights)} tensors"
        others = f"; other tensors in the file, which are not read: {self.others}" if self.others else ""
        return f"InfiniteTalk, {sizes}, {self.kinds}{others}"

    def read(self) -> PatchFile:
        """The weights as the file has them: fp32, fp16 and bf16 as tensors, fp8 and GGUF's block formats packed.

        Raises:
            LongTalkError: a weight is NaN, infinite or larger than half precision holds; the file was changed.
        """
        raw = self.file.read([*self.weights.values(), *self.factors.values()])
        found = {name: self._value(raw, name) for name in self.weights}
        for name, value in found.items():
            if not (is_finite(value) if isinstance(value, torch.Tensor) else value.largest() <= LARGEST):
                raise FileError(
                    self.file.path.name,
                    expected="finite weights",
                    actual=f"NaN or infinity in {name}",
                    action="Download the file again",
                )
        return PatchFile(
            {name: value for name, value in found.items() if isinstance(value, torch.Tensor)},
            {name: value for name, value in found.items() if isinstance(value, PackedWeight)},
            self.sizes,
        )

    def _value(self, raw: Mapping[str, torch.Tensor | PackedWeight], name: str) -> torch.Tensor | PackedWeight:
        """A weight; float8 matrices stay packed, float8 vectors become float16."""
        value = raw[self.weights[name]]
        if isinstance(value, PackedWeight) or value.dtype not in FP8_DTYPES:
            return value
        if value.ndim != 2:
            return value.half()
        scale = raw.get(self.factors.get(name, ""))
        factor = scale.float().reshape(-1, 1) if isinstance(scale, torch.Tensor) else None
        return PackedWeight(str(value.dtype).removeprefix("torch."), value, factor)


def open_patch(path: Path) -> PatchHeader:
    """Read the header of an InfiniteTalk file, safetensors or GGUF, whatever its name ends with.

    Raises:
        LongTalkError: neither of the two formats, not InfiniteTalk (the message says what it is), a type of numbers
            that is not supported, incomplete or damaged.
    """
    file = open_gguf(path, WANTED) if is_gguf(path) else open_tensors(path, WANTED)
    sources = {name: name for name in file.shapes}
    for prefix in PREFIXES:
        sources = {name.removeprefix(prefix): source for name, source in sources.items()}
    if "audio_proj.proj1.weight" not in sources or is_quanto(sources):
        kind, action = kind_of(sources)
        if isinstance(file, GGUFFile):
            action = "Choose the InfiniteTalk file; other GGUF files have loaders of their own"
        raise FileError(path.name, expected=WANTED, actual=kind, action=action)
    ours = [name for name in sources if _OURS.fullmatch(name)]
    if isinstance(file, TensorFile):
        check_kinds(file, ours, sources)
    else:
        file.check_kinds(sources[name] for name in ours)
    sizes = _sizes(path.name, {name: file.shapes[source] for name, source in sources.items()})
    wanted = sizes.shapes()
    others = [name for name in sources if name not in wanted and not name.endswith(BESIDE)]
    _check_layers(path.name, others)
    factors: dict[str, str] = {}
    if isinstance(file, TensorFile):
        found = {name: factor_of(file, name, sources) for name in wanted}
        factors = {name: factor for name, factor in found.items() if factor is not None}
    return PatchHeader(file, sizes, {name: sources[name] for name in wanted}, factors, len(others))
