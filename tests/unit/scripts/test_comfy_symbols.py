"""scripts/comfy_symbols.py: all that we use of ComfyUI is in the one under test, and changes to it are noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from comfy_compare import Verdict, call_refusals, compare_nodes, compare_uses, compare_words, override_refusals
from comfy_nodes import Input, NodeSignature, NodeUse, node_uses, read_signatures, workflow_files
from comfy_symbols import main
from comfy_tree import Parameter, State, Tree
from comfy_uses import PRODUCT, TOOLS, Call, Declared, Objects, Use, declared, source_files, texts_in, uses_in

#: What lies outside ComfyUI, or is made while it runs; everything else that we use can be looked up in its source.
UNSEEN = {"comfy.model_management.current_loaded_models.pop", "comfy.quant_ops.QuantizedTensor.dequantize"}
USES = uses_in(source_files(), declared())
NODES = node_uses(workflow_files())
TYPES = sorted({use.type for use in NODES})

Edit = Callable[[str, str], list[Verdict]]


def told(verdicts: list[Verdict]) -> dict[str, list[str]]:
    """The problems of those that break, without our places."""
    return {each.name: sorted({text.split(" (")[0] for text in each.problems}) for each in verdicts if each.breaks}


class TestThisComfyUI:
    def test_all_that_the_pack_uses_is_there(self, tree: Tree) -> None:
        verdicts = compare_uses(USES, tree) + compare_words(declared().words, tree)
        assert told(verdicts) == {}
        assert {each.name for each in verdicts if each.status != State.THERE.value} == UNSEEN
        named = {each.name for each in verdicts}
        assert len(named) > 200
        # One for each way of reaching something: a call, a class attribute, an import inside a function, a member.
        assert {
            "comfy.samplers.calc_cond_batch",
            "comfy.samplers.KSampler.SAMPLERS",
            "server.PromptServer",
            "comfy.model_patcher.ModelPatcher.set_model_attn2_patch",
            "comfy_extras.nodes_lt.LTXVAddGuide.append_keyframe",
            "nodes.NODE_CLASS_MAPPINGS",
        } <= named

    def test_all_that_the_tools_use_is_there(self, tree: Tree) -> None:
        uses = uses_in(source_files((*PRODUCT, *TOOLS)), declared())
        assert len(uses) > len(USES)
        assert told(compare_uses(uses, tree)) == {}

    def test_the_nodes_of_the_workflows(self, tree: Tree) -> None:
        assert told(compare_nodes(NODES, tree, read_signatures(tree, TYPES))) == {}

    def test_the_command(self, comfyui_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compare", "--source", "--json", "--comfyui", str(comfyui_path), str(comfyui_path)]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["notes"] for line in lines if line["notes"]] == []  # nothing changed since itself
        assert main(["list"]) == 0
        listed = capsys.readouterr().out
        assert "comfy.samplers.KSampler (1 by position, steps=, device=, sampler=, scheduler=): nodes/" in listed
        assert f"{len(lines) // 2 - len(TYPES) - sum(map(len, declared().words.values()))} names, " in listed


class TestTable:
    """comfy_members.json may only name what the source of the pack does use."""

    @pytest.mark.parametrize("objects", declared().objects, ids=lambda objects: objects.of)
    def test_members(self, objects: Objects) -> None:
        used = {use.name for use in uses_in(source_files(), Declared((objects,)))}
        assert {f"{objects.of}.{member}" for member in objects.members} <= used

    def test_overrides(self) -> None:
        overridden = {use.name for use in USES if use.override is not None}
        assert overridden == {f"{base}.{name}" for base, names in declared().overrides.items() for name in names}

    def test_words(self) -> None:
        texts = texts_in(source_files())
        words = {word for words in declared().words.values() for word in words}
        assert {word for word in words if not any(word in text for text in texts)} == set()


@pytest.fixture(scope="module")
def tree(comfyui_path: Path) -> Tree:
    """The ComfyUI under test, its files parsed once."""
    return Tree(comfyui_path)


@pytest.fixture
def edited(comfyui_path: Path, tree: Tree, tmp_path: Path) -> Edit:
    """Verdicts about a tree with only comfy/samplers.py, in which one text is replaced by another."""

    def edit(old: str, new: str) -> list[Verdict]:
        text = (comfyui_path / "comfy" / "samplers.py").read_text(encoding="utf-8")
        assert text.count(old) == 1
        (tmp_path / "comfy").mkdir()
        (tmp_path / "comfy" / "samplers.py").write_text(text.replace(old, new), encoding="utf-8")
        return compare_uses(USES, Tree(tmp_path), tree)

    return edit


class TestChanges:
    """The real file with one change in it; everything that lies in other files is "file not given"."""

    def test_no_change(self, edited: Edit) -> None:
        verdicts = edited("class CFGGuider:", "class CFGGuider:")
        assert told(verdicts) == {}
        samplers = [each for each in verdicts if each.name.startswith("comfy.samplers")]
        assert {each.status for each in samplers} == {"there"}
        assert {each.status for each in verdicts if each not in samplers} == {"file not given"}

    def test_a_function_that_has_gone(self, edited: Edit) -> None:
        verdicts = edited("def sampler_object(", "def sampler_by_name(")
        assert told(verdicts) == {"comfy.samplers.sampler_object": ["sampler_object is not in comfy.samplers"]}

    def test_a_method_that_has_gone(self, edited: Edit) -> None:
        verdicts = edited("    def set_cfg(self, cfg):", "    def set_scale(self, cfg):")
        assert told(verdicts) == {"comfy.samplers.CFGGuider.set_cfg": ["CFGGuider has no set_cfg"]}

    def test_a_class_attribute_that_has_gone(self, edited: Edit) -> None:
        verdicts = edited("    SAMPLERS = ", "    NAMES = ")
        assert told(verdicts) == {"comfy.samplers.KSampler.SAMPLERS": ["KSampler has no SAMPLERS"]}

    def test_a_keyword_that_is_called_otherwise(self, edited: Edit) -> None:
        verdicts = edited("device, sampler=None, scheduler=None,", "device, sampler=None, schedule=None,")
        text = "the parameter 'scheduler', which we pass, has gone"
        assert told(verdicts) == {"comfy.samplers.KSampler": [text]}

    def test_a_new_parameter_that_is_required(self, edited: Edit) -> None:
        verdicts = edited("def set_cfg(self, cfg):", "def set_cfg(self, cfg, scale):")
        text = "'scale' is required, and we do not pass it"
        assert told(verdicts) == {"comfy.samplers.CFGGuider.set_cfg": [text]}

    def test_a_new_parameter_with_a_default_is_only_noted(self, edited: Edit) -> None:
        verdicts = edited("def sampler_object(name):", "def sampler_object(name, fast=False):")
        assert told(verdicts) == {}
        noted = {each.name: each.notes for each in verdicts if each.notes}
        assert noted == {"comfy.samplers.sampler_object": ["new parameter 'fast'", "its source changed"]}

    def test_another_order(self, edited: Edit) -> None:
        verdicts = edited("def set_conds(self, positive, negative):", "def set_conds(self, negative, positive):")
        text = "the order changed: we pass positive, negative, it takes negative, positive"
        assert told(verdicts) == {"comfy.samplers.CFGGuider.set_conds": [text]}

    def test_another_signature_of_what_we_override(self, edited: Edit) -> None:
        old = "    def predict_noise(self, x, timestep, model_options={}, seed=None):"
        problems = told(edited(old, old.replace("timestep,", "sigma, timestep,")))[
            "comfy.samplers.CFGGuider.predict_noise"
        ]
        assert "ComfyUI's method takes 'sigma' as number 2, ours timestep" in problems

    def test_other_behaviour_is_noted(self, edited: Edit) -> None:
        noted = {each.name: each.notes for each in edited("        self.cfg = cfg\n", "        self.cfg = 2 * cfg\n")}
        assert noted["comfy.samplers.CFGGuider.set_cfg"] == ["its source changed"]

    def test_a_file_that_a_whole_tree_lacks_is_missing(self, comfyui_path: Path, tmp_path: Path) -> None:
        for name in ("main.py", "nodes.py", "execution.py", "comfy/sd.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(comfyui_path / name, tmp_path / name)
        found = {each.name: each.status for each in compare_uses(USES, Tree(tmp_path))}
        assert found["comfy.samplers.sampler_object"] == "missing"
        (tmp_path / "main.py").unlink()
        found = {each.name: each.status for each in compare_uses(USES, Tree(tmp_path))}
        assert found["comfy.samplers.sampler_object"] == "file not given"

    @pytest.mark.parametrize("place", ["", "    "])
    def test_names_that_are_made_when_they_are_asked_for(self, edited: Edit, place: str) -> None:
        """By a module, or by a class."""
        owner = "class KSampler:\n    SCHEDULERS = SCHEDULER_NAMES\n"
        made = f"{place}def __getattr__(*names):\n{place}    ...\n"
        verdicts = edited(owner, f"{made}class KSampler:\n" if not place else f"class KSampler:\n{made}")
        found = {each.name: each.status for each in verdicts}
        assert found["comfy.samplers.KSampler.SCHEDULERS"] == "cannot be read from the source"
        assert found["comfy.samplers.KSampler.SAMPLERS"] == "there"

    def test_a_word_that_has_gone(self, comfyui_path: Path, tmp_path: Path) -> None:
        (tmp_path / "comfy").mkdir()
        text = (comfyui_path / "comfy" / "samplers.py").read_text(encoding="utf-8")
        (tmp_path / "comfy" / "samplers.py").write_text(text.replace("cond_or_uncond", "which"), encoding="utf-8")
        found = {each.name: each.status for each in compare_words(declared().words, Tree(tmp_path))}
        assert found["comfy/samplers.py: 'cond_or_uncond'"] == "missing"
        assert found["comfy/samplers.py: 'context_handler'"] == "there"
        assert found["comfy/ops.py: 'quant_format'"] == "file not given"

    def test_the_exit_code_and_the_words(
        self, comfyui_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "comfyui_version.py").write_text('__version__ = "9.9.9"\n')
        (tmp_path / "latent_preview.py").write_text("def get_previewer(device):\n    return None\n")
        assert main(["compare", "--source", "--comfyui", str(comfyui_path), str(tmp_path)]) == 1
        out = capsys.readouterr().out
        assert f"ComfyUI 9.9.9, single files: {tmp_path} (nodes read from the source)" in out
        assert "it takes 1 arguments by position, we pass 2 (infinitetalk/host/events.py:" in out
        assert main(["compare", "--comfyui", str(tmp_path / "none")]) == 2
        assert f"expected a folder with files of ComfyUI, got {tmp_path / 'none'}" in capsys.readouterr().err


class TestReader:
    def uses(self, tmp_path: Path, text: str, table: Declared | None = None) -> dict[str, Use]:
        path = tmp_path / "ours.py"
        path.write_text(text)
        return {use.name: use for use in uses_in([path], table or Declared(), tmp_path)}

    def test_names_and_calls(self, tmp_path: Path) -> None:
        uses = self.uses(
            tmp_path,
            "import comfy.utils as u\n"
            "from comfy.sample import prepare_noise as noise\n"
            "from .comfy import other\n"
            "def f(x, options):\n"
            "    import comfy.ops\n"
            "    manager = comfy.model_management\n"
            "    other(noise(x, seed=1), *x)\n"
            "    u.load(x, *x, **options)\n"
            "    return manager.free(comfy.ops.Linear.bias), import_module('nodes').NODES\n",
        )
        assert uses["comfy.sample.prepare_noise"].call == Call(1, ("seed",))
        assert uses["comfy.utils.load"].call == Call(1, (), more=True)
        assert uses["comfy.model_management.free"].call == Call(1)
        assert {"comfy.ops.Linear.bias", "nodes.NODES"} <= uses.keys()
        assert not any("other" in name for name in uses)

    def test_classes_and_objects(self, tmp_path: Path) -> None:
        table = Declared(
            (Objects("comfy.sd.VAE", frozenset({"vae"}), frozenset({"encode", "dim"})),), {"comfy.a.B": ("m",)}
        )
        text = (
            "import comfy.a\n"
            "class Ours(comfy.a.B):\n"
            "    def m(self, x, y=1):\n"
            "        super().m(x)\n"
            "        return vae.encode(x, tile=2) if hasattr(vae, 'dim') else other.encode(x)\n"
        )
        path = tmp_path / "ours.py"
        path.write_text(text)
        found = [(use.name, use.call, use.override) for use in uses_in([path], table, tmp_path)]
        assert ("comfy.a.B.m", None, (Parameter("x", "positional"), Parameter("y", "positional", "1"))) in found
        assert ("comfy.a.B.m", Call(1), None) in found
        assert ("comfy.sd.VAE.encode", Call(1, ("tile",)), None) in found
        assert ("comfy.sd.VAE.dim", None, None) in found
        assert sum(name == "comfy.sd.VAE.encode" for name, _, _ in found) == 1

    def test_a_name_of_two_meanings_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"ours.py:2: expected 'f' to mean one thing .* got comfy.a.f and comfy.b.f"
        ):
            self.uses(tmp_path, "from comfy.a import f\nfrom comfy.b import f\n")


class TestCalls:
    @pytest.mark.parametrize(
        ("call", "problems"),
        [
            (Call(2), []),
            (Call(1, ("b", "d")), []),
            (Call(1, (), more=True), []),
            (Call(0, (), more=True), []),
            (Call(4), ["it takes 3 arguments by position, we pass 4"]),
            (Call(1), ["'b' is required, and we do not pass it"]),
            (Call(2, ("a",)), ["'a' is passed by name and by position"]),
            (Call(2, ("e",)), ["the parameter 'e', which we pass, has gone"]),
        ],
    )
    def test_calls_are_bound_as_python_binds_them(self, call: Call, problems: list[str]) -> None:
        parameters = [Parameter(name, "positional") for name in "ab"]
        parameters += [Parameter("c", "positional", "1"), Parameter("d", "keyword", "2")]
        assert call_refusals(call, parameters) == problems

    def test_open_parameters_take_anything(self) -> None:
        assert call_refusals(Call(5, ("x",)), [Parameter("args", "args"), Parameter("kwargs", "kwargs")]) == []

    def test_a_method_that_is_overridden(self) -> None:
        theirs = [Parameter("x", "positional"), Parameter("fast", "keyword", "False")]
        assert override_refusals([Parameter("args", "args"), Parameter("kwargs", "kwargs")], theirs) == []
        ours = [Parameter("x", "positional"), Parameter("y", "positional")]
        assert override_refusals(ours, theirs) == [
            "ComfyUI's method takes 'fast', ours does not",
            "ours requires 'y', which ComfyUI does not pass",
        ]


class TestNodes:
    BEFORE = NodeSignature(
        (Input("video", "VIDEO", True), Input("name", "STRING", True), Input("format", "COMBO", True)), ("VIDEO",)
    )
    EDITOR = NodeUse("Save", "w.json, node 1", {"video": "VIDEO"}, None, {0: "VIDEO"})
    SERVER = NodeUse("Save", "w.json, node 2", {"video": None}, ("name", "format"), {})

    def problems(self, tmp_path: Path, *inputs: Input, outputs: tuple[str, ...] = ("VIDEO",)) -> list[str]:
        found = {"Save": NodeSignature(inputs, outputs)}
        verdicts = compare_nodes([self.EDITOR, self.SERVER], Tree(tmp_path), found, {"Save": self.BEFORE})
        return told(verdicts).get("node Save", [])

    def test_as_it_was(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, *self.BEFORE.inputs) == []

    def test_more_at_the_end(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, *self.BEFORE.inputs, Input("crf", "INT", False)) == []

    def test_an_input_that_has_gone(self, tmp_path: Path) -> None:
        video, name, _ = self.BEFORE.inputs
        assert self.problems(tmp_path, video, name) == [
            "the input 'format', which has a value, has gone",
            "the widgets were name, format, are name",
        ]

    def test_a_connected_input_that_has_gone(self, tmp_path: Path) -> None:
        _, name, kind = self.BEFORE.inputs
        problems = self.problems(tmp_path, Input("clip", "VIDEO", False), name, kind)
        assert problems == ["the input 'video', which is connected, has gone"]

    def test_another_order_of_widgets(self, tmp_path: Path) -> None:
        video, name, kind = self.BEFORE.inputs
        assert self.problems(tmp_path, video, kind, name) == ["the widgets were name, format, are format, name"]

    def test_a_new_input_that_is_required(self, tmp_path: Path) -> None:
        problems = self.problems(tmp_path, *self.BEFORE.inputs, Input("audio", "AUDIO", True))
        assert problems == ["the input 'audio' is required, and nothing is connected"]

    def test_types_that_cannot_be_read_are_no_difference(self, tmp_path: Path) -> None:
        video, name, _ = self.BEFORE.inputs
        assert self.problems(tmp_path, video, name, Input("format", "?", True), outputs=("?",)) == []

    def test_inputs_that_cannot_be_read_are_told(self, tmp_path: Path) -> None:
        """A node whose dictionary is made by code is neither missing nor called unchanged."""
        made = "class Save:\n    @classmethod\n    def INPUT_TYPES(s):\n        return inputs()\n"
        (tmp_path / "nodes.py").write_text(made + 'NODE_CLASS_MAPPINGS = {"Save": Save}\n')
        found = read_signatures(Tree(tmp_path), ["Save"])
        verdicts = compare_nodes([self.SERVER, self.SERVER], Tree(tmp_path), found)
        assert [each.status for each in verdicts] == ["there"]
        assert verdicts[0].notes == ["not all of its inputs can be read from the source"]

    def test_other_types(self, tmp_path: Path) -> None:
        _, name, kind = self.BEFORE.inputs
        assert self.problems(tmp_path, Input("video", "IMAGE", True), name, kind, outputs=()) == [
            "output 1 is nothing, used as VIDEO",
            "the input 'video' is of type IMAGE, VIDEO is connected",
        ]

    def test_a_node_that_has_gone(self, tree: Tree, tmp_path: Path) -> None:
        gone = compare_nodes([self.EDITOR], tree, {})
        assert [(each.name, each.status) for each in gone] == [("node Save", "missing")]
        assert [each.status for each in compare_nodes([self.EDITOR], Tree(tmp_path), {})] == ["file not given"]
