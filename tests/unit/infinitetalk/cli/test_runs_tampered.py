"""Files of a run that somebody else wrote: no command may crash, hang or print what a terminal obeys."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from amounts import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_commands import OTHER, SEED, apply, call, held, states

from longtalk.base.files import write_json
from longtalk.infinitetalk.run.store.chains import current_chain
from longtalk.infinitetalk.run.store.folder import RunFolder
from longtalk.infinitetalk.run.store.record import window_keys

HOSTILE_TEXT = st.text(st.sampled_from(list("a \x1b[31m\r\n\x00\u202e\ud800\u2028é/.")), max_size=30)
HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**4000, -(10**400), 2**64, 2**31, -1, 0, 1e308, -1e308, "h264", "\x1b]0;x\x07"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | HOSTILE_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE_TEXT, inner, max_size=4),
    max_leaves=12,
)


def every_command(output: Path, name: str) -> None:
    """None may crash, hang or print what a terminal obeys; all but deletion."""
    target = output.parent / "hostile.mp4"
    assert call(output, "list")[0] == 0
    for arguments in (
        ["inspect", name, "--verify"],
        ["inspect", name, "--at", "1"],
        ["inspect", name, "--json"],
        ["export", name, "--to", target, "--force"],
        ["delete", name, "--dry-run"],
    ):
        assert call(output, *arguments)[0] in (0, 1)
    json.loads(call(output, "list", "--json")[1])


ABOUT = ("created", "width", "height", "codec", "crf", "fps", "frames", "seed", "steps", "ends")
MANIFEST = st.dictionaries(
    st.sampled_from(["format", "parts", "sound.bytes", *(f"about.{n}" for n in (*ABOUT, "shots"))]), HOSTILE
)
RECORD = st.dictionaries(
    st.sampled_from(
        [
            *("window", "key", "seed", "frames", "segment", "carry", "render_s", "fallbacks", "stats", "segment.bytes"),
            *(f"stats.{name}" for name in ("drift", "brightness", "boundary_change", "interior_change")),
            *("fallbacks.memory_level", "fallbacks.plain_attention"),
        ]
    ),
    HOSTILE,
)
SLOWLY = settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOWLY
@given(changes=MANIFEST)
def test_hostile_manifests(unfinished: RunFolder, changes: dict[str, Any]) -> None:
    original = unfinished.manifest_path.read_bytes()
    try:
        apply(unfinished.manifest_path, changes)
        every_command(unfinished.path.parent.parent, OTHER)
    finally:
        unfinished.manifest_path.write_bytes(original)


@SLOWLY
@given(changes=RECORD, window=st.sampled_from([1, 2]))
def test_hostile_records(unfinished: RunFolder, changes: dict[str, Any], window: int) -> None:
    path = unfinished.record_path(window, window_keys(OTHER, (SEED, SEED + 1))[window - 1])
    original = path.read_bytes()
    try:
        apply(path, changes)
        every_command(unfinished.path.parent.parent, OTHER)
    finally:
        path.write_bytes(original)


def short(value: Any) -> str:
    return repr(value)[:9]


NUMBERS = [10**4000, -1, True, 1e308, None, "1", [1]]


@pytest.mark.parametrize("value", NUMBERS, ids=short)
@pytest.mark.parametrize("field", ["frames", "seed", "render_s"])
def test_numbers_no_window_can_have(unfinished: RunFolder, field: str, value: Any) -> None:
    path = unfinished.record_path(2, window_keys(OTHER, (SEED, SEED + 1))[1])
    apply(path, {field: value})
    code, out, _ = call(unfinished.path.parent.parent, "inspect", OTHER)
    assert (code, [found.window for found in current_chain(unfinished)]) == (0, [1])
    assert f"\ndamaged: window 2 ({path.stem[-8:]}): " in out


@pytest.mark.parametrize("value", NUMBERS, ids=short)
@pytest.mark.parametrize("field", ["drift", "boundary_change", "interior_change"])
def test_measurements_no_window_can_have(unfinished: RunFolder, field: str, value: Any) -> None:
    path = unfinished.record_path(2, window_keys(OTHER, (SEED, SEED + 1))[1])
    apply(path, {f"stats.{field}": value, "fallbacks.memory_level": value})
    code, out, _ = call(unfinished.path.parent.parent, "inspect", OTHER)
    assert code == 0
    finite = value in (-1, 1e308) and value is not True
    assert ("measurements damaged" in out) != (finite or (value is None and field != "drift"))
    assert out.count("memory level") == 1, "that of the first window"
    out = call(unfinished.path.parent.parent, "inspect", OTHER, "--json")[1]
    assert len(json.loads(out, parse_constant=pytest.fail)["window_list"]) == 2


@pytest.mark.matrix(strength=1)
@pytest.mark.parametrize("value", [*NUMBERS, 0, [], [0], [5, 5, 60], [60.0], [61]], ids=short)
@pytest.mark.parametrize("field", [name for name in ABOUT if name not in ("created", "seed")])
def test_numbers_no_run_can_have(unfinished: RunFolder, field: str, value: Any) -> None:
    apply(unfinished.manifest_path, {f"about.{field}": value})
    every_command(unfinished.path.parent.parent, OTHER)
    assert states(unfinished.path.parent.parent)[OTHER] == "damaged manifest"


@SLOWLY
@given(content=HOSTILE | st.binary(max_size=40), name=st.sampled_from(["manifest", "talk", "owner", "record"]))
def test_hostile_files(unfinished: RunFolder, content: Any, name: str) -> None:
    path = unfinished.path / f"{name}.json"
    if name == "record":
        path = unfinished.record_path(1, window_keys(OTHER, (SEED,))[0])
    original = path.read_bytes() if path.exists() else None
    (unfinished.path / "lock").touch()
    try:
        if isinstance(content, dict):
            write_json(path, content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        every_command(unfinished.path.parent.parent, OTHER)
    finally:
        path.unlink() if original is None else path.write_bytes(original)


@pytest.mark.parametrize(
    "owner",
    [b'{"process": Infinity}', b"[" * 4000, b"\xff", b"[]", b'{"process": "1", "host": "\\u001b[2J", "since": [[]]}'],
)
def test_a_hostile_owner(unfinished: RunFolder, owner: bytes) -> None:
    with held(unfinished):
        (unfinished.path / "owner.json").write_bytes(owner)
        assert states(unfinished.path.parent.parent)[OTHER].startswith("in use by ")
        every_command(unfinished.path.parent.parent, OTHER)


def nested(depth: int) -> Any:
    content: Any = []
    for _ in range(depth):
        content = [content]
    return content


@pytest.mark.parametrize("depth", [*range(100, 1000, 75), 100_000])
def test_deep_nesting(unfinished: RunFolder, depth: int) -> None:
    output = unfinished.path.parent.parent
    path = unfinished.record_path(1, window_keys(OTHER, (SEED,))[0])
    if depth > 1000:
        for hostile in (path, unfinished.manifest_path):
            hostile.write_text("[" * depth)
            every_command(output, OTHER)
        return
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        apply(path, {"stats": nested(depth), "fallbacks.memory_level": nested(depth)})
        apply(unfinished.manifest_path, {"format": nested(depth)})
    finally:
        sys.setrecursionlimit(limit)
    every_command(output, OTHER)


def test_many_ends(unfinished: RunFolder) -> None:
    content = json.loads(unfinished.manifest_path.read_bytes())
    ends = list(range(1, 200_001))
    apply(unfinished.manifest_path, {"about.ends": ends, "about.frames": ends[-1]})
    assert call(unfinished.path.parent.parent, "list")[1].count("2 of 200000") == 1
    every_command(unfinished.path.parent.parent, OTHER)
    content["about"]["ends"] = "x" * 5_000_000
    unfinished.manifest_path.write_text(json.dumps(content))
    assert states(unfinished.path.parent.parent)[OTHER] == "damaged manifest"


@pytest.mark.parametrize("shots", [[], [2], [1, 1], [1, 3, 2], [1, 5], [1, True], [1, "2"], {"1": 2}, None, 7])
def test_shots_that_are_none(unfinished: RunFolder, shots: object) -> None:
    apply(unfinished.manifest_path, {"about.shots": shots})
    assert states(unfinished.path.parent.parent)[OTHER] == "damaged manifest"


def test_pipes_do_not_hang(unfinished: RunFolder) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    for name in ("owner.json", "talk_0a1b2c3d_0a1b2c3d.json", "talk_0a1b2c3d_0a1b2c3d.mp4", "lock"):
        os.mkfifo(unfinished.path / name)
    for path in [*unfinished.path.glob("window_00001*"), unfinished.sound_path, unfinished.manifest_path]:
        every_command(unfinished.path.parent.parent, OTHER)
        path.unlink()
        os.mkfifo(path)
    every_command(unfinished.path.parent.parent, OTHER)


def test_control_characters_are_shown_not_obeyed(unfinished: RunFolder) -> None:
    apply(unfinished.manifest_path, {"about.created": "\x1b[2J\r\n\u202e\ud800 now"})
    out = call(unfinished.path.parent.parent, "list")[1]
    assert r"\x1b[2J\r\n\u202e\ud800 now" in out
