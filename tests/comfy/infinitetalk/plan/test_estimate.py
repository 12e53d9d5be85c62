"""The formulas behind the estimate against ComfyUI's own modules, counted by torch."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny_networks
import torch

from longtalk.infinitetalk.plan import estimate
from longtalk.infinitetalk.plan.windows import plan_windows


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **options: Any) -> torch.Tensor:
    """Attention of two plain products, which the counter knows."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    out: torch.Tensor = (q @ k.transpose(-1, -2) @ v).transpose(1, 2).flatten(2)
    return out


@pytest.mark.parametrize(("width", "height", "frames"), [(832, 480, 81), (1280, 720, 21), (240, 416, 5)])
def test_flops_of_a_forward_are_those_of_comfyuis_model(
    wan_14b: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, width: int, height: int, frames: int
) -> None:
    import comfy.ldm.wan.model
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(comfy.ldm.wan.model, "optimized_attention", _attention)
    half = {"device": "meta", "dtype": torch.float16}
    latents = (frames - 1) // 4 + 1
    with FlopCounterMode(display=False) as counter:
        wan_14b.model.diffusion_model(
            torch.empty(1, 36, latents, height // 8, width // 8, **half),
            torch.empty(1, device="meta"),
            torch.empty(1, 512, 4096, **half),
            torch.empty(1, 257, 1280, **half),
        )
    tokens = estimate.tokens_of(frames, width, height)
    audio = 40 * 2 * tokens * 2 * 5120**2  # the patch's q and o, which this model has not
    ours = estimate.forward_flops(estimate.Transformer(5120, 13824, 40), tokens) - audio
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_flops_of_the_vae_are_those_of_comfyuis(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.ldm.wan.vae
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        vae = tiny_networks.wan_vae(96)
    for module in vae.modules():
        if isinstance(module, comfy.ldm.wan.vae.AttentionBlock):
            module.optimized_attention = lambda q, k, v: v  # a hundredth of the whole at this size
    with FlopCounterMode(display=False) as counter:
        vae.decode(torch.empty(1, 16, 21, 60, 104, device="meta"))
    decode = counter.get_total_flops() / (81 * 832 * 480)
    with FlopCounterMode(display=False) as counter:
        vae.encode(torch.empty(1, 3, 81, 480, 832, device="meta"))
    encode = counter.get_total_flops() / (81 * 832 * 480)
    model = estimate.Transformer(1, 1, 1)
    settings = {"steps": 0, "forwards": 1, "model": model, "flops_per_s": 1.0}
    pixels = 832 * 480
    one, two = (estimate.run_seconds(plan_windows(frames), 0, 832, 480, **settings) for frames in (81, 153))
    assert one == pytest.approx(81 * pixels * (decode + encode) / 0.24, rel=0.03)
    assert two - one == pytest.approx(pixels * (81 * decode + 9 * encode) / 0.24, rel=0.03)


def test_a_forward_takes_less_than_comfyui_reserves_and_more_than_what_is_refused(
    wan_14b: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of all tensors alive at once in a real forward of ComfyUI's model, weights left out."""
    import weakref

    import comfy.ldm.wan.model
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from longtalk.infinitetalk.host.preflight import forward_bytes

    net = wan_14b.model.diffusion_model
    monkeypatch.setattr(comfy.ldm.wan.model, "optimized_attention", lambda q, k, v, **options: torch.empty_like(q))
    known = {parameter.untyped_storage()._cdata for parameter in net.parameters()}

    class Alive(TorchDispatchMode):
        now = peak = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    self.add(tensor.untyped_storage())
            return out

        def add(self, storage: torch.UntypedStorage) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key in known:
                return
            known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.remove, key, size)

        def remove(self, key: int, size: int) -> None:
            known.discard(key)
            self.now -= size

    half = {"device": "meta", "dtype": torch.float16}
    inputs = [
        torch.empty(1, 36, 21, 60, 104, **half),
        torch.empty(1, device="meta"),
        torch.empty(1, 512, 4096, **half),
        torch.empty(1, 257, 1280, **half),
    ]
    with Alive() as alive:
        net(*inputs)
    reserved = forward_bytes(wan_14b, 81, 832, 480)
    assert reserved / 2.5 < alive.peak < reserved
