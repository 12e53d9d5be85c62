"""Our InfiniteTalk modules against ComfyUI core's, with the same weights, in fp32."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import tiny_networks
import torch
from comfy_runs import relative

FRAMES, ROWS, COLUMNS = 4, 3, 5
PER_FRAME = ROWS * COLUMNS
WIDTH, HEADS, TOKENS = 640, 40, 32


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def core_patch(comfy: ModuleType) -> Any:
    """Core's own module with seeded weights; ours read the same names."""
    import comfy.ops

    torch.manual_seed(3)
    net = tiny_networks.infinitetalk(2, 24, width=WIDTH, operations=comfy.ops.manual_cast)
    for name, tensor in net.state_dict().items():
        fan_in = tensor.shape[-1] if tensor.ndim > 1 else 50
        tensor.copy_(torch.randn(tensor.shape) / fan_in**0.5 + (1.0 if "norm" in name and "weight" in name else 0.0))
    return net


@pytest.fixture(scope="module")
def our_patch(core_patch: Any) -> Any:
    from longtalk.infinitetalk.model.audio_attention import InfiniteTalkModel

    net = InfiniteTalkModel(WIDTH, 2, intermediate=24)
    net.load_state_dict(core_patch.state_dict(), strict=True)
    return net


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@pytest.mark.parametrize(("start", "end"), [(0, 13), (72, 85), (0, 1), (36, 49)])
@pytest.mark.parametrize("speakers", [1, 2])
def test_audio_tokens_equal_core(core_patch: Any, our_patch: Any, speakers: int, start: int, end: int) -> None:
    from comfy.ldm.wan.model_multitalk import project_audio_features

    from longtalk.infinitetalk.model.audio_projection import audio_context

    features = [randn(85, 12, 768, seed=seed) for seed in range(speakers)]
    theirs = project_audio_features(core_patch.audio_proj, features, start, end)[0]
    ours = audio_context(our_patch.audio_proj, features, start, end)
    assert ours.shape == ((end - start - 1) // 4 + 1, speakers * TOKENS, 768)
    assert relative(ours, theirs) < 1e-6


def test_one_speaker_equals_core(core_patch: Any, our_patch: Any) -> None:
    from longtalk.infinitetalk.model.audio_attention import cross_attend

    x = randn(1, FRAMES * PER_FRAME, WIDTH, seed=1)
    context = randn(FRAMES, TOKENS, 768, seed=2)
    theirs = core_patch.blocks[0].audio_cross_attn(x, context[None], shape=(FRAMES, ROWS, COLUMNS))
    ours = cross_attend(our_patch.blocks[0].audio_cross_attn, x, context[None], PER_FRAME, attention)
    assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize(("items", "heard"), [(1, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize("behind", [0, 7])
@pytest.mark.parametrize("patch", ["core_patch", "our_patch"])
def test_folded_products_equal_core(
    request: pytest.FixtureRequest, core_patch: Any, patch: str, items: int, heard: int, behind: int
) -> None:
    """The one-speaker path of the 14B model, with core's module and ours, items that hear the same and different."""
    from longtalk.infinitetalk.host.wan.layer_weights import layer_weights
    from longtalk.infinitetalk.model.folded_attention import add_audio

    layers = request.getfixturevalue(patch).blocks[0].audio_cross_attn
    x, normed = (randn(items, FRAMES * PER_FRAME + behind, WIDTH, seed=seed) for seed in (1, 5))
    context = randn(heard, FRAMES, TOKENS, 768, seed=2)
    out = add_audio(layers, x, normed, context, PER_FRAME, 0.7, layer_weights)
    used = FRAMES * PER_FRAME
    for item in range(items):
        theirs = core_patch.blocks[0].audio_cross_attn(
            normed[item : item + 1, :used], context[item % heard][None], shape=(FRAMES, ROWS, COLUMNS)
        )[0]
        assert relative(out[item, :used] - x[item, :used], 0.7 * theirs) < 1e-5
        assert torch.equal(out[item, used:], x[item, used:])


def test_products_are_folded_where_they_are_smaller(our_patch: Any) -> None:
    from longtalk.infinitetalk.model.folded_attention import is_worth_folding

    layers = our_patch.blocks[0].audio_cross_attn
    assert is_worth_folding(layers, 5120, TOKENS), "the published model"
    assert not is_worth_folding(layers, WIDTH, TOKENS), "640 < 40 * 32"


def masks() -> torch.Tensor:
    grid = torch.zeros(2, ROWS, COLUMNS, dtype=torch.bool)
    grid[0, :, :2] = True
    grid[1, 1:, 3:] = True
    return grid.flatten(1)


def test_speaker_map_equals_core() -> None:
    from comfy.ldm.wan.model_multitalk import get_attn_map_with_target

    from longtalk.infinitetalk.model.speaker_map import speaker_map

    query, key = randn(1, FRAMES * PER_FRAME, 6, 128, seed=4), randn(1, FRAMES * PER_FRAME, 6, 128, seed=5)
    theirs = get_attn_map_with_target(query, key, (FRAMES, ROWS, COLUMNS), ref_target_masks=masks())
    ours = speaker_map(query, key, masks(), attention)
    assert ours.shape == (1, 2, FRAMES * PER_FRAME)
    assert relative(ours[0], theirs) < 1e-5


def test_two_speakers_equal_core(core_patch: Any, our_patch: Any) -> None:
    from longtalk.infinitetalk.model.audio_attention import cross_attend

    x = randn(1, FRAMES * PER_FRAME, WIDTH, seed=1)
    context = randn(FRAMES, 2 * TOKENS, 768, seed=2)
    mapped = randn(2, FRAMES * PER_FRAME, seed=6).abs()
    theirs = core_patch.blocks[0].audio_cross_attn(
        x, context[None], shape=(FRAMES, ROWS, COLUMNS), x_ref_attn_map=mapped
    )
    ours = cross_attend(our_patch.blocks[0].audio_cross_attn, x, context[None], PER_FRAME, attention, mapped[None])
    assert relative(ours, theirs) < 1e-5


def test_batch_is_each_item_by_itself(our_patch: Any) -> None:
    from longtalk.infinitetalk.model.audio_attention import cross_attend

    layers = our_patch.blocks[1].audio_cross_attn
    x = randn(3, FRAMES * PER_FRAME, WIDTH, seed=1)
    context = randn(3, FRAMES, 2 * TOKENS, 768, seed=2)
    mapped = randn(3, 3, FRAMES * PER_FRAME, seed=3).abs()
    together = cross_attend(layers, x, context, PER_FRAME, attention, mapped)
    shared = cross_attend(layers, x, context[:1], PER_FRAME, attention, mapped)
    for item in range(3):
        one = slice(item, item + 1)
        alone = cross_attend(layers, x[one], context[one], PER_FRAME, attention, mapped[one])
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)
        alone = cross_attend(layers, x[one], context[:1], PER_FRAME, attention, mapped[one])
        torch.testing.assert_close(shared[one], alone, rtol=1e-4, atol=1e-5)


def test_tokens_behind_the_frames_get_nothing(our_patch: Any) -> None:
    from longtalk.infinitetalk.model.audio_attention import cross_attend

    layers = our_patch.blocks[0].audio_cross_attn
    x = randn(1, FRAMES * PER_FRAME + 7, WIDTH, seed=1)
    context = randn(1, FRAMES, TOKENS, 768, seed=2)
    out = cross_attend(layers, x, context, PER_FRAME, attention)
    assert torch.count_nonzero(out[:, -7:]) == 0
    alone = cross_attend(layers, x[:, :-7], context, PER_FRAME, attention)
    torch.testing.assert_close(out[:, :-7], alone)


def test_background_tokens_sit_between_the_speakers() -> None:
    from longtalk.infinitetalk.model.speaker_map import BACKGROUND_POSITION, token_masks, token_positions

    grid = token_masks(masks().reshape(2, ROWS, COLUMNS).float(), ROWS, COLUMNS)
    assert grid.shape == (3, PER_FRAME)
    assert torch.equal(grid.sum(dim=0), torch.ones(PER_FRAME))  # these masks do not overlap
    positions = token_positions(grid.float()[None])[0]
    assert bool((positions[grid[0]] == 4.0).all())
    assert bool((positions[grid[1]] == 24.0).all())
    assert bool((positions[grid[2]] == BACKGROUND_POSITION).all())


def test_zero_features_make_the_silent_context(our_patch: Any) -> None:
    from longtalk.infinitetalk.model.audio_projection import audio_context, silent_context

    zeros = torch.zeros(13, 12, 768)
    expected = audio_context(our_patch.audio_proj, [zeros], 0, 13)
    silent = silent_context(our_patch.audio_proj, 4, dtype=torch.float32)
    torch.testing.assert_close(silent, expected)


@pytest.mark.matrix(strength=2)
@pytest.mark.parametrize("speakers", [2, 3, 4])
@pytest.mark.parametrize("quick_turn", [True, False])
@pytest.mark.parametrize(("items", "heard"), [(1, 1), (3, 1), (2, 2)])
def test_folded_products_of_several_speakers(
    our_patch: Any, speakers: int, quick_turn: bool, items: int, heard: int
) -> None:
    """Against the plain attention, which equals core's for two."""
    from longtalk.infinitetalk.host.wan.audio_patch import turn_by_comfyui
    from longtalk.infinitetalk.host.wan.layer_weights import layer_weights
    from longtalk.infinitetalk.model.audio_attention import cross_attend
    from longtalk.infinitetalk.model.folded_attention import add_audio

    layers = our_patch.blocks[1].audio_cross_attn
    x, normed = (randn(items, FRAMES * PER_FRAME + 3, WIDTH, seed=seed) for seed in (11, 12))
    context = randn(heard, FRAMES, speakers * TOKENS, 768, seed=13)
    mapped = randn(items, speakers + 1, FRAMES * PER_FRAME, seed=14).softmax(1)
    plain = cross_attend(layers, normed, context, PER_FRAME, attention, mapped)
    turn = turn_by_comfyui if quick_turn else None
    out = add_audio(layers, x, normed, context, PER_FRAME, 0.7, layer_weights, mapped, turn)
    assert relative(out - x, 0.7 * plain) < 1e-5
