"""What a careless or malicious node could hand to another: values of the wrong kind, shape, size or number.

Every strategy draws a :class:`Sent`: the value, and a label that tells it apart from every other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

NAN, INF = math.nan, math.inf


class Sent:
    """One value and what it is, in words."""

    def __init__(self, label: str, value: Any) -> None:
        self.label = label
        self.value = value

    def __repr__(self) -> str:
        return self.label


Strategy = st.SearchStrategy[Sent]


def sent(*values: Any) -> Strategy:
    """One of these values, labelled by what Python writes for it."""
    return st.sampled_from([Sent(_label(value), value) for value in values])


def either(*strategies: Strategy) -> Strategy:
    return st.one_of(*strategies)


def mostly(good: Any, *strategies: Strategy) -> Strategy:
    """The good value more often than not, so that another thing can be wrong."""
    return st.one_of(sent(good), sent(good), *strategies)


def _label(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**30:
        return f"{value.bit_length()} bits"
    if isinstance(value, torch.Tensor):
        return f"tensor {value.dtype} {list(value.shape)}"
    return repr(value)[:100] if isinstance(value, (int, float, str, bytes, list, tuple, dict)) else str(type(value))


class Raises:
    """An object whose every item fails to load."""

    def __getitem__(self, key: str) -> Any:
        raise OSError(f"{key}: the device is gone")


ANYTHING = sent(
    *(None, True, False, 0, -1, 3, 2.5, NAN, INF, -INF, 10**40, 10**5000, 1j),
    *("", "text", "\x00", "\ud800", b"bytes", [], [1], [None], {}, {"a": 1}, (), (1, 2), {3}, range(3)),
    *(object(), object, dict, SimpleNamespace(), SimpleNamespace(model=None), Raises(), lambda: 1, np.zeros(3)),
    *(torch.zeros(3), torch.tensor(5), torch.zeros(0), torch.zeros(2, 3, device="meta"), torch.zeros(1, 4096)),
)

WHOLE = sent(*(0, -1, 1.5, "7", NAN, None, True, 10**9, 2**31, 2**63, -(2**63), 10**40, np.int64(-3), [4], ""))
NUMBERS = sent(
    *(NAN, INF, -INF, 1e30, -1e30, 1e-300, "1", None, True, 10**400, 1j, [1.0], np.float64("nan"), ""),
    *(Fraction(5, 2), torch.tensor(2.5)),
)
WINDOW = either(sent(*(5, 9, 13, 4, 6, 12, -3, 242, 245, 100_001)), WHOLE)
MOTION = either(sent(*(1, 5, 9, 13, 17, 4, -3, 1001)), WHOLE)
STEPS = either(sent(*(1, 2, 10_001, -5)), WHOLE)
WORDS = sent(*("", "EXACT", "exact ", "h264\x00", "\ud800", None, 3, NAN, ["h264"], {"a": 1}, b"h264", "x" * 10**6))
RERENDER = either(sent("1:7", "2:7", "1:", "1:-1", "1:1, 1:2", ":", "," * 9, f"1:{2**64}", "9" * 50 + ":1"), WORDS)

DTYPES = [
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.complex64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
]
FILLS = ("noise", "noise", "zeros", "one NaN", "NaN", "inf", "1e38", "32768", "-3", "1e-42")
LAYOUTS = (
    *("plain", "plain", "plain", "every other", "expanded", "transposed", "needs grad", "inference"),
    *("terabytes", "billions", "meta", "sparse", "numpy", "reversed numpy", "big-endian numpy", "long numpy", "list"),
)


def _filled(shape: Sequence[int], fill: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    out = torch.rand(tuple(shape), generator=generator) * 0.8 + 0.1
    constants = {"zeros": 0.0, "NaN": NAN, "inf": INF, "1e38": 1e38, "32768": 32768.0, "-3": -3.0, "1e-42": 1e-42}
    if fill in constants:
        out.fill_(constants[fill])
    elif fill == "one NaN" and out.numel():
        out.view(-1)[seed % out.numel()] = NAN
    return out


def _in_layout(tensor: torch.Tensor, layout: str) -> Any:
    if layout == "every other" and tensor.ndim:
        return tensor.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == "expanded" and tensor.numel() and tensor.ndim:
        return tensor[..., :1].expand(tensor.shape)
    if layout == "terabytes" and tensor.numel():
        return tensor.reshape(-1)[0].expand(*tensor.shape[:-1], 10**12)
    if layout == "billions" and tensor.numel() and tensor.ndim:
        return tensor.reshape(-1)[0].expand(10**10, *tensor.shape[1:])
    if layout == "transposed" and tensor.ndim > 1:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "needs grad" and tensor.is_floating_point():
        return tensor.detach().clone().requires_grad_()
    if layout == "inference":
        with torch.inference_mode():
            return tensor.clone()
    if layout == "meta":
        return tensor.to("meta")
    if layout == "sparse" and tensor.ndim and tensor.dtype in (torch.float32, torch.float64):
        return tensor.to_sparse()
    if layout.endswith("numpy") and tensor.dtype not in (torch.bfloat16, torch.float8_e4m3fn):
        array = tensor.numpy()
        kinds: dict[str, Callable[[], np.ndarray]] = {
            "numpy": lambda: array,
            "reversed numpy": lambda: array[..., ::-1] if array.ndim else array,
            "big-endian numpy": lambda: array.astype(array.dtype.newbyteorder(">")),
            "long numpy": lambda: array.astype(np.longdouble) if array.dtype.kind == "f" else array,
        }
        return kinds[layout]()
    return tensor.tolist() if layout == "list" and tensor.numel() < 5000 else tensor


@st.composite
def tensors(draw: st.DrawFn, *shapes: tuple[int, ...], usual: tuple[int, ...]) -> Sent:
    """A tensor with at least one thing odd about it, most of the time."""
    odd = draw(st.sampled_from(["shape", "dtype", "fill", "layout", "several"]))
    shape = draw(st.sampled_from(shapes)) if odd in ("shape", "several") else usual
    dtype = draw(st.sampled_from(DTYPES)) if odd in ("dtype", "several") else torch.float32
    fill = draw(st.sampled_from(FILLS)) if odd in ("fill", "several") else "noise"
    layout = draw(st.sampled_from(LAYOUTS)) if odd in ("layout", "several") else "plain"
    seed = draw(st.integers(0, 99)) if fill == "one NaN" else 0
    label = f"{layout} {str(dtype).removeprefix('torch.')} {list(shape)} {fill} {seed}"
    return Sent(label, _in_layout(_filled(shape, fill, seed).to(dtype), layout))


@st.composite
def items(draw: st.DrawFn, **strategies: Strategy) -> Sent:
    """A dictionary with one value for each key, now and then without one of them."""
    drawn = {key: draw(strategy) for key, strategy in strategies.items()}
    if draw(st.integers(0, 9)) == 0:
        del drawn[draw(st.sampled_from(sorted(drawn)))]
    return Sent(f"{drawn}", {key: each.value for key, each in drawn.items()})


def wrapped(strategy: Strategy, wrap: Callable[[Any], Any], label: str) -> Strategy:
    return strategy.map(lambda each: Sent(f"{label} {each}", wrap(each.value)))


# ---------------------------------------------------------------- what ComfyUI's types hold


WAVEFORMS = tensors(
    *((), (0,), (1,), (6400,), (1, 6400), (6400, 1), (1, 1, 0), (0, 1, 6400), (1, 0, 6400), (1, 1, 1), (1, 1, 639)),
    *((2, 1, 6400), (1, 1, 1, 6400), (1, 2, 6400), (1, 9, 700), (1, 640, 640), (1, 1, 1000)),
    usual=(1, 1, 6400),
)
RATES = either(sent(*(16000, 16000, 44100, 1000, 768_000, 8001, 16000.0, torch.tensor(16000), np.int64(16000))), WHOLE)
AUDIO = either(
    items(waveform=either(WAVEFORMS, ANYTHING), sample_rate=sent(16000)),
    items(waveform=WAVEFORMS, sample_rate=sent(16000)),
    items(waveform=mostly(torch.full((1, 1, 6400), 0.5)), sample_rate=RATES),
    ANYTHING,
)

MASKS = either(
    tensors(
        *((), (0,), (64,), (48, 64), (64, 48), (1, 48, 64), (2, 48, 64), (1, 0, 64), (1, 48, 64, 3), (1, 1), (1, 1, 1)),
        usual=(1, 48, 64),
    ),
    ANYTHING,
)

IMAGES = either(
    tensors(
        *((), (48, 64, 3), (1, 48, 64), (1, 48, 64, 1), (1, 48, 64, 2), (1, 48, 64, 4), (1, 3, 48, 64), (2, 48, 64, 3)),
        *((1, 0, 64, 3), (0, 48, 64, 3), (1, 1, 1, 3), (1, 1, 300, 3), (1, 48, 64, 3, 1)),
        usual=(1, 48, 64, 3),
    ),
    ANYTHING,
)

SIDES = either(sent(16, 33, 48, 8, 15, 17, 4097, 10**6, -48), WHOLE)

TEXTS = tensors(
    *((), (4096,), (7, 4096), (1, 0, 4096), (0, 7, 4096), (2, 7, 4096), (1, 7, 4095), (1, 7, 768), (1, 1, 7, 4096)),
    *((1, 4096, 7), (1, 1, 4096)),
    usual=(1, 7, 4096),
)

HIDDEN = tensors(
    *((), (1280,), (257, 1280), (1, 257, 1024), (1, 0, 1280), (2, 257, 1280), (1, 1, 1280), (1, 257, 1280, 1)),
    usual=(1, 257, 1280),
)


def vision(hidden: Any) -> SimpleNamespace:
    return SimpleNamespace(penultimate_hidden_states=hidden, last_hidden_state=None, image_embeds=None)


VISION = either(wrapped(HIDDEN, vision, "vision of"), wrapped(ANYTHING, vision, "vision of"), ANYTHING)

EXTRA_NUMBERS = ("strength", "mask_strength", "start_percent", "end_percent", "timestep_start")
EXTRA_OBJECTS = ("control", "hooks", "gligen", "model_conds", "reference_latents", "area", "pooled_output", "my_own")


@st.composite
def extras(draw: st.DrawFn) -> Sent:
    """The dictionary of one conditioning entry."""
    key = draw(st.sampled_from([*EXTRA_NUMBERS, *EXTRA_OBJECTS, "mask", "clip_vision_output", "uuid", "default"]))
    kinds: Mapping[str, Strategy] = {"mask": MASKS, "clip_vision_output": VISION}
    value = draw(kinds.get(key, either(NUMBERS, ANYTHING) if key in EXTRA_NUMBERS else ANYTHING))
    return Sent(f"{key}={value}", {key: value.value})


@st.composite
def conditioning(draw: st.DrawFn) -> Sent:
    """CONDITIONING: wrong texts, wrong extras, wrong nesting."""
    good = torch.full((1, 7, 4096), 0.1)
    odd = draw(st.sampled_from(["text", "text", "extra", "extra", "nesting", "anything"]))
    if odd == "anything":
        return draw(ANYTHING)
    if odd == "text":
        each = draw(either(TEXTS, TEXTS, ANYTHING))
        return Sent(f"text {each}", [[each.value, {}]])
    if odd == "extra":
        each = draw(either(extras(), extras(), extras(), ANYTHING))
        return Sent(f"extra {each}", [[good, each.value]])
    each = draw(ANYTHING)
    return draw(
        st.sampled_from(
            [
                Sent("flat", [good, {}]),
                Sent("no list", good),
                Sent("deeper", [[[good, {}]]]),
                Sent("no extra", [[good]]),
                Sent("three", [[good, {}, {}]]),
                Sent("swapped", [[{}, good]]),
                Sent("a dictionary", {"positive": [[good, {}]]}),
                Sent("tuples", ((good, {}),)),
                Sent("numbered extra", [[good, {1: 2}]]),
                Sent(f"second is {each}", [[good, {}], each.value]),
            ]
        )
    )


def _nested(depth: int) -> Any:
    out: Any = 1
    for _ in range(depth):
        out = [out]
    return out


def _endless() -> Any:
    out: dict[str, Any] = {}
    out["again"] = out
    return out


_TEXT = torch.ones(1, 3, 8)
#: Extras that a file cannot hold, or only by their full name.
NESTED = st.sampled_from(
    [
        Sent("endless", [[_TEXT, _endless()]]),
        Sent("1000 deep", [[_TEXT, {"a": _nested(1000)}]]),
        Sent("3 deep", [[_TEXT, {"a": _nested(3)}]]),
        Sent("an extra named text", [[_TEXT, {"text": torch.zeros(2)}]]),
        Sent("equal names", [[_TEXT, {"a.b": _TEXT, "a": {"b": _TEXT}}]]),
        Sent("names beyond ASCII", [[_TEXT, {"\ud800\x00": _TEXT}]]),
        Sent("long numbers", [[_TEXT, {"a": 10**5000}]]),
        Sent("NaN", [[_TEXT, {"a": NAN, "b": [INF]}]]),
        Sent("complex", [[_TEXT, {"a": _TEXT.to(torch.complex128)}]]),
        Sent("sparse", [[_TEXT, {"a": _TEXT.to_sparse()}]]),
        Sent("meta", [[_TEXT, {"a": _TEXT.to("meta")}]]),
        Sent("ten thousand entries", [[_TEXT, {}]] * 10_000 + [[_TEXT, {"a": object()}]]),
    ]
)

PREFIXES = either(
    sent(*("a", "b/c/d", "%year%", " ", ".", "..", "../up", "/", "/rooted", "a/../../up", "x" * 300, "y/" * 3000)),
    sent(*("nul\x00", "\ud800", "\n", "a\\b", "~", "\U0001f600", "con", "C:\\x", "*?")),
    ANYTHING,
)
