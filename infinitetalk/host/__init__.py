"""What works with ComfyUI's models. This room is common to all families and imports no wing.

- run: what one video is made from; session: makes it, or goes on with it; description: sound and manifest of its folder
- report: what was done, in words
- handed_out: whether the files that nodes handed out are still there and as they were
- renderer, guiders: what renders windows and what guides them, as far as families agree
- identity: a run's name from all that decides its result; fresh: each window begins without what another one left
- files: models from files, without a graph; images: all frames in memory, when they are asked for
- checks, conditioning: what can be refused before a model is loaded; preflight: whether memory, disk and time suffice
- noise, prompts, blend: each window's noise and prompt
- vae, memory, attention, compiled: ComfyUI's VAE, memory, attention and compiled models
- events: progress bar, preview, cancel
- wan/, ltx/: the wings, with files of the same names for the same roles
"""
