"""InfiniteTalk's modules and the files of its weights. torch only.

- audio_projection: from speech features to the audio tokens of each latent frame; gate: features faded into silence
- audio_attention: how picture tokens hear the audio tokens; folded_attention: the same sums with less work
- speaker_map: which picture token belongs to which speaker; speakers: the speakers of a run and their speech
- latents: latents cut, pinned and blended; adain: their colours drawn towards those of others
- checkpoint: InfiniteTalk's files; file_kinds: what other files are
- tensor_file, gguf_file: safetensors and GGUF; packing, quantised: weights that stay packed
- conditioning_file: a prompt as a file
"""
