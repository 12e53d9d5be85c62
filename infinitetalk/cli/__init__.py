"""The command line: arguments and printing. Started by ``bin/longtalk``.

- main: which command; terminal: what all of them print with; arguments: what several of them take
- analyze, prepare, song: a sound; plan: the windows of a run
- runs, describe, change: the runs on disk, looked at and changed
"""
