"""Runs on disk: a folder for each, in which every finished window is a file with a checksum.

- names: the names of runs and of the files in them, and what each file is for
- folder: the files of one run, written, read and checked, and thrown away
- owner: who works on a run
- manifest: what a run is; only this module knows what is in manifest.json
- record: what is noted of a finished window; recorder: windows are written while the next one is rendered
- video_record: the videos of a run, one for each take, and what is noted of them
- take: the windows of a run with certain seeds; chains: which finished windows belong together
- reuse: what an earlier attempt left of a run
- fingerprint: digests of values, for a run's name; inside: what Python's and PyTorch's own objects are made of
- places: where classes come from, in names that stay
- compiled: what torch.compile was given
- start_over: an attempt that threw the windows away and has not come to its end
- overview: all runs of a folder, for a person; windows_text: the windows of one, in words
- verify: which files of a run are not as they were written; change: a person exports and deletes runs
"""
