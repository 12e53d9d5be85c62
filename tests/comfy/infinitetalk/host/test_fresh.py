"""What a window leaves on guiders, samplers and patches is not there for the next one, nor after a resume."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_ltx_run, make_run, make_speech, renderer_of
from watched import forwards_of, frames_hash

#: Of the fixture ``run``, and of what is asked of it.
WINDOWS, STEPS = 4, 3


@pytest.fixture(scope="module")
def audio(make_audio: Callable[..., Any]) -> Any:
    return make_audio(1.6)


def windows_of(run: Any) -> list[torch.Tensor]:
    """The latents of each window, one after the other; each begins with what the first one handed on."""
    renderer, made = renderer_of(run), []
    carry: Any = {}
    for window in run.plan.windows:
        rendered = renderer.render(window, carry)
        made.append(rendered.latents)
        carry = renderer.hand_on(window, carry, rendered)
    return made


def alone(run: Any, number: int) -> torch.Tensor:
    """A window as a run makes it that goes on behind the window before."""
    renderer, carry = renderer_of(run), {}
    for window in run.plan.windows[:number]:
        carry = renderer.hand_on(window, carry, renderer.render(window, carry))
    latents: torch.Tensor = renderer_of(run).render(run.plan.windows[number], carry).latents
    return latents


def with_momentum(model: Any) -> Any:
    from comfy_extras.nodes_apg import APG

    return APG.execute(model, 0.5, 1.0, -0.9).result[0]


class AveragingGuider:
    """Made into a guider as the official MultimodalGuider is: it goes on from its last prediction."""

    @staticmethod
    def make(model: Any, positive: Any, negative: Any) -> Any:
        import comfy.samplers
        from comfy.patcher_extension import CallbacksMP, WrappersMP

        class Guider(comfy.samplers.CFGGuider):  # type: ignore[misc]
            def __init__(self, model: Any) -> None:
                model = model.clone()
                self.current_step = 0
                self.last: torch.Tensor | None = None
                self.flag = SimpleNamespace(skips=0)
                flag = self.flag

                def counting(executor: Any, *args: Any, **kwargs: Any) -> Any:
                    flag.skips += 1
                    return executor(*args, **kwargs)

                model.add_callback_with_key(CallbacksMP.ON_PRE_RUN, "guider", self.reset)
                model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "guider", counting)
                super().__init__(model)
                self.resets = 0

            def reset(self, patcher: Any = None) -> None:
                self.resets += 1

            def predict_noise(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> Any:
                self.current_step += 1
                assert self.flag.skips == self.current_step, "the wrapper and the guider share a flag"
                assert self.resets == 1, "the callback is the guider's own"
                if self.last is not None and self.current_step % 3 == 0:
                    return self.last
                self.last = super().predict_noise(x, timestep, model_options or {}, seed)
                return self.last

        guider = Guider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(2.0)
        return guider


def ltx_guider(ltx: SimpleNamespace, model: Any) -> Any:
    from longtalk.infinitetalk.host.ltx.guider import make_ltx_guider

    return make_ltx_guider(model, ltx.positive, ltx.negative, 3.0)


@pytest.mark.parametrize("kind", ["APG", "guider"])
def test_each_window_of_ltx_begins_anew(ltx: SimpleNamespace, audio: Any, portrait: torch.Tensor, kind: str) -> None:
    """A last window of another length included, which a guider that remembers the one before cannot predict."""
    if kind == "APG":
        guider = ltx_guider(ltx, with_momentum(ltx.model))
    else:
        guider = AveragingGuider.make(ltx.model, ltx.positive, ltx.negative)
    run = make_ltx_run(ltx, audio, portrait, guider=guider, sigmas=torch.tensor([1.0, 0.9, 0.5, 0.0]))
    before = run.parts()
    assert len(run.plan.windows) >= 2
    whole = windows_of(run)
    assert torch.equal(whole[1], alone(run, 1))
    assert run.parts() == before
    if kind == "guider":
        assert (guider.current_step, guider.last, guider.flag.skips) == (0, None, 0)


def test_apg_remembers_within_a_window(ltx: SimpleNamespace, audio: Any, portrait: torch.Tensor) -> None:
    """What was mended does not take its momentum away."""
    from comfy_extras.nodes_apg import APG

    made = []
    for momentum in (0.0, -0.9):
        guider = ltx_guider(ltx, APG.execute(ltx.model, 0.5, 1.0, momentum).result[0])
        run = make_ltx_run(ltx, audio, portrait, guider=guider, sigmas=torch.tensor([1.0, 0.9, 0.5, 0.0]))
        made.append(renderer_of(run).render(run.plan.windows[0], {}).latents)
    assert not torch.equal(*made)


def test_each_window_of_wan_begins_anew(parts: SimpleNamespace, audio: Any, portrait: torch.Tensor) -> None:
    from longtalk.infinitetalk.host.wan.guider import make_guider

    guider = make_guider(with_momentum(parts.model), parts.positive, parts.negative, 3.0, 1.0)
    run = make_run(parts, make_speech(parts, audio), portrait, guider=guider)
    before = run.parts()
    whole = windows_of(run)
    assert torch.equal(whole[1], alone(run, 1))
    assert run.parts() == before


def counting() -> tuple[Callable[[], int], Callable[[], int]]:
    count = 0

    def up() -> int:
        nonlocal count
        count += 1
        return count

    def read() -> int:
        return count

    return up, read


GLOBAL = SimpleNamespace(value=0)


def test_a_cancelled_run_goes_on_as_if_nothing_had_happened(
    run: Callable[..., tuple[Path, str]], parts: SimpleNamespace, output_folder: Path
) -> None:
    """The model is the same object before and after, as in a server that keeps it; with momentum in it.

    It is cancelled in a window's second step: APG forgets by itself at a step that is noisier than the one before, but
    the first step that is made once more is as noisy as the last one that was made.
    """
    import comfy.model_management

    guided = {"model": with_momentum(parts.model), "cfg": 3.0, "steps": STEPS}
    with forwards_of(parts) as forwards:
        expected = frames_hash(run(**guided)[0])
    shutil.rmtree(output_folder / "longtalk")
    at = len(forwards) // WINDOWS * 2 + len(forwards) // WINDOWS // STEPS + 1

    def cancel(count: int) -> None:
        if count == at:
            comfy.model_management.interrupt_current_processing()

    with forwards_of(parts, cancel), pytest.raises(comfy.model_management.InterruptProcessingException):
        run(**guided)
    video, report = run(**guided)
    assert "windows 1 to 2 were finished before and kept" in report
    assert frames_hash(video) == expected


def test_copies_share_what_their_originals_share(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.fresh import Fresh

    up, read = counting()
    flag = SimpleNamespace(on=False)
    flag.itself = flag
    weight = torch.zeros(2)
    value = {"a": [up, functools.partial(read)], "b": (flag, weight), "c": {"flag": flag}, "d": {1, 2}}
    fresh = Fresh()
    copied = fresh.of(value)
    assert copied["a"][0]() == 1
    assert copied["a"][1]() == 1
    assert read() == 0
    copied["b"][0].on = True
    assert copied["c"]["flag"].on
    assert copied["b"][0].itself is copied["b"][0]
    assert not flag.on
    assert copied["b"][1] is weight
    assert fresh.of(up) is copied["a"][0]


def averaging() -> Callable[[torch.Tensor], Any]:
    average = None

    def add(x: torch.Tensor) -> Any:
        nonlocal average
        average = x if average is None else average + x
        return average

    return add


def test_an_average_begins_anew_whoever_used_it_before(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.fresh import Fresh

    add, one = averaging(), torch.ones(1)
    add(one)
    assert add(one) == 2
    assert Fresh().of(add)(one) == 1
    assert add(one) == 3


def test_what_lies_on_the_model_itself_stays_shared(comfy: ModuleType, parts: SimpleNamespace) -> None:
    """A flag that a wrapper sets and a patched module reads: a copy of it would tell the module nothing."""
    from longtalk.infinitetalk.host.fresh import Fresh, one_of_a_kind

    flag, own = SimpleNamespace(on=False), SimpleNamespace(on=False)
    model = parts.model.clone()
    model.add_object_patch("diffusion_model.head.forward", lambda x: x * int(flag.on))
    wrapper = functools.partial(setattr, flag, "on")
    value = [wrapper, {"own": own, "everybody's": GLOBAL, "code": lambda: GLOBAL}]
    fresh = Fresh(one_of_a_kind(model, value))
    made = fresh.of(value)
    assert made[0].args[0] is flag
    assert made[1]["own"] is not own
    assert made[1]["everybody's"] is GLOBAL


class Recorder:
    """Gathers what a person reads when the run is over, and says that there is one of it."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return self


def test_an_object_that_says_how_it_is_copied_is_copied_so(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.fresh import Fresh

    recorder = Recorder()
    assert Fresh().of({"wrapper": recorder})["wrapper"] is recorder


class Pair(tuple[Any, Any]):
    """A tuple that is not made of its items."""

    def __new__(cls, first: Any, second: Any) -> Pair:
        return super().__new__(cls, (first, second))


class Undoing:
    """Takes its setting back when it goes."""

    def __init__(self, settings: dict[str, float]) -> None:
        self.settings = settings

    def __del__(self) -> None:
        self.settings.clear()


def test_copies_of_objects_with_ways_of_their_own(comfy: ModuleType) -> None:
    from longtalk.infinitetalk.host.fresh import Fresh

    pair = Pair({"calls": 0}, 1)
    pair.seen = []  # type: ignore[attr-defined]
    copied = Fresh().of(pair)
    assert (type(copied), copied, copied.seen) == (Pair, pair, [])
    assert copied[0] is not pair[0]
    assert copied.seen is not pair.seen  # type: ignore[attr-defined]

    undoing = Undoing({"scale": 0.2})
    made = Fresh().of([undoing])
    assert made[0] is undoing
    del made
    assert undoing.settings == {"scale": 0.2}
