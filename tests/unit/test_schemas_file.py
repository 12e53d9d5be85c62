"""nodes/schemas.json, read without ComfyUI: it keeps what was promised and fits the workflows and the help pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

Schemas = dict[str, dict[str, Any]]
WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}


@pytest.fixture(scope="module")
def schemas(root: Path) -> Schemas:
    return json.loads((root / "nodes" / "schemas.json").read_text(encoding="utf-8"))


def ids(schema: dict[str, Any], *, optional: bool) -> list[str]:
    return [each["id"] for each in schema["inputs"] if each["optional"] is optional]


def test_it_keeps_what_was_promised(schemas: Schemas, root: Path) -> None:
    """Saved workflows hold the values of widgets by their place, so inputs are only ever appended."""
    promised = json.loads((root / "tests" / "server" / "promised_inputs.json").read_text())
    assert schemas.keys() == promised.keys()
    for node, groups in promised.items():
        for group, names in groups.items():
            assert ids(schemas[node], optional=group == "optional")[: len(names)] == names, node


def test_every_widget_has_a_default_within_its_range(schemas: Schemas) -> None:
    """Of choices that are not listed, ComfyUI takes the first."""
    seen = set()
    for node, schema in schemas.items():
        for given in schema["inputs"]:
            kind, where = WIDGETS.get(given["type"]), (node, given["id"])
            if kind is None or given.get("forceInput"):
                assert "default" not in given, where
                continue
            if given["type"] == "COMBO":
                assert ("options" in given) != ("options_from" in given), where
            if "default" in given:
                assert isinstance(given["default"], kind), where
                assert given.get("min", given["default"]) <= given["default"] <= given.get("max", given["default"]), (
                    where
                )
                assert given["default"] in given.get("options", [given["default"]]), where
            else:
                assert given["type"] == "COMBO", where
            seen.add(given["type"])
    assert seen == WIDGETS.keys()


def test_the_demos_workflow_fits(schemas: Schemas, root: Path) -> None:
    workflow = json.loads((root / "workflows" / "api" / "longtalk_demo.json").read_text())
    ours = {number: node for number, node in workflow.items() if node["class_type"] in schemas}
    assert len(ours) >= 5
    for node in ours.values():
        schema = schemas[node["class_type"]]
        given = {each["id"]: each for each in schema["inputs"]}
        assert node["inputs"].keys() <= given.keys(), node
        assert set(ids(schema, optional=False)) <= node["inputs"].keys(), node
        for name, value in node["inputs"].items():
            if not isinstance(value, list):
                assert isinstance(value, WIDGETS[given[name]["type"]]), (node, name)
                assert value in given[name].get("options", [value]), (node, name)
                assert given[name].get("min", value) <= value <= given[name].get("max", value), (node, name)
            elif value[0] in ours:
                outputs = schemas[ours[value[0]]["class_type"]]["outputs"]
                assert outputs[value[1]]["type"] == given[name]["type"], (node, name)


def test_it_is_packed_with_the_nodes(root: Path) -> None:
    from setuptools import Distribution
    from setuptools.config.pyprojecttoml import apply_configuration

    distribution = apply_configuration(Distribution(), root / "pyproject.toml")
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    files = {file for package, source, _, names in build.data_files for file in [f"{package}/{name}" for name in names]}
    assert "longtalk.nodes/schemas.json" in files
