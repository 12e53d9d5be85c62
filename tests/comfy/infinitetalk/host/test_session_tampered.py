"""Runs on disk that somebody tampered with, through the real sampler node: the right video comes out, or LongTalk's own
error. Contents are signed as LongTalk signs them, so a checksum alone does not give them away."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import sampler_settings
from hypothesis import strategies as st
from ledger import Ledger, one_thread, try_each
from watched import frames_hash, talk_in

from longtalk.base.files import read_json, write_json

VALUES = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 1, 10**400, 1e308, 2**64, "", "..", "../../x", "\x1b[2J", [], {}, [[]], "a" * 5000]
    ),
    st.recursive(st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=6),
)
#: What of each file is replaced; a dot leads into an object.
FIELDS = {
    "manifest.json": ("format", "parts", "parts.seed", "about", "about.ends", "sound", "sound.bytes", "sound.sha256"),
    "talk": ("key", "sum", "sum.bytes", "superseded", "frames", "width", "video_codec", "bytes"),
    "window_00001": ("window", "key", "seed", "frames", "segment", "segment.bytes", "carry", "render_s", "fallbacks",
                     "fallbacks.memory_level", "fallbacks.plain_attention", "stats", "stats.drift"),
    "window_00002": ("window", "key", "frames", "carry.sha256", "render_s", "fallbacks", "stats", "stats.contrast"),
}  # fmt: skip
RAW = st.one_of(st.binary(max_size=40), st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b"null", b"{}", b"\xff"]))
CHANGES = st.tuples(
    st.sampled_from(sorted(FIELDS)),
    st.one_of(RAW, st.lists(st.tuples(st.integers(0, 20), VALUES), min_size=1, max_size=3)),
)
#: Runs that are tampered with, and how many of them differ at least.
TRIED, LEAST = 30, 25


def tamper(path: Path, fields: tuple[str, ...], change: Any) -> str:
    """Replace the file's bytes, or some of its fields under a good signature; says what was done."""
    if isinstance(change, bytes):
        path.write_bytes(change)
        return f"{path.name} {change[:40]!r}"
    content = read_json(path)
    for number, value in change:
        *parents, last = fields[number % len(fields)].split(".")
        inside = content
        for name in parents:
            inside = inside[name] if isinstance(inside, dict) and isinstance(inside.get(name), dict) else {}
        inside[last] = value
    write_json(path, content)
    return f"{path.name} {[(fields[number % len(fields)], value) for number, value in change]!r:.300}"


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """One thread for all, also because another number of threads rounds differently."""
    with one_thread():
        yield


@pytest.fixture
def settings(parts: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> dict[str, Any]:
    """Two windows of at most 13 frames at 48x32, one step each."""
    small = {"width": 48, "height": 32, "steps": 1, "window_frames": 13, "motion_frames": 5}
    return sampler_settings(parts, portrait, audio=make_audio(0.8), **small)


def test_files_of_a_run(settings: dict[str, Any], output_folder: Path, tmp_path: Path) -> None:
    import longtalk.nodes

    def run() -> Any:
        return longtalk.nodes.LongTalkSampler.execute(**settings)

    with torch.inference_mode():
        expected = frames_hash(run().result[0].get_stream_source())
    [made] = (output_folder / "longtalk").iterdir()
    whole = tmp_path / "whole"
    shutil.move(made, whole)
    outside = sorted(output_folder.parent.rglob("*"))
    ledger = Ledger()

    def right(output: Any) -> bool:
        video, _, report = output.result
        return frames_hash(video.get_stream_source()) == expected and bool(report)

    def attempt(each: Any) -> None:
        name, change = each
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(whole, made)
        [path] = made.glob(f"{name.removesuffix('.json')}*.json")
        label = tamper(path, FIELDS[name], change)
        if name != "talk":
            talk_in(made).unlink()  # else the joined video would simply be used
        ledger.judge("runs", label, run, right)

    try_each(TRIED, CHANGES, attempt)
    assert len(ledger.worked["runs"]) + len(ledger.refused["runs"]) >= LEAST
    # Nothing but the run's own folder was written to.
    shutil.rmtree(made)
    assert sorted(output_folder.parent.rglob("*")) == outside
