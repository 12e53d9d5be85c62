"""A run's manifest: what is written is what is read, and what another version wrote is told from what is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run

from longtalk.base.errors import LongTalkError
from longtalk.base.files import DamagedFileError, write_json
from longtalk.infinitetalk.run.store.manifest import FORMAT, About, Manifest, OtherFormatError, read_manifest
from longtalk.infinitetalk.run.store.record import FileSum
from longtalk.infinitetalk.run.video.formats import CODECS

SOUND = FileSum(7, "ab" * 32)


@st.composite
def abouts(draw: st.DrawFn) -> About:
    lengths = draw(st.lists(st.integers(1, 500), min_size=1, max_size=9))
    ends = tuple(sum(lengths[: number + 1]) for number in range(len(lengths)))
    later = draw(st.sets(st.integers(2, len(ends)), max_size=3)) if len(ends) > 1 else set()
    return About(
        created="2026-01-02 03:04:05",
        width=draw(st.integers(1, 65535)),
        height=draw(st.integers(1, 65535)),
        codec=draw(st.sampled_from(CODECS)),
        crf=draw(st.integers(1, 51)),
        fps=draw(st.integers(1, 1000)),
        frames=ends[-1],
        seed=draw(st.integers(0, 2**64 - 1)),
        steps=draw(st.integers(1, 1000)),
        ends=ends,
        shots=(1, *sorted(later)),
    )


@given(abouts())
def test_what_is_told_of_a_run_comes_back_from_json(about: About) -> None:
    content = json.loads(json.dumps(about.to_json()))
    assert About.from_json(content) == about
    assert ("shots" in content) == (len(about.shots) > 1)


@given(abouts())
def test_what_a_run_is_comes_back_from_json(about: About) -> None:
    manifest = Manifest({"seed": "1f"}, about, SOUND)
    content = json.loads(json.dumps(manifest.to_json()))
    assert set(content) == {"format", "parts", "about", "sound"}
    assert Manifest.from_json(content) == manifest
    assert Manifest.from_json({**content, "what a later version adds": 1}) == manifest
    for entry in content:
        with pytest.raises(DamagedFileError):
            Manifest.from_json({name: value for name, value in content.items() if name != entry})


@pytest.mark.parametrize("format_", [None, "2", True, 0, -1, 2.0, 10**400, [], {}])
def test_what_is_no_number_of_a_format_is_damage(format_: object) -> None:
    with pytest.raises(DamagedFileError, match="no number of a format"):
        Manifest.from_json({"format": format_})


@pytest.mark.parametrize(("number", "age"), [(FORMAT - 1, "an older"), (FORMAT + 1, "a newer")])
def test_another_versions_folder_is_refused_and_left(tmp_path: Path, number: int, age: str) -> None:
    folder, _, keys = make_run(tmp_path, windows=1)
    assert folder.manifest() is not None
    folder.check_format()
    content = json.loads(folder.manifest_path.read_bytes())
    del content["digest"]
    write_json(folder.manifest_path, {**content, "format": number})
    with pytest.raises(OtherFormatError) as caught:
        read_manifest(folder.manifest_path)
    assert caught.value.older == (number < FORMAT)
    with pytest.raises(
        LongTalkError, match=f"got its format is {number}, that of {age} LongTalk; this one has {FORMAT}"
    ):
        folder.check_format()
    assert folder.manifest() is None
    assert folder.finished(keys[:1]).records


def test_a_damaged_manifest_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, _, _ = make_run(tmp_path, windows=0)
    folder.manifest_path.write_bytes(folder.manifest_path.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match=r"manifest\.json is not JSON"):
        read_manifest(folder.manifest_path)
    folder.check_format()
    assert folder.manifest() is None
    assert "manifest.json is not JSON" in caplog.text
    folder.manifest_path.unlink()
    assert folder.manifest() is None
    with pytest.raises(FileNotFoundError):
        read_manifest(folder.manifest_path)
