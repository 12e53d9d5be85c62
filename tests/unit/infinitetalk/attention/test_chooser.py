"""Choosing attention kernels, with kernels that lie, on the CPU."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.attention.backends import PYTORCH, Backend, installed
from longtalk.infinitetalk.attention.chooser import NO_MEMORY, Chooser, case_of, measure
from longtalk.infinitetalk.attention.measured import Case, Precision, Store, Trial, bucket, precision_of, ranked, table
from longtalk.infinitetalk.attention.proof import reference_rows, relative_error, sample_rows

QUERIES, KEYS, HEADS, SIZE = 700, 90, 3, 16


def parts(dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, HEADS, QUERIES, SIZE), (2, HEADS, KEYS, SIZE), (2, HEADS, KEYS, SIZE))
    q, k, v = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return q, k, v


def masks() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    seen = torch.rand(1, 1, QUERIES, KEYS, generator=generator) > 0.3
    return {
        "bool": seen,
        "added": torch.randn(2, HEADS, QUERIES, KEYS, generator=generator),
        "keys only": torch.rand(2, 1, 1, KEYS, generator=generator) > 0.5,
    }


def attend(q: Any, k: Any, v: Any, mask: Any = None, scale: float | None = None) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def right(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return attend(q, k, v, mask, scale)


def slow(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    time.sleep(0.02)
    return attend(q, k, v, mask, scale)


def drops_mask(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return attend(q, k, v, None, scale)


def drops_scale(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return attend(q, k, v, mask, None)


def off_by(share: float) -> Any:
    def run(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
        out = attend(q, k, v, mask, scale)
        noise = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        return out + noise * (share * out.norm() / noise.norm())

    return run


def forgets_the_end(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    out = attend(q, k, v, mask, scale)
    out[:, :, -(QUERIES % 64) :] = 0.0
    return out


def one_nan(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    out = attend(q, k, v, mask, scale)
    out[1, 2, 333, 7] = float("nan")
    return out


def noise(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    return torch.randn_like(q)


def fails(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    raise RuntimeError("no kernel for this GPU\nand a stack")


def no_memory(q: Any, k: Any, v: Any, mask: Any, scale: float | None) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


def trial(kernel: Any, mask: torch.Tensor | None = None, scale: float | None = None, masks: bool = True) -> Trial:
    (found,) = measure([Backend("it", kernel, masks)], *parts(), mask, scale)
    return found


class TestProof:
    @pytest.mark.parametrize("scale", [None, 0.1])
    @pytest.mark.parametrize("kind", [None, *masks()])
    def test_reference_is_attention(self, kind: str | None, scale: float | None) -> None:
        """Against a softmax written out, in float64."""
        q, k, v = (part.double() for part in parts())
        mask = masks()[kind] if kind else None
        scores = q @ k.transpose(2, 3) * (scale or SIZE**-0.5)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        wanted = scores.softmax(-1) @ v
        rows = sample_rows(QUERIES, torch.device("cpu"))
        found = reference_rows(*parts(), mask, scale, rows)
        assert found.dtype == torch.float32
        assert float((found - wanted[:, :, rows]).norm() / wanted.norm()) < 1e-6

    @pytest.mark.parametrize("queries", [1, 5, 255, 256, 257, 700, 32760])
    def test_rows_are_different_queries_with_both_ends(self, queries: int) -> None:
        rows = sample_rows(queries, torch.device("cpu")).tolist()
        assert len(set(rows)) == len(rows) == min(queries, 256)
        assert min(rows) == 0
        assert set(range(max(0, queries - 64), queries)) <= set(rows)

    def test_scores_of_many_heads_are_not_held_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import longtalk.infinitetalk.attention.proof as proof

        rows = sample_rows(QUERIES, torch.device("cpu"))
        whole = reference_rows(*parts(), None, None, rows)
        monkeypatch.setattr(proof, "_SCORES_BYTES", 1)
        assert torch.allclose(reference_rows(*parts(), masks()["added"] * 0, None, rows), whole, atol=1e-6)

    @pytest.mark.parametrize("share", [1e-4, 0.004, 0.02, 0.3])
    def test_error_is_relative(self, share: float) -> None:
        q, k, v = parts()
        rows = sample_rows(QUERIES, q.device)
        found = relative_error(off_by(share)(q, k, v, None, None), reference_rows(q, k, v, None, None, rows), rows)
        assert found == pytest.approx(share, rel=0.1)


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


def counting(*backends: Backend, path: Path | None = None, software: str = "one") -> tuple[Chooser, list[str]]:
    """A chooser, and the names of the kernels in the order they are run."""
    ran: list[str] = []

    def watched(backend: Backend) -> Backend:
        def run(*arguments: Any) -> torch.Tensor:
            ran.append(backend.name)
            return backend.run(*arguments)

        return dataclasses.replace(backend, run=run)

    watching: Sequence[Backend] = [watched(backend) for backend in backends]
    return Chooser(lambda: watching, lambda: Store(path, software)), ran


SLOW, WRONG, GOOD = Backend("slow", slow, True), Backend("wrong", noise, True), Backend("good", right, True)


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


def test_pytorchs_kernels_are_always_there() -> None:
    found = installed()
    assert found[: len(PYTORCH)] == PYTORCH
    assert len({backend.name for backend in found}) == len(found)


def test_a_broken_package_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages built for another PyTorch raise whatever they like at import."""
    (tmp_path / "flash_attn_interface.py").write_text("raise OSError('undefined symbol')")
    (tmp_path / "sageattn3.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = [backend.name for backend in installed()]
    assert not any(name.startswith("FlashAttention 3") for name in names)
    assert any(name.startswith("SageAttention 3") for name in names), "there, and refused when it is tried"


def test_a_kernel_of_the_flash_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens before heads, a tuple as result, no mask: each is taken into account."""
    (tmp_path / "flash_attn_interface.py").write_text(
        "from torch.nn.functional import scaled_dot_product_attention as sdpa\n"
        "def flash_attn_func(q, k, v, softmax_scale=None):\n"
        "    parts = [x.transpose(1, 2) for x in (q, k, v)]\n"
        "    return sdpa(*parts, scale=softmax_scale).transpose(1, 2), None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (backend,) = [backend for backend in installed() if backend.name.startswith("FlashAttention 3")]
    q, k, v = parts()
    assert torch.allclose(backend.run(q, k, v, None, 0.2), attend(q, k, v, scale=0.2), atol=1e-6)
    with pytest.raises(ValueError, match="mask"):
        backend.run(q, k, v, masks()["bool"], None)


def test_the_first_sage_leaves_the_callers_key_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1 subtracts the mean from the key it is given."""
    import importlib.metadata
    import sys

    (tmp_path / "sageattention.py").write_text(
        "from torch.nn.functional import scaled_dot_product_attention as sdpa\n"
        "def sageattn(q, k, v, tensor_layout='HND', is_causal=False, sm_scale=None, **ignored):\n"
        "    k -= k.mean(dim=2, keepdim=True)\n"
        "    return sdpa(q, k, v, scale=sm_scale)\n"
    )
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0.6" if name == "sageattention" else real(name))
    monkeypatch.delitem(sys.modules, "sageattention", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (backend,) = [backend for backend in installed() if backend.name.startswith("SageAttention (1.0.6)")]
    q, k, v = parts()
    before = k.clone()
    assert torch.allclose(backend.run(q, k, v, None, None), attend(q, k, v), atol=1e-5)
    assert torch.equal(k, before)
