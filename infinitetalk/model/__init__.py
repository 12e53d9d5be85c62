"""InfiniteTalk's modules and the files of its weights. torch only.

- audio_projection: from speech features to the audio tokens of each latent frame; gate: where they are silence
- audio_attention: how picture tokens hear them; folded_attention: the same sums with less work
- speaker_map: which picture token belongs to whom; speakers: the speakers of a run and their speech
- latents, adain: latents cut, pinned and blended; their colours drawn towards others
- checkpoint: InfiniteTalk's files; gguf_file, tensor_file, quantised: how weights lie in files
- conditioning_file: a prompt as a file
"""
