"""Drawn faces made to talk by LongTalk's own nodes, with the trained models as ComfyUI's loaders load them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from longtalk.audio.prepare.loudness import normalize_loudness
from longtalk.metrics.mouth import Box, mouth_height
from longtalk.metrics.opening import RATE_HZ, audio_opening

from . import faces

MOUTH = Box(top=38, bottom=64, left=30, right=34)
"""Columns through the middle of a tile's mouth."""
SHIFT = 3.0
"""Of the steps, as in training."""
WINDOW_FRAMES, MOTION_FRAMES = 81, 9
RESTING = 0.03
"""Opening of the mouth in a portrait."""


def load(files: Mapping[str, Path]) -> SimpleNamespace:
    """The models, by ComfyUI's loaders.

    Args:
        files: ``diffusion``, ``patch``, ``vae``, ``audio_encoder``.
    """
    import comfy.audio_encoders.audio_encoders
    import comfy.sd
    import comfy.utils
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    from longtalk.infinitetalk.host.wan.patch_file import load_patch

    model = comfy.sd.load_diffusion_model(str(files["diffusion"]), model_options={"dtype": torch.float32})
    encoder = comfy.utils.load_torch_file(str(files["audio_encoder"]))
    return SimpleNamespace(
        model=ModelSamplingSD3().patch(model, SHIFT)[0],
        patch=load_patch(files["patch"]),
        vae=comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(files["vae"])), dtype=torch.float32),
        audio_encoder=comfy.audio_encoders.audio_encoders.load_audio_encoder_from_sd(encoder),
    )


def as_audio(samples: torch.Tensor) -> dict[str, Any]:
    """Mono samples ``[N]`` at 16 kHz as ComfyUI's AUDIO."""
    return {"waveform": samples[None, None], "sample_rate": RATE_HZ}


def voice(samples: torch.Tensor) -> torch.Tensor:
    """How far a mouth should be open at each frame, for mono samples ``[N]`` at 16 kHz of any level."""
    return audio_opening(normalize_loudness(samples, RATE_HZ)[0])


def draw_faces(seed: int, count: int) -> faces.Faces:
    """Faces for the tiles of one canvas; they share a background."""
    return faces.draw_canvases(1, count, torch.Generator().manual_seed(seed))


def portrait(drawn: faces.Faces) -> torch.Tensor:
    """The faces at rest side by side, IMAGE ``[1, 80, 64 * count, 3]``."""
    count = len(drawn.mouth)
    tiles = faces.render(drawn, faces.at_rest(torch.full((count, 1), RESTING)))
    return torch.cat(list(tiles[:, :, 0].permute(0, 2, 3, 1)), dim=1)[None] * 0.5 + 0.5


def tile_mask(tile: int, count: int) -> torch.Tensor:
    """MASK of one tile of a canvas of so many, ``[1, 80, 64 * count]``."""
    mask = torch.zeros(1, faces.TILE_HEIGHT, faces.TILE_WIDTH * count)
    mask[:, :, faces.TILE_WIDTH * tile : faces.TILE_WIDTH * (tile + 1)] = 1
    return mask


@dataclass(frozen=True)
class Talk:
    """What a run made.

    Attributes:
        frames: float 0..1 ``[F, H, W, 3]``.
        starts: first frames of the windows after the first one.
    """

    frames: torch.Tensor
    starts: tuple[int, ...]

    def mouth(self, tile: int = 0) -> torch.Tensor:
        """Height of the mouth of a tile's face in each frame, pixels."""
        return mouth_height(self.frames, MOUTH.moved(faces.TILE_WIDTH * tile))


def make(
    parts: SimpleNamespace,
    image: torch.Tensor,
    sounds: Sequence[torch.Tensor],
    *,
    tiles: Sequence[int] | None = None,
    mode: str = "para",
    seed: int = 1,
    **changes: Any,
) -> Talk:
    """Let the faces of a portrait talk, by LongTalk's Sampler.

    Args:
        parts: from :func:`load`.
        image: the portrait.
        sounds: mono samples at 16 kHz, one per speaker.
        tiles: which face speaks each of them; for several speakers.
        mode: ``para`` or ``add``, for several speakers.
        seed: of the noise.
        changes: other inputs of the Sampler.
    """
    from longtalk.infinitetalk.plan.windows import plan_windows
    from longtalk.nodes.sampler import LongTalkSampler
    from longtalk.nodes.speech import LongTalkSpeakers

    height, width = image.shape[1:3]
    heard: dict[str, Any] = {"audio": as_audio(sounds[0])}
    if tiles is not None:
        named = {f"audio_{number}": as_audio(sound) for number, sound in enumerate(sounds, 1)}
        masks = {f"mask_{number}": tile_mask(tile, width // faces.TILE_WIDTH) for number, tile in enumerate(tiles, 1)}
        heard = {"speakers": LongTalkSpeakers.execute(mode=mode, **named, **masks).result[0]}
    nothing = [[torch.zeros(1, 8, 4096), {}]]
    settings: dict[str, Any] = {
        "model": parts.model,
        "model_patch": parts.patch,
        "positive": nothing,
        "negative": nothing,
        "vae": parts.vae,
        "image": image,
        "width": width,
        "height": height,
        "seed": seed,
        "steps": 4,
        "cfg": 1.0,
        "audio_cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "audio_scale": 1.0,
        "window_frames": WINDOW_FRAMES,
        "motion_frames": MOTION_FRAMES,
        "plan_mode": "exact",
        "features": "official",
        "codec": "h264",
        "crf": 18,
        "return_images": True,
        "audio_encoder": parts.audio_encoder,
        **heard,
        **changes,
    }
    frames = next(found for found in LongTalkSampler.execute(**settings).result if isinstance(found, torch.Tensor))
    plan = plan_windows(len(frames), settings["window_frames"], settings["motion_frames"])
    return Talk(frames.cpu(), tuple(window.output[0] for window in plan.windows[1:]))
