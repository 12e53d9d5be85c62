"""What the configurations work with: one checkout's nodes, tiny models, sounds, pictures, ways to disturb a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch

from .equal_record import Record, heard


def speech_like(seconds: float, rate_hz: int = 16000, channels: int = 1, seed: int = 0) -> dict[str, Any]:
    """A voiced buzz under syllables, as ComfyUI's AUDIO."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(round(seconds * rate_hz)) / rate_hz
    buzz = sum(torch.sin(2 * torch.pi * (110 + 17 * seed) * k * times) / k for k in range(1, 12))
    wave = 0.2 * buzz * torch.sin(2 * torch.pi * (3.1 + 0.3 * seed) * times).clamp(min=0)
    wave = wave + torch.randn((channels, times.numel()), generator=generator) * 0.02
    return {"waveform": wave.clamp(-1, 1)[None].contiguous(), "sample_rate": rate_hz}


def spoken(path: Path, *cut: tuple[float, float] | float) -> dict[str, Any]:
    """Pieces of a recording one after the other: (start, end) in seconds, or a number of seconds of silence."""
    with av.open(str(path)) as container:
        rate_hz = container.streams.audio[0].rate
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    wave = np.concatenate(blocks, axis=1)[:1].astype(np.float32) / 2**15
    pieces = []
    for each in cut:
        if isinstance(each, tuple):
            pieces.append(wave[:, round(each[0] * rate_hz) : round(each[1] * rate_hz)])
        else:
            pieces.append(np.zeros((1, round(each * rate_hz)), np.float32))
    return {"waveform": torch.from_numpy(np.concatenate(pieces, axis=1))[None], "sample_rate": rate_hz}


def picture(seed: int = 7, width: int = 96, height: int = 64) -> torch.Tensor:
    """A smooth picture ``[1, H, W, 3]``."""
    small = torch.rand((1, 3, 6, 8), generator=torch.Generator().manual_seed(seed))
    grown = torch.nn.functional.interpolate(small, (height, width), mode="bicubic")
    return grown.clamp(0, 1).movedim(1, -1).contiguous()


class Texts:
    """In the place of a text encoder: prompts of a given shape, another one for each text.

    What is compared is which window gets which prompt and mix; what a text means to a model is ComfyUI's.
    """

    def __init__(self, like: Any) -> None:
        [(self._like, self._extra)] = like

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> Any:
        seed = int.from_bytes(sha256(text.encode()).digest()[:4], "little")
        noise = torch.randn(self._like.shape, generator=torch.Generator().manual_seed(seed))
        return [[noise * self._like.float().std(), dict(self._extra)]]


class Studio:
    """The nodes of one checkout, the tiny models, and what configurations do with them."""

    def __init__(self, nodes: dict[str, Any], models: Path, base: Path, speech: Path) -> None:
        self.nodes = nodes
        self._models = models
        self._base = base
        self._speech = speech
        self.record: Record

    # ------------------------------------------------------------ models

    def _weights(self, name: str) -> dict[str, torch.Tensor]:
        import comfy.utils

        return comfy.utils.load_torch_file(str(self._models / name))

    @staticmethod
    def _floats(conditioning: Any) -> Any:
        return [[text.float(), extra] for text, extra in conditioning]

    @cached_property
    def wan(self) -> SimpleNamespace:
        """WAN and InfiniteTalk in fp32."""
        import comfy.audio_encoders.audio_encoders
        import comfy.sd

        positive, vision = self.node("LongTalkLoadConditioning", name="longtalk_tiny_positive.safetensors")
        negative, _ = self.node("LongTalkLoadConditioning", name="longtalk_tiny_negative.safetensors")
        for part, value in vars(vision).items():
            vision[part] = value.float() if isinstance(value, torch.Tensor) else value
        return SimpleNamespace(
            model=comfy.sd.load_diffusion_model_state_dict(
                self._weights("diffusion_models/longtalk_tiny_wan_i2v.safetensors"),
                model_options={"dtype": torch.float32},
            ),
            vae=comfy.sd.VAE(sd=self._weights("vae/longtalk_tiny_wan_vae.safetensors")),
            patch=self.node("LongTalkLoadPatch", name="longtalk_tiny_infinitetalk.safetensors")[0],
            audio_encoder=comfy.audio_encoders.audio_encoders.load_audio_encoder_from_sd(
                self._weights("audio_encoders/longtalk_tiny_wav2vec2.safetensors")
            ),
            positive=self._floats(positive),
            negative=self._floats(negative),
            vision=vision,
        )

    @cached_property
    def ltx(self) -> SimpleNamespace:
        """LTX-2.3 in fp32."""
        import comfy.sd
        import comfy.utils

        def vae(name: str, prefixes: dict[str, str] | None = None) -> Any:
            weights, metadata = comfy.utils.load_torch_file(str(self._models / name), return_metadata=True)
            if prefixes:
                weights = comfy.utils.state_dict_prefix_replace(weights, prefixes, filter_keys=True)
            return comfy.sd.VAE(sd=weights, metadata=metadata, dtype=torch.float32)

        positive, _ = self.node("LongTalkLoadConditioning", name="longtalk_tiny_ltx_positive.safetensors")
        negative, _ = self.node("LongTalkLoadConditioning", name="longtalk_tiny_ltx_negative.safetensors")
        return SimpleNamespace(
            model=comfy.sd.load_diffusion_model(
                str(self._models / "diffusion_models" / "longtalk_tiny_ltx.safetensors"), {"dtype": torch.float32}
            ),
            vae=vae("vae/longtalk_tiny_ltx_video_vae.safetensors"),
            audio_vae=vae(
                "checkpoints/longtalk_tiny_ltx_audio.safetensors",
                {"audio_vae.": "autoencoder.", "vocoder.": "vocoder."},
            ),
            positive=positive,
            negative=negative,
        )

    @cached_property
    def core_patch(self) -> Any:
        """The tiny InfiniteTalk as core's own MODEL_PATCH (core's loader takes files of 40 blocks only)."""
        import comfy.model_management
        import comfy.model_patcher
        import comfy.ops
        from comfy_extras.nodes_model_patch import MultiTalkModelPatch

        weights = self._weights("model_patches/longtalk_tiny_infinitetalk.safetensors")
        net = MultiTalkModelPatch(
            in_dim=weights["blocks.0.norm_x.weight"].shape[0],
            intermediate_dim=weights["audio_proj.proj1.weight"].shape[0],
            num_layers=1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks.")),
            dtype=torch.float32,
            operations=comfy.ops.manual_cast,
        )
        net.load_state_dict({name: weight.float() for name, weight in weights.items()})
        device = comfy.model_management.get_torch_device()
        return comfy.model_patcher.CoreModelPatcher(net, load_device=device, offload_device=device)

    # ------------------------------------------------------------ inputs

    def wan_inputs(self, **changes: Any) -> dict[str, Any]:
        """Of Sampler (LongTalk): 48x32, windows of 13 frames that repeat 5, 2 steps, lossless."""
        wan = self.wan
        return {
            "model": wan.model,
            "model_patch": wan.patch,
            "positive": wan.positive,
            "negative": wan.negative,
            "vae": wan.vae,
            "image": picture(),
            "width": 48,
            "height": 32,
            "seed": 3,
            "steps": 2,
            "cfg": 1.0,
            "audio_cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "audio_scale": 1.0,
            "window_frames": 13,
            "motion_frames": 5,
            "plan_mode": "exact",
            "features": "official",
            "codec": "ffv1",
            "crf": 18,
            "return_images": True,
            "audio_encoder": wan.audio_encoder,
            "clip_vision_output": wan.vision,
            **changes,
        }

    def ltx_inputs(self, **changes: Any) -> dict[str, Any]:
        """Of LTX Sampler (LongTalk): 96x64, windows of 33 frames that overlap by 17, 2 steps, lossless."""
        ltx = self.ltx
        return {
            "vae": ltx.vae,
            "audio_vae": ltx.audio_vae,
            "image": picture(),
            "width": 96,
            "height": 64,
            "fps": 25,
            "window_seconds": 33 / 25,
            "overlap_seconds": 17 / 25,
            "overlap_mode": "trim",
            "seed": 3,
            "steps": 2,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "linear_quadratic",
            "image_strength": 1.0,
            "img_compression": 18,
            "adain": 0.0,
            "reanchor_seconds": 0.0,
            "codec": "ffv1",
            "crf": 18,
            "return_images": True,
            "model": ltx.model,
            "positive": ltx.positive,
            "negative": ltx.negative,
            **changes,
        }

    def talk(self, *cut: tuple[float, float] | float) -> dict[str, Any]:
        """Pieces of the demo's speech, see :func:`spoken`."""
        return spoken(self._speech, *cut)

    # ------------------------------------------------------------ what is done with them

    def node(self, node_id: str, **inputs: Any) -> Any:
        """A node's outputs, executed as ComfyUI does."""
        with torch.inference_mode():
            return self.nodes[node_id].execute(**inputs).result

    def sampled(self, label: str, node_id: str, **inputs: Any) -> None:
        """Run a sampler and write down its frames, video, sound and report."""
        video, images, report = self.node(node_id, **inputs)
        if isinstance(images, torch.Tensor):
            self.record.array("frames", f"{label} images", images)
        self.record.video(label, Path(video.get_stream_source()))
        self.record.text(label, report)

    def refused(self, label: str, node_id: str, **inputs: Any) -> None:
        """Run a node that must fail, and write down what it says."""
        try:
            self.node(node_id, **inputs)
        except Exception as error:
            self.record.text(label, f"{type(error).__name__}: {error}")
        else:
            self.record.text(label, "nothing was refused")

    def partial(self, label: str) -> None:
        """Write down the unfinished video that a stopped run left."""
        for path in sorted((self._output / "longtalk").glob("*/partial_*")):
            self.record.text(label, path.name)
            self.record.video(label, path)

    @contextlib.contextmanager
    def forwards(self, model: Any, before: Callable[[int], Any] = lambda count: None) -> Iterator[None]:
        """Count the model's forwards meanwhile and write the number down; ``before`` gets the count as each begins."""
        with self.disturbed(model.model.diffusion_model, "forward", before):
            yield

    @contextlib.contextmanager
    def disturbed(self, owner: Any, name: str, before: Callable[[int], Any]) -> Iterator[None]:
        """Count the calls of an object's method meanwhile; the result of ``before``, if any, takes the place of its."""
        original, count = getattr(owner, name), 0

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            instead = before(count)
            return original(*args, **kwargs) if instead is None else instead(original(*args, **kwargs))

        setattr(owner, name, call)
        try:
            yield
        finally:
            delattr(owner, name)
            self.record.text("calls", f"{name}: {count}")

    @contextlib.contextmanager
    def kept(self, name: str, folder: Path) -> Iterator[None]:
        """A configuration with a record and an output folder of its own."""
        import folder_paths

        self._output = self._base / "output" / name
        self._output.mkdir()
        folder_paths.set_output_directory(str(self._output))
        self.record = Record(folder / name)
        with heard(self.record):
            yield
        self.record.save()
