"""The prompts of a schedule in the picture of a plan."""

from __future__ import annotations

from itertools import pairwise

import pytest
from drawn import RATE, check_texts, columns_of, hum

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.draw.layout import lay_out
from longtalk.infinitetalk.draw.plan_picture import draw_plan
from longtalk.infinitetalk.draw.prompts import PROMPTS
from longtalk.infinitetalk.plan.schedule import resolve_schedule, windows_of
from longtalk.infinitetalk.plan.schedule_text import parse_schedule
from longtalk.infinitetalk.plan.windows import plan_windows

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("frames", [267, 5000])
@pytest.mark.parametrize("width", [400, 1600])
def test_prompts_change_where_their_windows_begin(frames: int, width: int) -> None:
    plan = plan_windows(frames)
    schedule = parse_schedule("0: a man, calm\n4.5: a man, loud\n8: a man, sad")
    resolved = resolve_schedule(schedule, *windows_of(plan))
    pixels = draw_plan(plan, [hum(frames)], RATE, width=width, prompts=resolved)
    layout = lay_out(plan, 1, width, prompts=True)
    assert layout.prompts is not None
    first = [window.output[0] for window in plan.windows]
    for index, colour in enumerate(PROMPTS[:3]):
        held = [place for place, weights in enumerate(resolved.windows) if weights == ((index, 1.0),)]
        left, right = layout.strip.x(first[held[0]]), layout.strip.x(plan.windows[held[-1]].output[1])
        columns = columns_of(pixels, layout.prompts, colour)
        assert abs(columns[0] - left) <= layout.px(2)
        assert abs(columns[-1] + 1 - right) <= layout.px(2)


def test_the_rest_of_the_picture_stays_as_it_is() -> None:
    plan = plan_windows(267)
    prompts = resolve_schedule(parse_schedule("a man"), *windows_of(plan))
    without, with_prompts = (draw_plan(plan, [hum(267)], RATE, prompts=each) for each in (None, prompts))
    layout = lay_out(plan, 1, prompts=True)
    assert layout.prompts is not None
    top, added = layout.prompts[0], with_prompts.shape[0] - without.shape[0]
    assert added == layout.bars[0].top - top
    assert (with_prompts[:top] == without[:top]).all()
    assert (with_prompts[top + added :] == without[top:]).all()


def test_a_prompt_without_end_is_shortened(text_boxes: list[tuple[str, tuple[float, ...]]]) -> None:
    plan = plan_windows(500)
    prompts = resolve_schedule(parse_schedule("0: " + "x" * 2_000_000), *windows_of(plan))
    check_texts(text_boxes, draw_plan(plan, [hum(500)], RATE, prompts=prompts))
    assert any(text.startswith("1: xxx") and text.endswith("x...") for text, _ in text_boxes)


def test_mixed_prompts_share_the_height() -> None:
    plan = plan_windows(500)
    starts, total = windows_of(plan)
    middle = (starts[2] + starts[3]) / 2
    text = f"0: a man, calm\n{float(middle)}: a man, loud"
    resolved = resolve_schedule(parse_schedule(text), starts, total, snap=False, blend_s=3)
    assert resolved.windows[2] == ((0, 0.5), (1, 0.5))
    layout = lay_out(plan, 1, prompts=True)
    assert layout.prompts is not None
    column = layout.strip.x((plan.windows[2].output[0] + plan.windows[2].output[1]) // 2)
    strip = draw_plan(plan, [hum(500)], RATE, prompts=resolved)[slice(*layout.prompts), column]
    rows = len(strip)
    assert (strip == PROMPTS[0]).all(axis=1).sum() == rows // 2
    assert (strip == PROMPTS[1]).all(axis=1).sum() == rows - rows // 2


def test_prompts_of_other_windows_are_refused() -> None:
    prompts = resolve_schedule(parse_schedule("a man"), *windows_of(plan_windows(267)))
    with pytest.raises(LongTalkError, match="prompts of the plan picture: expected those of 7 windows, got 4"):
        draw_plan(plan_windows(500), [hum(500)], RATE, prompts=prompts)


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("frames", [267, 500, 5000])
def test_prompts_of_any_length_stay_in_their_stretch(
    frames: int, width: int, text_boxes: list[tuple[str, tuple[float, ...]]]
) -> None:
    plan = plan_windows(frames)
    words = "shouting at the very top of her voice " * 20
    text = "\n".join(f"{3 * k}: a woman, {k} {words}" for k in range(0, frames // 25 // 3, 1 + frames // 1000))
    resolved = resolve_schedule(parse_schedule(text), *windows_of(plan))
    check_texts(text_boxes, draw_plan(plan, [hum(frames)], RATE, width=width, prompts=resolved))
    layout = lay_out(plan, 1, width, prompts=True)
    assert layout.prompts is not None
    top, bottom = layout.prompts
    inside = sorted((box for _, box in text_boxes if top <= (box[1] + box[3]) / 2 < bottom), key=lambda box: box[0])
    assert len(inside) > 2
    assert all(one[2] < other[0] for one, other in pairwise(inside))
    assert inside[-1][2] <= layout.strip.right
