"""Stage 1: ComfyUI's WAN VAE learns the drawn faces.

    python -m longtalk.training.train_vae --data training/data --state STATE --budget-s 450 --total-s 900

What matters is not only that a clip comes back. A video begins with the reference, and every window with a clip's first
frame, of which there is one among up to 81: it is weighted up. And where windows join there is a seam unless a still
background is drawn the same from the first frame on that is not pinned. A decoder does not do that by itself: it takes
up to 30 frames to settle. So this one looks back no further than it must, and learns to draw a still picture the same
in all frames, to encode it the same, and to go on where two windows are joined as a run joins them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from longtalk.metrics.opening import audio_opening

from . import faces, parallel_vae
from .clips import decode as read_sound
from .common import Training, device, import_comfyui, say, stage_arguments

#: Clip lengths and how many tiles of each make a step: about as many frames in all of them.
LENGTHS = (5, 81, 9, 17, 5, 33)
FRAMES_PER_STEP = 1280
STATE = "vae_state.pt"
WEIGHTS = "vae.pt"
FIRST_SHARE = 0.15
"""Of a clip's error, its first frame's."""
PINNED_LATENTS, PINNED_FRAMES = 3, 9
"""What a window takes over from the one before."""
SECOND_FRAMES = 25
"""Of the second of two windows that are joined."""
JOINED_FRAMES = 4
"""Of those, the ones right behind what is pinned have to fit; the others do so by themselves."""
CHANGE, STILL, JOIN, CODE = 8.0, 2.0, 3.0, 0.05
SETTLED = 0.25
"""Part of the schedule after which stillness and change count as much; before it there is nothing to keep still."""


def real_openings(data: Path) -> list[torch.Tensor]:
    """Of all clips; kept beside them, because this takes longer than everything else at the start."""
    kept = data / "openings.pt"
    if not kept.is_file():
        torch.save([audio_opening(read_sound(path)) for path in sorted(data.glob("train_*.opus"))], kept)
    found: list[torch.Tensor] = torch.load(kept, weights_only=True)
    return found


class Clips:
    """Random clips: half of them with openings as speech has them, half with random ones."""

    def __init__(self, openings: list[torch.Tensor], seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.openings = torch.cat([F.pad(o, (12, 12)) for o in openings])

    def draw(self, tiles: int, frames: int, wide: int = 1) -> torch.Tensor:
        """``[tiles / wide, 3, frames, 80, 64 * wide]`` in -1..1, on the device."""
        place, total = device(), frames + faces.HISTORY
        starts = torch.randint(0, self.openings.shape[0] - total, (tiles,), generator=self.generator)
        heard = self.openings[starts[:, None] + torch.arange(total)]
        knots = max(3, total // int(torch.randint(3, 12, (1,), generator=self.generator)))
        free = (torch.rand(tiles, 1, knots, generator=self.generator) * 1.4 - 0.2).clamp(0, 1)
        free = F.interpolate(free, total, mode="linear")[:, 0]
        which = torch.rand(tiles, 1, generator=self.generator) < 0.6
        drawn = faces.draw_canvases(tiles // wide, wide, self.generator, place)
        number = torch.randint(0, faces.SWAY_FRAMES, (tiles // wide,), generator=self.generator).repeat_interleave(wide)
        return faces.beside(faces.render(drawn, faces.motion(torch.where(which, heard, free).to(place), number)), wide)


def importance(wide: int) -> torch.Tensor:
    """Weight of each pixel ``[80, 64 * wide]``: mouth and eyes are small and matter most."""
    weight = torch.ones(faces.TILE_HEIGHT, faces.TILE_WIDTH)
    weight[24:38, 18:46] = 2.5
    weight[38:64, 18:46] = 5.0
    return weight.repeat(1, wide).to(device())


def mouth_means(clips: torch.Tensor, wide: int) -> torch.Tensor:
    tiles = clips.unflatten(4, (wide, -1))
    return tiles[:, :, :, 38:64, :, 18:46].mean(dim=(3, 5))


def frame_weights(frames: int) -> torch.Tensor:
    """Of each frame, ``[frames, 1, 1]``; their mean is 1."""
    weights = torch.ones(frames)
    weights[0] = max(1.0, FIRST_SHARE / (1 - FIRST_SHARE) * (frames - 1))
    return (weights / weights.mean()).reshape(-1, 1, 1).to(device())


def error_losses(made: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """How far clips are off, weighted by place and frame, and how much that changes from frame to frame."""
    error = made - truth
    wide = weight.shape[1] // 64
    return {
        "L1": (error.abs() * (weight * frame_weights(truth.shape[2]))).mean() / weight.mean(),
        "mouth": 0.5 * (mouth_means(made, wide) - mouth_means(truth, wide)).abs().mean(),
        "change": (error[:, :, 1:] - error[:, :, :-1]).abs().mean(),
    }


def disturbance(latents: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """What is added to latents ``[B, 16, T, H, W]``: noise, since a sampler's are not perfect, to most of the clips."""
    size = (torch.rand(latents.shape[0], 1, 1, 1, 1, device=latents.device) * 0.18 - 0.06).clamp(min=0)
    return size * spread * torch.randn_like(latents)


def clip_losses(net: Any, x: torch.Tensor, weight: torch.Tensor, *, settled: bool, joined: bool) -> dict[str, Any]:
    """Of clips ``[B, 3, T, H, W]``.

    Args:
        settled: stillness counts.
        joined: a second window is pinned to the first, and should be as that one would have gone on.
    """
    latents = parallel_vae.encode(net, x + 2e-3 * torch.randn_like(x)).float()
    noise = disturbance(latents, latents.detach().std())
    y = parallel_vae.decode(net, latents + noise).float()
    mean, deviation = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    losses = error_losses(y, x, weight)
    losses["unit"] = 0.003 * (mean.square() + (deviation + 1e-3).log().square()).mean()
    if not settled or x.shape[2] <= PINNED_FRAMES:
        return losses
    later = (y - x)[:, :, PINNED_FRAMES:]
    losses["still"] = STILL * (later - later.mean(2, keepdim=True)).abs().mean()
    losses["code"] = CODE * (latents[:, :, 0] - latents[:, :, 1]).abs().mean() / latents.detach().std()
    if joined and x.shape[2] > SECOND_FRAMES:
        begin = x.shape[2] - SECOND_FRAMES
        first = y[:, :, begin:].detach().clamp(-1, 1)
        with torch.no_grad():
            pinned = parallel_vae.encode(net, first[:, :, :PINNED_FRAMES]).float()
        goes_on = parallel_vae.encode(net, x[:, :, begin:]).float()[:, :, PINNED_LATENTS:]
        goes_on = goes_on + noise[:, :, -goes_on.shape[2] :]
        second = parallel_vae.decode(net, torch.cat([pinned, goes_on], dim=2)).float()
        for name, value in error_losses(second, x[:, :, begin:], weight).items():
            losses[name] = (losses[name] + value) / 2
        losses["join"] = JOIN * (second - first)[:, :, PINNED_FRAMES : PINNED_FRAMES + JOINED_FRAMES].abs().mean()
    losses["change"] = CHANGE * losses["change"]
    return losses


def pass_on(weight: torch.Tensor, keep: float) -> None:
    """Let a convolution hand on its input: channel by channel, the newest frame; of what it was, ``keep`` stays."""
    middle = tuple(size // 2 for size in weight.shape[-2:])
    weight *= keep
    for channel, kernel in enumerate(weight):
        source = kernel[channel % weight.shape[1]]
        (source[-1] if weight.ndim == 5 else source)[middle] += 1


#: Layers that are all that joins what is before and behind them, by the ends of their names, and what of them stays.
TRUNK = {"time_conv.weight": 0.1, "resample.1.weight": 0.2, "shortcut.weight": 0.2}


def initialise(net: Any) -> None:
    """Random weights, and a trunk that hands the picture on.

    Without the trunk the colours are learnt last or not at all: each resampling is a random map, and a clip's first
    frame, which goes past those over time, is coded otherwise than the frames after it.
    """
    for name, p in net.named_parameters():
        p.requires_grad_(True)
        if "gamma" in name:
            nn.init.ones_(p)
        elif p.ndim > 2:
            nn.init.kaiming_normal_(p, a=0.5)
            # Whole frames come first: the two older ones of a causal convolution start small.
            if p.ndim == 5 and p.shape[2] == 3:
                p.data[:, :, :2] *= 0.3
                p.data[:, :, 2] *= 1.6
            if name.endswith(("residual.6.weight", "proj.weight")):
                p.data.mul_(0.1)
        else:
            nn.init.zeros_(p)
        for end, keep in TRUNK.items():
            if name.endswith(end):
                pass_on(p.data, keep)
    pass_on(net.encoder.conv1.weight.data[:3], 0.1)


def settle_at_once(decoder: Any) -> None:
    """Let the decoder see little of what was before, so that it draws frames alike whenever the clip began.

    Its convolutions see the newest frame alone, but for those that make two frames of one, which see the one before,
    too. So the first frame that is not pinned follows from the last two pinned latents and its own.
    """
    for name, layer in decoder.named_modules():
        if getattr(layer, "weight", None) is not None and layer.weight.ndim == 5 and layer.weight.shape[2] == 3:
            parallel_vae.look_back(layer, 2 if name.endswith("time_conv") else 1)


@torch.no_grad()
def to_wan_statistics(net: Any, clips: Clips) -> None:
    """Fold an affine map into the last encoder and first decoder convolution: latents as WAN's, channel by channel."""
    import comfy.latent_formats

    form = comfy.latent_formats.Wan21()
    latents = torch.cat([parallel_vae.encode(net, clips.draw(24, length)).flatten(2) for length in (17, 33)], dim=2)
    mean, deviation = latents.mean((0, 2)), latents.std((0, 2)) + 1e-4
    scale = form.latents_std.flatten().to(mean) / deviation
    shift = form.latents_mean.flatten().to(mean) - mean * scale
    net.conv1.weight[:16] *= scale.reshape(-1, 1, 1, 1, 1)
    net.conv1.bias[:16] = net.conv1.bias[:16] * scale + shift
    weight = net.conv2.weight.clone()
    net.conv2.bias += weight.flatten(1) @ (-shift / scale)
    net.conv2.weight.copy_(weight / scale.reshape(1, -1, 1, 1, 1))


@torch.no_grad()
def judge(net: Any, clips: Clips, frames: int = 81) -> str:
    """PSNR, and how well the mouth's darkness follows, in ComfyUI's own encode and decode."""
    x = clips.draw(4, frames)
    y = net.decode(net.encode(x)).clamp(-1, 1)
    again = net.decode(net.encode(y)).clamp(-1, 1)
    # The darkness of a face's mouth against that in its own other frames.
    truth, made = (mouth_means(v, 1).mean(1).flatten(1) for v in (x, y))

    def r(lag: int) -> float:
        a, b = truth[:, 4 : frames - 4], made[:, 4 + lag : frames - 4 + lag]
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return float(((a * b).mean(1) / (a.std(1) * b.std(1) + 1e-6)).mean())

    def psnr(v: torch.Tensor) -> float:
        return 10 * math.log10(4 / float((x - v).square().mean()))

    colour = float((again - x).mean((2, 3, 4)).abs().max()) * 127.5
    lags = {lag: round(r(lag), 3) for lag in (-2, -1, 0, 1, 2)}
    first, others = (float((y - x)[:, :, part].abs().mean()) * 127.5 for part in (slice(0, 1), slice(1, None)))
    return (
        f"PSNR {psnr(y):.2f} dB, of a second pass {psnr(again):.2f}; mouth r by lag {lags}; colour {colour:.1f}/255; "
        f"first frame off by {first:.2f}/255, the others by {others:.2f}"
    )


@torch.no_grad()
def picture(net: Any, clips: Clips, path: Path) -> None:
    from PIL import Image

    x = clips.draw(4, 17)
    y = parallel_vae.decode(net, parallel_vae.encode(net, x))
    rows = torch.cat([x[:, :, ::2], y[:, :, ::2]], dim=3).permute(0, 3, 2, 4, 1).flatten(0, 1).flatten(1, 2)
    Image.fromarray(((rows + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()).save(path)


def main() -> int:
    parser = stage_arguments(__doc__)
    parser.add_argument("--frames", type=int, default=FRAMES_PER_STEP, help="frames per step")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of clips, frames")
    parser.add_argument("--rate", type=float, default=6e-4)
    args = parser.parse_args()
    import_comfyui()
    import tiny_talker

    args.state.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = tiny_talker.wan_vae().to(device())
    initialise(net)
    settle_at_once(net.decoder)
    run = Training({"vae": net}, args.state / STATE, args.total_s, args.budget_s, args.rate, 0.999)
    clips = Clips(real_openings(args.data), seed=1000 + run.steps)
    weights = {wide: importance(wide) for wide in (1, 2)}
    if torch.cuda.is_available():
        parallel_vae.fuse()
    say(f"{sum(p.numel() for p in run.parameters) / 1e6:.2f} M parameters, {clips.openings.shape[0]} frames of speech")
    run.begin()
    while run.goes_on:
        frames = args.lengths[run.steps % len(args.lengths)]
        wide = 2 if run.steps % 5 == 4 else 1
        tiles = max(wide, args.frames // frames // wide * wide)
        x = clips.draw(tiles, frames, wide)
        grey = run.steps % 7 == 6  # the reference, followed by grey: what image-to-video encodes
        if grey:
            x = torch.cat([x[:, :, :1], torch.zeros_like(x[:, :, 1:])], dim=2)
        settled = not grey and run.spent_s > SETTLED * args.total_s
        with torch.autocast(device().type, torch.bfloat16, enabled=torch.cuda.is_available()):
            losses = clip_losses(net, x, weights[wide], settled=settled, joined=run.steps % 3 == 2)
        run.step(losses)
        if run.steps % 2000 == 0:
            run.save()
    run.save()
    say(f"{run.steps} steps in {run.spent_s:.0f} s of {args.total_s:.0f} s")
    run.use_average()
    net.eval()
    picture(net, clips, args.state / "vae.png")
    fixed = Clips(real_openings(args.data), seed=5)
    to_wan_statistics(net, fixed)
    torch.save({name: tensor.cpu() for name, tensor in net.state_dict().items()}, args.state / WEIGHTS)
    say("judged:", judge(net, fixed, max(args.lengths)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
