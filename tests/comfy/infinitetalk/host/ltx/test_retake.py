"""A stretch of a finished LTX video made again: nothing outside it changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_runs import ltx_settings
from safetensors.torch import load_file


@pytest.fixture
def settings(ltx: SimpleNamespace, portrait: torch.Tensor, make_audio: Callable[..., Any]) -> dict[str, Any]:
    """Windows of 33 frames that start at 0, 24, 48, 72 and 96, of later ones the first 9 pinned: 113 frames."""
    windows = {"overlap_seconds": 9 / 25, "codec": "ffv1", "return_images": True}
    return ltx_settings(ltx, portrait, audio=make_audio(4.5), **windows)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The windows that were sampled, in order, counted from 1."""
    from longtalk.infinitetalk.host.ltx.renderer import LtxRenderer

    sample, found = LtxRenderer.sample, []

    def noted(self: Any, window: Any, *args: Any) -> Any:
        found.append(window.number)
        return sample(self, window, *args)

    monkeypatch.setattr(LtxRenderer, "sample", noted)
    return found


def run(settings: dict[str, Any], **changes: Any) -> tuple[torch.Tensor, str]:
    from longtalk.nodes.ltx import LongTalkLTXSampler

    with torch.inference_mode():
        _, images, report = LongTalkLTXSampler.execute(**{**settings, **changes}).result
    return images, report


#: Frames 60 to 80: behind the pinned frames of window 3 (48 to 57), before window 5 begins (96).
STRETCH = "2.4-3.2: 77"


def changed(before: torch.Tensor, after: torch.Tensor) -> list[int]:
    """Frames that differ by more than rounding to 8 bits."""
    change = (after - before).abs().flatten(1).amax(1)
    return [frame for frame in range(len(change)) if float(change[frame]) > 1.1 / 255]


def test_only_the_stretch_changes(settings: dict[str, Any], rendered: list[int]) -> None:
    before, report = run(settings)
    assert "in 5 windows" in report
    assert rendered == [1, 2, 3, 4, 5]
    rendered.clear()
    after, report = run(settings, retake=STRETCH)
    assert rendered == [3, 4]
    assert report.count("retake") == 2
    frames = changed(before, after)
    # Windows 3 and 4 put out frames 49 to 97: what they pin is decoded together with what is new.
    assert set(range(60, 80)) <= set(frames) <= set(range(49, 97))

    rendered.clear()
    after, _ = run(settings, retake="2.32-2.6: 77")
    assert rendered == [3]
    assert set(range(58, 65)) <= set(changed(before, after)) <= set(range(49, 73))


def test_the_log_names_what_was_rendered_as_its_files(
    settings: dict[str, Any], output_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The window behind the stretch is taken over, under a name of the retake: it is there, and not rendered again."""
    from longtalk.benchmarks.fault_evidence import OnDisk, rendered_windows

    with caplog.at_level("INFO"):
        for retake in ("", STRETCH):
            run({**settings, "codec": "h264"}, retake=retake)
    rendered = rendered_windows(caplog.text)
    assert [place.window for place in rendered] == [1, 2, 3, 4, 5, 3, 4]
    there = OnDisk.read(output_folder / "longtalk").windows
    assert len(set(rendered)) == 7
    assert [place.window for place in there.keys() - set(rendered)] == [5]


def test_it_is_found_again_and_can_be_undone(settings: dict[str, Any], rendered: list[int]) -> None:
    before, _ = run(settings)
    after, _ = run(settings, retake=STRETCH)
    rendered.clear()
    again, report = run(settings, retake=STRETCH)
    assert "nothing had to be made" in report
    assert torch.equal(after, again)
    undone, _ = run(settings)
    assert rendered == []
    assert float((undone - before).abs().max()) < 1.1 / 255  # from 8-bit files


def test_without_a_first_video_that_is_made_first(settings: dict[str, Any], rendered: list[int]) -> None:
    straight, _ = run(settings, retake=STRETCH)
    assert rendered == [1, 2, 3, 4, 3, 4, 5]
    rendered.clear()
    run({**settings, "resume": "start over"})
    after, _ = run(settings, retake=STRETCH)
    assert float((after - straight).abs().max()) < 1.1 / 255


def test_a_killed_retake_goes_on(
    settings: dict[str, Any], rendered: list[int], output_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtalk.infinitetalk.host.ltx.renderer import LtxRenderer

    whole, _ = run(settings, retake=STRETCH)
    shutil.rmtree(output_folder / "longtalk")  # else its video is there, and nothing is made
    run(settings)
    sample, stopped = LtxRenderer.sample, []

    def pull(self: Any, window: Any, *args: Any) -> Any:
        if window.number == 4 and not stopped:
            stopped.append(True)
            raise RuntimeError("pulled the plug")
        return sample(self, window, *args)

    monkeypatch.setattr(LtxRenderer, "sample", pull)
    with pytest.raises(RuntimeError, match="plug"):
        run(settings, retake=STRETCH)
    rendered.clear()
    images, _ = run(settings, retake=STRETCH)
    assert rendered == [4]
    assert float((images - whole).abs().max()) < 1.1 / 255


def test_the_last_window_and_two_stretches(settings: dict[str, Any], rendered: list[int]) -> None:
    before, _ = run(settings)
    rendered.clear()
    after, _ = run(settings, retake="0.2-0.5: 7, 4.3-4.5: 9")
    assert rendered == [1, 5]
    frames = changed(before, after)
    assert {*range(5, 12), *range(108, 113)} <= set(frames) <= {*range(25), *range(97, 113)}


def test_the_runs_command_knows_it(settings: dict[str, Any], output_folder: Path) -> None:
    from longtalk.infinitetalk.run.store.chains import read_windows
    from longtalk.infinitetalk.run.store.folder import RunFolder, run_names

    run(settings)
    run(settings, retake=STRETCH)
    root = output_folder / "longtalk"
    [name] = run_names(root)
    windows = read_windows(RunFolder(root, name, ".mkv"))
    assert windows.damage == ()
    assert [len(chain) for chain in windows.chains] == [5, 5]
    assert [record.window for record in windows.current if record.retake] == [3, 4]


@pytest.mark.parametrize("change", [{"retake": "0:04-0:05: 7"}, {"retake": "1-2: 7", "overlap_seconds": 17 / 25}])
def test_what_cannot_be_retaken(settings: dict[str, Any], change: dict[str, Any]) -> None:
    from longtalk.base.errors import LongTalkError

    with pytest.raises(LongTalkError, match="retake"):
        run(settings, **change)


def test_it_ends_on_what_the_window_after_it_goes_on_from(settings: dict[str, Any], output_folder: Path) -> None:
    run(settings)
    run(settings, retake=STRETCH)

    def handed_on(window: int) -> list[torch.Tensor]:
        """The latents that the next window continues from, as first made and as made again."""
        files = sorted((output_folder / "longtalk").glob(f"*/window_{window:05d}_*.safetensors"))
        return [load_file(str(path))["overlap"] for path in files]

    inside, end = handed_on(3), handed_on(4)
    assert len(inside) == len(end) == 2
    assert not torch.equal(*inside)
    assert torch.equal(*end)
