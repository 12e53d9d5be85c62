"""Envelopes of sounds: against plain loops, and bad samples spoil only themselves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from amounts import examples
from drawn import hum
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.base.waves import envelope

pytestmark = pytest.mark.filterwarnings("error")


def test_bad_samples_spoil_only_themselves() -> None:
    clean, spoilt = hum(267), hum(267)
    spoilt[10_000] = np.nan
    edges = np.arange(0, 170_881, 30)
    expected, found = envelope(clean, edges), envelope(spoilt, edges)
    column = 10_000 // 30  # the chunk with the NaN
    others = np.arange(len(edges) - 1) != column
    assert (found[:, others] == expected[:, others]).all()
    assert np.isfinite(found).all()
    assert found[1, column] > 0  # the extremes of its chunk are still known


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, 500), st.lists(st.integers(0, 600), min_size=2, max_size=40).map(sorted))
def test_envelope_against_plain_loops(samples: int, edges: list[int]) -> None:
    sound = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    found = envelope(sound, np.array(edges))
    chunks = [sound[a : max(a + 1, b)] for a, b in pairwise(edges) if a < samples]
    assert found.shape == (3, len(chunks))
    for column, chunk in enumerate(chunks):
        assert found[:, column] == pytest.approx([chunk.min(), chunk.max(), np.sqrt(np.mean(chunk**2))], rel=1e-5)
