"""What the talker hears while it learns: features of the synthetic speech, in the directions in which they vary.

LongTalk's own feature extraction runs on the seeded encoder. The 12 x 768 numbers of a frame vary in few directions;
training sees :data:`DIRECTIONS` of them, each with unit variance. What is learnt on them is linear, so it is written
out for all 12 x 768 in the end.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from longtalk.audio.encoder.features import speech_features
from longtalk.metrics.opening import RATE_HZ, audio_opening

from .clips import decode as read_sound
from .common import device, say

DIRECTIONS = 96
#: Directions that vary less than this, relative to the largest, stay small.
FLOOR = 1e-3
FILE = "hearing.pt"


@dataclass(frozen=True)
class Hearing:
    """All clips behind one another.

    Attributes:
        features: ``[N, DIRECTIONS]``.
        openings: ``[N]``.
        starts, lengths: of the clips, in frames; the first clip is silent.
        mean, basis: ``features = (raw - mean) @ basis``, ``[9216]`` and ``[9216, DIRECTIONS]``.
    """

    features: torch.Tensor
    openings: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    mean: torch.Tensor
    basis: torch.Tensor

    @property
    def absent(self) -> torch.Tensor:
        """What features of zeros become, ``[DIRECTIONS]``: LongTalk's silent context."""
        return -self.mean @ self.basis


def _with_pauses(samples: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The speaker is silent for two to six seconds, as while somebody else speaks."""
    hole = int(RATE_HZ * (2 + 4 * torch.rand(1, generator=generator)))
    start = int(torch.randint(0, max(1, samples.shape[0] - hole), (1,), generator=generator))
    out = samples.clone()
    out[start : start + hole] = 0.0
    return out


def load(data: Path, state: Path, limit: int | None = None) -> Hearing:
    """From the state's file, or made from the clips and kept there."""
    path = state / FILE
    if path.is_file():
        return Hearing(**torch.load(path, map_location=device(), weights_only=True))
    import comfy.audio_encoders.audio_encoders
    import tiny_talker

    encoder = comfy.audio_encoders.audio_encoders.load_audio_encoder_from_sd(tiny_talker.wav2vec2())
    model = encoder.model.float().to(device())
    generator = torch.Generator().manual_seed(3)
    features, openings = [], []
    sounds = [torch.zeros(13 * RATE_HZ)]
    with ThreadPoolExecutor() as readers:
        spoken = list(readers.map(read_sound, sorted(data.glob("train_*.opus"))[:limit]))
    for index, sound in enumerate(spoken):
        sounds.append(_with_pauses(sound, generator) if index % 4 == 3 else sound)
    for sound in sounds:
        found = speech_features(model, sound, device=device()).flatten(1)
        opening = audio_opening(sound)
        frames = min(found.shape[0], opening.shape[0])
        features.append(found[:frames])
        openings.append(opening[:frames])
    say(f"heard {len(sounds)} clips, {sum(len(o) for o in openings)} frames")
    raw = torch.cat(features)
    some = raw[torch.randperm(raw.shape[0], generator=generator)[:16384]].to(device())
    mean = some.mean(0)
    torch.manual_seed(0)
    _, sizes, directions = torch.pca_lowrank(some - mean, DIRECTIONS, center=False, niter=4)
    deviations = sizes / some.shape[0] ** 0.5
    basis = directions / (deviations + FLOOR * deviations[0])
    reduced = torch.cat([(part.to(device()) - mean) @ basis for part in raw.split(8192)])
    lengths = torch.tensor([len(o) for o in openings])
    kept = {
        "features": reduced,
        "openings": torch.cat(openings).to(device()),
        "starts": lengths.cumsum(0) - lengths,
        "lengths": lengths,
        "mean": mean,
        "basis": basis,
    }
    torch.save(kept, path)
    model.cpu()
    say(
        "features kept; spread of directions",
        [round(float(d / deviations[0]), 4) for d in deviations[[0, 1, 3, 9, 30, 95]]],
    )
    return Hearing(**{name: value.to(device()) for name, value in kept.items()})
