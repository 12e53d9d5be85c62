"""What several of the compared configurations are put together of."""

from __future__ import annotations

from typing import Any

from .equal_studio import Studio, speech_like

WAN, ADVANCED, LTX = "LongTalkSampler", "LongTalkSamplerAdvanced", "LongTalkLTXSampler"
#: Four windows of WAN, 13 + 3 * 8 frames.
FOUR_S = 37 / 25
#: Four windows of LTX, 33 + 3 * 16 frames.
LTX_FOUR_S = 81 / 25
PROMPTS = "0:00-0:00.7: a woman, calm\n0:00.7: a woman, laughing"


def timing_of(studio: Studio, label: str, audio: Any, **changes: Any) -> Any:
    settings = {"silence_gate": True, "pause_seconds": 0.6, "ending": "as heard", "shots": 0.0, **changes}
    timing, report = studio.node("LongTalkSilence", audio=audio, **settings)
    studio.record.text(label, report)
    return timing


def music(audio: Any) -> dict[str, Any]:
    """A soundtrack of the same length that is nowhere silent, so that a fade at its end is heard."""
    seconds = audio["waveform"].shape[-1] / audio["sample_rate"]
    return {"waveform": speech_like(seconds, 44100, 2, seed=6)["waveform"] * 0.5 + 0.3, "sample_rate": 44100}


def stopped_and_resumed(studio: Studio, node_id: str, model: Any, inputs: dict[str, Any], forward: int) -> None:
    """Stop a run as a user does, at this forward, then queue it again."""
    import comfy.model_management as manager

    def stop(count: int) -> None:
        if count == forward:
            manager.interrupt_current_processing()

    with studio.forwards(model, stop):
        try:
            studio.sampled("stopped", node_id, **inputs)
        except manager.InterruptProcessingException:
            studio.record.text("stopped", "interrupted")
        finally:
            manager.interrupt_current_processing(False)
    studio.partial("stopped")
    with studio.forwards(model):
        studio.sampled("resumed", node_id, **inputs)


def planned(studio: Studio, label: str, **inputs: Any) -> None:
    settings = {"window_frames": 13, "motion_frames": 5, "plan_mode": "exact", **inputs}
    shown, report, frames, windows = studio.node("LongTalkPlan", **settings)
    studio.record.array("plan", label, shown)
    studio.record.text(f"plan {label}", f"{report}\n{frames} frames, {windows} windows")
