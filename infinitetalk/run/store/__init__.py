"""Runs on disk: a folder for each, in which every finished window is a file with a checksum.

- folder: one run's folder, its files and who owns it
- record: what is noted of a finished window; recorder: windows are written while the next one is rendered
- take: the windows of a run with certain seeds; chains: which finished windows belong together
- reuse: what an earlier attempt left of a run
- fingerprint: digests of values, for a run's name
- overview: all runs of a folder, for a person; windows_text: the windows of one, in words
"""
