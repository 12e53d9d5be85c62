"""Two to four speakers: the map, the rotary positions and who listens to whom, against explicit sums."""

from __future__ import annotations

import math

import pytest
import torch

from longtalk.infinitetalk.model.audio_attention import AudioCrossAttention, cross_attend
from longtalk.infinitetalk.model.speaker_map import (
    BACKGROUND_POSITION,
    MAX_SPEAKERS,
    audio_positions,
    placements,
    speaker_map,
    token_masks,
    token_positions,
)

FRAMES, ROWS, COLUMNS = 2, 3, 6
PER_FRAME = ROWS * COLUMNS
TOKENS = FRAMES * PER_FRAME
AUDIO_TOKENS = 4
CPU = torch.device("cpu")
SPEAKERS = range(2, MAX_SPEAKERS + 1)


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


def columns(speakers: int) -> torch.Tensor:
    """A column of the picture for each speaker; the others are background."""
    masks = torch.zeros(speakers, ROWS, COLUMNS)
    for index in range(speakers):
        masks[index, :, index] = 1
    return masks


def seen_map(speakers: int, seed: int) -> torch.Tensor:
    """A speaker map ``[1, classes, tokens]`` in which every class wins somewhere."""
    mapped = randn(1, speakers + 1, TOKENS, seed=seed).abs()
    assert set(mapped.argmax(dim=1).flatten().tolist()) == set(range(speakers + 1))
    return mapped


def turned(vector: torch.Tensor, position: float) -> torch.Tensor:
    """RoFormer, equation 34, with complex numbers in double precision."""
    pairs = torch.view_as_complex(vector.double().reshape(-1, 2))
    angles = position * 10000.0 ** (-torch.arange(len(pairs), dtype=torch.float64) / len(pairs))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten()


def heard_at(listener: int, voice: int, speakers: int) -> float:
    """Where the tokens of class ``listener`` hear ``voice``, as the documentation says it; 0-based."""
    own = (2.0, 22.0)
    if listener in (speakers, voice):
        return own[voice % 2]
    return own[1 - listener % 2]


@pytest.mark.parametrize("speakers", SPEAKERS)
def test_distances_are_the_trained_ones(speakers: int) -> None:
    """Own voice at most 2 away, any other 18 to 22, the background 10 from everybody."""
    mapped = seen_map(speakers, seed=1)
    positions, classes = token_positions(mapped)[0], mapped.argmax(dim=1)[0]
    rows = audio_positions(speakers * AUDIO_TOKENS, speakers, CPU).unflatten(1, (speakers, AUDIO_TOKENS))
    which = placements(speakers)[1]
    for position, listener in zip(positions.tolist(), classes.tolist(), strict=True):
        for voice, heard in enumerate(rows[which[listener]]):
            distance = (heard - position).abs()
            if listener == speakers:
                assert distance.tolist() == [10.0] * AUDIO_TOKENS
            elif listener == voice:
                assert distance.max() <= 2
            else:
                assert 18 <= distance.min() <= distance.max() <= 22


def test_two_speakers_are_placed_as_in_the_official_code() -> None:
    assert placements(2) == ([(0, 1)], [0, 0, 0])
    assert audio_positions(6, 2, CPU).tolist() == [[2.0, 2.0, 2.0, 22.0, 22.0, 22.0]]


@pytest.mark.parametrize(("speakers", "count"), [(3, 3), (4, 5)])
def test_no_placement_is_computed_twice(speakers: int, count: int) -> None:
    different, which = placements(speakers)
    assert len(different) == len(set(different)) == count
    assert sorted(set(which)) == list(range(count))
    assert audio_positions(speakers * 32, speakers, CPU).shape == (count, speakers * 32)


@pytest.mark.parametrize("speakers", SPEAKERS)
def test_positions_grow_with_how_strongly_a_token_belongs(speakers: int) -> None:
    mapped = seen_map(speakers, seed=2)
    positions, classes = token_positions(mapped)[0], mapped.argmax(dim=1)[0]
    for index in range(speakers):
        row = mapped[0, index]
        first = 20.0 * (index % 2)
        expected = first + 4 * (row - row.min()) / (row.max() - row.min())
        torch.testing.assert_close(positions[classes == index], expected[classes == index])
    assert bool((positions[classes == speakers] == BACKGROUND_POSITION).all())


@pytest.mark.parametrize("speakers", SPEAKERS)
def test_the_map_is_a_softmax_for_each_mask(speakers: int) -> None:
    """One attention with the masks as values, against one softmax per head and a sum per mask."""
    heads, width = 3, 16
    query, key = randn(1, TOKENS, heads, width, seed=3), randn(1, TOKENS, heads, width, seed=4)
    masks = token_masks(columns(speakers), ROWS, COLUMNS)
    assert masks.shape == (speakers + 1, PER_FRAME)
    found = speaker_map(query, key, masks, attention)
    assert found.shape == (1, speakers + 1, TOKENS)
    for index, mask in enumerate(masks):
        expected = torch.zeros(TOKENS, dtype=torch.float64)
        for head in range(heads):
            scores = query[0, :, head].double() @ key[0, :PER_FRAME, head].double().T / math.sqrt(width)
            expected += scores.softmax(dim=1)[:, mask].sum(dim=1) / heads / mask.sum()
        torch.testing.assert_close(found[0, index].double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("speakers", SPEAKERS)
def test_the_attention_is_a_sum_over_the_voices(speakers: int) -> None:
    """Each token by itself: turned to its position, over the voices placed for its class."""
    heads, width, audio_width = 2, 32, 12
    torch.manual_seed(5)
    layers = AudioCrossAttention(width, audio_width, heads)
    x = randn(1, TOKENS, width, seed=6) * 3
    context = randn(1, FRAMES, speakers * AUDIO_TOKENS, audio_width, seed=7) * 3
    mapped = seen_map(speakers, seed=8)
    positions, classes = token_positions(mapped)[0].tolist(), mapped.argmax(dim=1)[0].tolist()
    with torch.no_grad():
        found = cross_attend(layers, x, context, PER_FRAME, attention, mapped)[0]
        query = layers.q_linear(x[0]).unflatten(1, (heads, -1))
        key, value = layers.kv_linear(context[0]).unflatten(2, (2, heads, -1)).unbind(2)
        for token in range(TOKENS):
            out = []
            for head in range(heads):
                asks = turned(query[token, head], positions[token])
                scores = torch.stack(
                    [
                        asks @ turned(spoken, heard_at(classes[token], number // AUDIO_TOKENS, speakers))
                        for number, spoken in enumerate(key[token // PER_FRAME, :, head])
                    ]
                )
                weights = (scores / math.sqrt(width // heads)).softmax(dim=0)
                out.append(weights @ value[token // PER_FRAME, :, head].double())
            expected = layers.proj(torch.cat(out).float())
            torch.testing.assert_close(found[token], expected, rtol=1e-4, atol=1e-5)


def shares(speakers: int) -> torch.Tensor:
    """What share of its attention each token of the reference gives to each voice, ``[tokens, speakers]``.

    All voices and tokens are alike, so that only the positions decide, and head size and tokens are the real model's.
    """
    width, audio_tokens = 128, 32

    class Alike:
        num_heads = 1

        def q_linear(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(*x.shape[:2], width)

        def kv_linear(self, context: torch.Tensor) -> torch.Tensor:
            voices = torch.eye(speakers).repeat_interleave(audio_tokens, dim=0)
            values = torch.nn.functional.pad(voices, (0, width - speakers))
            return torch.cat([torch.ones_like(values), values], dim=1).expand(*context.shape[:2], -1, -1)

        def proj(self, out: torch.Tensor) -> torch.Tensor:
            return out[..., :speakers]

    mapped = token_masks(columns(speakers), ROWS, COLUMNS).float()[None]
    context = torch.zeros(1, 1, speakers * audio_tokens, 768)
    return cross_attend(Alike(), torch.zeros(1, PER_FRAME, width), context, PER_FRAME, attention, mapped)[0]


@pytest.mark.parametrize("speakers", SPEAKERS)
def test_a_speaker_listens_to_themselves_most(speakers: int) -> None:
    given = shares(speakers)
    masks = token_masks(columns(speakers), ROWS, COLUMNS)
    for index in range(speakers):
        own = given[masks[index]]
        others = own[:, torch.arange(speakers) != index]
        assert own[:, index].min() > 2 * others.max()
        torch.testing.assert_close(
            others, others[:1, :1].expand_as(others), msg="no other voice is louder than another"
        )
    # A bystander follows nobody: all voices alike.
    bystanders = given[masks[-1]]
    assert len(bystanders) > 0
    torch.testing.assert_close(bystanders, torch.full_like(bystanders, 1 / speakers))


@pytest.mark.parametrize("speakers", [3, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_speakers_of_one_side_may_change_places(speakers: int, batch: int) -> None:
    """The third speaker is treated as the first is: with voice and mask exchanged nothing else changes."""
    torch.manual_seed(5)
    layers = AudioCrossAttention(32, 12, 2)
    x = randn(batch, TOKENS, 32, seed=6)
    context = randn(1, FRAMES, speakers, AUDIO_TOKENS, 12, seed=7)
    mapped = seen_map(speakers, seed=8).repeat(batch, 1, 1)

    def out(order: list[int]) -> torch.Tensor:
        voices = context[:, :, order].flatten(2, 3)
        return cross_attend(layers, x, voices, PER_FRAME, attention, mapped[:, [*order, speakers]])

    with torch.no_grad():
        usual = out(list(range(speakers)))
        exchanged = out([2, 1, 0, 3][:speakers])
        others = out([1, 0, 2, 3][:speakers])
    torch.testing.assert_close(exchanged, usual, rtol=1e-4, atol=1e-6)
    assert float((others - usual).norm() / usual.norm()) > 1e-3, "the sides are not alike, as with two speakers"


def test_a_picture_without_background_has_no_bystander() -> None:
    masks = torch.zeros(3, ROWS, COLUMNS)
    for index in range(3):
        masks[index, :, 2 * index : 2 * index + 2] = 1
    grid = token_masks(masks, ROWS, COLUMNS)
    assert not bool(grid[-1].any())
    query, key = randn(1, TOKENS, 2, 16, seed=3), randn(1, TOKENS, 2, 16, seed=4)
    mapped = speaker_map(query, key, grid, attention)
    assert int(mapped.argmax(dim=1).max()) < 3


def test_a_shared_place_belongs_to_all_whose_mask_covers_it() -> None:
    masks = columns(3)
    masks[1, :, 0] = 1
    grid = token_masks(masks, ROWS, COLUMNS).unflatten(1, (ROWS, COLUMNS))
    assert grid[:, 0, 0].tolist() == [True, True, False, False]
    assert int(grid[-1].sum()) == ROWS * (COLUMNS - 3)
