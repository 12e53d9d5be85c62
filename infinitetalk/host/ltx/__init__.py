"""LTX-2.3 with given sound.

- run: what one video is made from; renderer: how a window becomes frames
- items: what is given to a window beside its prompt and sound
- guider: guidance on text; sound: audio latents of a window
- checks: what can be refused of models, prompts and pictures
"""
