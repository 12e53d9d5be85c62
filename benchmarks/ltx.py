"""What a window of LTX-2.3 takes: seconds, and GPU memory.

    python -m benchmarks.ltx

The LTX Sampler makes three windows with random weights: of the published sizes on a GPU (21 billion parameters in
bfloat16, and ComfyUI's own video VAE), of the tests' tiny models on a CPU. The audio VAE is the tiny one in both: it
takes a thousandth of a window.
"""

from __future__ import annotations

import argparse
import json
from types import SimpleNamespace
from typing import Any

import tiny_ltx_models as tiny
import torch

from . import comfyui
from .contenders import Outcome, portrait, speech, timed
from .models import device, random_weights

FPS = 25
FULL = {
    **tiny.TRANSFORMER,
    "num_layers": 48,
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "cross_attention_dim": 4096,
    "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 2048,
    "caption_channels": 3840,
    "connector_num_layers": 8,
    "connector_num_attention_heads": 32,
    "connector_attention_head_dim": 128,
    "audio_connector_num_attention_heads": 32,
    "audio_connector_attention_head_dim": 64,
}
#: The newest that ComfyUI recognises by the weights alone.
VAE_VERSION = 2


def transformer(full: bool) -> Any:
    """A MODEL, as Load Diffusion Model makes it."""
    import comfy.sd

    sizes = FULL if full else tiny.TRANSFORMER
    dtype = torch.bfloat16 if full else torch.float32
    weights = random_weights(tiny.transformer_network(sizes, dtype), dtype, 1)
    return comfy.sd.load_diffusion_model_state_dict(
        weights, model_options={"dtype": dtype}, metadata=tiny.metadata(transformer=sizes)
    )


def video_vae(full: bool) -> Any:
    import comfy.sd
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    if not full:
        return comfy.sd.VAE(sd=tiny.video_vae(), metadata=tiny.metadata(vae=tiny.VIDEO_VAE))
    with torch.device("meta"):
        net = VideoVAE(version=VAE_VERSION)
    weights = random_weights(net, torch.bfloat16, 2)
    for name, value in (("std-of-means", 1.0), ("mean-of-means", 0.0)):
        weights[f"per_channel_statistics.{name}"].fill_(value)
    return comfy.sd.VAE(sd=weights)


def audio_vae() -> Any:
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.state_dict_prefix_replace(
        tiny.audio_vae(), {"audio_vae.": "autoencoder.", "vocoder.": "vocoder."}, filter_keys=True
    )
    return comfy.sd.VAE(sd=weights, metadata=tiny.metadata(audio_vae=tiny.AUDIO_VAE, vocoder=tiny.VOCODER))


def prompt(full: bool) -> Any:
    """Text of both streams, as it leaves the text encoder's connectors."""
    sizes = FULL if full else tiny.TRANSFORMER
    width = int(sizes["cross_attention_dim"]) + int(sizes["audio_cross_attention_dim"])  # type: ignore[call-overload]
    text = torch.randn((1, 1024 if full else 32, width), generator=torch.Generator().manual_seed(4))
    return [[text, {"pooled_output": None}]]


def run(arguments: argparse.Namespace) -> Outcome:
    from longtalk.infinitetalk.plan.ltx_windows import geometry
    from longtalk.nodes import LongTalkLTXSampler

    full = arguments.size == "full"
    shape = geometry(arguments.window, arguments.overlap, FPS)
    frames = shape.window_frames + (arguments.windows - 1) * shape.stride_frames
    parts = SimpleNamespace(model=transformer(full), vae=video_vae(full), audio_vae=audio_vae(), prompt=prompt(full))

    def make(model: Any) -> tuple[int, str]:
        video, _, report = LongTalkLTXSampler.execute(
            vae=parts.vae,
            audio_vae=parts.audio_vae,
            image=portrait(arguments.width, arguments.height),
            audio=speech(frames / FPS),
            width=arguments.width,
            height=arguments.height,
            fps=FPS,
            window_seconds=arguments.window,
            overlap_seconds=arguments.overlap,
            overlap_mode="trim",
            seed=0,
            steps=arguments.steps,
            cfg=1.0,
            sampler_name="euler",
            scheduler="linear_quadratic",
            image_strength=1.0,
            img_compression=18,
            adain=0.0,
            reanchor_seconds=0.0,
            codec="h264",
            crf=18,
            return_images=False,
            model=model,
            positive=parts.prompt,
            negative=parts.prompt,
            resume="start over",
        ).result
        assert video.get_frame_count() == frames, "the video is not as long as the sound"
        return frames, report

    return timed("LTX Sampler", parts, make)


def main() -> int:
    full = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ltx", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=("full", "tiny"), default="full" if full else "tiny")
    parser.add_argument("--width", type=int, default=832 if full else 96)
    parser.add_argument("--height", type=int, default=448 if full else 64)
    parser.add_argument("--window", type=float, default=19.88 if full else 1.32, help="seconds")
    parser.add_argument("--overlap", type=float, default=2.0 if full else 0.36, help="seconds")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8 if full else 2)
    arguments = parser.parse_args()
    comfyui.start()
    made = run(arguments)
    print(made.text)
    row = {
        "device": torch.cuda.get_device_name() if full else device(),
        "size": f"{arguments.width}x{arguments.height}",
        "window_s": arguments.window,
        "windows": arguments.windows,
        "steps": arguments.steps,
        "seconds": round(made.seconds, 2),
        "frames": made.frames,
        "forward_ms": round(made.forward_ms, 1),
        "peak_gib": round(made.peak_gib, 2),
    }
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
