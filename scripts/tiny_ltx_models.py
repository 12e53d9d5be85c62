"""The tiny LTX-2.3 files, made by scripts/tiny_models.py: a transformer and VAEs of video and audio, and conditioning.

ComfyUI reads most of a model's sizes from the "config" in the file's metadata, as it does for the published files.
Some sizes are fixed by its classes, and are much of what the files hold:

- latents of video have 128 channels, which the first convolution of the decoder takes 27 times over;
- the transformer takes 128 channels of audio (8 of the latent times 16 mel bins) beside 128 of video, and a connector,
  which prepares text for one of them, has 128 learnt registers and pads every text to 1024 tokens;
- the frames of a spectrogram have 64 mel bins, the sound has two channels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny_weights import fill, seeded, shapes_of, write

FILES = {
    "ltx_diffusion": "diffusion_models/longtalk_tiny_ltx.safetensors",
    "ltx_video_vae": "vae/longtalk_tiny_ltx_video_vae.safetensors",
    # ComfyUI's loader of audio VAEs looks among the checkpoints.
    "ltx_audio": "checkpoints/longtalk_tiny_ltx_audio.safetensors",
    "ltx_positive": "conditioning/longtalk_tiny_ltx_positive.safetensors",
    "ltx_negative": "conditioning/longtalk_tiny_ltx_negative.safetensors",
}

HEADS = 2
VIDEO_HEAD = 16
AUDIO_HEAD = 8
LAYERS = 2
TEXT_TOKENS = 32

#: The sizes are ours; what is switched on is what the published LTX-2.3 file has switched on. In both streams the
#: text is as wide as the stream itself.
TRANSFORMER = {
    "num_layers": LAYERS,
    "num_attention_heads": HEADS,
    "attention_head_dim": VIDEO_HEAD,
    "cross_attention_dim": HEADS * VIDEO_HEAD,
    "audio_num_attention_heads": HEADS,
    "audio_attention_head_dim": AUDIO_HEAD,
    "audio_cross_attention_dim": HEADS * AUDIO_HEAD,
    "connector_num_layers": 1,
    "connector_num_attention_heads": HEADS,
    "connector_attention_head_dim": VIDEO_HEAD,
    "audio_connector_num_attention_heads": HEADS,
    "audio_connector_attention_head_dim": AUDIO_HEAD,
    "connector_apply_gated_attention": True,
    "apply_gated_attention": True,
    "cross_attention_adaln": True,
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20],
    "causal_temporal_positioning": True,
    "use_middle_indices_grid": True,
    "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000.0,
}

#: Together with patches of 4x4 pixels the blocks make one latent of 8 frames of 32x32 pixels. The blocks of the decoder
#: are listed from its end; the one it starts with has to be a res_x, by which ComfyUI recognises the VAE.
VIDEO_VAE = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "latent_log_var": "uniform",
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "spatial_padding_mode": "zeros",
    "causal_decoder": False,
    "timestep_conditioning": False,
    "encoder_base_channels": 8,
    "encoder_blocks": [
        ["res_x", {"num_layers": 1}],
        ["compress_space_res", {"multiplier": 2}],
        ["compress_time_res", {"multiplier": 2}],
        ["compress_all_res", {"multiplier": 2}],
        ["compress_all_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
    ],
    "decoder_base_channels": 8,
    "decoder_blocks": [
        ["res_x", {"num_layers": 1}],
        ["compress_space", {"multiplier": 2}],
        ["compress_time", {"multiplier": 2}],
        ["compress_all", {"multiplier": 1}],
        ["compress_all", {"multiplier": 2}],
        ["res_x", {"num_layers": 1}],
    ],
}

VIDEO_DEVIATION = 0.3
AUDIO_DEVIATION = 0.6

SPECTROGRAM_RATE = 16000
HOP = 160
MEL_BINS = 64

AUDIO_VAE = {
    "model": {
        "params": {
            "sampling_rate": SPECTROGRAM_RATE,
            "ddconfig": {
                "in_channels": 2,
                "out_ch": 2,
                "mel_bins": MEL_BINS,
                "z_channels": 8,
                "double_z": True,
                "resolution": 256,
                "ch": 8,
                "ch_mult": [1, 1, 1],
                "num_res_blocks": 1,
                "attn_resolutions": [],
                "mid_block_add_attention": False,
                "downsample_time": False,
                "dropout": 0.0,
                "norm_type": "pixel",
                "causality_axis": "height",
            },
        }
    },
    "preprocessing": {"stft": {"filter_length": 1024, "win_length": 1024, "hop_length": HOP, "causal": True}},
}

_GENERATOR = {
    "resblock": "AMP1",
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "activation": "snakebeta",
    "stereo": True,
    "use_tanh_at_final": False,
    "use_bias_at_final": False,
}
EXTENSION_WINDOW = 512

#: One generator makes 160 samples at 16 kHz of each frame of the spectrogram; a second one makes of a spectrogram of
#: those, of 80 samples a frame, the sound at 48 kHz.
VOCODER = {
    "vocoder": {
        **_GENERATOR,
        "upsample_initial_channel": 64,
        "upsample_rates": [5, 2, 2, 2, 2, 2],
        "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
    },
    "bwe": {
        **_GENERATOR,
        "upsample_initial_channel": 32,
        "upsample_rates": [6, 5, 2, 2, 2],
        "upsample_kernel_sizes": [12, 11, 4, 4, 4],
        "apply_final_activation": False,
        "input_sampling_rate": SPECTROGRAM_RATE,
        "output_sampling_rate": 48000,
        "hop_length": 80,
        "n_fft": EXTENSION_WINDOW,
        "win_size": EXTENSION_WINDOW,
        "num_mels": MEL_BINS,
    },
}


def metadata(**config: Any) -> dict[str, str]:
    return {"config": json.dumps(config)}


def transformer_network(sizes: dict[str, Any] = TRANSFORMER, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """ComfyUI's own class, on the meta device."""
    import comfy.ops
    from comfy.ldm.lightricks.av_model import LTXAVModel

    with torch.device("meta"):
        return LTXAVModel(**sizes, dtype=dtype, device="meta", operations=comfy.ops.disable_weight_init)


def transformer() -> dict[str, torch.Tensor]:
    # Larger weights than usual: what the model hears, reads and has seen shows in what it draws, by some percent.
    return fill("ltx.", shapes_of(transformer_network()), gain=1.5)


def video_vae() -> dict[str, torch.Tensor]:
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    with torch.device("meta"):
        net = VideoVAE(config=VIDEO_VAE)
    weights = fill("ltx_video_vae.", shapes_of(net))
    return {**weights, **statistics(weights, VIDEO_DEVIATION)}


def audio_vae() -> dict[str, torch.Tensor]:
    """The VAE and its vocoder, named as in a checkpoint."""
    from comfy.ldm.lightricks.vae.audio_vae import AudioVAE

    # On the CPU: its resampling filters are calculated, not learnt.
    net = AudioVAE(metadata(audio_vae=AUDIO_VAE, vocoder=VOCODER))
    weights = fill("ltx_audio.", shapes_of(net))
    filters = {name: tensor.clone() for name, tensor in net.state_dict().items() if name.endswith(".filter")}
    weights = {
        **weights,
        **filters,
        **statistics(weights, AUDIO_DEVIATION),
        **extension_spectrogram("vocoder.mel_stft."),
    }
    return {name.replace("autoencoder.", "audio_vae.", 1): tensor for name, tensor in weights.items()}


def statistics(weights: dict[str, torch.Tensor], deviation: float) -> dict[str, torch.Tensor]:
    """The deviation of each channel, by which a VAE divides what its encoder makes: measured, so that latents are
    about as large as noise. The means stay small random numbers."""
    return {name: torch.full_like(t, deviation) for name, t in weights.items() if name.endswith("std-of-means")}


def extension_spectrogram(prefix: str) -> dict[str, torch.Tensor]:
    """The Fourier and mel bases of the vocoder's second generator, which the published file holds as well."""
    import torchaudio

    bins = EXTENSION_WINDOW // 2 + 1
    # Row k of the transform of the identity is the wave of bin k, cosine in the real part, -sine in the imaginary one.
    waves = torch.fft.fft(torch.eye(EXTENSION_WINDOW))[:bins]
    fourier = (torch.cat([waves.real, waves.imag]) * torch.hann_window(EXTENSION_WINDOW)).unsqueeze(1).contiguous()
    mel = torchaudio.functional.melscale_fbanks(
        bins, 0.0, SPECTROGRAM_RATE / 2, MEL_BINS, SPECTROGRAM_RATE, norm="slaney", mel_scale="slaney"
    )
    return {
        f"{prefix}stft_fn.forward_basis": fourier,
        f"{prefix}stft_fn.inverse_basis": fourier.clone(),
        f"{prefix}mel_basis": mel.T.contiguous(),
    }


def conditioning(name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A stand-in for what the text encoder returns: the text of both streams side by side, not yet connected."""
    from longtalk.infinitetalk.model.conditioning_file import pack

    width = HEADS * (VIDEO_HEAD + AUDIO_HEAD)
    text = seeded(f"ltx_text.{name}", (1, TEXT_TOKENS, width), 1.0)
    return pack([[text, {"pooled_output": None, "unprocessed_ltxav_embeds": True}]])


def make_all(out: Path) -> None:
    builders: dict[str, tuple[Callable[[], dict[str, torch.Tensor]], dict[str, str]]] = {
        "ltx_diffusion": (transformer, metadata(transformer=TRANSFORMER)),
        "ltx_video_vae": (video_vae, metadata(vae=VIDEO_VAE)),
        "ltx_audio": (audio_vae, metadata(audio_vae=AUDIO_VAE, vocoder=VOCODER)),
    }
    for key, (build, header) in builders.items():
        write(out / FILES[key], build(), header)
    for key in ("positive", "negative"):
        write(out / FILES[f"ltx_{key}"], *conditioning(key))
