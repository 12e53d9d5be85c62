"""Generated hostile input through the real nodes: each works, or ends in LongTalk's own error. Nothing else, ever.

A group is one node (or one kind of file); each of its inputs gets its own generated values while the others are in
order. The last test counts what was really tried.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gguf_files
import hostile_fields as fields
import hostile_files as files
import hostile_objects as objects
import hostile_values as values
import numpy as np
import pytest
import torch
from comfy_runs import ltx_settings, make_speech, sampler_settings
from hypothesis import strategies as st
from ledger import Ledger, one_thread, peak_bytes, try_each
from safetensors.torch import load, load_file

from longtalk.audio.reading.source import FileSource

GROWTH_BYTES = 1 << 30
LEAST_REFUSED = 300
#: Refused inputs that each group has at least, so that none runs empty.
LEAST = {
    "plan": 25,
    "speakers": 25,
    "encode": 20,
    "guider": 25,
    "sampler": 50,
    "advanced": 40,
    "patch": 60,
    "conditioning": 50,
    "saving": 15,
    "ltx": 60,
    "silence": 25,
}


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> Iterator[ModuleType]:
    import longtalk.nodes

    asyncio.run(longtalk.nodes.LongTalkExtension().on_load())
    with one_thread():
        yield longtalk.nodes


@pytest.fixture(scope="module")
def ledger(nodes: ModuleType, parts: SimpleNamespace) -> Ledger:
    """Begins when the models are in memory."""
    return Ledger()


@pytest.fixture(scope="module")
def audio(make_audio: Callable[..., Any]) -> Any:
    """Five frames, one window."""
    return make_audio(0.2)


@pytest.fixture(scope="module")
def good(parts: SimpleNamespace, audio: Any) -> SimpleNamespace:
    """What the other inputs get: 48x32, one window, one step."""
    import comfy.samplers

    from longtalk.infinitetalk.host.noise import SeedNoise

    picture = torch.rand((1, 32, 48, 3), generator=torch.Generator().manual_seed(1))
    small = {"width": 48, "height": 32, "steps": 1, "window_frames": 13, "motion_frames": 5, "audio": audio}
    sampler = sampler_settings(parts, picture, **small)
    own = ("audio", "audio_encoder", "seed", "steps", "sampler_name", "scheduler", "features")
    advanced = {name: value for name, value in sampler.items() if name not in own}
    advanced |= {
        "speech": make_speech(parts, audio),
        "noise": SeedNoise(1),
        "sampler": comfy.samplers.sampler_object("euler"),
        "sigmas": torch.tensor([1.0, 0.0]),
    }
    return SimpleNamespace(sampler=sampler, advanced=advanced)


def is_video(output: Any) -> bool:
    video, _, report = output.result
    return Path(video.get_stream_source()).stat().st_size > 0 and bool(report)


# ---------------------------------------------------------------- nodes that need no diffusion model


@pytest.mark.parametrize("field", fields.PLAN)
def test_plan(nodes: ModuleType, ledger: Ledger, audio: Any, field: str) -> None:
    good = {"window_frames": 13, "motion_frames": 5, "plan_mode": "exact", "audio": audio}
    if field == "speakers":
        del good["audio"]
    try_each(
        16,
        fields.PLAN[field],
        lambda each: ledger.judge(
            "plan",
            f"{field} {each}",
            lambda: nodes.LongTalkPlan.execute(**{**good, field: each.value}),
            lambda output: output.result[0].ndim == 4 and output.result[2] >= 1 and output.result[3] >= 1,
        ),
    )


@pytest.mark.parametrize("field", fields.SILENCE)
def test_silence(nodes: ModuleType, ledger: Ledger, root: Path, field: str) -> None:
    source = FileSource(root / "scripts" / "assets" / "speech.flac")
    spoken = np.concatenate(list(itertools.islice(source.blocks(), 3)), axis=1)
    audio = {"waveform": torch.from_numpy(spoken.copy())[None], "sample_rate": source.rate_hz}
    good = {"silence_gate": True, "pause_seconds": 0.6, "ending": "rest", "shots": 0.0, "audio": audio}
    if field == "speakers":
        del good["audio"]
    try_each(
        16,
        fields.SILENCE[field],
        lambda each: ledger.judge(
            "silence",
            f"{field} {each}",
            lambda: nodes.LongTalkSilence.execute(**{**good, field: each.value}),
            lambda output: output.result[0].duration_s > 0 and bool(output.result[1]),
        ),
    )


@pytest.mark.parametrize("field", fields.SPEAKERS)
def test_speakers(nodes: ModuleType, ledger: Ledger, audio: Any, field: str) -> None:
    quarters = torch.eye(4).repeat_interleave(16, dim=1)[:, None, None].expand(-1, 1, 48, -1)
    good: dict[str, Any] = {"mode": "para"}
    for number, quarter in enumerate(quarters, start=1):
        good |= {f"audio_{number}": audio, f"mask_{number}": quarter}
    try_each(
        80 if field in ("audio_1", "mask_1") else 16,
        fields.SPEAKERS[field],
        lambda each: ledger.judge(
            "speakers",
            f"{field} {each}",
            lambda: nodes.LongTalkSpeakers.execute(**{**good, field: each.value}),
            lambda output: output.result[0].count == 4 and output.result[0].frames >= 1,
        ),
    )


@pytest.mark.parametrize("field", fields.ENCODE)
def test_encode_speech(nodes: ModuleType, ledger: Ledger, parts: SimpleNamespace, audio: Any, field: str) -> None:
    good = {"audio_encoder": parts.audio_encoder, "features": "official", "normalize_loudness": True, "audio": audio}
    if field == "speakers":
        del good["audio"]
    try_each(
        10,
        fields.ENCODE[field],
        lambda each: ledger.judge(
            "encode",
            f"{field} {each}",
            lambda: nodes.LongTalkEncodeSpeech.execute(**{**good, field: objects.used(each, parts)}),
            lambda output: all(bool(torch.isfinite(track).all()) for track in output.result[0].features),
        ),
    )


# ---------------------------------------------------------------- guider and samplers


@pytest.mark.parametrize("field", fields.GUIDER)
def test_guider(nodes: ModuleType, ledger: Ledger, good: SimpleNamespace, parts: SimpleNamespace, field: str) -> None:
    inputs = {name: good.sampler[name] for name in fields.GUIDER}
    try_each(
        60 if field == "positive" else 16,
        fields.GUIDER[field],
        lambda each: ledger.judge(
            "guider",
            f"{field} {each}",
            lambda: nodes.LongTalkGuider.execute(**{**inputs, field: objects.used(each, parts)}),
            lambda output: output.result[0].model_patcher is parts.model,
        ),
    )


@pytest.mark.parametrize("field", fields.SAMPLER)
def test_sampler(nodes: ModuleType, ledger: Ledger, good: SimpleNamespace, parts: SimpleNamespace, field: str) -> None:
    inputs = {name: value for name, value in good.sampler.items() if (name, field) != ("audio", "speakers")}
    try_each(
        8 if field in ("positive", "image", "audio") else 4,
        fields.SAMPLER[field],
        lambda each: ledger.judge(
            "sampler",
            f"{field} {each}",
            lambda: nodes.LongTalkSampler.execute(**{**inputs, field: objects.used(each, parts)}),
            is_video,
        ),
    )


@pytest.mark.parametrize("field", fields.LTX)
def test_ltx(
    nodes: ModuleType,
    ledger: Ledger,
    good: SimpleNamespace,
    ltx: SimpleNamespace,
    parts: SimpleNamespace,
    field: str,
) -> None:
    changes = {"width": 64, "height": 32, "steps": 1, "audio": good.sampler["audio"]}
    inputs = ltx_settings(ltx, good.sampler["image"], **changes)
    if field == "guider":
        inputs |= {"model": None, "positive": None, "negative": None}
    if field == "keyframes":
        inputs["keyframe_images"] = good.sampler["image"]
    if field == "keyframe_images":
        inputs["keyframes"] = "0.1: 0"
    try_each(
        8 if field in ("positive", "image", "audio", "guider") else 4,
        fields.LTX[field],
        lambda each: ledger.judge(
            "ltx",
            f"{field} {each}",
            lambda: nodes.LongTalkLTXSampler.execute(**{**inputs, field: objects.used(each, parts)}),
            is_video,
        ),
    )


@pytest.mark.parametrize("field", fields.ADVANCED)
def test_sampler_advanced(
    nodes: ModuleType, ledger: Ledger, good: SimpleNamespace, parts: SimpleNamespace, field: str
) -> None:
    prompts = ("model", "positive", "negative")
    inputs = {name: value for name, value in good.advanced.items() if field != "guider" or name not in prompts}
    try_each(
        12 if field in ("noise", "sampler", "sigmas", "guider") else 4,
        fields.ADVANCED[field],
        lambda each: ledger.judge(
            "advanced",
            f"{field} {each}",
            lambda: nodes.LongTalkSamplerAdvanced.execute(**{**inputs, field: objects.used(each, parts)}),
            is_video,
        ),
    )


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(nodes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A models folder of both kinds of file."""
    import folder_paths

    path = tmp_path_factory.mktemp("hostile")
    kinds = ("model_patches", nodes.FOLDER)
    for kind in kinds:
        folder_paths.add_model_folder_path(kind, str(path))
    yield path
    for kind in kinds:
        folder_paths.folder_names_and_paths[kind][0].remove(str(path))


def try_files(
    ledger: Ledger, group: str, path: Path, count: int, each: st.SearchStrategy[values.Sent], node: Any, valid: Any
) -> None:
    """Write each file under one name and load it with the node."""

    def attempt(each: values.Sent) -> None:
        path.write_bytes(each.value)
        ledger.judge(group, each.label, lambda: node.execute(path.name), valid)

    try_each(count, each, attempt)
    path.unlink()


def hears(output: Any) -> bool:
    """Whether a loaded patch turns features into audio tokens, all of them numbers."""
    from longtalk.infinitetalk.model.audio_projection import audio_context

    net = output.result[0].model
    tokens = audio_context(net.audio_proj, [torch.zeros(25, 12, 768)], 0, 5)
    return len(net.blocks) > 0 and bool(torch.isfinite(tokens).all())


@pytest.mark.parametrize("damage", [*files.CONTAINER, *files.WEIGHTS], ids=lambda damage: damage.__name__)
def test_patch_files(nodes: ModuleType, ledger: Ledger, folder: Path, damage: files.Damage) -> None:
    each = files.damaged(damage, files.small_patch())
    try_files(ledger, "patch", folder / "small.safetensors", 10, each, nodes.LongTalkLoadPatch, hears)


def test_bit_flips_of_the_real_patch(nodes: ModuleType, ledger: Ledger, folder: Path, tiny_models: Path) -> None:
    original = tiny_models / "model_patches" / "longtalk_tiny_infinitetalk.safetensors"
    each = files.damaged(files.bit_flips, files.content_of(load_file(str(original))))
    try_files(ledger, "patch", folder / "real.safetensors", 8, each, nodes.LongTalkLoadPatch, hears)


@st.composite
def damaged_ggufs(draw: st.DrawFn, sound: bytes, header: int) -> values.Sent:
    """A sound file cut off, or with numbers and bytes of its header overwritten."""
    raw = bytearray(sound)
    how = draw(st.sampled_from(["cut", "bytes", "numbers"]))
    if how == "cut":
        raw = raw[: draw(st.one_of(st.integers(4, header), st.integers(header, len(raw) - 1)))]
    elif how == "bytes":
        for place in draw(st.lists(st.integers(4, header - 1), min_size=1, max_size=8)):
            raw[place] = draw(st.integers(0, 255))
    else:
        number = draw(st.sampled_from([0, 1, *(each for each in files.GIGANTIC if each < 2**64)]))
        place = draw(st.integers(4, header - 8))
        raw[place : place + 8] = number.to_bytes(8, "little")
    return values.Sent(f"gguf {how} {hashlib.sha256(raw).hexdigest()}", bytes(raw))


def test_gguf_patch_files(nodes: ModuleType, ledger: Ledger, folder: Path) -> None:
    small = load(files.laid_out(files.small_patch()))
    tensors = {name: gguf_files.packed_by_library(tensor, "Q8_0") for name, tensor in small.items()}
    path = gguf_files.write_gguf(folder / "small.gguf", tensors, "Q8_0")
    sound = path.read_bytes()
    ledger.judge("patch", "gguf sound", lambda: nodes.LongTalkLoadPatch.execute(path.name), hears)
    header = sound.index(b"blocks.1.norm_x.bias") + 40
    try_files(ledger, "patch", path, 60, damaged_ggufs(sound, header), nodes.LongTalkLoadPatch, hears)


def is_conditioning(output: Any) -> bool:
    conditioning, vision = output.result
    hidden = torch.zeros(1) if vision is None else vision.penultimate_hidden_states
    return isinstance(hidden, torch.Tensor) and all(
        isinstance(text, torch.Tensor) and isinstance(extra, dict) for text, extra in conditioning
    )


@pytest.mark.parametrize("damage", [*files.CONTAINER, files.names, files.trees], ids=lambda damage: damage.__name__)
def test_conditioning_files(nodes: ModuleType, ledger: Ledger, folder: Path, damage: files.Damage) -> None:
    each = files.damaged(damage, files.small_conditioning())
    path, count = folder / "prompt.safetensors", 24 if damage is files.trees else 8
    try_files(ledger, "conditioning", path, count, each, nodes.LongTalkLoadConditioning, is_conditioning)


def test_names_of_files(nodes: ModuleType, ledger: Ledger, folder: Path) -> None:
    """What is no file, is not there, or lies elsewhere."""
    (folder / "a folder.safetensors").mkdir()
    (folder / "nowhere.safetensors").symlink_to(folder / "not there")
    os.mkfifo(folder / "pipe.safetensors")
    names = values.sent(
        *("a folder.safetensors", "nowhere.safetensors", "pipe.safetensors", "../../etc/passwd", "/etc/passwd", ".")
    )

    def attempt(node: Any, group: str, each: values.Sent) -> None:
        ledger.judge(group, f"name {each}", lambda: node.execute(each.value), lambda output: False)

    for node, group in ((nodes.LongTalkLoadPatch, "patch"), (nodes.LongTalkLoadConditioning, "conditioning")):
        try_each(20, values.either(names, values.ANYTHING), partial(attempt, node, group))


def was_saved(output: Any) -> bool:
    """Whether the newest file holds as many entries as went in."""
    import folder_paths

    from longtalk.infinitetalk.model import conditioning_file

    found = Path(folder_paths.get_output_directory(), "conditioning").rglob("*.safetensors")
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    loaded, _ = conditioning_file.load(newest)
    newest.unlink()
    return len(loaded) == len(output.result[0])


@pytest.mark.parametrize("field", fields.SAVING)
def test_saving(nodes: ModuleType, ledger: Ledger, field: str) -> None:
    inputs = {"conditioning": [[torch.ones(1, 3, 8), {}]], "filename_prefix": "hostile", "clip_vision_output": None}
    try_each(
        40,
        fields.SAVING[field],
        lambda each: ledger.judge(
            "saving",
            f"{field} {each}",
            lambda: nodes.LongTalkSaveConditioning.execute(**{**inputs, field: each.value}),
            was_saved,
        ),
    )


def test_enough_was_tried(ledger: Ledger) -> None:
    """Counts what the tests before this one really did; it needs all of them."""
    counts = {group: len(labels) for group, labels in ledger.refused.items()}
    assert {group: count for group, count in LEAST.items() if counts.get(group, 0) < count} == {}, counts
    assert sum(counts.values()) >= LEAST_REFUSED, counts
    assert set(ledger.worked) == set(LEAST), "each group also had input that works"
    assert peak_bytes() - ledger.peak_before < GROWTH_BYTES
