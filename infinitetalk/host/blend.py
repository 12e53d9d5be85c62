"""Several prompts as one conditioning, each by its weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ...base.errors import PromptError, SettingError
from ...base.tensors import described, is_plain
from ...base.values import check_number

Conditioning = list[list[Any]]
Part = tuple[Any, float]
"""(CONDITIONING, weight)"""

_WEIGHT_MAX = 1e6
_ENCODE = "Encode all prompts with the same text encoder"


def blend_conditioning(parts: Sequence[Part]) -> Any:
    """A weighted mean of conditionings.

    Texts shorter than the longest are filled with zeros, as core's ConditioningAverage does (which also cuts longer
    ones; nothing is cut here). ``pooled_output`` is mixed among those that have one, ``attention_mask`` covers what any
    part's covers. All other extras are those of the heaviest part, of the first among equals.

    Args:
        parts: CONDITIONINGs and weights of 0 or more, of which at least one is above 0; their sum counts as one. A part
            of weight 0 is as if it were not there, and a single part comes back as it is. Conditionings of several
            entries are mixed entry by entry; one with a single entry is mixed into each.

    Returns:
        CONDITIONING, new; tensors are those of the first part in kind and device. The very object where only one part
        has a weight.

    Raises:
        LongTalkError: no weight above 0, texts of different encoders, or entries that do not pair up.
    """
    used = [
        (_checked(conditioning, f"conditioning {number}"), value)
        for number, (conditioning, weight) in enumerate(parts, 1)
        if (value := check_number(weight, f"weight {number}", 0.0, _WEIGHT_MAX)) > 0
    ]
    if not used:
        raise SettingError(
            "weights", expected="at least one above 0", actual="none", action="Give one of the prompts a weight"
        )
    if len(used) == 1:
        return used[0][0]
    entries = max(len(conditioning) for conditioning, _ in used)
    for number, (conditioning, _) in enumerate(used, 1):
        if len(conditioning) not in (1, entries):
            raise PromptError(
                f"conditioning {number}",
                expected=f"1 or {entries} entries, as the others have",
                actual=str(len(conditioning)),
                action="Mix the prompts before they are combined",
            )
    return [
        _mixed([(conditioning[index % len(conditioning)], weight) for conditioning, weight in used])
        for index in range(entries)
    ]


def check_blend(parts: Sequence[Part], names: Sequence[str]) -> None:
    """Whether :func:`blend_conditioning` can mix these, without mixing them.

    Args:
        parts: as it takes them.
        names: what messages call them.

    Raises:
        LongTalkError
    """
    shapes = [
        (name, list(_shapes(name, conditioning)))
        for name, (conditioning, weight) in zip(names, parts, strict=True)
        if weight > 0
    ]
    first, wanted = shapes[0]
    for name, found in shapes[1:]:
        if found != wanted:
            raise PromptError(
                name,
                expected=f"a conditioning that mixes with {first}: {_words(wanted)}",
                actual=_words(found),
                action="Encode both with the same text encoder and the same nodes, or set blend_s to 0",
            )


def _shapes(name: str, conditioning: Any) -> Iterator[tuple[int, ...]]:
    """Of each entry's text the sizes that must agree: batch and width."""
    for text, _ in _checked(conditioning, name):
        yield text.shape[0], text.shape[2]


def _words(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(f"[{batch}, tokens, {width}]" for batch, width in shapes)


def _checked(conditioning: Any, name: str) -> Conditioning:
    if not isinstance(conditioning, (list, tuple)) or not conditioning or not all(map(_is_entry, conditioning)):
        raise PromptError(
            name,
            expected="a CONDITIONING with a text [batch, tokens, width] in each entry",
            actual=described(conditioning),
            action="Connect CLIP Text Encode, or Load Conditioning (LongTalk)",
        )
    return conditioning  # type: ignore[return-value]


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, (list, tuple)) or len(entry) != 2 or not isinstance(entry[1], dict):
        return False
    return is_plain(entry[0]) and entry[0].is_floating_point() and entry[0].ndim == 3


def _mixed(entries: Sequence[tuple[Sequence[Any], float]]) -> list[Any]:
    total = sum(weight for _, weight in entries)
    shares = [weight / total for _, weight in entries]
    texts = [text for (text, _), _ in entries]
    extras = [extra for (_, extra), _ in entries]
    tokens = max(text.shape[1] for text in texts)
    mixed = dict(extras[max(range(len(shares)), key=shares.__getitem__)])
    raw = {bool(extra.get("unprocessed_ltxav_embeds")) for extra in extras}
    if len(raw) > 1:
        raise PromptError(
            "conditioning", expected="texts of one encoder", actual="one of them in another form", action=_ENCODE
        )
    pooled = [(extra.get("pooled_output"), share) for extra, share in zip(extras, shares, strict=True)]
    given = [(value, share) for value, share in pooled if value is not None]
    if given:
        mixed["pooled_output"] = _mean([value for value, _ in given], [share for _, share in given], "pooled output")
    masks = [extra.get("attention_mask") for extra in extras]
    if any(mask is not None for mask in masks):
        mixed["attention_mask"] = _union(masks, texts, tokens)
    return [_mean([_filled(text, tokens) for text in texts], shares, "text"), mixed]


def _filled(tensor: torch.Tensor, tokens: int) -> torch.Tensor:
    """``[B, L, D]`` -> ``[B, tokens, D]``, zeros behind."""
    return torch.nn.functional.pad(tensor, (0, 0, 0, tokens - tensor.shape[1]))


def _mean(tensors: Sequence[Any], shares: Sequence[float], what: str) -> torch.Tensor:
    """The weighted mean; it begins at the first and adds differences, so that equal tensors stay what they are."""
    first = tensors[0]
    shapes = {tuple(tensor.shape[1:]) if is_plain(tensor) else None for tensor in tensors}
    if len(shapes) > 1 or None in shapes or len({tensor.shape[0] for tensor in tensors} | {1}) > 2:
        raise PromptError(
            f"{what} of the conditionings",
            expected="the same shape in all",
            actual=", ".join(described(tensor) for tensor in tensors),
            action=_ENCODE,
        )
    base = first.float()
    total = sum(shares)
    mean = base
    for tensor, share in zip(tensors[1:], shares[1:], strict=True):
        mean = mean + (tensor.to(base) - base) * (share / total)
    return mean.to(first.dtype)


def _union(masks: Sequence[Any], texts: Sequence[torch.Tensor], tokens: int) -> torch.Tensor:
    """``[B, tokens]``: where any part has a token to look at. A part without a mask shows all of its own."""
    rows = []
    for mask, text in zip(masks, texts, strict=True):
        row = mask if mask is not None else torch.ones(text.shape[:2])
        if not is_plain(row) or row.ndim != 2 or row.shape[1] != text.shape[1]:
            raise PromptError(
                "attention_mask of the conditionings",
                expected="one value per token [batch, tokens]",
                actual=f"{described(row)} beside {described(text)}",
                action=_ENCODE,
            )
        rows.append(torch.nn.functional.pad(row.to(texts[0].device).float(), (0, tokens - row.shape[1])))
    first = next(mask for mask in masks if mask is not None)
    union = rows[0]
    for row in rows[1:]:
        union = torch.maximum(union, row)
    return union.to(first.dtype)
