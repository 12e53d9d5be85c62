"""What a run will need of memory, disk and time, from its plan and sizes. Plain arithmetic; no torch, no ComfyUI.

The estimates of disk and memory are cautious (more than is used); the estimate of time aims at the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...base.codecs import CODEC_SIZES
from ...base.grid import VAE_STEP, WAN_GRID, LatentGrid
from ...base.rates import FPS
from ...base.wav2vec2 import LAYERS, WIDTH
from ...base.words import count
from .windows import Plan, Window

TOKEN_SIDE = 16
"""Pixels along one side of a token, which is 2x2 latents of 8x8 pixels."""

# Disk. The sizes in CODEC_SIZES are those at this crf.
_BASE_CRF = 18
# Above 18 the rate halves every 6 (the quantiser's step doubles every 6, ITU-T H.264 clause 8.5). Below, grain begins
# to be coded too, and the rate doubles about every 4.
_CRF_PER_HALF = 6
_CRF_PER_DOUBLE = 4
_FILE_BYTES = 4000
_RECORD_BYTES = 2000

# Host memory, in float32 copies of a window's frames. The most are alive while the VAE encodes the reference and its
# grey tail: the picture, its double and that minus one (comfy.sd.VAE.process_input is ``image * 2.0 - 1.0``). A decode
# holds two: what comes from the GPU and the result it is copied into (comfy.sd.VAE.decode).
_FLOAT_COPIES = 3
# As bytes: the window before, which waits for the encoder, and what the encoder itself looks ahead.
_BYTE_COPIES = 2
_FEATURE_BYTES = LAYERS * WIDTH * 4
"""The speech features of one frame, in float32."""

# Time. Shares of what a large matrix product reaches on the same device (matmul_flops_per_s in ../host/preflight.py),
# measured on one H200 where that is 660 to 700 TFLOP/s. The 14B model with ComfyUI 0.33's attention: 400 to 450 in fp16
# and bf16 at 832x480, 380 at 1280x720; attention is what is slower than a matrix product. WanVAE in bf16 and fp16: 180
# in decoding, 170 in encoding, 163 and 142 with the copies to the host; it waits for memory. What waits for memory
# follows from card to card too, as memory rates grow about as arithmetic does.
_TRANSFORMER_SHARE = 0.6
_VAE_SHARE = 0.24
# Several speakers, per layer, token and channel: the operations that the transformer would do in that time. Measured on
# an H200 at 832x480x81 in fp16, where a layer takes 105 ms: 1.9 ms for the speaker map; 4.9 ms for the audio attention
# of one speaker, 9.3, 11.7 and 14.5 ms for that of two, three and four, mostly copies.
_TWO_SPEAKERS_FLOPS = 15_300
_FURTHER_SPEAKER_FLOPS = 6_400
# Counted with torch.utils.flop_counter over ComfyUI's WanVAE (width 96) at 832x480x81: 8.43 and 5.01 MFLOP per pixel.
# Nearly all of it is convolution, which grows with the square of the width.
_DECODE_FLOPS_PER_PIXEL = 8.43e6
_ENCODE_FLOPS_PER_PIXEL = 5.01e6
VAE_WIDTH = 96
"""Channels of the published WAN 2.1 VAE at full size."""
_TEXT_TOKENS = 512
_PICTURE_TOKENS = 257
"""How many tokens CLIP vision makes of a picture."""


@dataclass(frozen=True)
class Estimate:
    """What the rest of a run will need.

    Attributes:
        windows: how many windows are still to be made.
        windows_total: how many windows the plan has.
        gpu_bytes: what the activations of one forward of the longest window take; None on a CPU, or when it is unknown.
        host_bytes: the memory of the machine that the run takes besides the models.
        disk_bytes: what will be written; Save Video makes another copy of the video.
        seconds: the time to make the windows, without loading the models; None when it is unknown.
        measured: whether the time was measured on windows that this run has finished.
    """

    windows: int
    windows_total: int
    gpu_bytes: int | None
    host_bytes: int
    disk_bytes: int
    seconds: float | None
    measured: bool = False

    def text(self) -> str:
        """The estimate as one line for the run's report."""
        left = count(self.windows, "window")
        if self.windows < self.windows_total:
            left = f"{self.windows:,} of {count(self.windows_total, 'window')} to make"
        parts = [left]
        if self.gpu_bytes is not None:
            parts.append(f"{size_text(self.gpu_bytes)} GPU memory per window besides the model")
        parts.append(f"{size_text(self.host_bytes)} host memory")
        parts.append(f"{size_text(self.disk_bytes)} disk")
        if self.seconds is None:
            parts.append("time unknown before the first window")
        elif self.measured:
            parts.append(f"about {duration_text(self.seconds)} (from the windows made before)")
        else:
            parts.append(f"about {duration_text(self.seconds)} (before the first window; then measured)")
        return "estimate: " + ", ".join(parts)


@dataclass(frozen=True)
class Transformer:
    """The sizes of a WAN transformer that decide how much it computes: 5120, 13824 and 40 in the 14B model."""

    hidden: int
    ffn: int
    layers: int


def size_text(size_bytes: float) -> str:
    """A size in words: ``6.3 GB``, ``420 MB``; decimal, as elsewhere in the reports."""
    if size_bytes >= 0.95e9:
        return f"{size_bytes / 1e9:.1f} GB"
    return f"{max(1, math.ceil(size_bytes / 1e6))} MB"


def duration_text(seconds: float) -> str:
    """A duration in words, rounded as an estimate deserves: ``45 s``, ``28 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def longest(plan: Plan) -> Window:
    """The window that needs the most memory."""
    return max(plan.windows, key=lambda window: window.length)


# Disk.


def bits_per_pixel(codec: str, crf: int) -> float:
    """The bits per pixel of a talking video, estimated cautiously; ``crf`` counts where the codec takes it."""
    size = CODEC_SIZES[codec]
    if not size.takes_crf:
        return size.bits_per_pixel
    step = _CRF_PER_HALF if crf >= _BASE_CRF else _CRF_PER_DOUBLE
    return size.bits_per_pixel * 2.0 ** ((_BASE_CRF - crf) / step)


def video_bytes(frames: int, width: int, height: int, codec: str, crf: int) -> int:
    """The size of a video file of so many frames, without sound."""
    picture_bytes = width * height * bits_per_pixel(codec, crf) / 8
    return math.ceil(frames * (picture_bytes + CODEC_SIZES[codec].frame_bytes)) + _FILE_BYTES


def sound_bytes(frames: int, codec: str, fps: int = FPS) -> int:
    """The size of the sound under so many frames, in the format that goes with the codec, at 48 kHz in stereo."""
    return math.ceil(frames / fps * CODEC_SIZES[codec].sound_bytes_per_s) + _FILE_BYTES


def carry_bytes(motion_frames: int, width: int, height: int, grid: LatentGrid = WAN_GRID) -> int:
    """The size of what a window leaves for the next: latents (float32), one frame (uint8) and a record."""
    motion_bytes = 4 * math.prod(grid.shape(max(1, motion_frames), width, height))
    return motion_bytes + width * height * 3 + _FILE_BYTES + _RECORD_BYTES


def disk_bytes(
    plan: Plan, made: int, width: int, height: int, codec: str, crf: int, grid: LatentGrid = WAN_GRID
) -> int:
    """The size of all that is written once ``made`` windows are there.

    That is each window's segment and carry; then the whole video, which is joined while all segments are still there;
    and the sound, once as a file and once in the video.
    """
    segments = 0
    for window in plan.windows[made:]:
        first, end = window.output
        segments += video_bytes(end - first, width, height, codec, crf)
        segments += carry_bytes(plan.motion_frames, width, height, grid)
    joined = video_bytes(plan.frames, width, height, codec, crf)
    return segments + joined + 2 * sound_bytes(plan.frames, codec, plan.fps)


# Host memory.


def frames_bytes(frames: int, width: int, height: int) -> int:
    """The size of frames as ComfyUI's IMAGE, float32 RGB."""
    return frames * width * height * 3 * 4


def window_host_bytes(frames: int, width: int, height: int) -> int:
    """The size of all copies of a window's frames that are alive at once."""
    return frames * width * height * 3 * (4 * _FLOAT_COPIES + _BYTE_COPIES)


def features_bytes(frames: int, speakers: int) -> int:
    """The size of the speech features of the whole video, float32 ``[T, 12, 768]`` per speaker."""
    return frames * _FEATURE_BYTES * speakers


def host_bytes(plan: Plan, width: int, height: int, speakers: int, return_images: bool) -> int:
    """The memory that a run takes besides the models and what ComfyUI held before (the sound, the encoded text)."""
    images = frames_bytes(plan.frames, width, height) if return_images else 0
    features = features_bytes(plan.requested_frames, speakers)
    return window_host_bytes(longest(plan).length, width, height) + features + images


# Time.


def latents_of(frames: int) -> int:
    """How many latent frames a window has: one for the first frame, and one for every four after it."""
    return (frames - 1) // VAE_STEP + 1


def tokens_of(frames: int, width: int, height: int) -> int:
    """How many picture tokens the transformer works on."""
    return latents_of(frames) * (height // TOKEN_SIDE) * (width // TOKEN_SIDE)


def forward_flops(model: Transformer, tokens: int) -> float:
    """How many floating point operations one forward takes; a multiplication and an addition count as two.

    Per layer, with n tokens, d = hidden, f = ffn and c = 512 + 257 tokens of text and CLIP vision:

    - weights: 2n for each of 6d^2 (self attention's q, k, v, o; cross attention's q, o), 2df (the feed-forward) and
      2d^2 (InfiniteTalk's q and o), and 2c for 2d^2 (cross attention's k and v)
    - attention, scores and values: 4n^2 d among the picture, 4ncd to the text and the image

    Source: Kaplan et al. (2020), table 1, and the layers of comfy/ldm/wan/model.py. Embeddings and the head are less
    than a thousandth, InfiniteTalk's 32 tokens per frame less than a hundredth; neither is counted. What several
    speakers add is in :func:`speakers_flops`.
    """
    dim = model.hidden
    context = _TEXT_TOKENS + _PICTURE_TOKENS
    weights = 2 * tokens * (8 * dim**2 + 2 * dim * model.ffn) + 2 * context * 2 * dim**2
    attention = 4 * tokens * (tokens + context) * dim
    return float(model.layers * (weights + attention))


def linear_share(model: Transformer, tokens: int) -> float:
    """The part of :func:`forward_flops` that the model's own linear layers do on the picture's tokens, 0 to 1.

    2n(6d^2 + 2df) per layer: q, k, v and o of self attention, q and o of cross attention, the feed-forward.
    InfiniteTalk's layers are in a file of their own, which the model's type of weights says nothing about.
    """
    dim = model.hidden
    linear = 2 * tokens * (6 * dim**2 + 2 * dim * model.ffn)
    return model.layers * linear / forward_flops(model, tokens)


def speakers_flops(model: Transformer, tokens: int, speakers: int) -> float:
    """How many operations take as long as what several speakers add to one forward, which has to tell them apart."""
    if speakers < 2:
        return 0.0
    each = _TWO_SPEAKERS_FLOPS + (speakers - 2) * _FURTHER_SPEAKER_FLOPS
    return float(model.layers * tokens * model.hidden * each)


def run_seconds(
    plan: Plan,
    made: int,
    width: int,
    height: int,
    *,
    steps: int,
    forwards: int,
    model: Transformer,
    flops_per_s: float,
    vae_width: int = VAE_WIDTH,
    speakers: int = 1,
) -> float:
    """How many seconds it takes to make the windows behind the first ``made``.

    Args:
        plan, made, width, height: the windows, how many of them are there, the video's size.
        steps: denoising steps of each window.
        forwards: how often the model runs in each step.
        model: the sizes of the model.
        flops_per_s: the speed that a large matrix product reaches on this device in the model's dtype.
        vae_width: channels of the VAE.
        speakers: how many there are; several take longer than one.

    Each window costs its forwards, its decode and the encode of its motion frames; a session encodes the reference
    once. Loading the models is left out, and so is streaming weights that do not fit: at 25 GB/s over PCIe 4.0 that is
    0.7 s a forward for 16 GB in fp8, a hundredth of what a card that small computes.
    """
    windows = plan.windows[made:]
    if not windows:
        return 0.0
    tokens = {window.length: tokens_of(window.length, width, height) for window in windows}
    per_length = {
        length: forward_flops(model, count) + speakers_flops(model, count, speakers) for length, count in tokens.items()
    }
    transformer_flops = steps * forwards * sum(per_length[window.length] for window in windows)
    scale = (vae_width / VAE_WIDTH) ** 2
    decoded = sum(window.length for window in windows)
    # The reference once per session, as long as the longest window; then each window's motion frames.
    encoded = longest(plan).length + plan.motion_frames * (len(windows) - 1)
    pixels = width * height
    vae_flops = scale * pixels * (decoded * _DECODE_FLOPS_PER_PIXEL + encoded * _ENCODE_FLOPS_PER_PIXEL)
    return transformer_flops / (_TRANSFORMER_SHARE * flops_per_s) + vae_flops / (_VAE_SHARE * flops_per_s)


# What would fit.


def largest_window(below: int, above: int, fits: Callable[[int], bool], step: int = VAE_STEP) -> int | None:
    """The longest window of ``step * n + 1`` frames, shorter than ``below``, longer than ``above``, that ``fits``."""
    longest_fit = (below - 2) // step * step + 1
    return next((frames for frames in range(longest_fit, above, -step) if fits(frames)), None)


def largest_size(
    width: int, height: int, fits: Callable[[int, int], bool], side: int = WAN_GRID.side
) -> tuple[int, int] | None:
    """The largest smaller size of about the same proportions, in multiples of ``side``, that ``fits``."""
    for smaller in range(width - side, 0, -side):
        scaled = max(side, smaller * height // width // side * side)
        if fits(smaller, scaled):
            return smaller, scaled
    return None
