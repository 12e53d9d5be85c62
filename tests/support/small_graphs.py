"""LTX's graphs with tiny models and small windows, for a server."""

from __future__ import annotations

from typing import Any

#: What stands in for each loader of the workflow, by its output: the tiny files are not in one checkpoint.
TINY = {
    ("LoraLoaderModelOnly", 0): (
        "UNETLoader",
        {"unet_name": "longtalk_tiny_ltx.safetensors", "weight_dtype": "default"},
    ),
    ("CheckpointLoaderSimple", 2): ("VAELoader", {"vae_name": "longtalk_tiny_ltx_video_vae.safetensors"}),
    ("LTXVAudioVAELoader", 0): ("LTXVAudioVAELoader", {"ckpt_name": "longtalk_tiny_ltx_audio.safetensors"}),
    ("CLIPTextEncode", 0): ("LongTalkLoadConditioning", {"name": "longtalk_tiny_ltx_positive.safetensors"}),
}
#: The workflow's windows and size, made small: 1.8 s are 45 frames in windows of 33.
SMALL = {"window_seconds": 1.32, "overlap_seconds": 0.36, "width": 96, "height": 64}


def shrink(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same graph with tiny models, the short sound and small windows."""
    small = {name: node for name, node in prompt.items() if not is_loader(node["class_type"])}
    for node in small.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and is_loader(prompt[value[0]]["class_type"]):
                kind, settings = TINY[prompt[value[0]]["class_type"], value[1]]
                node["inputs"][name] = [f"tiny {kind}", 0]
                small = {**small, f"tiny {kind}": {"class_type": kind, "inputs": settings}}
            elif name in SMALL:
                node["inputs"][name] = SMALL[name]
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = "short.wav"
    return small


def is_loader(kind: str) -> bool:
    return kind == "LTXAVTextEncoderLoader" or kind in {name for name, _ in TINY}
