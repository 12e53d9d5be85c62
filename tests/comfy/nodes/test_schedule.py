"""Prompt schedules with the real nodes: encoding, mixing, what each window is told, runs that go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_renderer, make_speech, relative, sampler_settings
from tiny_text import tiny_umt5
from watched import calls_of, forwards_of, frames_hash

from longtalk.base.errors import LongTalkError

CALM = "a woman in red, talking calmly"
LOUD = "a woman in red, laughing: ha"
FRAMES = 33
STARTS = (0, 13, 21, 29)
"""First new frame of each window of the small runs."""

Encode = Callable[..., Any]


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    import longtalk.nodes

    return longtalk.nodes


@pytest.fixture(scope="module")
def clip(comfy: ModuleType) -> Any:
    return tiny_umt5()


@pytest.fixture(scope="module")
def encode(nodes: ModuleType, clip: Any) -> Encode:
    """Prompt Schedule (LongTalk), its first output."""

    def go(text: str, snap: bool = True, blend_s: float = 0.0) -> Any:
        return nodes.LongTalkPromptSchedule.execute(clip, text, snap, blend_s).result[0]

    return go


@pytest.fixture(scope="module")
def calm(comfy: ModuleType, clip: Any) -> Any:
    return core_encode(clip, CALM)


@pytest.fixture(scope="module")
def loud(comfy: ModuleType, clip: Any) -> Any:
    return core_encode(clip, LOUD)


def core_encode(clip: Any, text: str) -> Any:
    """Core's CLIP Text Encode."""
    import nodes

    return nodes.CLIPTextEncode().encode(clip, text)[0]


@pytest.fixture
def small(parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> dict[str, Any]:
    """Windows of 13 frames at 48x32, 8 of them new: 13, 8, 8 and 4 of 33 frames."""
    return sampler_settings(
        parts,
        portrait,
        audio=make_audio(FRAMES / 25),
        width=48,
        height=32,
        window_frames=13,
        motion_frames=5,
        plan_mode="aligned_up",
        return_images=True,
    )


@pytest.fixture
def run(nodes: ModuleType, small: dict[str, Any]) -> Callable[..., tuple[Path, torch.Tensor, str]]:
    def go(**changes: Any) -> tuple[Path, torch.Tensor, str]:
        with torch.inference_mode():  # as ComfyUI runs nodes
            video, images, report = nodes.LongTalkSampler.execute(**{**small, **changes}).result
        return Path(video.get_stream_source()), images, report

    return go


Run = Callable[..., tuple[Path, torch.Tensor, str]]


def same(one: Any, other: Any) -> bool:
    """Whether two conditionings hold the same texts and pooled outputs, bit for bit."""
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and a[1].keys() == b[1].keys() for a, b in zip(one, other, strict=True)
    )


# ---------------------------------------------------------------- encoding


def test_each_distinct_text_is_encoded_once_as_core_does(nodes: ModuleType, clip: Any, calm: Any, loud: Any) -> None:
    with calls_of(clip, "encode_from_tokens_scheduled") as encoded, calls_of(clip, "tokenize") as tokenized:
        output = nodes.LongTalkPromptSchedule.execute(clip, f"0-2: {CALM}\n2: {LOUD}\n4: {CALM}\n6: {LOUD}", True, 0.0)
    assert [call[0] for call in tokenized] == [CALM, LOUD]
    assert len(encoded) == 2
    schedule, report = output.result
    first, second, third, fourth = schedule.conditionings
    assert third is first
    assert fourth is second
    assert same(first, calm)
    assert same(second, loud)
    assert not same(first, second)
    assert report.startswith("Prompts: 4 in the schedule, 2 different\n")
    assert f"0:02.00 - 0:04.00: line 2: {LOUD}" in report


@pytest.mark.parametrize("wrong", [{"schedule": "0: a\nb"}, {"snap": "yes"}, {"blend_s": -1.0}, {"schedule": ""}])
def test_nothing_is_encoded_when_a_setting_is_wrong(nodes: ModuleType, clip: Any, wrong: dict[str, Any]) -> None:
    inputs = {"clip": clip, "schedule": "0: a", "snap": True, "blend_s": 0.0, **wrong}
    with calls_of(clip, "tokenize") as tokenized, pytest.raises(LongTalkError):
        nodes.LongTalkPromptSchedule.execute(**inputs)
    assert tokenized == []


def test_no_text_encoder_is_named(nodes: ModuleType) -> None:
    with pytest.raises(LongTalkError, match="clip: expected a text encoder, got nothing"):
        nodes.LongTalkPromptSchedule.execute(None, "0: a", True, 0.0)


# ---------------------------------------------------------------- mixing


@pytest.mark.parametrize("share", [0.0, 0.125, 0.3, 0.5, 0.9, 1.0])
def test_two_prompts_mix_as_in_cores_average(comfy: ModuleType, calm: Any, loud: Any, share: float) -> None:
    import nodes
    from longtalk.infinitetalk.host.blend import blend_conditioning

    expected = nodes.ConditioningAverage().addWeighted(loud, calm, share)[0]
    mixed = blend_conditioning([(calm, 1.0 - share), (loud, share)])
    assert torch.allclose(mixed[0][0], expected[0][0], rtol=1e-5, atol=1e-6)
    assert mixed[0][1] == expected[0][1] == {"pooled_output": None}


def text(tokens: int, value: float, **extra: Any) -> Any:
    return [[torch.full((1, tokens, 4), value), extra]]


def test_a_weight_of_one_gives_the_very_object(calm: Any, loud: Any) -> None:
    from longtalk.infinitetalk.host.blend import blend_conditioning

    assert blend_conditioning([(calm, 1.0)]) is calm
    assert blend_conditioning([(loud, 0.0), (calm, 1.0), (loud, 0.0)]) is calm


def test_the_shorter_text_is_padded_with_zeros(comfy: ModuleType) -> None:
    """Core's node does so, too, where its second prompt is the shorter one."""
    import nodes
    from longtalk.infinitetalk.host.blend import blend_conditioning

    long, short = text(5, 2.0), text(3, 4.0)
    for parts in ([(long, 0.75), (short, 0.25)], [(short, 0.25), (long, 0.75)]):
        mixed = blend_conditioning(parts)[0][0]
        assert torch.equal(mixed, nodes.ConditioningAverage().addWeighted(long, short, 0.75)[0][0][0])
        assert mixed[0, :, 0].tolist() == [2.5, 2.5, 2.5, 1.5, 1.5]


def test_pooled_outputs_mix_and_the_rest_comes_from_the_heaviest(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.blend import blend_conditioning

    pooled = [torch.full((1, 6), value) for value in (1.0, 2.0, 4.0)]
    parts = [text(3, 1.0, pooled_output=each, mark=place) for place, each in enumerate(pooled)]
    [[mixed, extra]] = blend_conditioning(list(zip(parts, (0.25, 0.5, 0.25), strict=True)))
    assert extra["mark"] == 1
    assert torch.equal(extra["pooled_output"], torch.full((1, 6), 2.25))
    assert torch.equal(mixed, torch.ones(1, 3, 4))
    assert parts[1][0][1]["pooled_output"] is pooled[1]  # what went in is left alone
    bare = text(3, 1.0)
    [[_, extra]] = blend_conditioning([(bare, 0.75), (parts[2], 0.25)])
    assert torch.equal(extra["pooled_output"], pooled[2])


def test_attention_masks_are_united(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.blend import blend_conditioning

    one = text(5, 1.0, attention_mask=torch.tensor([[1, 1, 0, 0, 0]]))
    other = text(3, 1.0, attention_mask=torch.tensor([[0, 1, 1]]))
    bare = text(4, 1.0)
    assert blend_conditioning([(one, 0.5), (other, 0.5)])[0][1]["attention_mask"].tolist() == [[1, 1, 1, 0, 0]]
    assert blend_conditioning([(one, 0.5), (bare, 0.5)])[0][1]["attention_mask"].tolist() == [[1, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([(0, 1.5), (0, -0.5)], "weight 2"),
        ([(0, float("nan")), (0, 1.0)], "weight 1"),
        ([], "weights"),
        ([(0, 0.5), (1, 0.5)], "text of the conditionings"),
        ([(0, 0.5), (3, 0.5)], "conditioning 2: expected a CONDITIONING with a text"),
        ([(4, 0.5), (0, 0.5)], "conditioning 1: expected a CONDITIONING with a text"),
        ([(5, 0.5), (6, 0.5)], "pooled output of the conditionings"),
    ],
)
def test_what_cannot_be_mixed_is_refused(comfy: ModuleType, parts: list[tuple[int, float]], words: str) -> None:
    from longtalk.infinitetalk.host.blend import blend_conditioning

    pooled = [text(2, 1.0, pooled_output=torch.zeros(1, size)) for size in (3, 4)]
    known = [text(2, 1.0), [[torch.zeros(1, 2, 5), {}]], None, [], [["x", {}]], *pooled]
    with pytest.raises(LongTalkError, match=words):
        blend_conditioning([(known[place], weight) for place, weight in parts])


# ---------------------------------------------------------------- what each window is told


def test_windows_get_their_entrys_own_conditioning_or_cores_average(
    comfy: ModuleType, encode: Encode, calm: Any, loud: Any
) -> None:
    """Four windows of 10 s, a change 20 s wide at 20 s: the middles at 15 and 25 s are 15 % and 85 % over."""
    import nodes
    from longtalk.infinitetalk.host.prompts import window_prompts

    encoded = encode(f"0: {CALM}\n20: {LOUD}", blend_s=20.0)
    prompts = window_prompts(encoded, [0, 10, 20, 30], 40)
    assert prompts.conditioning(1) is encoded.conditionings[0]
    assert prompts.conditioning(4) is encoded.conditionings[1]
    for number in (2, 3):
        (_, before), (_, after) = prompts.resolved.windows[number - 1]
        assert before + after == 1.0
        assert after == pytest.approx({2: 0.1464466, 3: 0.8535534}[number], abs=1e-6)
        expected = nodes.ConditioningAverage().addWeighted(loud, calm, after)[0]
        assert relative(prompts.conditioning(number)[0][0], expected[0][0]) < 1e-7
        [cond] = prompts.conds(number)
        assert torch.equal(cond["cross_attn"], prompts.conditioning(number)[0][0])


def test_lines_with_the_same_text_are_one_prompt(encode: Encode) -> None:
    from longtalk.infinitetalk.host.prompts import window_prompts

    encoded = encode(f"0: {CALM}\n15: {CALM}", snap=False, blend_s=10.0)
    prompts = window_prompts(encoded, [0, 10, 20], 30)
    assert len(prompts.resolved.windows[1]) == 2
    assert all(prompts.conditioning(number) is encoded.conditionings[0] for number in (1, 2, 3))


def test_prompts_that_cannot_mix_are_refused_before_the_run(encode: Encode, loud: Any) -> None:
    from dataclasses import replace

    from longtalk.infinitetalk.host.prompts import window_prompts

    encoded = encode(f"0: {CALM}\n15: {LOUD}", snap=False, blend_s=10.0)
    odd = replace(encoded, conditionings=(encoded.conditionings[0], [*loud, *loud]))
    with pytest.raises(LongTalkError, match=r"schedule, line 2: expected .* mixes with schedule, line 1"):
        window_prompts(odd, [0, 10, 20], 30)
    window_prompts(replace(odd, blend_s=0.0), [0, 10, 20], 30)


# ---------------------------------------------------------------- runs


def test_one_entry_is_the_same_as_its_text_as_positive(run: Run, encode: Encode, calm: Any) -> None:
    _, expected, plain = run(positive=calm)
    _, images, report = run(schedule=encode(CALM))
    assert torch.equal(images, expected)
    assert f"windows 1 to 4 (0:00.00 - 0:01.32): line 1: {CALM}" in report
    assert "Prompts" not in plain


def test_the_prompt_changes_where_its_window_begins(run: Run, encode: Encode, calm: Any, clip: Any) -> None:
    """0.8 s is frame 20; the nearest window start is frame 21."""
    _, without, _ = run(positive=calm)
    schedule = encode(f"# two\n0: {CALM}\n0.8: {LOUD}\n0:03: {CALM}")
    with calls_of(clip, "tokenize") as tokenized:
        _, images, report = run(schedule=schedule)
    assert tokenized == []
    assert torch.equal(images[: STARTS[2]], without[: STARTS[2]])
    for start, end in ((STARTS[2], STARTS[3]), (STARTS[3], FRAMES)):
        assert not torch.equal(images[start:end], without[start:end])
        assert relative(images[start:end], without[start:end]) > 1e-4
    assert f"windows 1 to 2 (0:00.00 - 0:00.84): line 2: {CALM}" in report
    assert f"windows 3 to 4 (0:00.84 - 0:01.32): line 3: {LOUD}" in report
    assert "note: schedule, line 3: its prompt begins at 0:00.84 instead of 0:00.80, 0.04 s later" in report
    assert "note: schedule, line 4: dropped: it begins at 0:03.00, the video ends at 0:01.32" in report


def test_each_window_samples_with_its_prompt_and_the_reference(
    parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any], encode: Encode, loud: Any
) -> None:
    """Latents of a window with a schedule equal those of a renderer whose guider has that prompt, guidance included."""
    from longtalk.infinitetalk.host.wan.guider import make_guider

    speech = make_speech(parts, make_audio(1.3))
    settings = {"width": 48, "height": 32, "steps": 1}
    direct, plan = make_renderer(
        parts, speech, portrait, guider=make_guider(parts.model, loud, parts.negative, 3.0, 2.0), **settings
    )
    guider = make_guider(parts.model, parts.positive, parts.negative, 3.0, 2.0)
    before = {name: [dict(entry) for entry in entries] for name, entries in guider.original_conds.items()}
    schedule = encode(f"0: {CALM}\n0.9: {LOUD}")
    scheduled, _ = make_renderer(parts, speech, portrait, guider=guider, schedule=schedule, **settings)
    assert len(plan.windows) == 2
    carry = {"motion": torch.randn((1, 16, 3, 4, 6), generator=torch.Generator().manual_seed(2))}
    first, later = plan.windows
    assert not torch.equal(scheduled.sample(first, {}), direct.sample(first, {}))
    assert torch.equal(scheduled.sample(later, carry), direct.sample(later, carry))
    assert {name: [entry.keys() for entry in each] for name, each in guider.original_conds.items()} == {
        name: [entry.keys() for entry in each] for name, each in before.items()
    }


def test_a_blend_lies_between_its_prompts(run: Run, encode: Encode) -> None:
    """The first window mixes half of each; it is neither of them."""
    blended = encode(f"0: {CALM}\n0.26: {LOUD}", snap=False, blend_s=0.4)
    _, images, report = run(schedule=blended)
    assert f"window 1 (0:00.00 - 0:00.52): 50% line 1: {' '.join(CALM.split()[:3])} ... + 50% line 2: " in report
    for other in (CALM, LOUD):
        assert not torch.equal(images[: STARTS[1]], run(schedule=encode(other))[1][: STARTS[1]])


def test_a_guider_with_other_prompts_keeps_them(
    nodes: ModuleType, small: dict[str, Any], parts: SimpleNamespace, encode: Encode, calm: Any
) -> None:
    """Core's guider with two positives: the schedule takes the place of the one named 'positive'."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    def go(positive: Any, **changes: Any) -> torch.Tensor:
        guider = Guider_DualCFG(parts.model)
        guider.set_conds(positive, parts.positive, parts.negative)
        guider.set_cfg(2.0, 1.5)
        own = ("model", "positive", "negative", "seed", "steps", "sampler_name", "scheduler", "features")
        inputs = {name: value for name, value in small.items() if name not in (*own, "audio", "audio_encoder")}
        with torch.inference_mode():
            output = nodes.LongTalkSamplerAdvanced.execute(
                **inputs,
                guider=guider,
                speech=make_speech(parts, small["audio"]),
                noise=nodes.sampler.SeedNoise(3),
                sampler=comfy.samplers.sampler_object("euler"),
                sigmas=torch.tensor([1.0, 0.5, 0.0]),
                **changes,
            )
        return output.result[1]

    expected = go(calm)
    assert torch.equal(go(parts.negative, schedule=encode(CALM)), expected)
    assert not torch.equal(go(parts.negative), expected)


def test_model_and_prompts_take_a_schedule_too(
    nodes: ModuleType, small: dict[str, Any], parts: SimpleNamespace, encode: Encode, run: Run
) -> None:
    import comfy.samplers

    schedule = encode(f"0: {CALM}\n0.8: {LOUD}")
    _, expected, _ = run(schedule=schedule)
    own = ("seed", "steps", "sampler_name", "scheduler", "features", "audio", "audio_encoder")
    inputs = {name: value for name, value in small.items() if name not in own}
    model = parts.model
    with torch.inference_mode():
        output = nodes.LongTalkSamplerAdvanced.execute(
            **inputs,
            speech=make_speech(parts, small["audio"], features="official", normalize=True),
            noise=nodes.sampler.SeedNoise(3),
            sampler=comfy.samplers.sampler_object("euler"),
            sigmas=comfy.samplers.KSampler(model, 2, model.load_device, "euler", "simple").sigmas,
            schedule=schedule,
            resume="start over",  # it is the same run
        )
    assert torch.equal(output.result[1], expected)


# ---------------------------------------------------------------- another run, or the same


@pytest.fixture
def interrupted() -> Iterator[type[BaseException]]:
    import comfy.model_management

    yield comfy.model_management.InterruptProcessingException
    comfy.model_management.interrupt_current_processing(False)


def runs_in(output_folder: Path) -> list[str]:
    return sorted(path.name for path in (output_folder / "longtalk").iterdir())


def test_a_stopped_run_goes_on_with_the_prompts_it_had(
    run: Run, parts: SimpleNamespace, encode: Encode, output_folder: Path, interrupted: type[BaseException]
) -> None:
    import comfy.model_management

    text = f"0: {CALM}\n0.8: {LOUD}"
    path, _, _ = run(schedule=encode(text), return_images=False)
    expected = frames_hash(path)

    def cancel(count: int) -> None:
        if count == 5:  # the first step of the third window, which has the second prompt
            comfy.model_management.interrupt_current_processing()

    settings = {"seed": 4, "return_images": False}
    with forwards_of(parts, cancel), pytest.raises(interrupted):
        run(schedule=encode(text), **settings)
    with forwards_of(parts) as forwards:
        path, _, report = run(schedule=encode(text), **settings)  # encoded anew, as after a restart
    assert len(forwards) == 4
    assert "windows 1 to 2 were finished before and kept" in report
    stopped = frames_hash(path)
    assert stopped[0] == FRAMES
    whole, _, _ = run(schedule=encode(text), **settings, resume="start over")
    assert frames_hash(whole) == stopped
    assert stopped != expected  # another seed: the two are compared for real


def test_another_schedule_is_another_run(run: Run, encode: Encode, output_folder: Path, loud: Any) -> None:
    first = encode(f"0: {CALM}\n0.8: {LOUD}")
    run(schedule=first, return_images=False)
    [name] = runs_in(output_folder)
    _, _, report = run(schedule=encode(f"# no matter\n0-0.8: {CALM}\n0.85+: {LOUD}"), return_images=False)
    assert runs_in(output_folder) == [name]  # every window is told the same
    assert "finished before" in report
    _, _, report = run(schedule=first, positive=loud, return_images=False)
    assert runs_in(output_folder) == [name]  # positive is not used
    for number, other in enumerate((f"0: {CALM}\n0.4: {LOUD}", f"0: {LOUD}\n0.8: {CALM}", CALM), 2):
        run(schedule=encode(other), return_images=False)
        assert len(runs_in(output_folder)) == number
    run(return_images=False)
    assert len(runs_in(output_folder)) == 5


# ---------------------------------------------------------------- refusals and the plan


def test_a_schedule_of_another_text_encoder_is_refused(run: Run, encode: Encode) -> None:
    from dataclasses import replace

    encoded = encode(f"0: {CALM}\n\n0.8: {LOUD}")
    odd = replace(encoded, conditionings=(encoded.conditionings[0], [[torch.zeros(1, 77, 768), {}]]))
    with pytest.raises(LongTalkError, match=r"schedule, line 3: expected text conditioning .* got 768 wide"):
        run(schedule=odd)


@pytest.mark.parametrize("wrong", ["0: a woman", 0, "", False, [], "conditioning"])
def test_what_is_no_schedule_is_refused(run: Run, calm: Any, wrong: Any) -> None:
    with pytest.raises(LongTalkError, match="schedule: expected the output of Prompt Schedule"):
        run(schedule=calm if wrong == "conditioning" else wrong)


def test_the_plan_shows_the_schedule(nodes: ModuleType, make_audio: Callable[..., Any]) -> None:
    settings = {"window_frames": 81, "motion_frames": 9, "plan_mode": "exact", "audio": make_audio(10.68)}
    plain = nodes.LongTalkPlan.execute(**settings)
    with_text = nodes.LongTalkPlan.execute(**settings, schedule_text=f"0: {CALM}\n6: {LOUD}\n0:20: {CALM}")
    assert with_text.result[0].shape[1] > plain.result[0].shape[1]
    assert with_text.result[1].startswith(plain.result[1] + "\n\nPrompts: 3 in the schedule")
    assert "line 2: its prompt begins at 0:05.64 instead of 0:06.00, 0.36 s earlier" in with_text.result[1]
    assert "line 3: dropped: it begins at 0:20.00, the video ends at 0:10.68" in with_text.result[1]
    assert with_text.result[2:] == plain.result[2:] == (267, 4)
    for empty in ("", " \n"):
        assert nodes.LongTalkPlan.execute(**settings, schedule_text=empty).result[1] == plain.result[1]
    with pytest.raises(LongTalkError, match="schedule, line 2"):
        nodes.LongTalkPlan.execute(**settings, schedule_text="0: a\nb")
