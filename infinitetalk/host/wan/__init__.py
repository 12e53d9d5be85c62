"""WAN 2.1 with InfiniteTalk.

- run: what one video is made from; renderer: how a window becomes frames
- guider: guidance on text and on audio; sound: speech features with ComfyUI's audio encoder
- checks, conditioning: what can be refused of models and of prompts
- audio_patch: InfiniteTalk's layers as hooks on a model; patch_file, layer_weights, packed_linear: their weights
- advice: which of ComfyUI's options would pay
"""
