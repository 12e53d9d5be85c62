"""Pauses, endings and shots: what the model hears when, and plans whose shots lie in pauses and fill the video."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.base.grid import LTX_STEP, VAE_STEP
from longtalk.base.rates import FPS
from longtalk.base.segment import Segment
from longtalk.infinitetalk.model.audio_projection import AudioProjection, audio_context
from longtalk.infinitetalk.model.gate import RAMP_S, Gate, gated, heard_at
from longtalk.infinitetalk.plan.ltx_windows import geometry, plan_ltx
from longtalk.infinitetalk.plan.plan_text import plan_report
from longtalk.infinitetalk.plan.shots import timed_plan
from longtalk.infinitetalk.plan.timing import (
    AFTER_S,
    BEFORE_S,
    TAIL_S,
    Ending,
    Timing,
    check_sound,
    make_timing,
    merged,
)
from longtalk.infinitetalk.plan.timing_text import timing_report
from longtalk.infinitetalk.plan.windows import Plan, PlanMode, Window, plan_windows

QUICK = settings(max_examples=examples(120), deadline=None)


def talk(*speech: tuple[tuple[float, float], ...], duration_s: float = 20.0, **changes: object) -> Timing:
    """Each speaker's stretches of speech."""
    segments = [[Segment(*stretch) for stretch in each] for each in speech]
    return make_timing([f"speaker {n}" for n in range(1, len(speech) + 1)], segments, duration_s, **changes)


ONE = ((1.0, 5.0), (5.5, 8.0), (10.0, 18.0))


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    """One to three speakers in up to five minutes, with pauses of any length."""
    duration_s = draw(st.floats(0.5, 300.0))
    speech = []
    for _ in range(draw(st.integers(1, 3))):
        times = sorted(draw(st.lists(st.floats(0.0, duration_s), max_size=40, unique=True)))
        speech.append([Segment(*pair) for pair in zip(times[::2], times[1::2], strict=False)])
    if not any(speech):
        speech[0] = [Segment(0.0, duration_s / 2)]
    return make_timing(
        [str(number) for number in range(len(speech))],
        speech,
        duration_s,
        gate=draw(st.booleans()),
        pause_s=draw(st.floats(0.4, 3.0)),
        ending=draw(st.sampled_from(Ending)),
        shot_s=draw(st.one_of(st.just(0.0), st.floats(2.0, 30.0))),
    )


class TestQuiet:
    def test_long_pauses_with_what_is_heard_around_speech(self) -> None:
        assert talk(ONE).quiet_each == (
            (Segment(0.0, 1.0 - BEFORE_S), Segment(8.0 + AFTER_S, 10.0 - BEFORE_S), Segment(18.0 + AFTER_S, math.inf)),
        )

    def test_off(self) -> None:
        assert talk(ONE, gate=False).quiet_each == ((),)

    @pytest.mark.parametrize("ending", [Ending.REST, Ending.HOLD, Ending.CUT])
    def test_after_the_last_word_of_all(self, ending: Ending) -> None:
        first, second = talk(ONE, ((2.0, 12.0),), gate=False, ending=ending).quiet_each
        assert first == second == (Segment(18.0 + AFTER_S, math.inf),)
        first, second = talk(ONE, ((2.0, 12.0),), ending=ending).quiet_each
        assert second == (Segment(0.0, 2.0 - BEFORE_S), Segment(12.0 + AFTER_S, math.inf))

    def test_a_short_end_counts_for_the_ending_only(self) -> None:
        assert talk(((0.0, 19.6),)).quiet_each == ((),)
        assert talk(((0.0, 19.6),), ending=Ending.REST).quiet_each == ((Segment(19.6 + AFTER_S, math.inf),),)
        assert talk(((0.0, 19.9),), ending=Ending.REST).quiet_each == ((),)

    def test_who_never_speaks_is_never_heard(self) -> None:
        assert talk(ONE, ()).quiet_each[1] == (Segment(0.0, math.inf),)

    def test_all_in_one_sound(self) -> None:
        both = talk(ONE, ((8.2, 9.0),))
        assert both.together == (Segment(1.0, 5.0), Segment(5.5, 8.0), Segment(8.2, 9.0), Segment(10.0, 18.0))
        assert both.quiet_all[1] == Segment(9.0 + AFTER_S, 10.0 - BEFORE_S)

    @given(timings())
    @QUICK
    def test_whoever_speaks_is_heard(self, timing: Timing) -> None:
        for speech, quiet in zip(timing.speech, timing.quiet_each, strict=True):
            assert all(before.end_s < after.start_s for before, after in pairwise(quiet))
            assert all(pause.duration_s > 0 for pause in quiet)
            times = np.array([time for each in speech for time in (each.start_s, each.end_s)])
            assert bool((heard_at(quiet, times) == 1.0).all())
            if timing.gate:
                rests = [pause.end_s - pause.start_s for pause in quiet]
                assert all(rest > timing.pause_s - AFTER_S - BEFORE_S - 1e-6 for rest in rests)


class TestGate:
    QUIET = (Segment(0.0, 1.0), Segment(2.0, 3.0), Segment(4.0, math.inf))

    def test_shares(self) -> None:
        times = np.array([0.0, 0.5, 1.0 - RAMP_S, 1.0 - RAMP_S / 2, 1.0, 1.5, 2.0, 2.0 + RAMP_S / 4, 2.5, 4.5, 1e6])
        expected = [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.0, 0.0, 0.0]
        np.testing.assert_allclose(heard_at(self.QUIET, times), expected, atol=1e-6)

    def test_nothing_quiet(self) -> None:
        assert heard_at((), np.arange(5.0)).tolist() == [1.0] * 5

    def test_a_pause_shorter_than_two_ramps_still_comes_to_silence(self) -> None:
        assert heard_at((Segment(1.0, 1.1),), np.array([1.0, 1.05, 1.1])) == pytest.approx([1.0, 0.0, 1.0])

    def test_exactly_speech_and_exactly_silence(self) -> None:
        features = torch.randn(3, 2, 4) * 100
        silence = torch.randn(2, 4)
        out = gated(features, torch.tensor([1.0, 0.0, 0.5]), silence)
        assert torch.equal(out[0], features[0])
        assert torch.equal(out[1], silence)
        torch.testing.assert_close(out[2], (features[2] + silence) / 2)

    def test_the_audio_tokens_are_those_of_features_replaced_by_hand(self) -> None:
        torch.manual_seed(0)
        layers = AudioProjection(intermediate=8, tokens=2, out_width=4)
        features = [torch.randn(60, 12, 768), torch.randn(60, 12, 768)]
        silence = torch.randn(12, 768)
        gates = [Gate.of((Segment(0.8, 1.6),), 60, silence), Gate.of((), 60, silence)]
        replaced = features[0].clone()
        middles = (torch.arange(60) + 0.5) / FPS
        shares = torch.clamp(torch.maximum((0.8 + RAMP_S - middles), middles - 1.6 + RAMP_S) / RAMP_S, 0.0, 1.0)
        for frame, share in enumerate(shares):
            replaced[frame] = share * features[0][frame] + (1 - share) * silence
        for start, end in ((0, 21), (16, 37), (44, 65)):  # the last one reaches past the end
            ours = audio_context(layers, features, start, end, gates=gates)
            theirs = audio_context(layers, [replaced, features[1]], start, end)
            torch.testing.assert_close(ours, theirs)
        assert not torch.equal(ours, audio_context(layers, features, 16, 37))


def wan(frames: int) -> Plan:
    return plan_windows(frames, 81, 9)


LTX = geometry(4.84, 1.0, 24)


def ltx(frames: int) -> Plan:
    return plan_ltx(frames, LTX)


def check_plan(plan: Plan, timing: Timing, frames: int, step: int) -> None:
    """What holds for every plan of a timing."""
    edges = [window.output for window in plan.windows]
    assert edges[0][0] == 0
    assert edges[-1][1] == plan.frames
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert [window.number for window in plan.windows] == list(range(1, len(plan.windows) + 1))
    for window in plan.windows:
        assert window.length % step == 1
        assert window.length <= plan.window_frames
        length = window.put_out.stop - window.put_out.start
        assert window.output[1] - window.output[0] == length + window.held
        assert plan.window_at(window.output[0]) == window
        before = plan.before(window)
        assert (window.pinned == 0) == plan.is_fresh(window) == (before is None)
        if before is None:
            assert window.taken_over == 0
        else:
            assert before == plan.window(window.number - 1)
            assert plan.after(before) == window
            assert window.start == before.start + before.length - window.pinned
            assert plan.hands_on(before)
            assert before.held == 0
    ends = [window.number for window in plan.windows if plan.after(window) is None]
    assert ends == [*(number - 1 for number in plan.shot_starts[1:]), len(plan.windows)]
    if timing.ending is Ending.CUT:
        assert plan.frames == timing.sampled_frames(frames, plan.fps)
    else:
        assert plan.frames == plan.requested_frames == frames
    assert plan.held_frames == (plan.frames - timing.sampled_frames(frames, plan.fps))
    assert not plan.held_frames or timing.ending is Ending.HOLD


@given(timings(), st.booleans())
@QUICK
def test_plans(timing: Timing, with_ltx: bool) -> None:
    fps, step, plan_shot = (24, LTX_STEP, ltx) if with_ltx else (FPS, VAE_STEP, wan)
    frames = math.ceil(timing.duration_s * fps)
    plan = timed_plan(frames, fps, timing, plan_shot)
    check_plan(plan, timing, frames, step)
    made = plan.frames - plan.held_frames
    starts = [plan.window(number).start for number in plan.shot_starts]
    assert starts == [0, *timing.shot_starts(made, fps)]
    shots = [end - begin for begin, end in pairwise([*starts, made])]
    if timing.shot_s and len(shots) > 1:
        assert min(shots) >= timing.shot_s * fps
    for start in starts[1:]:
        at_s = start / fps
        assert not any(each.start_s <= at_s < each.end_s for speech in timing.speech for each in speech)
        [pause] = [
            (before.end_s, after.start_s)
            for before, after in pairwise(timing.together)
            if before.end_s <= at_s < after.start_s
        ]
        assert pause[1] - pause[0] > timing.pause_s
    for begin, end, own in zip(starts, [*starts[1:], made], range(len(starts)), strict=False):
        alone = plan_shot(end - begin)
        ours = [window for window in plan.windows if window.shot == own]
        assert [(w.start - begin, w.length, w.pinned, w.cut, w.taken_over) for w in ours] == [
            (w.start, w.length, w.pinned, w.cut, w.taken_over) for w in alone.windows
        ]


@given(timings())
@QUICK
def test_no_pause_that_would_do_is_passed_over(timing: Timing) -> None:
    """From any shot's beginning on, no more than twice the shortest shot goes by while there is a pause to cut in."""
    frames = math.ceil(timing.duration_s * FPS)
    starts = timing.shot_starts(frames, FPS)
    if not timing.shot_s:
        assert starts == ()
        return
    least = math.ceil(timing.shot_s * FPS)
    places = [
        round((before.end_s + after.start_s) / 2 * FPS)
        for before, after in pairwise(timing.together)
        if after.start_s - before.end_s > timing.pause_s
    ]
    for begin, end in pairwise([0, *starts, frames]):
        between = [place for place in places if begin + least <= place <= frames - least and place < end]
        assert not between or end <= begin + 2 * least


def test_the_longest_of_the_near_pauses() -> None:
    spoken = ((0.0, 8.5), (9.3, 12.0), (14.0, 15.0), (15.8, 30.0), (33.0, 60.0))
    timing = talk(spoken, duration_s=60.0, shot_s=8.0)
    assert timing.shot_starts(1500, FPS) == (13 * 25, round(31.5 * 25))
    near = talk(((0.0, 20.0), (20.8, 40.0), (44.0, 60.0)), duration_s=60.0, shot_s=8.0)
    assert near.shot_starts(1500, FPS) == (round(20.4 * 25), 42 * 25)
    assert near.shot_starts(48 * 25, FPS) == (round(20.4 * 25),)  # what would be left is too short


def test_one_shot_without_a_timing_is_the_plan_as_it_was() -> None:
    assert timed_plan(427, FPS, None, wan) == wan(427)
    assert timed_plan(500, FPS, talk(ONE), wan) == wan(500)


def test_endings() -> None:
    held = timed_plan(500, FPS, talk(((0.0, 8.0),), ending="hold"), wan)
    made = math.ceil((8.0 + TAIL_S) * FPS)
    assert (held.frames, held.held_frames) == (500, 500 - made)
    assert sum(window.length for window in held.windows) == wan(made).sampled_frames
    assert timed_plan(500, FPS, talk(((0.0, 8.0),), ending="cut"), wan) == wan(made)
    assert timed_plan(500, FPS, talk(((0.0, 19.7),), ending="hold"), wan) == wan(500)
    down = timed_plan(500, FPS, talk(((0.0, 8.0),), ending="hold"), lambda n: plan_windows(n, 81, 9, "aligned_down"))
    assert (down.frames, down.held_frames) == (500, 500 - 153)


def test_shots_with_full_windows() -> None:
    timing = talk(((1.0, 8.2), (10.0, 18.0)), shot_s=5.0)
    up = timed_plan(500, FPS, timing, lambda n: plan_windows(n, 81, 9, PlanMode.ALIGNED_UP))
    check_plan(up, timing, 500, VAE_STEP)
    assert up.shot_starts[1:]
    assert up.surplus_frames == sum(window.cut for window in up.windows) > up.windows[-1].cut
    with pytest.raises(LongTalkError, match="exact or aligned_up, with shots"):
        timed_plan(500, FPS, timing, lambda n: plan_windows(n, 81, 9, PlanMode.ALIGNED_DOWN))


def test_reports() -> None:
    timing = talk(ONE, ((9.0, 9.5),), duration_s=30.0, ending="hold", shot_s=5.0)
    plan = timed_plan(750, FPS, timing, wan)
    text = plan_report(plan)
    assert "Shots: 2, each from the reference image on, at 0:00.00 (window 1), " in text
    assert f"Held: the last frame stands still for {plan.held_frames} frames (11.40 s) to the end" in text
    assert "-" not in text.split("Sampled:")[1].split("\n")[0]  # never less than come out
    words = timing_report(timing)
    assert "speaker 1: 14.50 s of speech in 3 parts, from 0:01.00 to 0:18.00" in words
    assert "speaker 2: 0:09.65 to the end (20.35 s)" in words
    assert "Ending: hold, the picture stands still from 0:18.60 on" in words
    assert f"cut at 0:0{plan.window(plan.shot_starts[1]).start / 25:.2f}" in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pause_s": 0.1}, "pause_seconds"),
        ({"ending": "stop"}, "one of as heard, rest, hold, cut"),
        ({"shot_s": 0.5}, "2 or more"),
        ({"gate": "yes"}, "silence_gate"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], words: str) -> None:
    with pytest.raises(LongTalkError, match=words):
        talk(ONE, **changes)


def test_nobody_speaks() -> None:
    with pytest.raises(LongTalkError, match=r"none found in 20\.00 s of sound"):
        talk((), ())


def test_a_timing_of_another_sound() -> None:
    timing = talk(ONE, ONE)
    check_sound(timing, [20.0, 19.0])
    check_sound(timing, [20.02], mixed=True)
    with pytest.raises(LongTalkError, match=r"one made from 20\.00 s"):
        check_sound(timing, [12.0, 12.0])
    with pytest.raises(LongTalkError, match="one made for 2 speaker"):
        check_sound(timing, [20.0])


def test_merged() -> None:
    assert merged([Segment(2, 3), Segment(0, 1), Segment(1, 1.5), Segment(2.5, 2.6)]) == (
        Segment(0, 1.5),
        Segment(2, 3),
    )


def test_a_window_that_is_held() -> None:
    window = Window(2, 100, 21, 9, 3, held=50)
    assert window.output == (109, 168)
    assert window.put_out == slice(9, 18)
