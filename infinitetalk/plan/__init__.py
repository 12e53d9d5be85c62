"""Which frames each window samples, pins and puts out, and what it is told. Numbers only, no torch.

- windows: WAN's windows; ltx_windows: LTX's; ltx_loop: those of a loop wired by hand
- timing: where the model hears silence and how the video ends; shots: windows that begin anew
- schedule_text, schedule: a prompt schedule as it is written, and laid over the windows; song_text: one made of a song
- keyframes: which picture belongs to which time
- estimate: memory, disk and time of a run
- plan_text, timing_text: a plan and its timing in words
"""
