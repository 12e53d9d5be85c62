"""A real umt5 text encoder for tests, through ComfyUI's own classes: one tiny layer, 4096 wide, seeded weights."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import torch

WORDS = "a woman man in red coat talks talking calmly laughs laughing waves waving quiet sad loud bright room"


def spiece_model() -> bytes:
    """A sentencepiece vocabulary of single letters and a few words, trained on the spot."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS.split() * 4 + ["abcdefghijklmnopqrstuvwxyz ,.:;0123456789"]),
        model_writer=out,
        vocab_size=64,
        hard_vocab_limit=False,
        model_type="char",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return out.getvalue()


def tiny_umt5() -> Any:
    """CLIP as Load CLIP (type wan) gives it. Texts come out as ``[1, 512, 4096]``, zero after their end."""
    import comfy.sd
    from comfy.text_encoders import wan

    sizes = {"d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1, "vocab_size": 128}
    torch.manual_seed(11)
    clip = comfy.sd.CLIP(
        SimpleNamespace(params={}, clip=wan.te(), tokenizer=wan.WanT5Tokenizer),
        tokenizer_data={"spiece_model": spiece_model()},
        model_options={"umt5xxl_model_config": sizes, "dtype": torch.float32},
    )
    generator = torch.Generator().manual_seed(5)
    for name, weight in clip.cond_stage_model.named_parameters():
        scale = 1.0 if "norm" in name or "shared" in name else 0.05
        weight.data = torch.randn(weight.shape, generator=generator) * scale
    return clip
