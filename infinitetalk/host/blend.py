"""Mixing prompts: one CONDITIONING out of several, by weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..errors import LongTalkError
from ..tensors import described, is_plain
from ..values import shown

_SUM_SLACK = 1e-6

Part = tuple[Any, float]
"""(CONDITIONING, weight)"""


def blend_conditioning(parts: Sequence[Part]) -> Any:
    """The weighted sum of texts and pooled outputs, entry by entry.

    Texts ``[1, tokens, width]`` of fewer tokens are padded with zeros to the longest, and attention masks
    ``[1, tokens]`` are united; pooled outputs are averaged over the parts that have one. What else an entry carries
    comes from the heaviest part, the first of equals. For two prompts of the same length this is what ComfyUI's
    ConditioningAverage computes (``nodes.py``, ``addWeighted``); that node cuts a longer second prompt off.

    Args:
        parts: conditionings with as many entries each, and weights of 0 or more that add up to 1.

    Returns:
        A new CONDITIONING; the very object when only one part has a weight.

    Raises:
        LongTalkError: weights that do not add up to 1, conditionings that cannot be mixed.
    """
    check_blend(parts)
    heavy = [(conditioning, weight) for conditioning, weight in parts if weight > 0]
    if len(heavy) == 1:
        return heavy[0][0]
    heaviest = max(range(len(heavy)), key=lambda place: heavy[place][1])
    weights = [weight for _, weight in heavy]
    entries = zip(*(conditioning for conditioning, _ in heavy), strict=True)
    return [_blended(list(each), weights, heaviest) for each in entries]


def check_blend(parts: Sequence[Part], names: Sequence[str] = ()) -> None:
    """Whether :func:`blend_conditioning` can mix these.

    Args:
        parts: as it takes them.
        names: what messages call them; numbers from 1 where it is left out.

    Raises:
        LongTalkError
    """
    weights = [weight for _, weight in parts]
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or abs(sum(weights) - 1) > _SUM_SLACK:
        raise LongTalkError(
            "weights of the prompts",
            expected="0 or more each, 1 together",
            actual=shown(weights),
            action="Divide each by their sum",
        )
    names = names or [f"prompt {number}" for number in range(1, len(parts) + 1)]
    shapes: list[tuple[str, list[tuple[int, ...]]]] = []
    for name, (conditioning, weight) in zip(names, parts, strict=True):
        if weight > 0:
            shapes.append((name, list(_shapes(name, conditioning))))
    first, wanted = shapes[0]
    for name, found in shapes[1:]:
        if found != wanted:
            raise LongTalkError(
                name,
                expected=f"a conditioning that mixes with {first}: {_words(wanted)}",
                actual=_words(found),
                action="Encode both with the same text encoder and the same nodes, or set blend_s to 0",
            )


def _shapes(name: str, conditioning: Any) -> Iterator[tuple[int, ...]]:
    """Of each entry the sizes that must agree: batch, width and those of the pooled output."""
    entries = conditioning if isinstance(conditioning, (list, tuple)) else []
    if not entries:
        raise LongTalkError(
            name, expected="CONDITIONING", actual=described(conditioning), action="Connect a text encoder"
        )
    for entry in entries:
        text = entry[0] if isinstance(entry, (list, tuple)) and len(entry) == 2 else None
        if not is_plain(text) or text.ndim != 3 or not text.is_floating_point() or not isinstance(entry[1], dict):
            raise LongTalkError(
                name,
                expected="a text [1, tokens, width] and a dictionary",
                actual=described(text if text is not None else entry),
                action="Connect a text encoder",
            )
        yield text.shape[0], text.shape[2]


def _words(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(f"[{batch}, tokens, {width}]" for batch, width in shapes)


def _blended(entries: Sequence[Any], weights: Sequence[float], heaviest: int) -> list[Any]:
    texts, extras = [entry[0] for entry in entries], [entry[1] for entry in entries]
    like = texts[heaviest]
    tokens = max(text.shape[1] for text in texts)
    mixed = _sum([_padded(text.to(like), tokens) for text in texts], weights)
    extra = dict(extras[heaviest])
    pooled = [
        (each, weight) for each, weight in zip(_of(extras, "pooled_output"), weights, strict=True) if each is not None
    ]
    if pooled:
        whole = sum(weight for _, weight in pooled)
        shares = [weight / whole for _, weight in pooled] if len(pooled) < len(weights) else list(weights)
        tensors = [each for each, _ in pooled]
        if any(each.shape != tensors[0].shape for each in tensors):
            raise LongTalkError(
                "pooled outputs of the prompts",
                expected="the same shape",
                actual=" and ".join(described(each) for each in tensors),
                action="Encode all prompts with the same text encoder",
            )
        extra["pooled_output"] = _sum([each.to(tensors[0]) for each in tensors], shares)
    masks = _of(extras, "attention_mask")
    if any(mask is not None for mask in masks):
        padded = [
            torch.ones_like(text[..., 0]) if mask is None else mask for mask, text in zip(masks, texts, strict=True)
        ]
        kind = next(mask for mask in masks if mask is not None)
        extra["attention_mask"] = torch.stack([_padded(mask.to(kind), tokens) for mask in padded]).amax(0)
    return [mixed, extra]


def _of(extras: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return [extra.get(name) for extra in extras]


def _padded(values: torch.Tensor, tokens: int) -> torch.Tensor:
    """``[1, tokens, ...]``, zeros after the end."""
    missing = tokens - values.shape[1]
    if missing == 0:
        return values
    return torch.cat([values, values.new_zeros((values.shape[0], missing, *values.shape[2:]))], dim=1)


def _sum(values: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total = total + value * weight
    return total
