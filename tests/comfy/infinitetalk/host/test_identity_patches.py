"""What nodes put on a model, wherever and however: every setting of it makes another run, and no address does."""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import make_ltx_run
from same_names import times

PAIRS = 500


@pytest.fixture(scope="module")
def run(ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> Any:
    return make_ltx_run(ltx, make_audio(0.4), portrait)


class Slotted:
    __slots__ = ("__hidden", "_private")

    def __init__(self, setting: Any) -> None:
        self._private = None
        self.__hidden = setting

    def __call__(self, args: Any) -> Any:
        return args


class Private:
    def __init__(self, setting: Any) -> None:
        self._setting = setting
        self.itself = self  # a circle

    def to(self, device: Any) -> Private:
        return self

    def method(self, args: Any) -> Any:
        return args


def closure(setting: Any) -> Any:
    def patch(args: Any) -> Any:
        return setting, args

    return patch


def counted(setting: Any) -> Any:
    calls = 0

    def patch(args: Any) -> Any:
        nonlocal calls
        calls += 1
        return setting, args, calls

    return patch


def local_class(setting: Any) -> Any:
    class Patch:
        def __call__(self, args: Any) -> Any:
            return setting, args

    return Patch()


def keyframed(setting: Any) -> Any:
    import comfy.hooks

    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(setting, 0.25))
    group = comfy.hooks.create_hook_lora({"w": torch.ones(2)}, 1.0, 1.0)
    group.set_keyframes_on_hooks(keyframes)
    return group


def lora_hook(setting: Any) -> Any:
    import comfy.hooks

    return comfy.hooks.create_hook_lora({"w": torch.ones(2)}, setting, 1.0)


def module(setting: Any) -> Any:
    made = torch.nn.Identity()
    made.scale = setting
    return made


#: How a setting may be held.
HELD: dict[str, Callable[[Any], Any]] = {
    "a closure": closure,
    "a closure with state": counted,
    "a method's closure": lambda setting: types.MethodType(closure(setting), Slotted(0)),
    "a method's object": lambda setting: Private(setting).method,
    "slots": Slotted,
    "a private attribute": Private,
    "a class made on the spot": local_class,
    "a default": lambda setting: lambda args, by=setting: by,
    "code": times,
    "a partial": lambda setting: functools.partial(closure(0), setting),
    "a module": module,
    "a tensor": lambda setting: torch.tensor([setting, 1.0]),
    "a set": lambda setting: {"a", "b", setting},
    "a hook's strength": lora_hook,
    "a hook's keyframe": keyframed,
    "a decorated function": lambda setting: torch.no_grad()(closure(setting)),
    "a remembering function": lambda setting: functools.lru_cache(closure(setting)),
    "a compiled function": lambda setting: torch.compile(closure(setting), backend="eager"),
}


def on(model: Any, place: str, what: Any) -> Any:
    """A clone of a model with something at one of the places where nodes put things."""
    import comfy.hooks
    from comfy.patcher_extension import CallbacksMP, PatcherInjection, WrappersMP

    clone = model.clone()
    if place == "patch":
        clone.set_model_patch(what, "attn1_patch")
    elif place == "replace":
        clone.set_model_patch_replace(what, "dit", "double_block", 0)
    elif place == "options":
        clone.model_options["transformer_options"]["a pack's"] = what
    elif place == "cfg":
        clone.model_options["sampler_post_cfg_function"] = [what]
    elif place == "object":
        clone.add_object_patch("diffusion_model.somewhere", what)
    elif place == "wrapper":
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "pack", what)
    elif place == "callback":
        clone.add_callback_with_key(CallbacksMP.ON_PRE_RUN, "pack", what)
    elif place == "injection":
        clone.set_injections("pack", [PatcherInjection(inject=what, eject=closure(0))])
    elif place == "attachment":
        clone.set_attachments("pack", what)
    elif place == "weight wrapper":
        clone.add_weight_wrapper("diffusion_model.x", what)
    elif place == "additional model":
        clone.set_additional_models("pack", [on(model, "options", what)])
    elif place == "hook patch":
        clone.hook_patches[comfy.hooks._HookRef()] = {"diffusion_model.x": [(what, 1.0)]}
    elif place == "forced hooks":
        hooks = comfy.hooks.HookGroup()
        hooks.add(comfy.hooks.TransformerOptionsHook({"wrappers": {"x": {"pack": [what]}}}))
        clone.forced_hooks = hooks
    return clone


PLACES = ("patch", "replace", "options", "cfg", "object", "wrapper", "callback", "injection", "attachment")
PLACES += ("weight wrapper", "additional model", "hook patch", "forced hooks")


def test_no_false_sameness(run: Any) -> None:
    """Each pair differs in one setting, held in some way at some place; the same one again has the same name."""
    from longtalk.infinitetalk.host.identity import _naming, _settings_of

    choose = random.Random(18)
    cases = [(place, held) for place in PLACES for held in HELD]
    cases += [(choose.choice(PLACES), choose.choice([*HELD])) for _ in range(PAIRS - len(cases))]
    alike, unstable = [], []
    for place, held in cases:
        first = round(choose.uniform(0, 2), choose.randrange(1, 6))
        second = first + choose.choice((1, 0.5, 1e-3, 2**-20))
        settings = (first, first, second)
        names = [_naming(run).of(_settings_of(on(run.model, place, HELD[held](each)))) for each in settings]
        if names[0] != names[1]:
            unstable.append((place, held))
        if names[1] == names[2]:
            alike.append((place, held, first, second))
    assert len(cases) >= PAIRS
    assert (alike, unstable) == ([], [])


def differing(run: Any, other: Any) -> set[str]:
    one, two = run.parts(), other.parts()
    return {part for part in one if one[part] != two[part]}


def with_model(run: Any, model: Any) -> Any:
    import dataclasses

    from longtalk.infinitetalk.host.ltx.guider import make_ltx_guider

    conds = {
        name: [[entry["cross_attn"], {}] for entry in run.guider.original_conds[name]]
        for name in ("positive", "negative")
    }
    return dataclasses.replace(run, guider=make_ltx_guider(model, conds["positive"], conds["negative"], 1.0))


def test_only_what_differs_is_named(run: Any) -> None:
    plain = with_model(run, run.model)
    assert differing(plain, with_model(run, run.model)) == set()
    for place in ("patch", "object", "wrapper", "callback", "injection", "attachment"):
        what = types.MethodType(closure(1.0), run.model.model.diffusion_model.transformer_blocks[0].attn1)
        other = types.MethodType(closure(2.0), what.__self__)
        one, two = (with_model(run, on(run.model, place, each)) for each in (what, other))
        assert differing(one, two) == {"model options"}, place
    one, two = (with_model(run, on(run.model, "weight wrapper", closure(each))) for each in (1.0, 2.0))
    assert differing(one, two) == {"LoRA"}


def test_compiled_twice_is_the_same_run(run: Any) -> None:
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    one, two, other = (
        with_model(run, TorchCompileModel.execute(run.model, backend).result[0])
        for backend in ("inductor", "inductor", "cudagraphs")
    )
    assert differing(one, two) == set()
    assert differing(one, other) == {"model options"}
    assert differing(one, with_model(run, run.model)) == {"model options"}


def test_a_loaded_model_is_named_as_before(comfy: ModuleType, run: Any) -> None:
    """Patches on objects stand in the model while it is loaded, a compiled block with the names of its weights."""
    import comfy.model_management
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    def patched(shift: float) -> Any:
        model = ModelSamplingSD3().patch(run.model, shift)[0]
        block = model.get_model_object("diffusion_model.transformer_blocks.0")
        model.add_object_patch("diffusion_model.transformer_blocks.0", torch.compile(block, backend="eager"))
        return with_model(run, model)

    named = patched(3.0)
    before = named.parts()
    comfy.model_management.load_models_gpu([named.model])
    try:
        assert named.model.object_patches_backup, "the patches must be on the model for this test to say anything"
        assert named.parts() == before
        assert differing(named, patched(3.0)) == set()
        assert differing(named, patched(4.0)) == {"model options"}
    finally:
        comfy.model_management.unload_all_models()
    assert named.parts() == before


def test_how_weights_are_computed_with_counts(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file with fp8 arithmetic has the same weights and gives another picture."""
    before = run.parts()
    monkeypatch.setitem(run.model.model.model_config.optimizations, "fp8", True)
    after = run.parts()
    assert {part for part in before if before[part] != after[part]} == {"model"}
