"""What goes wrong when a rule of the LTX loop is broken, shown by breaking it, and what options do."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_ltx_renderer, make_ltx_run, relative, renderer_of
from ltx_chain import Settings, audio_latent, continued_latent, outputs, prepared

MakeAudio = Callable[..., dict[str, Any]]
SIGMAS = torch.tensor([1.0, 0.98, 0.725, 0.0])
OVERLAP = 3


@pytest.fixture
def audio(make_audio: MakeAudio) -> dict[str, Any]:
    return make_audio(2.5)


@pytest.fixture(autouse=True)
def inference() -> Any:
    with torch.inference_mode():
        yield


def two_windows(ltx: SimpleNamespace, audio: Any, image: torch.Tensor, **changes: Any) -> tuple[Any, Any, Any]:
    """The first two windows of a renderer, and its plan."""
    return first_two(*make_ltx_renderer(ltx, audio, image, sigmas=SIGMAS, **changes))


def first_two(renderer: Any, plan: Any) -> tuple[Any, Any, Any]:
    first = renderer.render(plan.windows[0], {})
    carry = renderer.hand_on(plan.windows[0], {}, first)
    return first, renderer.render(plan.windows[1], carry), plan


def chain(ltx: SimpleNamespace, settings: Settings, video: dict[str, Any], audio: Any, seed: int, frame: int) -> Any:
    """Core's nodes over a video LATENT as it is; the sampled video latents, and the LATENT that came out."""
    from comfy_extras import nodes_custom_sampler as custom
    from comfy_extras import nodes_lt

    sound = audio_latent(ltx, settings, audio, frame)
    positive, negative = outputs(nodes_lt.LTXVConditioning.execute(ltx.positive, ltx.negative, settings.fps))
    (latent,) = outputs(nodes_lt.LTXVConcatAVLatent.execute(video, sound))
    (guider,) = outputs(custom.CFGGuider.execute(ltx.model, positive, negative, 1.0))
    (noise,) = outputs(custom.RandomNoise.execute(seed))
    (sampler,) = outputs(custom.KSamplerSelect.execute("euler"))
    sampled, _ = outputs(custom.SamplerCustomAdvanced.execute(noise, guider, sampler, settings.sigmas, latent))
    out, _ = outputs(nodes_lt.LTXVSeparateAVLatent.execute(sampled))
    return out


def test_a_stale_mask_holds_what_should_be_free(
    ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]
) -> None:
    """Core's LATENT keeps its mask when it leaves the sampler. Moved on by hand as it is, it pins the wrong latents."""
    first, second, plan = two_windows(ltx, audio, portrait)
    settings = Settings(SIGMAS, overlap=OVERLAP)
    frame = plan.windows[1].start
    clean = chain(ltx, settings, continued_latent(settings, first.latents), audio, 4, frame)
    assert relative(second.latents, clean["samples"]) < 1e-4

    # The mask of another pass: the whole first window was given (a retake of its end, say), and the mask stayed.
    stale = continued_latent(settings, first.latents)
    earlier_mask = torch.zeros_like(stale["noise_mask"])
    earlier_mask[:, :, -1:] = 1.0
    stuck = chain(ltx, settings, {**stale, "noise_mask": earlier_mask}, audio, 4, frame)
    assert float(stuck["samples"][:, :, OVERLAP:-1].abs().max()) < 1e-5  # still empty
    assert relative(second.latents, stuck["samples"]) > 0.1


def test_nothing_a_window_leaves_behind_carries_a_mask(
    ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]
) -> None:
    """A renderer that did take the mask along would give another second window; ours renders it twice alike."""
    renderer, plan = make_ltx_renderer(ltx, audio, portrait, sigmas=SIGMAS)
    first = renderer.render(plan.windows[0], {})
    carry = renderer.hand_on(plan.windows[0], {}, first)
    assert set(carry) == {"overlap", "first_statistics"}
    once = renderer.render(plan.windows[1], carry).latents
    renderer.render(plan.windows[0], {})
    again = renderer.render(plan.windows[1], carry).latents
    assert torch.equal(once, again)
    fresh, _ = make_ltx_renderer(ltx, audio, portrait, sigmas=SIGMAS)
    assert torch.equal(once, fresh.render(plan.windows[1], carry).latents)


def test_guides_of_another_latent_do_not_travel(
    ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]
) -> None:
    """A conditioning that still carries keyframes of an earlier pass, not cropped: core would look for them here."""
    from comfy_extras.nodes_lt import LTXVAddGuide

    settings = Settings(SIGMAS, overlap=OVERLAP)
    empty = {"samples": torch.zeros(1, 128, settings.latents, 2, 3)}
    positive, negative, _ = outputs(LTXVAddGuide.execute(ltx.positive, ltx.negative, ltx.vae, empty, portrait, 8, 1.0))
    stale = SimpleNamespace(**{**vars(ltx), "positive": positive, "negative": negative})
    for ours, theirs in zip(
        two_windows(ltx, audio, portrait)[:2], two_windows(stale, audio, portrait)[:2], strict=True
    ):
        assert torch.equal(ours.latents, theirs.latents)


def test_a_later_picture_prepared_differently_is_another_face(
    ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]
) -> None:
    """Overlap 0: each window starts from the picture. Ours encodes it once; without the compression it is another."""
    from longtalk.infinitetalk.host.ltx.renderer import LtxRenderer
    from longtalk.infinitetalk.host.ltx.run import LtxOptions

    class Asymmetric(LtxRenderer):
        """Prepares the picture in the second window without compression, as a loop wired by hand easily does."""

        def sample(self, window: Any, carry: Any, end: Any = None) -> torch.Tensor:
            if window.number > 1:
                self._options = LtxOptions(image_strength=1.0, compression=0)
                self._reference = self._encode(portrait)
            return super().sample(window, carry, end)

    ours = two_windows(ltx, audio, portrait, overlap_s=0.0)
    run = make_ltx_run(ltx, audio, portrait, sigmas=SIGMAS, overlap_s=0.0)
    theirs = first_two(renderer_of(run, Asymmetric), run.plan)
    assert torch.equal(ours[0].latents, theirs[0].latents)
    assert torch.equal(ours[0].latents[:, :, 0], ours[1].latents[:, :, 0])
    first = (theirs[0].latents[:, :, 0], theirs[1].latents[:, :, 0])
    assert relative(first[1], first[0]) > 0.01
    assert relative(ours[1].latents[:, :, 1:], theirs[1].latents[:, :, 1:]) > 1e-3


def test_a_keyframe_is_cores_guide(ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]) -> None:
    """The window with the keyframe equals core's chain with LTXVAddGuide and LTXVCropGuides."""
    from comfy_extras import nodes_lt

    from longtalk.infinitetalk.host.ltx.run import Guide

    picture = portrait.flip(1)
    plain = two_windows(ltx, audio, portrait)
    start = plain[2].windows[1].start
    ours = two_windows(ltx, audio, portrait, guides=[Guide(start + 25, picture, 0.7)])
    assert torch.equal(ours[0].latents, plain[0].latents)
    assert relative(ours[1].latents, plain[1].latents) > 1e-3

    settings = Settings(SIGMAS, overlap=OVERLAP)
    video = continued_latent(settings, plain[0].latents)
    positive, negative, guided = outputs(
        nodes_lt.LTXVAddGuide.execute(ltx.positive, ltx.negative, ltx.vae, video, prepared(settings, picture), 25, 0.7)
    )
    parts = SimpleNamespace(**{**vars(ltx), "positive": positive, "negative": negative})
    sampled = chain(parts, settings, guided, audio, 4, start)
    _, _, cropped = outputs(nodes_lt.LTXVCropGuides.execute(positive, negative, sampled))
    assert relative(ours[1].latents, cropped["samples"]) < 1e-4


def test_adain_draws_colours_to_the_first_window(
    ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]
) -> None:
    from longtalk.infinitetalk.host.ltx.run import LtxOptions
    from longtalk.infinitetalk.model.adain import channel_statistics

    off = []
    for strength in (0.0, 0.5, 1.0):
        first, second, _ = two_windows(ltx, audio, portrait, options=LtxOptions(image_strength=1.0, adain=strength))
        target = channel_statistics(first.latents)
        off.append(float((channel_statistics(second.latents[:, :, OVERLAP:]) - target).abs().mean()))
        assert torch.equal(second.latents[:, :, :OVERLAP], first.latents[:, :, -OVERLAP:])
    assert off[2] < 1e-4 < 0.4 * off[0] < off[1] < 0.6 * off[0]


def test_crossfade_makes_the_late_latents_anew(
    ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]
) -> None:
    from longtalk.infinitetalk.host.ltx.run import LtxOptions

    first, second, plan = two_windows(ltx, audio, portrait, late=1, options=LtxOptions(image_strength=1.0, blend=True))
    assert plan.windows[1].taken_over == 8
    before = first.latents[:, :, -OVERLAP:]
    assert torch.equal(second.latents[:, :, : OVERLAP - 1], before[:, :, :-1])
    change = relative(second.latents[:, :, OVERLAP - 1], before[:, :, -1])
    assert 1e-4 < change < 0.6  # half of what was there, and half of what was made of it at half the noise


def test_crossfade_gives_later_latents_more_of_what_is_new(
    ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: MakeAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two latents are blended, a quarter and three quarters of the new; what core's guider sampled is the oracle."""
    import comfy.samplers

    from longtalk.infinitetalk.host.ltx.run import LtxOptions

    sample, sampled = comfy.samplers.CFGGuider.sample, []

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        sampled.append(sample(self, *args, **kwargs))
        return sampled[-1]

    monkeypatch.setattr(comfy.samplers.CFGGuider, "sample", noted)
    options = LtxOptions(image_strength=1.0, blend=True)
    lengths = {"window_s": 81 / 25, "overlap_s": 41 / 25, "late": 2}
    first, second, plan = two_windows(ltx, make_audio(4.5), portrait, options=options, **lengths)
    overlap = plan.windows[1].pinned_latents
    assert plan.windows[1].taken_over == 16
    before, new = first.latents[:, :, -2:], sampled[1].unbind()[0][:, :, overlap - 2 : overlap]
    for place, share in enumerate((0.25, 0.75)):
        assert relative(new[:, :, place], before[:, :, place]) > 1e-3
        expected = (1 - share) * before[:, :, place] + share * new[:, :, place]
        torch.testing.assert_close(second.latents[:, :, overlap - 2 + place], expected)


def test_strength_below_one_lets_the_picture_move(
    ltx: SimpleNamespace, portrait: torch.Tensor, audio: dict[str, Any]
) -> None:
    from longtalk.infinitetalk.host.ltx.run import LtxOptions

    held, _, _ = two_windows(ltx, audio, portrait)
    loose, _, _ = two_windows(ltx, audio, portrait, options=LtxOptions(image_strength=0.5))
    assert relative(loose.latents[:, :, :1], held.latents[:, :, :1]) > 0.01
