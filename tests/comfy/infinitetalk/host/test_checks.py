"""The checks of the samplers' inputs, one by one: what passes unchanged, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from longtalk.base.errors import LongTalkError


@pytest.fixture(scope="module")
def checks(comfy: ModuleType) -> ModuleType:
    from longtalk.infinitetalk.host import checks

    return checks


def test_real_schedules_pass(checks: ModuleType, parts: SimpleNamespace) -> None:
    import comfy.samplers

    for scheduler in comfy.samplers.KSampler.SCHEDULERS:
        for steps in (1, 4, 40, 2000):
            if (scheduler, steps) == ("kl_optimal", 1):
                continue  # divides by steps - 1
            made = comfy.samplers.KSampler(parts.model, steps, "cpu", "euler", scheduler).sigmas
            assert torch.equal(checks.check_sigmas(made), made), scheduler


@pytest.mark.parametrize(
    "sigmas", [[1.0, 0.0], [1.0, 0.5, 0.5, 0.0], [0.7, 0.1], [1.05, 0.5, 0.0], torch.tensor([1, 0.5]).half()]
)
def test_schedules_that_pass(checks: ModuleType, sigmas: Any) -> None:
    out = checks.check_sigmas(torch.as_tensor(sigmas))
    assert out.dtype == torch.float32
    assert out.tolist() == torch.as_tensor(sigmas).tolist()


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        (None, "a list of sigmas, got nothing"),
        ([1.0, 0.0], "got a list"),
        (torch.tensor([1, 0]), "got int64"),
        (torch.ones(2, 2), r"float32 \[2, 2\]"),
        (torch.tensor(1.0), r"float32 \[\]"),
        (torch.zeros(2, device="meta"), "empty shell"),
        (torch.zeros(0), "at least one step, got 0 steps"),
        (torch.ones(1), "got 0 steps"),
        (torch.linspace(1, 0, 10_002), "at most 10000 steps"),
        (torch.tensor([1.0, torch.nan]), "nan"),
        (torch.tensor([torch.inf, 0.0]), "inf"),
        (torch.tensor([1.0, -0.5]), "-0.5"),
        (torch.tensor([14.6, 0.5, 0.0]), "14.6"),
        (torch.linspace(0, 1, 5), "a falling schedule"),
        (torch.tensor([1.0, 0.2, 0.5, 0.0]), "rises"),
        (torch.ones(3), "never falls"),
        (torch.zeros(3), "never falls"),
        (torch.tensor([1.5, 1.0]), "ends below 1"),
    ],
)
def test_schedules_that_are_refused(checks: ModuleType, sigmas: Any, words: str) -> None:
    with pytest.raises(LongTalkError, match=f"^sigmas: .*{words}"):
        checks.check_sigmas(sigmas)


def test_a_scheduler_that_needs_two_steps(checks: ModuleType, parts: SimpleNamespace) -> None:
    import comfy.samplers

    made = comfy.samplers.KSampler(parts.model, 1, "cpu", "euler", "kl_optimal").sigmas
    with pytest.raises(LongTalkError, match=r"sigmas: .* got values such as nan.*more steps"):
        checks.check_sigmas(made)


def test_samplers(checks: ModuleType) -> None:
    import comfy.samplers

    for name in comfy.samplers.KSampler.SAMPLERS:
        checks.check_sampler(comfy.samplers.sampler_object(name))
    checks.check_sampler(SimpleNamespace(sample=lambda: None))  # another pack's own
    for value in (None, "euler", comfy.samplers.KSAMPLER, comfy.samplers.KSAMPLER(None), SimpleNamespace(sample=1)):
        with pytest.raises(LongTalkError, match=r"sampler: expected a SAMPLER, got .*KSamplerSelect"):
            checks.check_sampler(value)


def test_noise(checks: ModuleType, comfy: ModuleType) -> None:
    def noise(**seed: Any) -> Any:
        return SimpleNamespace(generate_noise=lambda latent: latent, **seed)

    for value in (noise(), noise(seed=None), noise(seed=0), noise(seed=2**64 - 1), noise(seed=-5)):
        checks.check_noise(value)
    for value in (None, 7, SimpleNamespace(seed=1), noise(seed="7"), noise(seed=1.5), noise(seed=2**64)):
        with pytest.raises(LongTalkError, match=r"noise: expected a NOISE.*RandomNoise"):
            checks.check_noise(value)


def test_latents(checks: ModuleType) -> None:
    shape = (1, 16, 3, 2, 2)
    good = torch.zeros(shape, dtype=torch.float64)
    assert checks.check_latents(good, shape, "noise") is good
    for value, words in (
        (torch.zeros(1, 16, 3, 2, 1), r"float32 \[1, 16, 3, 2, 1\]"),
        (None, "nothing"),
        (torch.zeros(shape).int(), "int32"),
        (torch.zeros(shape).to_sparse(), "sparse"),
        (torch.full(shape, torch.nan), "NaN"),
    ):
        with pytest.raises(LongTalkError, match=f"^noise: .*{words}"):
            checks.check_latents(value, shape, "noise")
    checks.check_latents(torch.full(shape, torch.nan), shape, "sampler", finite=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: None, "got nothing"),
        (lambda: torch.rand(1, 48, 64, 3) * 255, "pixels from 0 to 1, got values from"),
        (lambda: torch.zeros(1, 3, 48, 64), "(1, 3, 48, 64)"),
        (lambda: torch.zeros(1, 48, 64, 3, dtype=torch.uint8), "uint8"),
        (lambda: torch.zeros(1, 48, 64, 3, dtype=torch.complex64), "complex64"),
    ],
)
def test_images_that_are_refused(checks: ModuleType, make: Callable[[], Any], words: str) -> None:
    with pytest.raises(LongTalkError) as caught:
        checks.check_image(make())
    assert caught.value.what == "image"
    assert words.replace("got nothing", "NoneType") in str(caught.value)


def test_images_of_other_precision_and_with_transparency(checks: ModuleType) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
        image = checks.check_image(torch.full((1, 4, 6, 4), 0.5, dtype=dtype))
        assert image.dtype == torch.float32
        assert image.shape == (1, 4, 6, 3)


@pytest.mark.parametrize("side", [15, 4097, 96.5, "96", None, True, 10**30])
def test_sizes_that_are_refused(checks: ModuleType, side: Any) -> None:
    for size in ((side, 96), (96, side)):
        with pytest.raises(LongTalkError, match="size: expected whole numbers from 16x16 to 4096x4096"):
            checks.snapped_size(*size)


@pytest.mark.parametrize("scale", [-0.1, 100.5, torch.nan, "1", None])
def test_guidance_out_of_range(comfy: ModuleType, parts: SimpleNamespace, scale: Any) -> None:
    from longtalk.infinitetalk.host.wan.guider import make_guider

    with pytest.raises(LongTalkError, match=r"^cfg: expected a number from 0 to 100"):
        make_guider(parts.model, parts.positive, parts.negative, scale, 1.0)
    with pytest.raises(LongTalkError, match=r"^audio_cfg: expected a number from 0 to 100"):
        make_guider(parts.model, parts.positive, parts.negative, 1.0, scale)
