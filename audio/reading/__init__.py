"""Sounds are read from nodes and files, and written to files.

- track: a sound in memory, from ComfyUI's AUDIO, checked
- source: a sound that is read second by second, from memory or a file
- layouts: ffmpeg's names for numbers of channels
- resample: sounds brought to another sample rate
- writer: sound files
"""
