"""Measured kernels: which are allowed, and what is kept of them for another process."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_kernels import (
    GOOD,
    SLOW,
    WRONG,
    counting,
    drops_mask,
    drops_scale,
    fails,
    forgets_the_end,
    masks,
    no_memory,
    noise,
    off_by,
    one_nan,
    parts,
    right,
)

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.attention.backends import Backend
from longtalk.infinitetalk.attention.chooser import NO_MEMORY, case_of, measure
from longtalk.infinitetalk.attention.measured import Case, Precision, Store, Trial, bucket, precision_of, ranked, table


def trial(kernel: Any, mask: torch.Tensor | None = None, scale: float | None = None, masks: bool = True) -> Trial:
    (found,) = measure([Backend("it", kernel, masks)], *parts(), mask, scale)
    return found


class TestTrials:
    @pytest.mark.parametrize("scale", [None, 0.1])
    @pytest.mark.parametrize("kind", [None, *masks()])
    def test_a_right_kernel_is_allowed(self, kind: str | None, scale: float | None) -> None:
        found = trial(right, masks()[kind] if kind else None, scale)
        assert found.allowed(Precision.EXACT)
        assert found.ms is not None
        assert found.ms > 0

    @pytest.mark.parametrize("kind", masks())
    def test_a_kernel_that_drops_the_mask_is_not(self, kind: str) -> None:
        """It says that it takes masks, and is quick."""
        found = trial(drops_mask, masks()[kind])
        assert found.error is not None
        assert found.error > 0.1
        assert not found.allowed(Precision.FAST)
        assert trial(drops_mask).allowed(Precision.EXACT)

    def test_a_kernel_without_masks_is_not_run_with_one(self) -> None:
        found = trial(fails, masks()["bool"], masks=False)
        assert found.refusal == "takes no mask"

    @pytest.mark.parametrize("kernel", [noise, one_nan, forgets_the_end])
    def test_wrong_kernels_are_not_allowed(self, kernel: Any) -> None:
        assert not trial(kernel).allowed(Precision.FAST)

    def test_a_dropped_scale_is_not_allowed(self) -> None:
        assert trial(drops_scale).allowed(Precision.EXACT)
        assert not trial(drops_scale, scale=0.1).allowed(Precision.FAST)

    @pytest.mark.parametrize(
        ("share", "exact", "fast"), [(0.004, True, True), (0.006, False, True), (0.04, False, False)]
    )
    def test_classes(self, share: float, exact: bool, fast: bool) -> None:
        found = trial(off_by(share))
        assert (found.allowed(Precision.EXACT), found.allowed(Precision.FAST)) == (exact, fast)

    def test_failures_are_told(self) -> None:
        assert trial(fails).refusal == "no kernel for this GPU"
        assert trial(no_memory).refusal == NO_MEMORY
        assert not trial(fails).allowed(Precision.FAST)

    def test_a_kernel_that_was_asked_for_may_be_less_exact(self) -> None:
        backend = Backend("ComfyUI's attention_sage", off_by(0.02), True, Precision.FAST.tolerance)
        (found,) = measure([backend], *parts(), None, None)
        assert found.allowed(Precision.EXACT)

    def test_half_precision_is_exact(self) -> None:
        """bfloat16 is the worst that is still called exact."""
        for dtype in (torch.float16, torch.bfloat16):
            (found,) = measure([Backend("it", right, True)], *parts(dtype), None, None)
            assert found.error is not None
            assert found.error > 1e-5
            assert found.allowed(Precision.EXACT)

    def test_fastest_first(self) -> None:
        trials = [Trial("b", 2.0, 0.001), Trial("a", 1.0, 0.02), Trial("c", 3.0, 0.0), Trial("d", refusal="no")]
        assert [trial.name for trial in ranked(trials, Precision.EXACT)] == ["b", "c"]
        assert [trial.name for trial in ranked(trials, Precision.FAST)] == ["a", "b", "c"]

    def test_the_table(self) -> None:
        trials = [
            Trial("b", 2.0, 0.001),
            Trial("a", 1.0, 0.02),
            Trial("n", 0.5, float("inf")),
            Trial("d", refusal="no"),
        ]
        case = Case("GPU", "float16", 128, 32768, 512, False)
        assert table(case, trials, Precision.EXACT).splitlines() == [
            "attention: GPU, float16, heads of 128, 32768 x 512 tokens; exact, error up to 0.5%",
            f"    {'n':28}      0.50 ms  NaN or infinite values, too far off",
            f"    {'a':28}      1.00 ms  error 2.00%, too far off",
            f"  * {'b':28}      2.00 ms  error 0.10%",
            f"    {'d':28} no",
        ]


class TestStore:
    def test_another_process_measures_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "user" / "attention.json"
        chooser, ran = counting(SLOW, WRONG, GOOD, path=path)
        chooser.attend(*parts())
        chooser, ran = counting(SLOW, WRONG, GOOD, path=path)
        found = chooser.attend(*parts())
        assert ran == ["good"]
        assert found is not None
        best = chooser.chosen(found[1], Precision.EXACT)
        assert best is not None
        assert best.name == "good"

    def test_a_new_kernel_is_measured_beside_the_known(self, tmp_path: Path) -> None:
        path = tmp_path / "attention.json"
        counting(SLOW, path=path)[0].attend(*parts())
        chooser, ran = counting(SLOW, GOOD, path=path)
        chooser.attend(*parts())
        assert ran == ["good"] * 5

    def test_a_removed_kernel_is_not_chosen(self, tmp_path: Path) -> None:
        path = tmp_path / "attention.json"
        counting(SLOW, GOOD, path=path)[0].attend(*parts())
        chooser, ran = counting(SLOW, path=path)
        assert chooser.attend(*parts()) is not None
        assert ran == ["slow"]

    def test_other_software_is_measured_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "attention.json"
        counting(GOOD, path=path)[0].attend(*parts())
        chooser, ran = counting(GOOD, path=path, software="two")
        chooser.attend(*parts())
        assert len(ran) == 5

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "null", '{"format": 1}', json.dumps({"format": 1, "software": "one", "cases": [{}]}), "\udcff"],
    )
    def test_a_damaged_file_is_made_anew(self, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "attention.json"
        path.write_bytes(content.encode(errors="surrogateescape"))
        chooser, ran = counting(GOOD, path=path)
        with caplog.at_level(logging.WARNING):
            chooser.attend(*parts())
        assert "is made anew" in caplog.text
        chooser, ran = counting(GOOD, path=path)
        chooser.attend(*parts())
        assert ran == ["good"]

    def test_what_did_not_fit_into_memory_is_tried_again_another_time(self, tmp_path: Path) -> None:
        path = tmp_path / "attention.json"
        counting(Backend("large", no_memory, True), SLOW, path=path)[0].attend(*parts())
        chooser, ran = counting(Backend("large", right, True), SLOW, path=path)
        chooser.attend(*parts())
        assert ran == ["large"] * 5

    def test_a_kernel_without_numbers_stays_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "attention.json"
        counting(Backend("nan", one_nan, True), SLOW, path=path)[0].attend(*parts())
        store = Store(path, "one")
        trials = store.get(case_of(*parts()[:2], None))
        assert trials is not None
        assert trials[0].error == float("inf")
        assert [trial.name for trial in ranked(trials, Precision.FAST)] == ["slow"]

    def test_a_folder_that_cannot_be_written_costs_only_the_memory(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        chooser, _ = counting(GOOD, path=tmp_path / "file" / "attention.json")
        with caplog.at_level(logging.WARNING):
            assert chooser.attend(*parts()) is not None
        assert "could not be kept" in caplog.text


def test_buckets() -> None:
    assert [bucket(n) for n in (0, 1, 2, 3, 4, 5, 512, 513, 32760)] == [1, 1, 2, 4, 4, 8, 512, 1024, 32768]


def test_unknown_class() -> None:
    with pytest.raises(LongTalkError, match="'exact' or 'fast'"):
        precision_of("quick")
