"""Choosing attention kernels, with kernels that lie, on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_kernels import (
    GOOD,
    SLOW,
    WRONG,
    attend,
    counting,
    drops_mask,
    fails,
    masks,
    no_memory,
    off_by,
    parts,
    right,
)

from longtalk.infinitetalk.attention.backends import Backend
from longtalk.infinitetalk.attention.chooser import Chooser
from longtalk.infinitetalk.attention.measured import Precision


class TestChooser:
    def test_measures_once_and_takes_the_fastest_right_one(self) -> None:
        chooser, ran = counting(SLOW, WRONG, GOOD)
        found = chooser.attend(*parts())
        assert found is not None
        assert torch.allclose(found[0], attend(*parts()))
        assert ran == ["slow"] * 4 + ["wrong"] * 4 + ["good"] * 5
        ran.clear()
        for seed in range(3):
            chooser.attend(*parts(seed=seed))
        assert ran == ["good"] * 3
        best = chooser.chosen(found[1], Precision.EXACT)
        assert best is not None
        assert best.name == "good"

    def test_lengths_of_a_bucket_share_a_measurement_others_do_not(self) -> None:
        chooser, ran = counting(GOOD)
        q, k, v = parts()
        for queries, calls in ((700, 5), (690, 1), (513, 1), (512, 5), (100, 5)):
            ran.clear()
            chooser.attend(q[:, :, :queries], k, v)
            assert len(ran) == calls, queries
        ran.clear()
        chooser.attend(q.half(), k.half(), v.half())
        assert len(ran) == 5, "another type"

    def test_a_mask_goes_to_a_kernel_that_honours_it(self) -> None:
        quick_liar = Backend("liar", drops_mask, True)
        chooser, ran = counting(quick_liar, Backend("no masks", right, False), SLOW)
        assert chooser.attend(*parts()) is not None
        for kind, mask in masks().items():
            found = chooser.attend(*parts(), mask)
            assert found is not None
            assert torch.allclose(found[0], attend(*parts(), mask), atol=1e-5), kind
            assert ran[-1] == "slow"

    def test_none_when_none_is_right(self) -> None:
        chooser, ran = counting(WRONG, Backend("fails", fails, True))
        assert chooser.attend(*parts()) is None
        ran.clear()
        assert chooser.attend(*parts()) is None
        assert ran == [], "and they are not tried again"

    def test_a_kernel_that_fails_later_is_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        state = {"broken": False}

        def sometimes(*arguments: Any) -> torch.Tensor:
            if state["broken"]:
                raise RuntimeError("illegal shape")
            return right(*arguments)

        chooser, ran = counting(Backend("sometimes", sometimes, True), SLOW)
        case = chooser.attend(*parts())[1]  # type: ignore[index]
        state["broken"] = True
        with caplog.at_level(logging.WARNING):
            found = chooser.attend(*parts())
        assert found is not None
        assert torch.allclose(found[0], attend(*parts()))
        assert "sometimes failed and is left out: RuntimeError: illegal shape" in caplog.text
        state["broken"] = False
        ran.clear()
        chooser.attend(*parts())
        assert ran == ["slow"]
        best = chooser.chosen(case, Precision.EXACT)
        assert best is not None
        assert best.name == "slow"

    def test_out_of_memory_is_not_swallowed(self) -> None:
        state = {"full": False}

        def run(*arguments: Any) -> torch.Tensor:
            return no_memory(*arguments) if state["full"] else right(*arguments)

        chooser, _ = counting(Backend("it", run, True))
        chooser.attend(*parts())
        state["full"] = True
        with pytest.raises(torch.OutOfMemoryError):
            chooser.attend(*parts())
        state["full"] = False
        assert chooser.attend(*parts()) is not None

    def test_the_callers_own_kernel_competes(self) -> None:
        chooser, ran = counting(SLOW)
        own_calls = []

        def run(*arguments: Any) -> torch.Tensor:
            own_calls.append(1)
            return right(*arguments)

        own = Backend("own", run, True)
        chooser.attend(*parts(), own=own)
        ran.clear()
        chooser.attend(*parts(), own=own)
        assert ran == []
        assert len(own_calls) == 6
        chooser.attend(*parts())
        assert ran == ["slow"], "without it the others remain"


class TestKernelsThatQuantise:
    """Right on the first tensors, and then off by 10 %."""

    def start(self, steady: bool = False, path: Path | None = None) -> tuple[Chooser, list[str], dict[str, float]]:
        state = {"share": 0.001}

        def run(*arguments: Any) -> torch.Tensor:
            return off_by(state["share"])(*arguments)

        chooser, ran = counting(Backend("quick", run, True, steady=steady), SLOW, path=path)
        chooser.attend(*parts())
        ran.clear()
        return chooser, ran, state

    def test_are_compared_again_in_calls_2_4_8(self) -> None:
        chooser, ran, state = self.start()
        for _ in range(9):  # calls 2 to 10
            chooser.attend(*parts())
        assert ran == ["quick"] * 9
        state["share"] = 0.1
        for _ in range(5):  # calls 11 to 15
            chooser.attend(*parts())
        assert ran == ["quick"] * 14
        found = chooser.attend(*parts())
        assert ran[14:] == ["quick", "slow"], "the sixteenth shows it"
        assert found is not None
        assert torch.allclose(found[0], attend(*parts())), "and is computed again"
        chooser.attend(*parts())
        assert ran[16:] == ["slow"]

    def test_what_came_out_is_kept(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "attention.json"
        chooser, ran, state = self.start(path=path)
        state["share"] = 0.1
        with caplog.at_level(logging.WARNING):
            case = chooser.attend(*parts())[1]  # type: ignore[index]
        assert "quick has an error of 9.9" in caplog.text
        best = chooser.chosen(case, Precision.EXACT)
        assert best is not None
        assert best.name == "slow"
        chooser, ran = counting(Backend("quick", right, True), SLOW, path=path)
        chooser.attend(*parts())
        assert ran == ["slow"], "in another process too"

    def test_steady_kernels_are_not(self) -> None:
        chooser, ran, state = self.start(steady=True)
        state["share"] = 0.1
        for _ in range(20):
            chooser.attend(*parts())
        assert ran == ["quick"] * 20

    def test_a_class_that_allows_it_keeps_it(self) -> None:
        chooser, ran, state = self.start()
        chooser.attend(*parts(), precision=Precision.FAST)
        state["share"] = 0.02
        ran.clear()
        for _ in range(20):
            chooser.attend(*parts(), precision=Precision.FAST)
        assert ran == ["quick"] * 20
