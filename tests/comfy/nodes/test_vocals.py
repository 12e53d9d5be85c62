"""Vocals (LongTalk) hands over to the Mel-Band RoFormer pack; the pack itself is not part of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from longtalk.base.errors import LongTalkError

MakeAudio = Callable[..., dict[str, Any]]


@pytest.fixture
def pack(comfy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The names of the pack's nodes are known, and a model is there. Returns the model's name."""
    import folder_paths

    import nodes

    for name in ("MelBandRoFormerModelLoader", "MelBandRoFormerSampler"):
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, object)
    (tmp_path / "melbandroformer_mine.ckpt").write_bytes(b"weights")
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "diffusion_models", ([str(tmp_path)], folder_paths.supported_pt_extensions)
    )
    folder_paths.filename_list_cache.pop("diffusion_models", None)
    return "melbandroformer_mine.ckpt"


@pytest.mark.parametrize(("finds", "outputs"), [("voice", [0, 1]), ("crowd", [1, 0])])
def test_the_packs_nodes_are_put_in_its_place(pack: str, make_audio: MakeAudio, finds: str, outputs: list[int]) -> None:
    from longtalk.nodes.vocals import LongTalkVocals, model_names

    assert pack in model_names()
    audio = make_audio(1.0, rate=44100, channels=2)
    output = LongTalkVocals.execute(audio, pack, finds)
    ids = {entry["class_type"]: node for node, entry in output.expand.items()}
    loader, sampler = ids["MelBandRoFormerModelLoader"], ids["MelBandRoFormerSampler"]
    assert output.expand[loader]["inputs"] == {"model_name": pack}
    assert output.expand[sampler]["inputs"]["model"] == [loader, 0]
    assert output.expand[sampler]["inputs"]["audio"] is audio
    assert list(output.result) == [[sampler, number] for number in outputs]


def test_a_missing_model_is_named_with_where_it_belongs(pack: str, make_audio: MakeAudio) -> None:
    from longtalk.nodes.vocals import VOICE_MODEL, LongTalkVocals

    with pytest.raises(LongTalkError, match=r"no file MelBandRoformer_fp16\.safetensors.*models/diffusion_models"):
        LongTalkVocals.execute(make_audio(1.0), VOICE_MODEL, "voice")


def test_no_sound_is_refused_here(comfy: ModuleType) -> None:
    from longtalk.nodes.vocals import VOICE_MODEL, LongTalkVocals

    with pytest.raises(LongTalkError, match="audio"):
        LongTalkVocals.execute(None, VOICE_MODEL, "voice")
