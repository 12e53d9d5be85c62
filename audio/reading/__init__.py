"""Sounds come in and go out.

- track: a sound in memory, from ComfyUI's AUDIO, checked
- source: a sound that is read second by second, from memory or a file
- layouts: what ffmpeg calls so many channels
- resample: other sample rates
- writer: sound files
"""
