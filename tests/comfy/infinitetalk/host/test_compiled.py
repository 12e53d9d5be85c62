"""A model compiled by ComfyUI's own TorchCompileModel: the same frames, and no compiling beyond the two lengths.

The backend counts and runs what Dynamo traced as it is, so neither a C compiler nor a GPU is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import relative, sampler_settings

from longtalk.infinitetalk.plan.windows import plan_windows

WINDOW, MOTION = 21, 9
#: Seconds of speech whose plan has two lengths, and how many windows it has.
SHORT, LONG = (1.1, 2), (1.85, 4)


class Backend:
    """For torch.compile: counts the graphs it is given and how often they are run."""

    def __init__(self) -> None:
        self.graphs = 0
        self.runs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1

        def run(*arguments: Any) -> Any:
            self.runs += 1
            return graph.forward(*arguments)

        return run


@pytest.fixture
def backend(comfy: Any) -> Iterator[Backend]:
    torch.compiler.reset()
    yield Backend()
    torch.compiler.reset()


@pytest.fixture
def compiled(parts: SimpleNamespace, backend: Backend) -> Any:
    """The model behind core's node, with the counting backend in place of inductor."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    return TorchCompileModel.execute(parts.model, backend).result[0]


@pytest.fixture
def settings(parts: SimpleNamespace, portrait: torch.Tensor) -> dict[str, Any]:
    changes = {"width": 48, "height": 32, "window_frames": WINDOW, "motion_frames": MOTION, "return_images": True}
    return sampler_settings(parts, portrait, resume="start over", **changes)


def heard_by(make_audio: Callable[..., Any], speakers: int, seconds: float) -> dict[str, Any]:
    if speakers == 1:
        return {"audio": make_audio(seconds)}
    import longtalk.nodes

    inputs: dict[str, Any] = {"mode": "para"}
    for index in range(speakers):
        mask = torch.zeros(1, 64, 96)
        mask[:, :, 48 * index : 48 * index + 40] = 1
        inputs |= {f"audio_{index + 1}": make_audio(seconds, seed=index), f"mask_{index + 1}": mask}
    return {"speakers": longtalk.nodes.LongTalkSpeakers.execute(**inputs).result[0]}


def sample(settings: dict[str, Any], **changes: Any) -> tuple[torch.Tensor, str]:
    import longtalk.nodes

    with torch.inference_mode():
        _, images, report = longtalk.nodes.LongTalkSampler.execute(**{**settings, **changes}).result
    return images, report


@pytest.mark.parametrize("speakers", [1, 2])
def test_two_window_lengths_compiled(
    settings: dict[str, Any], compiled: Any, backend: Backend, make_audio: Callable[..., Any], speakers: int
) -> None:
    """The same frames; as many graphs for four windows as for two."""
    graphs = []
    for seconds, windows in (SHORT, LONG):
        plan = plan_windows(round(seconds * 25), WINDOW, MOTION)
        assert len(plan.windows) == windows
        assert len({window.length for window in plan.windows}) == 2
        heard = heard_by(make_audio, speakers, seconds)
        plain, _ = sample(settings, **heard)
        before = backend.graphs
        backend.runs = 0
        ours, _ = sample(settings, model=compiled, **heard)
        graphs.append(backend.graphs - before)
        assert relative(ours, plain) < 1e-3
        assert backend.runs > 2 * windows, "compiled code ran in each step of each window"
    assert graphs[0] == graphs[1] > 0


def test_what_was_compiled_for_another_run_is_not_used(
    settings: dict[str, Any], compiled: Any, make_audio: Callable[..., Any]
) -> None:
    """The node drops the guards that would tell these runs apart."""
    audio = make_audio(SHORT[0])
    scales = {scale: sample(settings, audio=audio, audio_scale=scale)[0] for scale in (0.0, 1.0)}
    assert relative(scales[0.0], scales[1.0]) > 1e-2
    for scale in (0.0, 1.0, 0.0):
        ours, _ = sample(settings, audio=audio, audio_scale=scale, model=compiled)
        assert relative(ours, scales[scale]) < 1e-3


def test_other_samplers_are_as_they_were(
    settings: dict[str, Any], compiled: Any, parts: SimpleNamespace, backend: Backend, make_audio: Callable[..., Any]
) -> None:
    """Before and after a run, core samples with the same compiled model."""
    import comfy.sample
    import comfy.samplers

    noise = torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(1))

    def by_core(model: Any) -> torch.Tensor:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(parts.positive, parts.negative)
        guider.set_cfg(1.0)
        sigmas = torch.tensor([1.0, 0.5, 0.0])
        with torch.inference_mode():
            out: torch.Tensor = guider.sample(
                noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True
            )
        return out

    heard = {"audio": make_audio(0.6)}
    core, (plain, _) = by_core(parts.model), sample(settings, **heard)
    for _ in range(2):
        backend.runs = 0
        assert relative(by_core(compiled), core) < 1e-3
        assert backend.runs > 0
        ours, _ = sample(settings, model=compiled, **heard)
        assert relative(ours, plain) < 1e-3


def test_a_compiled_run_is_found_again(
    settings: dict[str, Any], parts: SimpleNamespace, backend: Backend, make_audio: Callable[..., Any]
) -> None:
    """Compiling changes nothing in what decides the run; the node's own choice of backends is by name."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    heard = {"audio": make_audio(0.6), "model": TorchCompileModel.execute(parts.model, "eager").result[0]}
    sample(settings, **heard)
    _, report = sample(settings, resume="auto", **heard)
    assert "finished before" in report
