"""Kernels that are installed: PyTorch's, and those of packages, some of which are broken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attention_kernels import (
    attend,
    masks,
    parts,
)

from longtalk.infinitetalk.attention.backends import PYTORCH, installed


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
