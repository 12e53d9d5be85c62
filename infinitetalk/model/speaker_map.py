"""Who speaks where: the speaker map, and positions that tie each picture token to one speaker's audio tokens.

In every block the self-attention of all tokens onto the first latent frame (the reference) tells how much each token
belongs to each mask. With two speakers, tokens of speaker 1 get rotary positions 0..4, those of speaker 2 get 20..24,
the background 12; the audio tokens of the speakers sit at 2 and at 22. So a token attends mostly to its own speaker.
Source: MeiGen-AI/InfiniteTalk, ``wan/modules/attention.py`` (SingleStreamMutiAttention) and
``wan/utils/multitalk_utils.py`` (get_attn_map_with_target).

Rotary attention sees nothing but the distance of two positions (RoFormer, Su et al. 2021, section 3.2.1), and training
has shown it three kinds: 0 to 2 to one's own voice, 18 to 22 to the other one's, 10 from the background to both. A
third and a fourth speaker on the same line would need distances that it never saw: 4 and 8 where the line is cut into
smaller pieces, so that voices mix, and the background at 12 next to somebody; or 40 and 60 where it is made longer,
and the frequency that separates best at 20, half a turn, has come full circle at 40.

So there are only the two trained sides, for any number of speakers. Speakers 1 and 3 stand on the first, 2 and 4 on the
second, and each group of picture tokens hears the voices placed for itself: its own on its own side, all others on the
opposite one, 18 to 22 away. The background hears everybody on their own side, 10 away. Two speakers hear the
same placement as each other and the background: that is the official code. Three need three placements, four need five,
each an attention over 32 tokens per speaker.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

#: Attention over ``[B, H, N, D]`` query, key and value.
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

CLASS_RANGE = 24
CLASS_INTERVAL = 4
BACKGROUND_POSITION = CLASS_RANGE / 2
#: The rotary positions ``(first, last)`` of the tokens on each side: of speakers 1 and 3, and of speakers 2 and 4.
SIDES = ((0.0, float(CLASS_INTERVAL)), (float(CLASS_RANGE - CLASS_INTERVAL), float(CLASS_RANGE)))
MAX_SPEAKERS = 4
EPSILON = 1e-8


def token_masks(masks: torch.Tensor, height_tokens: int, width_tokens: int) -> torch.Tensor:
    """Masks on the token grid, with the background (where no speaker is) as the last class.

    Args:
        masks: ``[speakers, H, W]``; a pixel belongs to a speaker where the mask is above 0.

    Returns:
        bool ``[speakers + 1, height_tokens * width_tokens]``
    """
    grid = F.interpolate(masks[None].float(), size=(height_tokens, width_tokens), mode="nearest")[0] > 0
    background = ~grid.any(dim=0, keepdim=True)
    return torch.cat([grid, background]).flatten(1)


def speaker_map(query: torch.Tensor, key: torch.Tensor, masks: torch.Tensor, attention: Attention) -> torch.Tensor:
    """How much each token attends to each mask's tokens of the first latent frame, averaged over the heads.

    One attention whose VALUES are the masks gives all classes at once: softmax(q k) @ mask, divided by the mask's area.

    Args:
        query, key: self-attention's query and key after the rotary embedding, ``[B, N, H, D]``.
        masks: bool or float ``[classes, S]``, S tokens in a latent frame; at most D classes.
        attention: computes ``softmax(q k / sqrt(D)) v`` over ``[B, H, N, D]``.

    Returns:
        float32 ``[B, classes, N]``
    """
    classes, reference_tokens = masks.shape
    batch, _, heads, width = query.shape
    # Padded to the head size: the fast kernels want values as wide as the keys.
    values = F.pad(masks.to(query.dtype).T, (0, width - classes)).expand(batch, heads, -1, -1)
    mapped = attention(query.transpose(1, 2), key[:, :reference_tokens].transpose(1, 2), values)
    area = masks.float().sum(dim=1) + EPSILON
    return mapped[..., :classes].float().mean(dim=1).transpose(1, 2) / area[:, None]


def speakers_in(mapped: torch.Tensor) -> int:
    """How many speakers a speaker map ``[B, classes, N]`` has.

    One speaker has no map, so two classes are two speakers without a background; in all other maps the last class is
    the background.
    """
    return max(2, mapped.shape[1] - 1)


def side_of(index: int) -> int:
    """The side, 0 or 1, of the speaker with this index, from 0; sides are given in turn."""
    return index % len(SIDES)


def token_positions(mapped: torch.Tensor) -> torch.Tensor:
    """The rotary position of each token, from the speaker map.

    Args:
        mapped: ``[B, classes, N]``; the speakers, then the background.

    Returns:
        float32 ``[B, N]``: within the speaker's side by how strongly the token belongs to them.
    """
    low = mapped.amin(dim=2, keepdim=True)
    high = mapped.amax(dim=2, keepdim=True)
    strength = (mapped - low) / (high - low + EPSILON)
    positions = torch.full_like(mapped, BACKGROUND_POSITION)
    for index in range(speakers_in(mapped)):
        first, last = SIDES[side_of(index)]
        positions[:, index] = strength[:, index] * (last - first) + first
    return positions.gather(1, mapped.argmax(dim=1, keepdim=True))[:, 0]


def placements(speakers: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """On which side each group of picture tokens hears each speaker.

    Returns:
        The different placements, each the side of every speaker; and which of them each class hears, the background
        last. One placement for two speakers, three for three, five for four.
    """
    home = tuple(side_of(index) for index in range(speakers))
    heard = [
        tuple(side if other == index else 1 - side for other in range(speakers)) for index, side in enumerate(home)
    ]
    heard.append(home)
    different = list(dict.fromkeys(heard))
    return different, [different.index(placement) for placement in heard]


def audio_positions(tokens: int, speakers: int, device: torch.device) -> torch.Tensor:
    """The rotary positions of one latent frame's audio tokens: the middle of the side where their speaker is heard.

    Args:
        tokens: all speakers' tokens together, one speaker's behind the other's.

    Returns:
        float32 ``[placements, tokens]``
    """
    centres = torch.tensor([(first + last) / 2 for first, last in SIDES], device=device)
    sides = torch.tensor(placements(speakers)[0], device=device)
    return centres[sides].repeat_interleave(tokens // speakers, dim=1)


def by_speaker(attention: Attention, mapped: torch.Tensor, tokens_per_frame: int) -> Attention:
    """The attention of picture tokens to audio tokens in which each token hears the voices placed for its speaker.

    Args:
        attention: computes attention over ``[B, H, N, D]``.
        mapped: the speaker map ``[B, classes, F * S]``.
        tokens_per_frame: ``S``.

    Returns:
        An attention over query ``[B * F, H, S, D]`` and key and value ``[B * F, H, M, D]``. The query must be turned by
        its positions already, and the key must not be.
    """
    speakers = speakers_in(mapped)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        first, *others = audio_positions(key.shape[2], speakers, key.device)
        heard = attention(query, rotate(key, first), value)
        if others:
            which = torch.tensor(placements(speakers)[1], device=key.device)[mapped.argmax(dim=1)]
            which = which.reshape(-1, 1, tokens_per_frame, 1)
            for number, positions in enumerate(others, start=1):
                heard = torch.where(which == number, attention(query, rotate(key, positions), value), heard)
        return heard

    return attend


def angles_of(positions: torch.Tensor, width: int, base: float = 10000.0) -> torch.Tensor:
    """How far the rotary embedding turns each pair of a head of ``width``: float32 ``[..., width / 2]``."""
    frequencies = base ** -(torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    return positions.float()[..., None] * frequencies


def rotate(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """One-dimensional rotary embedding over adjacent pairs (RoFormer, Su et al. 2021, equation 34).

    Args:
        x: ``[..., N, D]``
        positions: broadcastable to ``[..., N]``.
    """
    angles = angles_of(positions, x.shape[-1]).repeat_interleave(2, dim=-1)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return (x.float() * angles.cos() + turned * angles.sin()).type_as(x)
