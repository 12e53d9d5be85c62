"""Who speaks where: the speaker map, and positions that tie each picture token to one speaker's audio tokens.

In every block the self-attention of all tokens onto the first latent frame (the reference) tells how much each token
belongs to each mask. Tokens of speaker 1 get rotary positions 0..4, those of speaker 2 get 20..24, the background 12;
the audio tokens of the speakers sit at 2 and at 22. So a token attends mostly to its own speaker.
Source: MeiGen-AI/InfiniteTalk, ``wan/modules/attention.py`` (SingleStreamMutiAttention) and
``wan/utils/multitalk_utils.py`` (get_attn_map_with_target).
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
#: Rotary positions ``(first, last)`` of the tokens of speaker 1 and 2.
SPEAKER_RANGES = ((0.0, float(CLASS_INTERVAL)), (float(CLASS_RANGE - CLASS_INTERVAL), float(CLASS_RANGE)))
MAX_SPEAKERS = len(SPEAKER_RANGES)
EPSILON = 1e-8


def token_masks(masks: torch.Tensor, height_tokens: int, width_tokens: int) -> torch.Tensor:
    """Masks on the token grid, with the background (where no speaker is) as the last class.

    Args:
        masks: ``[speakers, H, W]``, a pixel belongs to a speaker where it is above 0.

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


def token_positions(mapped: torch.Tensor) -> torch.Tensor:
    """Rotary position of each token from the speaker map.

    Args:
        mapped: ``[B, classes, N]``; the first two classes are the speakers, further ones are background.

    Returns:
        float32 ``[B, N]``: within a speaker's range by how strongly the token belongs to them.
    """
    low = mapped.amin(dim=2, keepdim=True)
    high = mapped.amax(dim=2, keepdim=True)
    strength = (mapped - low) / (high - low + EPSILON)
    positions = torch.full_like(mapped, BACKGROUND_POSITION)
    for index, (first, last) in enumerate(SPEAKER_RANGES):
        positions[:, index] = strength[:, index] * (last - first) + first
    return positions.gather(1, mapped.argmax(dim=1, keepdim=True))[:, 0]


def audio_positions(tokens: int, device: torch.device) -> torch.Tensor:
    """Rotary positions of one latent frame's audio tokens: the middle of their speaker's range.

    Args:
        tokens: all speakers' tokens together; the first half is speaker 1.

    Returns:
        float32 ``[tokens]``
    """
    centres = torch.tensor([(first + last) / 2 for first, last in SPEAKER_RANGES], device=device)
    return centres.repeat_interleave(tokens // MAX_SPEAKERS)


def rotate(x: torch.Tensor, positions: torch.Tensor, base: float = 10000.0) -> torch.Tensor:
    """One-dimensional rotary embedding over adjacent pairs (RoFormer, Su et al. 2021, equation 34).

    Args:
        x: ``[..., N, D]``
        positions: broadcastable to ``[..., N]``.
    """
    width = x.shape[-1]
    frequencies = base ** -(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) / width)
    angles = (positions.float()[..., None] * frequencies).repeat_interleave(2, dim=-1)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return (x.float() * angles.cos() + turned * angles.sin()).type_as(x)
