"""What makes a run the same run, and what makes it another one, with the real models and objects of ComfyUI."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

import gguf_files
import pytest
import torch
from comfy_runs import make_run, make_speech
from safetensors.torch import load_file

WIDTH, HEIGHT = 48, 32


@pytest.fixture(scope="module")
def audio(make_audio: Callable[..., Any]) -> Any:
    return make_audio(0.6)


def parts_of(parts: SimpleNamespace, image: torch.Tensor, audio: Any, **changes: Any) -> dict[str, str]:
    """The digests of a small run; ``changes`` replace its inputs, see :func:`make_run`."""
    from longtalk.infinitetalk.host.wan.guider import make_guider
    from longtalk.infinitetalk.plan.windows import plan_windows

    model, positive = changes.pop("model", parts.model), changes.pop("positive", parts.positive)
    guider = make_guider(model, positive, parts.negative, changes.pop("cfg", 1.0), changes.pop("audio_cfg", 1.0))
    speech = make_speech(parts, audio, **changes.pop("speech", {}))
    fields = {"guider": guider, "plan": plan_windows(15, 13, 5), "width": WIDTH, "height": HEIGHT, **changes}
    return make_run(parts, speech, image, **fields).parts()


@pytest.fixture(scope="module")
def usual(parts: SimpleNamespace, portrait: torch.Tensor, audio: Any) -> dict[str, str]:
    return parts_of(parts, portrait, audio)


def test_files_loaded_again_are_the_same_run(
    tiny: SimpleNamespace, usual: dict[str, str], portrait: torch.Tensor, audio: Any
) -> None:
    positive, vision = tiny.conditioning("positive")
    negative, _ = tiny.conditioning("negative")
    again = SimpleNamespace(
        model=tiny.model(),
        vae=tiny.vae(),
        patch=tiny.patch(),
        audio_encoder=tiny.audio_encoder(),
        positive=positive,
        negative=negative,
        vision=vision,
    )
    assert parts_of(again, portrait, audio) == usual


def with_lora(model: Any, strength: float, seed: int = 1) -> Any:
    """A LoRA on one matrix, as Load LoRA puts it there."""
    import comfy.weight_adapter

    clone = model.clone()
    key = "diffusion_model.blocks.0.self_attn.q.weight"
    rows, columns = model.model.state_dict()[key].shape
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randn(rows, 2, generator=generator), torch.randn(2, columns, generator=generator)
    adapter = comfy.weight_adapter.LoRAAdapter({key}, (up, down, 1.0, None, None, None))
    assert clone.add_patches({key: adapter}, strength) == [key]
    return clone


def test_a_run_does_not_change_what_it_is(parts: SimpleNamespace, portrait: torch.Tensor, audio: Any) -> None:
    """Weights that a LoRA is merged into while the model is loaded count as before."""
    import comfy.model_management

    model = with_lora(parts.model, 0.7)
    before = parts_of(parts, portrait, audio, model=model)
    key = "diffusion_model.blocks.0.self_attn.q.weight"
    plain = model.model.state_dict()[key].clone()
    comfy.model_management.load_models_gpu([model])
    try:
        assert not torch.equal(model.model.state_dict()[key], plain), (
            "the LoRA must be merged for this test to say anything"
        )
        assert parts_of(parts, portrait, audio, model=model) == before
    finally:
        comfy.model_management.unload_all_models()
    assert parts_of(parts, portrait, audio, model=model) == before


def shifted(model: Any, shift: float) -> Any:
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    return ModelSamplingSD3().patch(model, shift)[0]


def attended(model: Any) -> Any:
    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = attended
    return clone


def changed_weights(source: Any, tiny_load: Callable[[], Any]) -> Any:
    other = tiny_load()
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.mul_(1.01)
    return other


CHANGES: dict[str, tuple[Callable[[SimpleNamespace, SimpleNamespace], dict[str, Any]], set[str]]] = {
    "cfg": (lambda parts, tiny: {"cfg": 2.0}, {"guidance"}),
    "audio_cfg": (lambda parts, tiny: {"audio_cfg": 2.0}, {"guidance"}),
    "audio scale": (lambda parts, tiny: {"audio_scale": 0.9}, {"audio scale"}),
    "size": (lambda parts, tiny: {"width": 64, "height": 32}, {"size"}),
    "image": (lambda parts, tiny: {"image": torch.rand(1, 64, 96, 3)}, {"image"}),
    "prompt": (lambda parts, tiny: {"positive": [[parts.positive[0][0] * 1.001, {}]]}, {"positive"}),
    "clip vision": (lambda parts, tiny: {"clip_vision": None}, {"clip vision"}),
    "feature mode": (lambda parts, tiny: {"speech": {"features": "official"}}, {"speech"}),
    "start": (lambda parts, tiny: {"speech": {"start_s": 0.01}}, {"speech", "sound"}),
    "loudness": (lambda parts, tiny: {"speech": {"normalize": True}}, {"speech"}),
    "sigmas": (lambda parts, tiny: {"sigmas": torch.tensor([1.0, 0.4, 0.0])}, {"steps"}),
    "LoRA": (lambda parts, tiny: {"model": with_lora(parts.model, 1.0)}, {"LoRA"}),
    "shift": (lambda parts, tiny: {"model": shifted(parts.model, 5.0)}, {"model options", "steps"}),
    "attention": (lambda parts, tiny: {"model": attended(parts.model)}, {"model options"}),
    "model": (lambda parts, tiny: {"model": changed_weights(parts.model, tiny.model)}, {"model"}),
    "patch": (lambda parts, tiny: {"model_patch": changed_weights(parts.patch, tiny.patch)}, {"model patch"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_seen_and_named(
    parts: SimpleNamespace, tiny: SimpleNamespace, usual: dict[str, str], portrait: torch.Tensor, audio: Any, name: str
) -> None:
    change, named = CHANGES[name]
    now = parts_of(parts, **{"image": portrait, "audio": audio, **change(parts, tiny)})
    assert {part for part in usual if usual[part] != now[part]} == named


def test_noise_sampler_codec_speech_and_sound_count(
    comfy: ModuleType,
    parts: SimpleNamespace,
    usual: dict[str, str],
    portrait: torch.Tensor,
    audio: Any,
    make_audio: Callable[..., Any],
) -> None:
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import RandomNoise

    from longtalk.infinitetalk.plan.windows import plan_windows
    from longtalk.infinitetalk.run.video.formats import VideoFormat

    def differing(audio_in: Any = audio, **changes: Any) -> set[str]:
        now = parts_of(parts, portrait, audio_in, **changes)
        return {part for part in usual if usual[part] != now[part]}

    assert differing(noise=RandomNoise.execute(5)[0]) == {"seed"}
    assert differing(sampler=comfy.samplers.sampler_object("uni_pc")) == {"sampler"}
    assert differing(sampler=comfy.samplers.ksampler("euler", {"s_churn": 0.1})) == {"sampler"}
    assert differing(video=VideoFormat("h264", 20)) == {"codec"}
    assert differing(plan=plan_windows(15, 13, 1)) == {"windows"}
    assert differing(make_audio(0.6, seed=2)) == {"speech", "sound"}
    one, two = (
        parts_of(parts, portrait, audio, noise=RandomNoise.execute(6)[0]),
        parts_of(parts, portrait, audio, noise=RandomNoise.execute(7)[0]),
    )
    assert {part for part in one if one[part] != two[part]} == {"seed"}


def test_the_name_covers_every_part(usual: dict[str, str]) -> None:
    from longtalk.infinitetalk.host.identity import identity_of

    names = {identity_of({**usual, part: "0" * 64}) for part in usual}
    assert len(names) == len(usual)
    assert identity_of(usual) == identity_of(dict(reversed(list(usual.items()))))
    assert identity_of(usual) not in names
    assert len(identity_of(usual)) == 16


def test_packed_patches(
    parts: SimpleNamespace, usual: dict[str, str], portrait: torch.Tensor, audio: Any, tiny_models: Path, tmp_path: Path
) -> None:
    """The same file again is the same run; another quantisation of the same weights is another one."""
    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    weights = load_file(str(tiny_models / "model_patches" / "longtalk_tiny_infinitetalk.safetensors"))

    def part_of(path: Path) -> str:
        now = parts_of(SimpleNamespace(**{**vars(parts), "patch": load_patch(path)}), portrait, audio)
        assert {part for part in usual if usual[part] != now[part]} == {"model patch"}
        return now["model patch"]

    found = set()
    for kind in ("Q8_0", "Q4_0", "F16"):
        tensors = {name: gguf_files.packed_by_library(tensor, kind) for name, tensor in weights.items()}
        path = gguf_files.write_gguf(tmp_path / f"{kind}.gguf", tensors, kind)
        found.add(part_of(path))
        assert part_of(path) in found
    assert len(found) == 3

    # Q4_0 and a format of the same size: even the same bytes mean other weights.
    from longtalk.infinitetalk.host.identity import identity_of

    patch = load_patch(tmp_path / "Q4_0.gguf")
    before = parts_of(SimpleNamespace(**{**vars(parts), "patch": patch}), portrait, audio)
    patch.model.blocks[0].audio_cross_attn.proj.kind = "IQ4_NL"
    after = parts_of(SimpleNamespace(**{**vars(parts), "patch": patch}), portrait, audio)
    assert identity_of(before) != identity_of(after)


def test_a_field_that_nobody_thought_of_makes_another_run(
    parts: SimpleNamespace, portrait: torch.Tensor, audio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with one more field: it enters the name by itself, unless it says why it does not."""
    from longtalk.infinitetalk.host.run import Apart
    from longtalk.infinitetalk.host.wan import run as wan

    @dataclass(frozen=True, kw_only=True, eq=False)
    class More(wan.WanRun):
        warmth: float = 0.0
        told: str = ""

    More.__annotations__["told"] = Annotated[str, Apart("is words for the report")]
    monkeypatch.setattr(wan, "WanRun", More)
    plain, warm, told = (parts_of(parts, portrait, audio, **each) for each in ({}, {"warmth": 0.5}, {"told": "so"}))
    assert {part for part in plain if plain[part] != warm[part]} == {"warmth"}
    assert told == plain


def test_what_counts_by_itself(comfy: ModuleType, parts: SimpleNamespace, portrait: torch.Tensor, audio: Any) -> None:
    from longtalk.infinitetalk.host.run import fields_alone

    assert set(fields_alone(make_run(parts, make_speech(parts, audio), portrait))) == {"image", "sampler", "attention"}


def named(run: Any, conds: dict[str, Any]) -> dict[str, str]:
    """The digests of a run whose guider gives its prompts these names."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(run.model)
    guider.inner_set_conds(conds)
    return replace(run, guider=guider).parts()


def test_a_prompt_may_have_the_name_of_another_part(parts: SimpleNamespace, portrait: torch.Tensor, audio: Any) -> None:
    run = make_run(parts, make_speech(parts, audio), portrait)
    usual = named(run, {"positive": parts.positive})
    for name in ("image", "seed", "model", "prompt schedule"):
        one, other = (named(run, {"positive": parts.positive, name: each}) for each in (parts.positive, parts.negative))
        assert usual.items() <= one.items()
        assert {part for part in one if one[part] != other[part]} == {f"prompt {name!r}"}


def test_what_a_prompt_brings_for_the_model_counts(
    parts: SimpleNamespace, portrait: torch.Tensor, audio: Any, usual: dict[str, str]
) -> None:
    import comfy.conds

    def found(brought: dict[str, Any]) -> dict[str, str]:
        positive = [[text, {**entry, "model_conds": brought}] for text, entry in parts.positive]
        return parts_of(parts, portrait, audio, positive=positive)

    assert found({}) == usual
    one, again, other = (found({"clip_fea": comfy.conds.CONDRegular(torch.full((1, 4), v))}) for v in (1.0, 1.0, 2.0))
    assert one == again
    assert {part for part in one if one[part] != other[part]} == {"positive"}


def test_how_a_vae_computes_counts(
    parts: SimpleNamespace, portrait: torch.Tensor, audio: Any, usual: dict[str, str]
) -> None:
    def found(change: Callable[[Any], Any]) -> set[str]:
        vae = copy.copy(parts.vae)
        vae.first_stage_model = copy.deepcopy(vae.first_stage_model)
        change(vae)
        changed = parts_of(parts, portrait, audio, vae=vae)
        return {part for part in usual if changed[part] != usual[part]}

    def circular(vae: Any) -> None:
        for module in vae.first_stage_model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.padding_mode = "circular"

    assert found(lambda vae: None) == set()
    assert found(circular) == {"vae"}
    assert found(lambda vae: vae.first_stage_model.decoder.register_forward_hook(lambda m, a, out: out * 0.9)) == {
        "vae"
    }
    assert found(lambda vae: setattr(vae.first_stage_model, "forward", lambda x: x)) == {"vae"}
    assert found(lambda vae: setattr(vae, "working_scale", 2.0)) == {"vae"}


def test_what_hangs_on_the_model_itself_counts(
    parts: SimpleNamespace, portrait: torch.Tensor, audio: Any, usual: dict[str, str]
) -> None:
    block = parts.model.model.diffusion_model.blocks[0]
    found = []
    for scale in (0.2, 0.2, 0.3):
        handle = block.register_forward_hook(lambda module, args, out, scale=scale: out * scale)
        found.append(parts_of(parts, portrait, audio))
        handle.remove()
    assert found[0] == found[1]
    assert {part for part in usual if found[0][part] != usual[part]} == {"model"}
    assert {part for part in usual if found[0][part] != found[2][part]} == {"model"}
    assert parts_of(parts, portrait, audio) == usual


class Masking:
    """A patch that keeps the model it is for, as ComfyUI's VAE does, and has settings of its own."""

    def __init__(self, patcher: Any, mask: torch.Tensor) -> None:
        self.patcher = patcher
        self.mask = mask

    def __call__(self, args: dict[str, Any]) -> Any:
        return args["denoised"] * self.mask


def test_a_patch_that_keeps_a_model_counts_with_all_it_has(
    parts: SimpleNamespace, portrait: torch.Tensor, audio: Any
) -> None:
    found = []
    for mask in (torch.ones(1), torch.ones(1), torch.zeros(1)):
        model = parts.model.clone()
        model.set_model_sampler_post_cfg_function(Masking(parts.model, mask))
        found.append(parts_of(parts, portrait, audio, model=model))
    assert found[0] == found[1]
    assert {part for part in found[0] if found[0][part] != found[2][part]} == {"model options"}
