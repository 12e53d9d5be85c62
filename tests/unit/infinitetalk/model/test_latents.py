"""Latents of windows: taken, dropped and blended, always without what else the dictionary carries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.model.latents import Curve, context, crossfade, pin, rising, trim, video_of


def latent(frames: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    samples = torch.randn(1, 4, frames, 2, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return {"samples": samples, "noise_mask": torch.zeros(1, 1, frames, 1, 1), "batch_index": [0], "type": "audio"}


@given(st.integers(1, 20), st.integers(0, 20))
def test_context_and_trim_take_a_window_apart(frames: int, count: int) -> None:
    whole = latent(frames)
    kept = whole["samples"].clone()
    for part, count_taken, expected in (
        (context, count, kept[:, :, frames - count :] if 1 <= count <= frames else None),
        (trim, count, kept[:, :, count:] if count < frames else None),
    ):
        if expected is None:
            with pytest.raises(LongTalkError, match=rf"latents: expected .* as there are {frames}, got {count}"):
                part(whole, count_taken)
            continue
        taken = part(whole, count_taken)
        assert set(taken) == {"samples"}
        assert torch.equal(taken["samples"], expected)
        taken["samples"].zero_()  # a copy: the next node may write into it
        assert torch.equal(whole["samples"], kept)


class Nested:
    """As ComfyUI's NestedTensor: several streams that answer for the first."""

    is_nested = True

    def __init__(self, *streams: torch.Tensor) -> None:
        self.streams = list(streams)

    def unbind(self) -> list[torch.Tensor]:
        return self.streams


def test_of_a_joint_latent_the_video_is_taken() -> None:
    video, audio = latent(5)["samples"], torch.zeros(1, 8, 40, 16)
    masks = Nested(torch.zeros(1, 1, 5, 1, 1), torch.zeros(1, 1, 1, 1))
    joint = {"samples": Nested(video, audio), "noise_mask": masks}
    assert torch.equal(context(joint, 2)["samples"], video[:, :, -2:])
    assert set(trim(joint, 2)) == {"samples"}


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        torch.zeros(1, 4, 5, 2, 2),
        {},
        {"samples": None},
        {"samples": torch.zeros(1, 4, 8, 8)},
        {"samples": torch.zeros(1, 4, 0, 2, 2)},
        {"samples": Nested()},
        {"samples": torch.zeros(1, 4, 5, 2, 2).to_sparse()},
    ],
)
def test_what_is_no_video_latent(wrong: object) -> None:
    with pytest.raises(LongTalkError, match="expected video latents"):
        video_of(wrong)


@pytest.mark.parametrize("count", [-1, 1.5, None, True])
def test_counts_are_whole(count: object) -> None:
    with pytest.raises(LongTalkError, match="latents"):
        trim(latent(5), count)  # type: ignore[arg-type]


@given(st.integers(1, 40), st.sampled_from(Curve))
def test_shares_rise_between_nothing_and_all_and_mirror(count: int, curve: Curve) -> None:
    second = rising(count, curve)
    assert second.shape == (count,)
    assert ((second > 0) & (second < 1)).all()
    assert (second.diff() > 0).all()
    assert torch.allclose(second + second.flip(0), torch.ones(count), atol=1e-6)  # backwards it is the first's share


def test_the_raised_cosine_is_softer_at_its_ends() -> None:
    cosine, linear = rising(7, "cosine"), rising(7, "linear")
    assert torch.allclose(linear, torch.arange(1, 8) / 8)
    assert (cosine[:3] < linear[:3]).all()
    assert (cosine[4:] > linear[4:]).all()
    assert cosine[3] == linear[3] == 0.5


@pytest.mark.parametrize("curve", list(Curve))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_equal_overlaps_stay_exactly_what_they_are(count: int, dtype: torch.dtype, curve: Curve) -> None:
    whole = latent(20, dtype=dtype)["samples"]
    first, second = {"samples": whole[:, :, :12]}, {"samples": whole[:, :, 12 - count :]}
    joined = crossfade(first, second, count, curve)
    assert torch.equal(joined["samples"], whole)
    assert joined["samples"].dtype == dtype


@pytest.mark.parametrize("curve", list(Curve))
def test_a_blend_is_the_weighted_sum(curve: Curve) -> None:
    first, second = latent(9, 1), latent(8, 2)
    joined = crossfade(first, second, 4, curve)
    assert set(joined) == {"samples"}
    samples = joined["samples"]
    assert samples.shape[2] == 13
    assert torch.equal(samples[:, :, :5], first["samples"][:, :, :5])
    assert torch.equal(samples[:, :, 9:], second["samples"][:, :, 4:])
    for place, share in enumerate(rising(4, curve).tolist()):
        expected = (1 - share) * first["samples"][:, :, 5 + place] + share * second["samples"][:, :, place]
        assert torch.allclose(samples[:, :, 5 + place], expected, atol=1e-6)


def test_the_first_decides_the_kind() -> None:
    joined = crossfade(latent(5, dtype=torch.float16), latent(5), 2)
    assert joined["samples"].dtype == torch.float16


def test_what_does_not_fit() -> None:
    with pytest.raises(LongTalkError, match=r"0 to 3, as there are 3, got 4"):
        crossfade(latent(9), latent(3), 4)
    with pytest.raises(LongTalkError, match="second: expected latents of the same batch"):
        crossfade(latent(5), {"samples": torch.zeros(1, 4, 5, 2, 4)}, 2)
    with pytest.raises(LongTalkError, match="second: expected video latents"):
        crossfade(latent(5), None, 2)
    with pytest.raises(LongTalkError, match="curve"):
        crossfade(latent(5), latent(5), 2, "cubic")


def seam_ratio(latents: torch.Tensor, seam: range) -> float:
    """The largest step from one latent to the next about the seam, over the median of the steps elsewhere."""
    steps = latents.diff(dim=2).flatten(3).norm(dim=3).mean((0, 1))
    inside = [float(step) for place, step in enumerate(steps) if place not in seam]
    return max(float(steps[place]) for place in seam) / sorted(inside)[len(inside) // 2]


@pytest.mark.parametrize("curve", list(Curve))
def test_a_crossfade_hides_a_step_that_trimming_shows(curve: Curve) -> None:
    """One motion seen by two windows, the second a little brighter: what an overlap made anew looks like."""
    count, frames = 7, 30
    generator = torch.Generator().manual_seed(1)
    place = torch.arange(2 * frames - count).float()
    phases = torch.rand((4, 1, 2, 3), generator=generator) * 6.28
    motion = torch.sin(0.3 * place[None, :, None, None] + phases)[None]
    first = {"samples": motion[:, :, :frames]}
    second = {"samples": motion[:, :, frames - count :] + 1.5}
    joined = crossfade(first, second, count, curve)["samples"]
    trimmed = torch.cat([first["samples"], trim(second, count)["samples"]], dim=2)
    assert joined.shape == trimmed.shape
    seam = range(frames - count - 1, frames)
    assert seam_ratio(trimmed, seam) > 4
    assert seam_ratio(joined, seam) < 0.5 * seam_ratio(trimmed, seam)


def window(frames: int, **also: Any) -> dict[str, Any]:
    return {"samples": latent(frames, seed=9)["samples"], "downscale_ratio_spacial": 32, **also}


@pytest.mark.parametrize("strength", [1.0, 0.75, 0.0])
def test_pinned_latents_are_those_given_under_a_mask(strength: float) -> None:
    """The mask of `given`, all zeros here, is of another pass and does not count."""
    empty, given = window(6), latent(2)
    before = empty["samples"].clone()
    pinned = pin(empty, given, 2, strength)
    assert set(pinned) == {"samples", "noise_mask", "downscale_ratio_spacial"}
    assert torch.equal(pinned["samples"], torch.cat([given["samples"], before[:, :, 2:]], dim=2))
    assert pinned["noise_mask"].shape == (1, 1, 6, 1, 1)
    assert pinned["noise_mask"].flatten().tolist() == [1 - strength] * 2 + [1.0] * 4
    pinned["samples"].zero_()
    assert torch.equal(empty["samples"], before)
    assert "noise_mask" not in empty


@pytest.mark.parametrize("sides", [(1, 1), (2, 3)])
def test_the_windows_own_mask_stays_behind_what_is_pinned(sides: tuple[int, int]) -> None:
    """The picture's first latent is overwritten, a guide's at the end is not."""
    mask = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.5]).view(1, 1, 5, 1, 1).expand(1, 1, 5, *sides)
    pinned = pin(window(5, noise_mask=mask), latent(2), 2)["noise_mask"]
    assert pinned.shape == mask.shape
    for value, wanted in zip(pinned[0, 0].unbind(), [0.0, 0.0, 1.0, 1.0, 0.5], strict=True):
        assert (value == wanted).all()
    assert mask[0, 0, 1].eq(1).all()


def test_nothing_pinned_leaves_the_window_as_it_is() -> None:
    mask = torch.zeros(1, 1, 5, 1, 1)
    first = window(5, noise_mask=mask)
    assert pin(first, {"samples": None}, 0) == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 5}, "latents: expected 0 to 4, as there are 5, got 5"),
        ({"count": True}, "latents: expected"),
        ({"strength": 1.5}, "strength: expected"),
        (
            {"given": latent(3)},
            r"given: expected 2 latents of the window's size, \[1, 4, 2, 2, 3\], got float32 .*3, 2, 3",
        ),
        ({"given": {"samples": torch.zeros(1, 4, 2, 2, 4)}}, "given: expected 2 latents of the window's size"),
        ({"given": None}, "given: expected video latents"),
        ({"latent": {"samples": Nested(latent(5)["samples"])}}, "latent: .*Pin before LTXVConcatAVLatent"),
        (
            {"latent": window(5, noise_mask=torch.ones(1, 1, 4, 1, 1))},
            r"a value for each latent, \[1, 1, 5, 1, 1\], got",
        ),
        ({"latent": window(5, noise_mask=torch.ones(1, 1, 2, 3))}, "latent: expected no noise mask"),
        ({"latent": window(5, noise_mask=torch.ones(1, 1, 5, 2, 2))}, "latent: expected no noise mask"),
        ({"latent": window(5, noise_mask=torch.ones(2, 1, 5, 1, 1))}, "latent: expected no noise mask"),
    ],
)
def test_what_cannot_be_pinned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LongTalkError, match=message):
        pin(**{"latent": window(5), "given": latent(2), "count": 2, **changes})
