"""LTX-2.3 from a picture and sound, window after window, with the nodes that ComfyUI itself has: an oracle.

Each function is what somebody would wire by hand. Two things no node of ComfyUI does are done here on the latents:
a mask over the first latents of a window, and sound of exactly the window's length for the audio VAE.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torchvision.transforms import functional as vision

#: Frames of one latent (the first latent of a video is one frame).
FRAMES_PER_LATENT = 8
AUDIO_LATENTS_PER_SECOND = 25
#: Longer side of a picture while ComfyUI's template video_ltx2_3_ia2v compresses it.
LONGER_SIDE = 1536
#: ComfyUI crops the sound it encodes, around its middle, to a multiple of this.
ENCODED_SAMPLES = 4096


@dataclass(frozen=True)
class Settings:
    """What all windows of a run have in common.

    Args:
        width: in pixels, a multiple of 32; `height` too.
        frames: of one window, 8n + 1.
        fps: frames per second.
        seed: of the first window's noise; each later window takes the next one.
        sigmas: `[steps + 1]`, from 1 down to 0.
        overlap: latents that a window takes over from the one before.
        img_compression: how much the picture is compressed before it is encoded, 0 to 100; 0 leaves it as it is.
    """

    sigmas: torch.Tensor
    width: int = 96
    height: int = 64
    frames: int = 33
    fps: float = 25.0
    seed: int = 3
    cfg: float = 1.0
    overlap: int = 2
    img_compression: int = 18
    sampler: str = "euler"

    @property
    def latents(self) -> int:
        return (self.frames - 1) // FRAMES_PER_LATENT + 1

    @property
    def audio_latents(self) -> int:
        return round(self.frames / self.fps * AUDIO_LATENTS_PER_SECOND)

    @property
    def stride(self) -> int:
        """Frames from the start of one window to the start of the next."""
        return FRAMES_PER_LATENT * (self.latents - self.overlap)


class Window(NamedTuple):
    """One sampled window.

    video: latents `[1, 128, latents, height / 32, width / 32]`.
    audio: latents `[1, 8, audio latents, 16 mel bins]`.
    frames: `[frames, height, width, 3]`, 0 to 1, of these latents alone. The decoder looks ahead, so they are not
        those of the joined latents (see :func:`joined`).
    """

    video: torch.Tensor
    audio: torch.Tensor
    frames: torch.Tensor


def outputs(node_output: Any) -> tuple[Any, ...]:
    """What a node returns, of either of ComfyUI's two kinds of node."""
    return tuple(getattr(node_output, "result", node_output))


def first_window(parts: SimpleNamespace, settings: Settings, image: torch.Tensor, audio: dict[str, Any]) -> Window:
    """The window that begins with the picture.

    Args:
        parts: `model`, `vae`, `audio_vae`, `positive` and `negative`.
        image: `[1, H, W, 3]`, 0 to 1, of any size.
        audio: ComfyUI's AUDIO, `waveform [1, channels, samples]`; the window hears its beginning.
    """
    return _sampled(parts, settings, picture_latent(parts, settings, image), audio, number=1)


def next_window(
    parts: SimpleNamespace, settings: Settings, earlier: torch.Tensor, audio: dict[str, Any], number: int = 2
) -> Window:
    """The window that goes on from `earlier`, whose last latents it repeats. The picture is no input of it.

    Args:
        parts: see :func:`first_window`.
        earlier: video latents `[1, 128, T, height / 32, width / 32]` up to the end of the window before.
        audio: of the whole video.
        number: of the window, counted from 1.
    """
    return _sampled(parts, settings, continued_latent(settings, earlier), audio, number)


def joined(windows: list[Window], overlap: int) -> torch.Tensor:
    """Video latents of all windows `[1, 128, T, height / 32, width / 32]`, without those a window took over."""
    first, *others = (window.video for window in windows)
    return torch.cat([first, *(video[:, :, overlap:] for video in others)], dim=2)


def picture_latent(parts: SimpleNamespace, settings: Settings, image: torch.Tensor) -> dict[str, Any]:
    """A window's LATENT with the picture as its first latent, which the mask keeps."""
    from comfy_extras.nodes_lt import LTXVImgToVideoInplace

    image = prepared(settings, image)
    (latent,) = outputs(LTXVImgToVideoInplace.execute(parts.vae, image, _empty(settings), 1.0))
    return latent


def prepared(settings: Settings, image: torch.Tensor) -> torch.Tensor:
    """A picture of the video's proportions, compressed large and then scaled, in the order of ComfyUI's template."""
    from comfy_extras.nodes_lt import LTXVPreprocess

    from nodes import ImageScale

    if not settings.img_compression:
        return image
    scale = LONGER_SIDE / max(settings.width, settings.height)
    large = [round(side * scale) for side in (settings.width, settings.height)]
    (image,) = ImageScale().upscale(image, "bilinear", *large, "center")
    (image,) = outputs(LTXVPreprocess.execute(image, settings.img_compression))
    small = vision.resize(image.movedim(-1, 1), [settings.height, settings.width], antialias=True)
    return small.movedim(1, -1)


def continued_latent(settings: Settings, earlier: torch.Tensor) -> dict[str, Any]:
    """A window's LATENT with the end of `earlier` at its start, which the mask keeps."""
    latent = _empty(settings)
    samples = latent["samples"].clone()
    samples[:, :, : settings.overlap] = earlier[:, :, earlier.shape[2] - settings.overlap :]
    mask = torch.ones((1, 1, settings.latents, 1, 1))
    mask[:, :, : settings.overlap] = 0.0
    return {**latent, "samples": samples, "noise_mask": mask}


def audio_latent(parts: SimpleNamespace, settings: Settings, audio: dict[str, Any], start: int) -> dict[str, Any]:
    """The LATENT `[1, 8, audio latents, 16]` of the sound of the window from frame `start` on, all of it kept.

    The window's own samples and silence after them, up to what the encoder takes without cropping.
    """
    import torchaudio
    from comfy_extras.nodes_audio import TrimAudioDuration
    from comfy_extras.nodes_lt_audio import LTXVAudioVAEEncode

    from nodes import SetLatentNoiseMask

    seconds = settings.frames / settings.fps
    (slice_,) = outputs(TrimAudioDuration.execute(audio, start / settings.fps, seconds))
    rate = parts.audio_vae.audio_sample_rate
    wave = torchaudio.functional.resample(slice_["waveform"], slice_["sample_rate"], rate)
    whole = -(-round(seconds * rate) // ENCODED_SAMPLES) * ENCODED_SAMPLES
    wave = torch.nn.functional.pad(wave[..., :whole], (0, max(0, whole - wave.shape[-1])))
    (latent,) = outputs(LTXVAudioVAEEncode.execute({"waveform": wave, "sample_rate": rate}, parts.audio_vae))
    latent = {**latent, "samples": latent["samples"][:, :, : settings.audio_latents].contiguous()}
    (latent,) = SetLatentNoiseMask().set_mask(latent, torch.zeros((1, 1, 1)))
    return latent


def decoded(parts: SimpleNamespace, video: torch.Tensor) -> torch.Tensor:
    """Frames `[(T - 1) * 8 + 1, height, width, 3]` of latents `[1, 128, T, height / 32, width / 32]`."""
    from nodes import VAEDecode

    (frames,) = VAEDecode().decode(parts.vae, {"samples": video})
    return frames


def _empty(settings: Settings) -> dict[str, Any]:
    from comfy_extras.nodes_lt import EmptyLTXVLatentVideo

    (latent,) = outputs(EmptyLTXVLatentVideo.execute(settings.width, settings.height, settings.frames, 1))
    return latent


def _sampled(
    parts: SimpleNamespace, settings: Settings, video: dict[str, Any], audio: dict[str, Any], number: int
) -> Window:
    from comfy_extras import nodes_custom_sampler as custom
    from comfy_extras import nodes_lt

    sound = audio_latent(parts, settings, audio, (number - 1) * settings.stride)
    positive, negative = outputs(nodes_lt.LTXVConditioning.execute(parts.positive, parts.negative, settings.fps))
    (latent,) = outputs(nodes_lt.LTXVConcatAVLatent.execute(video, sound))
    (noise,) = outputs(custom.RandomNoise.execute(settings.seed + number - 1))
    (guider,) = outputs(custom.CFGGuider.execute(parts.model, positive, negative, settings.cfg))
    (sampler,) = outputs(custom.KSamplerSelect.execute(settings.sampler))
    latent, _ = outputs(custom.SamplerCustomAdvanced.execute(noise, guider, sampler, settings.sigmas, latent))
    video, sound = outputs(nodes_lt.LTXVSeparateAVLatent.execute(latent))
    _, _, video = outputs(nodes_lt.LTXVCropGuides.execute(positive, negative, video))
    # Only the samples go on: a mask that stayed with them would be the next window's.
    return Window(video["samples"], sound["samples"], decoded(parts, video["samples"]))
