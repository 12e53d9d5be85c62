"""Each error that the product raises is of a kind, and stays of it; the kinds, the pages and the docstring agree."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import house
import pytest

from longtalk.base import errors
from longtalk.base.errors import LongTalkError, SoundError, TextError
from longtalk.base.times import parse_time

KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, LongTalkError) and kind is not LongTalkError
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def made(kind: type[LongTalkError]) -> LongTalkError:
    return kind("audio", expected="a sound", actual="silence", action="Connect another one.")


def raised(root: Path) -> dict[str, list[str]]:
    """The classes of LongTalk's errors that the product makes, with the places where it does."""
    found: dict[str, list[str]] = {}
    for name, path in house.files(root).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if called in {*KINDS, "LongTalkError"}:
                    found.setdefault(called, []).append(f"{name}:{node.lineno}")
            elif isinstance(node, ast.Raise) and getattr(node.exc, "id", "") == "LongTalkError":
                found.setdefault("LongTalkError", []).append(f"{name}:{node.lineno}")
    return found


def test_the_product_raises_kinds_alone_and_each_of_them(root: Path) -> None:
    places = raised(root)
    assert places.pop("LongTalkError", []) == []
    assert places.keys() == KINDS.keys()
    assert sum(map(len, places.values())) > 200


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for bars, name, code in re.findall(r"^    ((?:\|  )*)\+- (\w+) +(LT-\w+) +\w", errors.__doc__ or "", re.MULTILINE):
        above[len(bars) // 3 :] = [name]
        drawn[name] = (code, above[-2] if len(above) > 1 else "LongTalkError")
    assert drawn == {name: (kind.code, kind.__base__.__name__) for name, kind in KINDS.items()}


def test_the_page_has_a_row_for_each_code(root: Path) -> None:
    rows = re.findall(r"^\| `(LT-\w+)` \|", (root / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [kind.code for kind in KINDS.values()]
    assert "(docs/errors.md)" in (root / "README.md").read_text(encoding="utf-8")


def test_a_code_means_one_kind() -> None:
    with pytest.raises(ValueError, match="two kinds of errors with the code LT-SOUND"):

        class OtherError(LongTalkError, code="LT-SOUND"):
            pass


@each_kind
def test_the_sentence_comes_first_and_the_code_last(kind: type[LongTalkError]) -> None:
    assert str(made(kind)) == (f"audio: expected a sound, got silence. Connect another one. [{kind.code}]")


@each_kind
def test_no_module_stands_in_front_of_the_sentence(kind: type[LongTalkError]) -> None:
    """ComfyUI shows module and name of a class, but the name alone of those that are built in."""
    assert (kind.__module__, kind.__qualname__) == ("builtins", "LongTalk")


@each_kind
def test_copies_are_of_the_same_kind(kind: type[LongTalkError]) -> None:
    error = made(kind)
    error.remark = "seen"  # type: ignore[attr-defined]
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_it_comes_through_from_another_process() -> None:
    program = (
        "import pickle, sys\n"
        "from longtalk.base.times import parse_time\n"
        "try:\n"
        "    parse_time('soon')\n"
        "except Exception as error:\n"
        "    sys.stdout.buffer.write(pickle.dumps(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    caught = pickle.loads(done.stdout)
    with pytest.raises(TextError) as here:
        parse_time("soon")
    assert type(caught) is TextError
    assert str(caught) == str(here.value)
    assert (caught.what, caught.expected, caught.action) == (here.value.what, here.value.expected, here.value.action)


def test_a_sentence_is_added_to_the_next_step() -> None:
    error = made(SoundError).adding("Two windows are kept")
    assert type(error) is SoundError
    assert str(error) == ("audio: expected a sound, got silence. Connect another one. Two windows are kept. [LT-SOUND]")


@each_kind
def test_a_message_is_one_line_whatever_it_quotes(kind: type[LongTalkError]) -> None:
    hostile = "a\nb\r\x1b[31m\x07\x7f\x9b\u2028\u202e\u2066\udcff"
    shown = r"a\nb\r\x1b[31m\x07\x7f\x9b\u2028\u202e\u2066\udcff"
    error = kind(hostile, expected=hostile, actual=hostile, action=hostile).adding(hostile)
    assert str(error) == f"{shown}: expected {shown}, got {shown}. {shown}. {shown}. [{kind.code}]"
    assert (error.what, error.expected, error.actual, error.action) == (shown, shown, shown, f"{shown}. {shown}")
    assert str(copy.copy(error)) == str(error)
    assert str(made(kind)) == str(kind("audio", expected="a sound", actual="silence", action="Connect another one"))
    assert kind("Zürich 話す 👩", expected="b", actual="c", action="d").what == "Zürich 話す 👩"
