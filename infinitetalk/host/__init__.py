"""The only place that imports ComfyUI. This room is common to all families and imports no wing.

- run: what one video is made from; session: makes it, or goes on with it
- renderer: what renders windows, as far as families agree
- identity: a run's name from all that decides its result
- checks: what can be refused before a model is loaded; preflight: whether memory, disk and time suffice
- noise, prompts, blend: each window's noise and prompt
- vae, memory, attention, compiled: ComfyUI's VAE, memory, attention and compiled models
- events: progress bar, preview, cancel
- wan/, ltx/: the wings, with files of the same names for the same roles
"""
