"""A run's manifest: what is written is what is read, and what another version wrote is told from what is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.files import DamagedFileError, write_json
from longtalk.infinitetalk.run.store.manifest import FORMAT, About, ManifestFile, OtherFormatError
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


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = ManifestFile(tmp_path / "manifest.json")
    assert file.read_if_good() is None
    with pytest.raises(FileNotFoundError):
        file.read()
    file.write({"seed": "1f"}, {"created": "today"}, SOUND)
    expected = {
        "format": FORMAT,
        "parts": {"seed": "1f"},
        "about": {"created": "today"},
        "sound": {"bytes": 7, "sha256": "ab" * 32},
    }
    assert file.read() == file.read_if_good() == expected


def test_another_versions_manifest_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = ManifestFile(tmp_path / "manifest.json")
    write_json(file.path, {"format": FORMAT + 1})
    with pytest.raises(OtherFormatError, match=rf"its format is {FORMAT + 1}, not {FORMAT}"):
        file.read()
    assert file.read_if_good() is None
    assert not caplog.records
    file.path.write_bytes(file.path.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match=r"manifest\.json is not JSON"):
        file.read()
    assert file.read_if_good() is None
    assert "manifest.json is not JSON" in caplog.text
