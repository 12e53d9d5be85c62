"""For loops that are wired by hand: what LTX-2.3 hears in one iteration."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy_api.latest import io

from ..audio.reading.resample import resampling_note
from ..audio.tracks import track_from_audio
from ..infinitetalk.host.ltx.checks import check_audio_vae
from ..infinitetalk.host.ltx.sound import encode_sound, sound_rate_of
from ..infinitetalk.plan.ltx_loop import loop_plan, loop_step
from ..infinitetalk.plan.ltx_windows import geometry
from .inputs import CATEGORY
from .loop_inputs import fps_input, iteration_input, limit_input, loop_inputs

log = logging.getLogger(__name__)


class LongTalkLTXEncodeSound(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLTXEncodeSound",
            display_name="LTX Encode Sound (LongTalk)",
            category=CATEGORY,
            description="The sound of one iteration as audio latents of exactly its window, under a noise mask that "
            "keeps it: for LTXVConcatAVLatent. Nothing is cropped, so lips come when they should.",
            search_aliases=["ltx audio", "audio vae encode", "lip sync", "audio latent"],
            inputs=[
                io.Audio.Input("audio", tooltip="The whole sound, as in Loop Controller."),
                io.Vae.Input("audio_vae", tooltip="LTX's audio VAE, from Load LTXV Audio VAE."),
                iteration_input(),
                *loop_inputs(),
                fps_input(),
                limit_input(),
            ],
            outputs=[io.Latent.Output(display_name="audio_latent")],
        )

    @classmethod
    def execute(
        cls,
        audio: Any,
        audio_vae: Any,
        iteration: int,
        window_seconds: float,
        overlap_seconds: float,
        fps: int,
        max_iterations: int = 0,
    ) -> io.NodeOutput:
        check_audio_vae(audio_vae)
        shape = geometry(window_seconds, overlap_seconds, fps)
        track = track_from_audio(audio, "audio")
        plan = loop_plan(track.samples, track.sample_rate, shape, max_iterations)
        window = loop_step(plan, iteration, track.samples, track.sample_rate).window
        note = resampling_note(track.name, track.sample_rate, sound_rate_of(audio_vae))
        if note and iteration == 0:
            log.info("%s", note)  # the node has no report
        samples = encode_sound(audio_vae, track, window, plan.fps)
        # One value for the whole sound: all of it is given.
        mask = torch.zeros((1, 1, 1, 1), device=samples.device)
        return io.NodeOutput({"samples": samples, "noise_mask": mask})
