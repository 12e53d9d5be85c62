"""Published files, read up to where their weights would be: what LongTalk says of each."""

from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path

import pytest
from gguf_files import Kind
from published_files import WIDTHS, Published, write
from published_table import ACCEPTED, FILES, OTHER_FORMATS, as_markdown

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.model import conditioning_file
from longtalk.infinitetalk.model.checkpoint import PatchHeader, open_patch
from longtalk.infinitetalk.model.gguf_file import open_gguf

#: A header has 1633 names at most, of 100 bytes each.
HEADER_BYTES = 1_000_000


def by_name(published: Published) -> str:
    return published.name


def written(folder: Path, published: Published) -> Path:
    """The file at its full length, which takes no place on the disk."""
    path = write(folder / Path(published.name).name, published)
    found = path.stat()
    assert found.st_blocks * 512 <= HEADER_BYTES + 8192 * sum(bool(each.data) for each in published.tensors())
    return path


def resident() -> int:
    """Bytes of this process in memory, those of files that were looked at too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opened(path: Path) -> PatchHeader | LongTalkError:
    """What reading a header gives, in little memory however large the file is."""
    before = resident()
    tracemalloc.start()
    try:
        return open_patch(path)
    except LongTalkError as error:
        return error
    finally:
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()
        assert resident() - before < 100_000_000


@pytest.mark.parametrize("published", FILES, ids=by_name)
def test_what_is_said_of_it(tmp_path: Path, published: Published) -> None:
    found = opened(written(tmp_path, published))
    if published.taken:
        assert str(found) == published.answer
        return
    with pytest.raises(LongTalkError, match=re.escape(published.answer)):
        raise found if isinstance(found, LongTalkError) else AssertionError(str(found))


@pytest.mark.parametrize("published", [each for each in FILES if each.size is not None], ids=by_name)
def test_it_is_as_long_as_the_published_file(tmp_path: Path, published: Published) -> None:
    """Which proves the types: one byte more or less for each value of a tensor would be seen."""
    assert published.size == written(tmp_path, published).stat().st_size + published.spare


@pytest.mark.parametrize("published", [each for each in FILES if each.listed], ids=by_name)
def test_it_is_as_long_as_pages_list_it(tmp_path: Path, published: Published) -> None:
    digits = len(published.listed.partition(".")[2])
    assert f"{written(tmp_path, published).stat().st_size / 1e9:.{digits}f}" == published.listed


@pytest.mark.parametrize("published", ACCEPTED, ids=by_name)
def test_every_weight_lies_where_the_table_has_it(tmp_path: Path, published: Published) -> None:
    header = open_patch(written(tmp_path, published))
    table = {each.name: each for each in published.tensors()}
    assert len(header.weights) == 330
    for weight, source in header.weights.items():
        assert source.endswith(weight)
        assert header.file.shapes[source] == table[source].shape
        assert header.file.kinds[source] == table[source].kind
    packed = sum(each.name.endswith(("scale_weight", "weight_scale")) for each in table.values())
    ours = 120 if packed else 0
    assert len(header.factors) == ours
    assert packed in (ours, ours + 480)  # those of the whole model in the file


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999999])
@pytest.mark.parametrize(
    "published",
    [each for each in (*ACCEPTED, *OTHER_FORMATS) if "Single" in each.name or "mxfp8" in each.name],
    ids=by_name,
)
def test_cut_off_in_the_middle(tmp_path: Path, published: Published, share: float) -> None:
    path = written(tmp_path, published)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(LongTalkError, match="it may have been cut off"):
        raise found if isinstance(found := opened(path), LongTalkError) else AssertionError(str(found))


@pytest.mark.parametrize("published", [each for each in FILES if not each.name.endswith(".gguf")], ids=by_name)
def test_as_a_conditioning_file(tmp_path: Path, published: Published) -> None:
    before = resident()
    with pytest.raises(LongTalkError, match=r"a file written by Save Conditioning .* of another kind"):
        conditioning_file.load(written(tmp_path, published))
    assert resident() - before < 100_000_000


@pytest.mark.parametrize("published", [each for each in FILES if each.name.endswith(".gguf")], ids=by_name)
def test_the_library_reads_the_same_gguf(tmp_path: Path, published: Published) -> None:
    """What the table writes is GGUF for others too."""
    import gguf

    path = written(tmp_path, published)
    reader = gguf.GGUFReader(str(path))
    file = open_gguf(path, "a file")
    assert {each.name: tuple(each.shape.tolist()[::-1]) for each in reader.tensors} == file.shapes
    assert {each.name: Kind(each.tensor_type).name for each in reader.tensors} == file.kinds


def test_the_table_covers_what_people_have() -> None:
    assert len({each.name for each in FILES}) == len(FILES) >= 30
    assert {each.kind for published in FILES for each in published.tensors()} >= {*WIDTHS, "Q8_0", "Q6_K", "Q4_K"}


def test_the_page_has_the_table(root: Path) -> None:
    assert as_markdown() in (root / "docs" / "model-files.md").read_text(encoding="utf-8")
