"""Prompts mixed by weight: exact where nothing is to be mixed, padded, never cut."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from longtalk.base.errors import LongTalkError


@pytest.fixture(scope="module")
def blend(comfy: ModuleType) -> Any:
    from longtalk.infinitetalk.host.blend import blend_conditioning

    return blend_conditioning


def prompt(value: float, tokens: int = 3, **extra: Any) -> list[list[Any]]:
    return [[torch.full((1, tokens, 4), value), extra]]


def test_weights_count_as_shares_of_their_sum(blend: Any) -> None:
    [[text, extra]] = blend([(prompt(1.0, a=1), 1), (prompt(2.0, a=2), 2), (prompt(4.0, a=3), 1)])
    assert torch.allclose(text, torch.full((1, 3, 4), 2.25))
    assert extra == {"a": 2}  # the heaviest one's


def test_shorter_texts_are_filled_and_longer_ones_kept(blend: Any) -> None:
    for parts in ([(prompt(1.0, 2), 1), (prompt(3.0, 5), 1)], [(prompt(3.0, 5), 1), (prompt(1.0, 2), 1)]):
        [[text, _]] = blend(parts)
        assert text[0, :, 0].tolist() == [2.0, 2.0, 1.5, 1.5, 1.5]


def test_one_part_comes_back_as_it_is(blend: Any) -> None:
    only = prompt(1.0, pooled_output=None)
    for parts in ([(only, 0.3)], [(only, 1), (prompt(2.0, 9), 0)], [(prompt(2.0, 9), 0.0), (only, 1)]):
        result = blend(parts)
        assert result is only


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_equal_texts_stay_exactly_what_they_are(blend: Any, dtype: torch.dtype) -> None:
    text = torch.randn(1, 6, 8).to(dtype)
    for weights in ((0.3, 0.7), (1, 2, 4), (0.1, 0.2, 0.3)):
        [[mixed, _]] = blend([([[text.clone(), {}]], weight) for weight in weights])
        assert mixed.dtype == dtype
        assert torch.equal(mixed, text)


def test_pooled_outputs_are_mixed_among_those_that_have_one(blend: Any) -> None:
    first = prompt(1.0, pooled_output=torch.tensor([[1.0]]))
    second = prompt(1.0, pooled_output=torch.tensor([[4.0]]))
    [[_, extra]] = blend([(first, 1), (second, 2), (prompt(1.0, pooled_output=None), 10)])
    assert extra["pooled_output"].item() == pytest.approx(3.0)
    [[_, extra]] = blend([(prompt(1.0), 1), (prompt(2.0), 1)])
    assert "pooled_output" not in extra


def test_attention_masks_cover_what_any_part_covers(blend: Any) -> None:
    first = prompt(1.0, 3, attention_mask=torch.tensor([[1, 0, 0]]))
    second = prompt(1.0, 5, attention_mask=torch.tensor([[0, 1, 0, 1, 0]]))
    [[text, extra]] = blend([(first, 1), (second, 1)])
    assert text.shape[1] == 5
    assert extra["attention_mask"].tolist() == [[1, 1, 0, 1, 0]]
    assert extra["attention_mask"].dtype == torch.int64
    [[_, extra]] = blend([(first, 1), (prompt(1.0, 2), 1)])
    assert extra["attention_mask"].tolist() == [[1, 1, 0]]


def test_several_entries(blend: Any) -> None:
    two = [*prompt(1.0, at=0), *prompt(2.0, at=1)]
    mixed = blend([(two, 1), (prompt(5.0), 1)])
    assert [float(text.mean()) for text, _ in mixed] == [3.0, 3.5]
    assert [extra["at"] for _, extra in mixed] == [0, 1]
    with pytest.raises(LongTalkError, match=r"1 or 3 entries.* got 2"):
        blend([(two, 1), ([*two, *two][:3], 1)])


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([], "weights"),
        ([(prompt(1.0), 0)], "weights"),
        ([(prompt(1.0), -1)], "weight 1"),
        ([(prompt(1.0), 1), (prompt(1.0), float("nan"))], "weight 2"),
        ([(None, 1)], "conditioning 1"),
        ([([], 1)], "conditioning 1"),
        ([(prompt(1.0), 1), ([[torch.zeros(1, 3), {}]], 1)], "conditioning 2"),
        ([(prompt(1.0), 1), ([[torch.zeros(1, 3, 8), {}]], 1)], "text of the conditionings"),
        ([(prompt(1.0), 1), (prompt(1.0, unprocessed_ltxav_embeds=True), 1)], "texts of one encoder"),
        ([(prompt(1.0, pooled_output=torch.zeros(1, n)), 1) for n in (2, 3)], "pooled output"),
        ([(prompt(1.0, attention_mask=torch.ones(1, 9)), 1), (prompt(1.0), 1)], "attention_mask"),
    ],
)
def test_what_cannot_be_mixed(blend: Any, parts: Any, word: str) -> None:
    with pytest.raises(LongTalkError, match=word):
        blend(parts)
