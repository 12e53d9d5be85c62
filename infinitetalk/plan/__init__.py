"""Which frames each window samples, pins and puts out, and what it is told. Numbers only, no torch.

- windows: WAN's windows; ltx_windows: LTX's windows; ltx_loop: the windows of an LTX loop that is wired by hand
- timing: where the model hears silence and how the video ends; shots: windows that begin anew
- schedule_text: a prompt schedule as it is written; schedule: the same laid over the windows
- song_text: the prompt schedule of a song
- keyframes: which picture belongs to which time
- estimate: memory, disk and time of a run
- plan_text, timing_text: a plan and its timing in words
"""
