"""The command line, which ``bin/longtalk`` starts: arguments and printing.

- main: all commands together; terminal: printing; arguments: what several commands take
- analyze, prepare, song: the commands for a sound; plan: the command for the windows of a run
- runs: the commands for the runs on disk; describe: a run in words
"""
