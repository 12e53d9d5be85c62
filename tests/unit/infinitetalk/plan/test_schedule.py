"""Prompt schedules: how they are read, what is noted about them, which window gets which prompt."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.base.words import time_text
from longtalk.infinitetalk.plan.schedule import Resolved, resolve_schedule, schedule_report, windows_of
from longtalk.infinitetalk.plan.schedule_text import MAX_LINES, Schedule, parse_schedule
from longtalk.infinitetalk.plan.windows import plan_windows

TENS = [Fraction(10 * k) for k in range(6)]
"""Six windows of 10 s."""


def holds(schedule: Schedule) -> list[tuple[float, float | None, int]]:
    """(start, end, line) of every stretch."""
    return [
        (float(each.start), None if each.end is None else float(each.end), schedule.entries[each.entry].line)
        for each in schedule.stretches
    ]


def lines_of(resolved: Resolved) -> list[int]:
    """The line of each window's prompt, where every window has one."""
    assert all(len(weights) == 1 and weights[0][1] == 1.0 for weights in resolved.windows)
    return [resolved.schedule.entries[weights[0][0]].line for weights in resolved.windows]


def notes_of(found: Schedule | Resolved) -> list[str]:
    return [str(note) for note in found.notes]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0),
        ("65", 65),
        ("65.25", Fraction(261, 4)),
        ("0.1", Fraction(1, 10)),
        ("1:05", 65),
        ("1:05.5", Fraction(131, 2)),
        ("01:05", 65),
        ("75:00", 4500),
        ("1:00:00", 3600),
        ("1:02:03", 3723),
        ("1:02:03.04", 3723 + Fraction(1, 25)),
    ],
)
@pytest.mark.parametrize(
    "after", [": x", ":x", " : x", "+: x", " + : x", "-9:59:59: x", " - 9:59:59 : x", "\u2013 99999: x"]
)
def test_times_are_exact(written: str, seconds: Fraction, after: str) -> None:
    [entry] = parse_schedule(written + after).entries
    assert entry.start == seconds
    assert isinstance(entry.start, Fraction)
    assert entry.text == "x"
    assert entry.end == {"9": 35999, "\u2013": 99999}.get(after.strip(" -")[0])


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("5: a man: he says: no", "a man: he says: no"),
        ("5: 30 people dance", "30 people dance"),
        ("0:05: 30 people dance", "30 people dance"),
        ("5:   two   spaces\t here ", "two spaces here"),
        ("5: # is no comment here", "# is no comment here"),
    ],
)
def test_texts_keep_what_is_theirs(line: str, text: str) -> None:
    assert parse_schedule(line).entries[0].text == text


@pytest.mark.parametrize("text", ["a man: he talks", "2 people talk", "2-3 people: talking", "3+ people", "12 o'clock"])
def test_one_line_without_a_time_is_the_prompt_for_everything(text: str) -> None:
    schedule = parse_schedule(f"\n# a comment\r\n  {text}  \n")
    assert [(entry.line, entry.start, entry.end, entry.text) for entry in schedule.entries] == [(3, 0, None, text)]
    assert schedule.notes == ()
    assert lines_of(resolve_schedule(schedule, TENS, 60)) == [3] * 6


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("0: a\nb", 2, "got 'b'"),
        ("a\n0: b", 1, "got 'a'"),
        ("a\nb", 1, "got 'a'"),
        ("0: a\n\n# c\n5-: b", 4, "'5-: b'"),
        ("0: a\n5", 2, "got '5'"),
        ("0: a\n5:", 2, "a text after the time"),
        ("0: a\n-5: b", 2, "'-5: b'"),
        ("0: a\n5.: b", 2, "'5.: b'"),
        ("0: a\n1,5: b", 2, "'1,5: b'"),
        ("0: a\n1:2:3:4: b", 2, "'1:2:3:4: b'"),
        ("0: a\n8-8: b", 2, "an end after the start"),
        ("0: a\n0:08-0:07: b", 2, "0:08 to 0:07"),
        ("0: a\n1:60: b", 2, "two digits below 60"),
        ("0: a\n1:60:00: b", 2, "two digits below 60"),
        ("0: a\n1:5: b", 2, "two digits below 60"),
        ("0: a\n5:30 people dance", 2, "put a space after the colon"),
        ("5:30 people dance", 1, "put a space after the colon"),
        ("0: a\n0:05:30 people dance", 2, "put a space after the colon"),
        ("0: a\n1234567890: b", 2, "'1234567890: b'"),
        ("0: a\n" + "9" * 5000 + ": b", 2, "..."),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text: str, line: int, words: str) -> None:
    with pytest.raises(LongTalkError) as caught:
        parse_schedule(text)
    assert caught.value.what == f"schedule, line {line}"
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["", " \n\t", "# only\n  # comments", None, 5, "0: a\n" * (MAX_LINES + 1)])
def test_what_is_no_schedule_is_refused(text: object) -> None:
    with pytest.raises(LongTalkError, match="schedule: expected"):
        parse_schedule(text)  # type: ignore[arg-type]


# ---------------------------------------------------------------- who holds when


@pytest.mark.parametrize(
    ("text", "expected", "noted"),
    [
        ("0: a\n10: a", [(0, 10, 1), (10, None, 2)], []),
        ("10: a\n0: a", [(0, 10, 2), (10, None, 1)], []),
        ("0-10: a\n10+: a", [(0, 10, 1), (10, None, 2)], []),
        (
            "0-5: a\n10: a",
            [(0, 10, 1), (10, None, 2)],
            ["line 1: no line covers 0:05.00 to 0:10.00; its prompt goes on"],
        ),
        (
            "4+: a",
            [(0, None, 1)],
            ["line 1: no line covers 0:00.00 to 0:04.00; its prompt already holds from the start"],
        ),
        (
            "0+: a\n5-8: a",
            [(0, 5, 1), (5, 8, 2), (8, None, 1)],
            ["line 2: overlaps line 1 between 0:05.00 and 0:08.00; line 2 wins"],
        ),
        (
            "5-8: a\n0+: a",
            [(0, None, 2)],
            [
                "line 1: dropped: the lines below it cover all of its time",
                "line 2: overlaps line 1 between 0:05.00 and 0:08.00; line 2 wins",
            ],
        ),
        (
            "0: a\n0: a\n9: a",
            [(0, 9, 2), (9, None, 3)],
            [
                "line 1: dropped: the lines below it cover all of its time",
                "line 2: overlaps line 1 between 0:00.00 and 0:09.00; line 2 wins",
            ],
        ),
        (
            "0-10: a\n10-20: a\n5-15: a\n20+: a\n2+: a",
            [(0, 2, 1), (2, None, 5)],
            [
                *(f"line {line}: dropped: the lines below it cover all of its time" for line in (2, 3, 4)),
                "line 3: overlaps lines 1, 2 between 0:05.00 and 0:15.00; line 3 wins",
                "line 5: overlaps lines 1, 2, 3, 4 between 0:02.00 and the end; line 5 wins",
            ],
        ),
    ],
)
def test_gaps_and_overlaps(text: str, expected: list[tuple[float, float | None, int]], noted: list[str]) -> None:
    schedule = parse_schedule(text)
    assert holds(schedule) == expected
    assert sorted(notes_of(schedule)) == sorted(noted)


def test_a_subject_worded_otherwise_is_noted() -> None:
    text = "0: A woman in red, calm\n5: a  woman in Red; laughing\n9: a woman, sad\n12: A Woman in red. She waves"
    [note] = notes_of(parse_schedule(text))
    assert note.startswith("line 3: the subject (the words before the first comma) is 'a woman', in line 1 it is")
    assert "'a woman in red'" in note


def test_the_subject_of_the_earliest_line_counts() -> None:
    [note] = notes_of(parse_schedule("9: a man, sad\n0-9: a woman, calm"))
    assert note.startswith("line 1: the subject")


def test_distinct_texts() -> None:
    assert parse_schedule("0: a\n5: b\n9: a\n12: c").texts == ("a", "b", "c")


def asked_for(schedule: Schedule, time: Fraction) -> int | None:
    """The last line that asks for a time, straight from the rules."""
    asking = [each.line for each in schedule.entries if each.start <= time and (each.end is None or time < each.end)]
    return max(asking, default=None)


@st.composite
def schedules(draw: st.DrawFn) -> str:
    lines = []
    for number in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, 120))
        form = draw(st.sampled_from(["{0}: t{2}", "{0}+: t{2}", "{0}-{1}: t{2}"]))
        lines.append(form.format(start / 2, start / 2 + draw(st.integers(1, 60)) / 2, number))
    return "\n".join(lines)


@settings(max_examples=examples(500), deadline=None)
@given(schedules())
def test_stretches_tile_all_time_and_the_last_line_wins(text: str) -> None:
    schedule = parse_schedule(text)
    assert schedule.stretches[0].start == 0
    assert schedule.stretches[-1].end is None
    for one, other in pairwise(schedule.stretches):
        assert one.end == other.start
        assert one.entry != other.entry
    last, gaps, in_gap = None, 0, False
    for half in range(200):  # all times are multiples of half a second below 91 s
        time = Fraction(2 * half + 1, 4)
        [held] = [each for each in schedule.stretches if each.start <= time and (each.end is None or time < each.end)]
        line = schedule.entries[held.entry].line
        asked = asked_for(schedule, time)
        if asked is not None:
            assert line == asked
            gaps += in_gap
        elif last is not None:
            assert line == last
        in_gap, last = asked is None, line
    assert sum("no line covers" in note for note in notes_of(schedule)) == gaps


# ---------------------------------------------------------------- laying it over windows


@pytest.mark.parametrize(
    ("text", "expected", "noted"),
    [
        ("0: a\n20: a", [1, 1, 2, 2, 2, 2], []),
        (
            "0: a\n24: a",
            [1, 1, 2, 2, 2, 2],
            ["line 2: its prompt begins at 0:20.00 instead of 0:24.00, 4.00 s earlier"],
        ),
        ("0: a\n26: a", [1, 1, 1, 2, 2, 2], ["line 2: its prompt begins at 0:30.00 instead of 0:26.00, 4.00 s later"]),
        (
            "0: a\n25: a",
            [1, 1, 2, 2, 2, 2],
            ["line 2: its prompt begins at 0:20.00 instead of 0:25.00, 5.00 s earlier"],
        ),
        (
            "0: a\n21-24: a\n24: a",
            [1, 1, 3, 3, 3, 3],
            [
                "line 2: its prompt begins at 0:20.00 instead of 0:21.00, 1.00 s earlier",
                "line 2: dropped: snapped to windows it is shorter than one",
                "line 3: its prompt begins at 0:20.00 instead of 0:24.00, 4.00 s earlier",
            ],
        ),
        (
            "0: a\n57: a",
            [1] * 6,
            [
                "line 2: its prompt begins at 1:00.00 instead of 0:57.00, 3.00 s later",
                "line 2: dropped: snapped to windows it is shorter than one",
            ],
        ),
        ("0: a\n1:00+: a", [1] * 6, ["line 2: dropped: it begins at 1:00.00, the video ends at 1:00.00"]),
        ("0-45: a", [1] * 6, ["line 1: no line covers 0:45.00 to 1:00.00, the end; its prompt goes on"]),
        (
            "0-90: a\n0-70: a",
            [2] * 6,
            [
                "line 1: dropped: other lines cover what lies before the video's end at 1:00.00",
                "line 2: overlaps line 1 between 0:00.00 and 1:10.00; line 2 wins",
            ],
        ),
    ],
)
def test_snapping(text: str, expected: list[int], noted: list[str]) -> None:
    resolved = resolve_schedule(parse_schedule(text), TENS, 60)
    assert lines_of(resolved) == expected
    assert notes_of(resolved) == noted


def test_without_snapping_the_middle_decides() -> None:
    schedule = parse_schedule("0: a\n24: a\n31-34: a\n34: a")
    resolved = resolve_schedule(schedule, TENS, 60, snap=False)
    assert lines_of(resolved) == [1, 1, 2, 4, 4, 4]
    assert notes_of(resolved) == ["line 3: dropped: no window has its middle in it"]
    assert [boundary.at for boundary in resolved.boundaries] == [24, 31, 34]


def test_the_windows_of_a_plan() -> None:
    """81 frames, then 72 new ones each: boundaries lie at 3.24 s and every 2.88 s after it."""
    starts, total = windows_of(plan_windows(297))
    assert starts == (0, Fraction(81, 25), Fraction(153, 25), Fraction(225, 25))
    assert total == Fraction(297, 25)
    resolved = resolve_schedule(parse_schedule("0: a\n6: a"), starts, total)
    assert lines_of(resolved) == [1, 1, 2, 2]
    assert notes_of(resolved) == ["line 2: its prompt begins at 0:06.12 instead of 0:06.00, 0.12 s later"]


def test_a_longer_first_window_shifts_the_boundaries() -> None:
    """Windows as LTX has them: 497 frames, then 448 new ones each (19.88 s and 17.92 s at 25 fps)."""
    starts = [Fraction(0), Fraction(497, 25), Fraction(945, 25)]
    resolved = resolve_schedule(parse_schedule("0: a\n18: a\n36: a"), starts, 50)
    assert [boundary.at for boundary in resolved.boundaries] == starts[1:]


@pytest.mark.parametrize("starts", [[], [1, 2], [0, 5, 5], [0, 60], [0, 70]])
def test_windows_that_are_none_are_refused(starts: list[int]) -> None:
    with pytest.raises(LongTalkError, match="windows of the schedule"):
        resolve_schedule(parse_schedule("a"), starts, 60)


@pytest.mark.parametrize("blend", [-1, 601, math.nan, "2", None])
def test_a_blend_out_of_range_is_refused(blend: object) -> None:
    with pytest.raises(LongTalkError, match="blend_s"):
        resolve_schedule(parse_schedule("a"), TENS, 60, blend_s=blend)  # type: ignore[arg-type]


# ---------------------------------------------------------------- blending


def test_a_raised_cosine_around_the_boundary() -> None:
    """Windows' middles at 5, 15, ... 55; a change 40 s wide at 30: a quarter of its width is 10 s."""
    resolved = resolve_schedule(parse_schedule("0: a\n30: a"), TENS, 60, blend_s=40)
    expected = [0.5 - 0.5 * math.cos(math.pi * (middle - 10) / 40) for middle in (15, 25, 35, 45)]
    assert resolved.windows[0] == ((0, 1.0),)
    assert resolved.windows[5] == ((1, 1.0),)
    for weights, share in zip(resolved.windows[1:5], expected, strict=True):
        assert [entry for entry, _ in weights] == [0, 1]
        assert weights[1][1] == pytest.approx(share, abs=1e-12)
    assert resolved.windows[2][0][1] == pytest.approx(0.6913417, abs=1e-6)  # 1/2 + 1/2 sin(pi/8)
    assert notes_of(resolved) == []


def test_the_middle_of_a_change_is_half_and_half() -> None:
    resolved = resolve_schedule(parse_schedule("0: a\n25: a"), TENS, 60, snap=False, blend_s=10)
    assert resolved.windows[2] == ((0, 0.5), (1, 0.5))
    assert [len(weights) for weights in resolved.windows] == [1, 1, 2, 1, 1, 1]


def test_a_blend_below_a_window_is_raised_to_one() -> None:
    schedule = parse_schedule("0: a\n23: a")
    raised = resolve_schedule(schedule, TENS, 60, snap=False, blend_s=0.5)
    assert raised.windows == resolve_schedule(schedule, TENS, 60, snap=False, blend_s=10).windows
    assert raised.blend_s == 10
    assert notes_of(raised) == ["blend_s 0.50 s is shorter than a window (10.00 s) and was raised to that"]
    assert len(raised.windows[2]) == 2


def test_the_window_that_counts_is_a_later_one() -> None:
    """The first window brings more new frames than the others; a blend need not be as wide as that one."""
    resolved = resolve_schedule(parse_schedule("a"), [0, 20, 30], 40, blend_s=12)
    assert (resolved.blend_s, resolved.notes) == (12, ())


def test_a_blend_that_blends_nothing_says_so() -> None:
    """Snapped to a window's start, a change as wide as a window ends before the middles on both sides."""
    resolved = resolve_schedule(parse_schedule("0: a\n23: a"), TENS, 60, blend_s=10)
    assert lines_of(resolved) == [1, 1, 2, 2, 2, 2]
    assert "blend_s 10.00 s blends no window at these boundaries; set more than 10.00 s" in notes_of(resolved)


def test_three_prompts_at_once() -> None:
    resolved = resolve_schedule(parse_schedule("0: a\n20: a\n30: a"), TENS, 60, blend_s=60)
    assert [entry for entry, _ in resolved.windows[2]] == [0, 1, 2]
    before, between, after = (weight for _, weight in resolved.windows[2])
    assert before == pytest.approx(0.5 - 0.5 * math.sin(math.pi * 5 / 60))
    assert after == pytest.approx(0.5 - 0.5 * math.sin(math.pi * 5 / 60))
    assert between == pytest.approx(math.sin(math.pi * 5 / 60))


@settings(max_examples=examples(500), deadline=None)
@given(
    schedules(),
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.booleans(),
    st.one_of(st.just(0.0), st.floats(0.01, 100)),
)
def test_weights_add_up_to_one_whatever_the_schedule(text: str, spans: list[int], snap: bool, blend: float) -> None:
    schedule = parse_schedule(text)
    edges = [Fraction(sum(spans[:count]), 2) for count in range(len(spans) + 1)]
    resolved = resolve_schedule(schedule, edges[:-1], edges[-1], snap=snap, blend_s=blend)
    assert len(resolved.windows) == len(spans)
    used = set()
    for weights in resolved.windows:
        assert all(0 < weight <= 1 for _, weight in weights)
        assert sum(weight for _, weight in weights) == pytest.approx(1, abs=1e-12)
        assert len({entry for entry, _ in weights}) == len(weights)
        used |= {entry for entry, _ in weights}
    if blend == 0:
        assert all(weights[0][1] == 1 and len(weights) == 1 for weights in resolved.windows)
        dropped = {note.line for note in resolved.notes if "dropped" in note.text}
        assert dropped == {entry.line for index, entry in enumerate(schedule.entries) if index not in used}
    if snap:
        assert all(boundary.at in edges for boundary in resolved.boundaries)
        moved = sum("instead of" in note.text for note in resolved.notes)
        assert moved == sum(boundary.at != boundary.wanted for boundary in resolved.boundaries)
    schedule_report(resolved)


@settings(max_examples=examples(200), deadline=None)
@given(schedules(), st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_snapped_windows_have_the_prompt_of_their_middle(text: str, spans: list[int]) -> None:
    """Moving boundaries to the nearest edge is the same as asking who holds in each window's middle, ties apart."""
    schedule = parse_schedule(text)
    edges = [Fraction(sum(spans[:count]), 2) for count in range(len(spans) + 1)]
    snapped, middles = (resolve_schedule(schedule, edges[:-1], edges[-1], snap=snap).windows for snap in (True, False))
    starts = {stretch.start for stretch in schedule.stretches}
    for index, (start, end) in enumerate(pairwise(edges)):
        if (start + end) / 2 not in starts:
            assert snapped[index] == middles[index]


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.00"), (Fraction(81, 25), "0:03.24"), (Fraction(59999, 1000), "1:00.00"), (3600, "1:00:00.00"),
     (Fraction(372304, 100), "1:02:03.04")],
)  # fmt: skip
def test_time_text(seconds: Fraction, text: str) -> None:
    assert time_text(Fraction(seconds)) == text


def test_the_report_tells_every_window_its_prompt() -> None:
    text = "# talk\n0: a woman, calm\n20: a woman, laughing at what she just said to him\n47: a woman, sad"
    assert schedule_report(resolve_schedule(parse_schedule(text), TENS, 60)).splitlines() == [
        "Prompts: 3 in the schedule, hard switches",
        "  windows 1 to 2 (0:00.00 - 0:20.00): line 2: a woman, calm",
        "  windows 3 to 5 (0:20.00 - 0:50.00): line 3: a woman, laughing at what she ...",
        "  window 6 (0:50.00 - 1:00.00): line 4: a woman, sad",
        "note: schedule, line 4: its prompt begins at 0:50.00 instead of 0:47.00, 3.00 s later",
    ]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("one two three four five six", "line 1: one two three four five six"),
        ("one two three four five six seven", "line 1: one two three four five six ..."),
        ("y" * 1000, f"line 1: {'y' * 72} ..."),
    ],
)
def test_a_label_is_short(text: str, label: str) -> None:
    assert parse_schedule(text).entries[0].label() == label


def test_a_long_table_is_shortened_unless_asked_for_whole() -> None:
    text = "\n".join(f"{10 * k}: a {k}" for k in range(100))
    resolved = resolve_schedule(parse_schedule(text), [10 * k for k in range(100)], 1000)
    table = [line for line in schedule_report(resolved).splitlines() if line.startswith("  ")]
    assert len(table) == 41
    assert table[20] == "  ... 60 more ..."
    whole = [line for line in schedule_report(resolved, whole=True).splitlines() if line.startswith("  window")]
    assert len(whole) == 100
