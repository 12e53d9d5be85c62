"""Conditioning files: what goes in comes out, and nothing else is accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.model import conditioning_file


def entry() -> list[Any]:
    text = torch.randn(1, 5, 8, dtype=torch.float16)
    extra = {"pooled_output": None, "strength": 0.5, "area": (1, 2), "name": "a", "on": True, "mask": torch.ones(2, 2)}
    return [text, {**extra, "nested": {"deep": [torch.arange(3)]}}]


def test_round_trip(tmp_path: Path) -> None:
    conditioning = [entry(), entry()]
    vision = {"penultimate_hidden_states": torch.randn(1, 4, 6), "image_embeds": None}
    path = tmp_path / "a.safetensors"
    conditioning_file.save(path, conditioning, vision)
    loaded, loaded_vision = conditioning_file.load(path)
    assert len(loaded) == 2
    for (text, extra), (wanted_text, wanted) in zip(loaded, conditioning, strict=True):
        assert text.dtype == torch.float16
        assert torch.equal(text, wanted_text)
        assert torch.equal(extra["mask"], wanted["mask"])
        assert torch.equal(extra["nested"]["deep"][0], wanted["nested"]["deep"][0])
        assert extra["area"] == [1, 2]
        assert [extra[key] for key in ("pooled_output", "strength", "name", "on")] == [None, 0.5, "a", True]
    assert loaded_vision is not None
    assert torch.equal(loaded_vision["penultimate_hidden_states"], vision["penultimate_hidden_states"])
    assert loaded_vision["image_embeds"] is None
    # The same file for any other reader.
    with safe_open(str(path), "pt") as file:
        assert file.metadata()["format"] == "longtalk.conditioning"


def test_views_of_one_tensor_are_stored_by_themselves(tmp_path: Path) -> None:
    shared = torch.randn(2, 5, 8)
    path = tmp_path / "a.safetensors"
    conditioning_file.save(path, [[shared[:1], {}], [shared[1:], {}]])
    loaded, vision = conditioning_file.load(path)
    assert torch.equal(torch.cat([loaded[0][0], loaded[1][0]]), shared)
    assert vision is None


def test_what_is_not_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LongTalkError, match="control"):
        conditioning_file.save(tmp_path / "a", [[torch.zeros(1, 5, 8), {"control": object()}]])
    with pytest.raises(LongTalkError, match="empty"):
        conditioning_file.save(tmp_path / "a", [])


def test_every_tensor_has_a_name_of_its_own(tmp_path: Path) -> None:
    """An extra may be called as the text is, two paths may read the same, and names need not be ASCII."""
    texts = [torch.full((1, 2, 3), float(value)) for value in range(5)]
    extra = {"text": texts[1], "a.b": texts[2], "a": {"b": texts[3]}, "\ud800\u00e4": texts[4]}
    path = tmp_path / "a.safetensors"
    conditioning_file.save(path, [[texts[0], extra]])
    ((text, loaded),), _ = conditioning_file.load(path)
    found = [text, loaded["text"], loaded["a.b"], loaded["a"]["b"], loaded["\ud800\u00e4"]]
    assert all(torch.equal(one, other) for one, other in zip(found, texts, strict=True))


def endless() -> dict[str, Any]:
    out: dict[str, Any] = {}
    out["again"] = out
    return out


TEXT = torch.ones(1, 2, 3)


@pytest.mark.parametrize(
    ("conditioning", "word"),
    [
        (None, "a CONDITIONING, got nothing"),
        (TEXT, "a CONDITIONING, got float32"),
        ([TEXT, {}], "entries of text"),
        ([[TEXT]], "got a list"),
        ([[None, {}]], "got nothing with a dict"),
        ([[TEXT[0], {}]], r"float32 \[2, 3\]"),
        ([[TEXT.int(), {}]], "int32"),
        ([[TEXT.to_sparse(), {}]], "sparse"),
        ([[TEXT, None]], "with nothing"),
        ([[TEXT, endless()]], "32 deep"),
        ([[TEXT, {"a": 10**5000}]], r"a very long int at 'cond\.0\.a'"),
        ([[TEXT, {"a": TEXT.to("meta")}]], r"empty shell .* at 'cond\.0\.a'"),
        ([[TEXT, {"a": TEXT.to(torch.complex128)}]], "complex128"),
    ],
)
def test_what_cannot_be_stored(tmp_path: Path, conditioning: Any, word: str) -> None:
    with pytest.raises(LongTalkError, match=word):
        conditioning_file.save(tmp_path / "a", conditioning)
    assert not list(tmp_path.iterdir())


def tampered(tmp_path: Path, **changes: str) -> Path:
    tensors, metadata = conditioning_file.pack([entry()])
    path = tmp_path / "tampered.safetensors"
    save_file(tensors, str(path), metadata={**metadata, **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": "pt"}, "another kind"),
        ({"version": "99"}, "version 99"),
        ({"tree": "{"}, "damaged"),
        (
            {"tree": json.dumps({"conditioning": [[{"tensor": "missing"}, {"dict": {}}]], "clip_vision": None})},
            "damaged",
        ),
        ({"tree": json.dumps({"conditioning": [[{"call": "os.system"}, {}]], "clip_vision": None})}, "damaged"),
        ({"tree": json.dumps({"conditioning": [[{}, {}]], "clip_vision": None})}, "damaged"),
        ({"tree": json.dumps([])}, "damaged"),
        ({"tree": "[" * 100_000}, "damaged"),
        ({"tree": '{"clip_vision": null, "conditioning": ' + '{"list": [' * 9000 + "]}" * 9000 + "}"}, "damaged"),
        ({"tree": json.dumps({"conditioning": [["text", {"dict": {}}]], "clip_vision": None})}, "entries of text"),
        ({"tree": json.dumps({"conditioning": [], "clip_vision": None})}, "an empty list"),
        (
            {"tree": json.dumps({"conditioning": [[{"tensor": "cond.0.text"}, None]], "clip_vision": None})},
            "with nothing",
        ),
        (
            {"tree": json.dumps({"conditioning": [[{"tensor": "cond.0.text"}, {"dict": {}}]], "clip_vision": 7})},
            "7 as CLIP vision",
        ),
    ],
)
def test_tampered_files_are_refused(tmp_path: Path, changes: dict[str, str], word: str) -> None:
    with pytest.raises(LongTalkError, match=word):
        conditioning_file.load(tampered(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, (2**62).to_bytes(8, "little") + b"{}", b"\x80\x02pickle" * 9])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(LongTalkError, match=r"other\.safetensors"):
        conditioning_file.load(path)


def test_foreign_safetensors_without_metadata_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, str(path))
    with pytest.raises(LongTalkError, match="another kind"):
        conditioning_file.load(path)
