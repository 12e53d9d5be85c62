"""Stage 2: ComfyUI's WAN transformer and InfiniteTalk patch learn to talk, on latents of the drawn faces.

    python -m longtalk.training.train_talker --data training/data --state STATE --budget-s 390 --total-s 760

Flow matching on the latents. LongTalk's own functions assign the tracks to the faces, as they do when it samples.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from longtalk.infinitetalk.model.audio_attention import cross_attend
from longtalk.infinitetalk.model.speaker_map import speaker_map, token_masks

from . import compact, hearing, pool
from .common import Training, device, import_comfyui, say, stage_arguments
from .lowrank import LowRank, replace_linear
from .talking import SHIFT
from .train_vae import WEIGHTS as VAE_WEIGHTS

RANK = 64
PROJECT_RANK = 24
#: Numbers that a frame's features become first.
HEARD = 32
LATENT_LENGTHS = (21, 9, 13, 20, 6, 17)
#: Canvases in a step, at 21 latents.
BATCH = {1: 64, 2: 24, 3: 14}
#: Latents until a window is no longer off by what the one before it was off.
RETURN = 6
#: Times (sigmas) of the four steps that are used later. What the last one leaves is in the picture.
STEPS, SHARES = (1.0, 0.9, 0.75, 0.5), (0.2, 0.2, 0.2, 0.4)
STATE = "talker_state.pt"
COMPACT = "talker.safetensors"


class Nothing(nn.Module):
    """In the place of the text's cross-attention, whose outcome the finished model weights with zero."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.zeros_like(x)


class Hear(nn.Module):
    """InfiniteTalk's audio projection on reduced features: the same layers, the first two with a shared factor."""

    def __init__(self, directions: int, intermediate: int, tokens: int = 32, width: int = 768) -> None:
        super().__init__()
        self.frame = nn.Parameter(torch.randn(HEARD, directions) / directions**0.5)
        self.first = nn.Parameter(torch.randn(intermediate, 5, HEARD) / (5 * HEARD) ** 0.5)
        self.later = nn.Parameter(torch.randn(intermediate, 8, HEARD) / (8 * HEARD) ** 0.5)
        self.bias_first = nn.Parameter(torch.zeros(intermediate))
        self.bias_later = nn.Parameter(torch.zeros(intermediate))
        self.proj2 = nn.Linear(intermediate, intermediate)
        self.proj3 = LowRank(intermediate, tokens * width, PROJECT_RANK, True)
        self.norm = nn.LayerNorm(width)
        #: Only while training: the openings of the frames, so that hearing is learnt before drawing.
        self.tell_first = nn.Linear(intermediate, 1)
        self.tell_later = nn.Linear(intermediate, 4)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the features around each pixel frame, ``[B, S, 4n + 1, 5, directions]``.

        Returns:
            Tokens ``[B, n + 1, S * 32, 768]`` and openings ``[B, S, 4n + 1]``.
        """
        windows = F.linear(features, self.frame)
        later = windows[:, :, 1:].unflatten(2, (-1, 4))
        later = torch.cat([later[:, :, :, 0, :3], later[:, :, :, 1:3, 2], later[:, :, :, 3, 2:]], dim=3)
        hidden = torch.cat(
            [
                F.relu(F.linear(windows[:, :, :1].flatten(3), self.first.flatten(1), self.bias_first)),
                F.relu(F.linear(later.flatten(3), self.later.flatten(1), self.bias_later)),
            ],
            dim=2,
        )
        hidden = F.relu(self.proj2(hidden))
        told = torch.cat([self.tell_first(hidden[:, :, 0]), self.tell_later(hidden[:, :, 1:]).flatten(2)], dim=2)
        tokens = self.norm(self.proj3(hidden).unflatten(-1, (-1, 768)))
        return tokens.transpose(1, 2).flatten(2, 3), told


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value)


def rotary_with_gradient(x: torch.Tensor, freqs: torch.Tensor) -> torch.Tensor:
    """ComfyUI's kernel for it has no backward."""
    pairs = x.to(freqs.dtype).reshape(*x.shape[:-1], -1, 1, 2)
    return (freqs[..., 0] * pairs[..., 0] + freqs[..., 1] * pairs[..., 1]).reshape(x.shape).type_as(x)


class Talker:
    """The networks and the hooks between them."""

    def __init__(self, directions: int) -> None:
        import tiny_talker

        torch.manual_seed(1)
        self.dit = tiny_talker.wan_i2v(device="cpu")
        self.patch = tiny_talker.infinitetalk(device="cpu")
        for net in (self.dit, self.patch):
            for name, p in net.named_parameters():
                p.requires_grad_(True)
                if p.ndim > 1:
                    nn.init.normal_(p, 0, 1 / p[0].numel() ** 0.5)
                elif "norm" in name and name.endswith("weight"):
                    nn.init.ones_(p)
                else:
                    nn.init.zeros_(p)
        for block in self.dit.blocks:
            block.cross_attn, block.norm3 = Nothing(), nn.Identity()
        self.dit.text_embedding, self.dit.img_emb = Nothing(), None
        del self.patch.audio_proj
        replace_linear(self.dit, RANK, ("head", "patch_embedding"))
        replace_linear(self.patch, RANK, ())
        for block in self.dit.blocks:
            # ComfyUI may fuse this with the weights of a linear layer, which a thin product has not.
            block.ffn = nn.Sequential(block.ffn[0], nn.GELU(approximate="tanh"), block.ffn[2])
            nn.init.normal_(block.modulation, 0, 0.02)
        nn.init.normal_(self.dit.head.modulation, 0, 0.02)
        nn.init.zeros_(self.dit.head.head.weight)
        for block in self.patch.blocks:
            block.audio_cross_attn.proj.left.data.mul_(0.3)
        self.hear = Hear(directions, tiny_talker.AUDIO_INTERMEDIATE)
        for net in self.modules.values():
            net.to(device())

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"dit": self.dit, "patch": self.patch, "hear": self.hear}

    def __call__(
        self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor | None, masks: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Velocity, and each block's speaker map."""
        maps: list[torch.Tensor] = []

        def look(args: dict[str, Any]) -> torch.Tensor:
            if masks is not None:
                maps.append(speaker_map(args["q"], args["k"], masks, attention))
            return args["x"]

        def listen(args: dict[str, Any]) -> torch.Tensor:
            options, x = args["transformer_options"], args["x"]
            if context is None:
                return x
            _, rows, columns = options["grid_sizes"]
            block = self.patch.blocks[options["block_index"]]
            mapped = maps[-1].detach() if masks is not None else None
            normed = block.norm_x(x)
            return x + cross_attend(block.audio_cross_attn, normed, context, rows * columns, attention, mapped)

        options = {"patches": {"attn1_patch": [look], "attn2_patch": [listen]}}
        text = torch.zeros(x.shape[0], 1, 640, device=x.device)
        return self.dit(x, t * 1000, text, transformer_options=options), maps


class Batches:
    """Draws a step's canvases from the pools."""

    def __init__(self, pools: list[pool.Pool], shares: torch.Tensor, heard: hearing.Hearing, seed: int) -> None:
        self.pools, self.heard = pools, heard
        self.shares = shares
        self.generator = torch.Generator().manual_seed(seed)

    def pick(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=self.generator))

    def chance(self, share: float) -> bool:
        return bool(torch.rand(1, generator=self.generator) < share)

    def features(self, clips: torch.Tensor, starts: torch.Tensor, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows of 5 around each frame ``[B, S, frames, 5, C]``, as LongTalk cuts them, and openings."""
        at = starts[:, :, None] + torch.arange(frames, device=starts.device)
        around = at[..., None] + torch.arange(-2, 3, device=starts.device)
        last = self.heard.lengths[clips] - 1
        around = torch.minimum(around.clamp(min=0), last[:, :, None, None])
        begin = self.heard.starts[clips]
        return self.heard.features[begin[:, :, None, None] + around], self.heard.openings[begin[:, :, None] + at]

    def masks(self, wide: int, tiles: list[int]) -> torch.Tensor:
        """``[classes, tokens]``: each speaker's tile or the greater part of it, and the background."""
        painted = torch.zeros(len(tiles), 80, 64 * wide)
        inset = [self.pick(0, 9) for _ in range(4)] if self.chance(0.6) else [0, 0, 0, 0]
        for mask, tile in zip(painted, tiles, strict=True):
            left, right = 64 * tile + inset[0], 64 * (tile + 1) - inset[1]
            mask[inset[2] : 80 - inset[3], left:right] = 1
        return token_masks(painted, 5, 4 * wide)


def importance(wide: int) -> torch.Tensor:
    """Of each latent ``[10, 8 * wide]``: the mouth's, then the eyes'."""
    weight = torch.ones(10, 8)
    weight[3:5, 2:6] = 2.0
    weight[5:8, 2:6] = 4.0
    return (weight / weight.mean()).repeat(1, wide).to(device())


#: Canvases to begin with, tiles, whether a video starts, tile without a track (-1: all), how often it is seen.
KINDS: tuple[tuple[int, int, bool, int | None, float], ...] = (
    (750, 1, True, None, 0.22),
    (1000, 1, False, None, 0.37),
    (96, 1, True, -1, 0.03),
    (96, 1, False, -1, 0.03),
    (240, 2, True, None, 0.09),
    (312, 2, False, None, 0.12),
    *((48, 3, True, tile, 0.02) for tile in range(3)),
    *((64, 3, False, tile, 0.025) for tile in range(3)),
)


class Pools:
    """Canvases of all kinds, which give way to new ones in time."""

    def __init__(self, vae: pool.Latents, heard: hearing.Hearing, seed: int, scale: float, length: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.vae, self.heard, self.length = vae, heard, length
        self.chunk = max(3, int(48 * min(1.0, 4 * scale)))
        self.made = [self._make(kind, max(3, int(kind[0] * scale))) for kind in KINDS]
        self.shares = torch.tensor([kind[-1] for kind in KINDS])

    def _make(self, kind: tuple[int, int, bool, int | None, float], count: int) -> pool.Pool:
        _, wide, first, silent, _ = kind
        return pool.make(self.vae, self.heard, self.generator, count, wide, first, silent, self.length)

    def refresh(self) -> None:
        """Some new canvases of one kind in the place of old ones."""
        which = int(torch.multinomial(self.shares, 1, generator=self.generator))
        old = self.made[which]
        count = min(old.latents.shape[0], self.chunk // old.wide)
        new = self._make(KINDS[which], count)
        rows = torch.randperm(old.latents.shape[0], generator=self.generator)[:count].to(device())
        for name in pool.TENSORS:
            getattr(old, name)[rows] = getattr(new, name)


def one_step(
    talker: Talker, batches: Batches, weights: dict[int, torch.Tensor], length: int, batch: float
) -> dict[str, Any]:
    chosen = batches.pools[int(torch.multinomial(batches.shares, 1, generator=batches.generator))]
    wide = chosen.wide
    size = max(2, int(batch * BATCH[wide] * min(3.0, 21 / length)))
    rows = torch.randint(0, chosen.latents.shape[0], (size,), generator=batches.generator).to(device())
    z, reference = chosen.latents[rows, :, :length].float(), chosen.reference[rows, :, :length].float()
    pinned = 1 if chosen.first else 3
    seen = z[:, :, :pinned]
    if not chosen.first:
        # What a window continues from was made by the model itself, and is off. It goes on from there, without a seam,
        # and finds back to the reference. What the VAE adds in between is not to be continued: its decoder adds it too.
        seen, z = chosen.again[rows].float(), z.clone()
        fade = F.pad(torch.linspace(1, 0, RETURN, device=z.device), (0, length))[: length - pinned]
        z[:, :, pinned:] += chosen.error[rows].float() * fade.reshape(-1, 1, 1)

    clips, starts = chosen.clips[rows], chosen.starts[rows]
    speaking = [tile for tile in range(wide) if chosen.silent not in (tile, -1)]
    masks = context = told = None
    losses: dict[str, torch.Tensor] = {}
    cast = torch.autocast(device().type, torch.bfloat16, enabled=torch.cuda.is_available())
    with cast:
        if speaking:
            if len(speaking) > 1:
                if batches.chance(0.5):
                    speaking.reverse()
                masks = batches.masks(wide, speaking).to(z.device)
            windows, openings = batches.features(clips[:, speaking], starts[:, speaking], 4 * length - 3)
            context, told = talker.hear(windows)
            error = (told.float() - openings)[:, :, 1 if chosen.first else 0 :]
            losses["hear"] = 2.0 * error.square().mean()
        elif batches.chance(0.5):
            absent = batches.heard.absent.expand(size, 1, 4 * length - 3, 5, -1)
            context = talker.hear(absent)[0]

        u = torch.rand(size, device=z.device)
        t = SHIFT * u / (1 + (SHIFT - 1) * u)
        which = torch.multinomial(torch.tensor(SHARES, device=z.device), size, replacement=True)
        steps = torch.tensor(STEPS, device=z.device)[which]
        t = torch.where(torch.rand(size, device=z.device) < 0.7, steps, t).clamp(min=0.02)
        noise = torch.randn_like(z)
        at = t.reshape(-1, 1, 1, 1, 1)
        x = torch.cat([seen, ((1 - at) * z + at * noise)[:, :, pinned:]], dim=2)
        given = torch.zeros(size, 4, *z.shape[2:], device=z.device)
        given[:, :, 0] = 1
        velocity, maps = talker(torch.cat([x, given, reference], dim=1), t, context, masks)
    error = (velocity.float() - (noise - z))[:, :, pinned:].square() * weights[wide]
    losses["draw"] = error.mean()
    if masks is not None:
        truth = masks.float().argmax(0).repeat(length)
        right = [torch.log(m[:, truth, torch.arange(len(truth), device=m.device)] / m.sum(1) + 1e-6) for m in maps]
        losses["map"] = -0.05 * torch.stack(right).mean()
    return losses


def main() -> int:
    parser = stage_arguments(__doc__)
    parser.add_argument("--batch", type=float, default=1.0, help="factor on the canvases per step")
    parser.add_argument("--pool", type=float, default=1.0, help="factor on the canvases to choose from")
    parser.add_argument("--refresh", type=int, default=30, help="steps between new canvases")
    parser.add_argument("--clips", type=int, help="use only so many clips of speech")
    parser.add_argument("--lengths", type=int, nargs="+", default=LATENT_LENGTHS, help="of clips, latents")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--every", type=int, default=500, help="steps between lines")
    args = parser.parse_args()
    import_comfyui()
    import comfy.ldm.wan.model
    import tiny_talker

    comfy.ldm.wan.model.apply_rope1 = rotary_with_gradient
    heard = hearing.load(args.data, args.state, args.clips)
    net = tiny_talker.wan_vae()
    vae_weights = torch.load(args.state / VAE_WEIGHTS, weights_only=True)
    net.load_state_dict(vae_weights)
    net.to(device()).requires_grad_(False)

    talker = Talker(heard.features.shape[1])
    run = Training(talker.modules, args.state / STATE, args.total_s, args.budget_s, args.rate, 0.999)
    pools = Pools(pool.Latents(net), heard, 100 + run.steps, args.pool, 4 * max(args.lengths) - 3)
    spread = [round(float(p.latents.float().std()), 2) for p in pools.made[:3]]
    say(f"{sum(p.numel() for p in run.parameters) / 1e6:.2f} M parameters; pools made; spread of latents {spread}")
    batches = Batches(pools.made, pools.shares, heard, 200 + run.steps)
    weights = {wide: importance(wide) for wide in (1, 2, 3)}
    run.begin()
    while run.goes_on:
        run.step(
            one_step(talker, batches, weights, args.lengths[run.steps % len(args.lengths)], args.batch), args.every
        )
        if run.steps % args.refresh == 0:
            pools.refresh()
        if run.steps % 4000 == 0:
            run.save()
    run.save()
    say(f"{run.steps} steps in {run.spent_s:.0f} s of {args.total_s:.0f} s")
    run.use_average()
    size = compact.write(args.state / COMPACT, vae_weights, talker, heard)
    say(f"wrote {args.state / COMPACT}: {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
