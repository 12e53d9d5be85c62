"""The reference that attention kernels are compared with, and how an error is measured."""

from __future__ import annotations

import pytest
import torch
from attention_kernels import (
    QUERIES,
    SIZE,
    masks,
    off_by,
    parts,
)

from longtalk.infinitetalk.attention.proof import reference_rows, relative_error, sample_rows


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
