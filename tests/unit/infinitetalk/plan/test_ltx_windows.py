"""The LTX geometry: the published tables, exact sound, no holes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.plan.ltx_windows import Geometry, geometry, nearest_sample, plan_ltx


@pytest.mark.parametrize(
    ("overlap_s", "latents", "stride_s", "effective_s"),
    [(1, 4, 18.88, 1.00), (2, 7, 17.92, 1.96), (3, 10, 16.96, 2.92), (4, 13, 16.00, 3.88), (0, 0, 19.88, 0.0)],
)
def test_the_published_window(overlap_s: float, latents: int, stride_s: float, effective_s: float):
    shape = geometry(19.88, overlap_s, 25)
    assert (shape.window_frames, shape.window_latents, shape.overlap_latents) == (497, 63, latents)
    assert shape.stride_s == pytest.approx(stride_s)
    assert shape.overlap_s == pytest.approx(effective_s)


@pytest.mark.parametrize(
    ("seconds", "count"), [(10, 1), (19.88, 1), (19.92, 2), (37.80, 2), (37.84, 3), (60, 4), (180, 10), (3600, 201)]
)
def test_how_many_windows(seconds: float, count: int):
    assert geometry(19.88, 2, 25).windows_for(round(seconds * 25)) == count


def test_new_material_begins_where_the_geometry_says():
    plan = plan_ltx(60 * 25, geometry(19.88, 2, 25), late_latents=0)
    begins = [(window.start + window.pinned) / 25 for window in plan.windows]
    assert begins == pytest.approx([0, 19.88, 37.80, 55.72])
    assert plan.windows[-1].length == 161  # 49 frames pinned, 107 needed, 5 surplus
    assert [window.output for window in plan.windows] == [(0, 497), (497, 945), (945, 1393), (1393, 1500)]


def test_late_frames_come_out_of_the_next_window():
    plan = plan_ltx(60 * 25, geometry(19.88, 2, 25), late_latents=3)
    assert [window.output for window in plan.windows] == [(0, 473), (473, 921), (921, 1369), (1369, 1500)]
    assert [window.put_out for window in plan.windows] == [
        slice(0, 473),
        slice(25, 473),
        slice(25, 473),
        slice(25, 156),
    ]


shapes = st.builds(
    lambda fps, window, overlap: Geometry(fps, window, min(overlap, window - 1)),
    st.integers(1, 60),
    st.integers(2, 80),
    st.integers(0, 20),
)


@given(shapes, st.integers(1, 20_000), st.integers(0, 5))
def test_outputs_tile_the_video(shape: Geometry, frames: int, late: int):
    plan = plan_ltx(frames, shape, late)
    ends = 0
    for before, window in zip((None, *plan.windows), plan.windows, strict=False):
        assert window.length % 8 == 1
        assert 9 <= window.length <= shape.window_frames
        assert window.output[0] == ends < window.output[1]
        ends = window.output[1]
        frames_out = range(window.length)[window.put_out]
        assert (window.start + frames_out[0], window.start + frames_out[-1] + 1) == window.output
        if before is not None:
            assert window.start == before.start + shape.stride_frames
            assert window.pinned_latents == shape.overlap_latents or not shape.overlap_latents
            assert before.start + before.length == window.start + window.pinned
            assert 0 <= window.taken_over == before.cut <= window.pinned
    assert ends == frames == plan.frames
    assert plan.windows[-1].cut < 8 or plan.windows[-1].length == 9


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("fps", [24, 25, 30, 50])
def test_sound_advances_as_the_picture_does(rate: int, fps: int):
    """Over 200 windows the sound's start is the frame's, to half a sample: nothing adds up."""
    shape = geometry(19.88, 2, fps)
    for number in range(1, 202):
        start = shape.start_frame(number)
        assert start == (number - 1) * shape.stride_frames
        assert abs(nearest_sample(start, rate, fps) - Fraction(start * rate, fps)) <= Fraction(1, 2)
    if rate % fps == 0:
        assert nearest_sample(shape.start_frame(201), rate, fps) * fps == 200 * shape.stride_frames * rate


def test_nearest_sample_rounds():
    assert [nearest_sample(frame, 44100, 24) for frame in (0, 1, 2, 3)] == [0, 1838, 3675, 5513]


@pytest.mark.parametrize(
    ("window_s", "overlap_s", "fps", "word"),
    [
        (0.2, 0, 25, "window_seconds"),
        (5, 5, 25, "overlap_seconds"),
        (5, 4.9, 25, "overlap_seconds"),
        (61, 2, 25, "window_seconds"),
        (5, -1, 25, "overlap_seconds"),
        (5, 1, 0, "fps"),
        (5, 1, 25.5, "fps"),
    ],
)
def test_what_cannot_work(window_s: float, overlap_s: float, fps: int, word: str):
    with pytest.raises(LongTalkError, match=word):
        geometry(window_s, overlap_s, fps)


def test_the_longest_overlap_that_is_named_works():
    with pytest.raises(LongTalkError) as caught:
        geometry(5, 5, 25)
    longest_s = float(caught.value.expected.split()[2])
    assert geometry(5, longest_s, 25).overlap_latents == 15


@pytest.mark.parametrize("frames", [0, -1, 1.5, None])
def test_no_frames(frames: object):
    with pytest.raises(LongTalkError, match="frames"):
        plan_ltx(frames, geometry(5, 1, 25))  # type: ignore[arg-type]
