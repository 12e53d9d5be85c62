"""From a picture and a sound to a video. Only host/ knows ComfyUI.

- plan/: which frames each window samples, pins and puts out; schedules, shots, keyframes. Numbers only
- draw/: the picture of a plan
- run/: the window loop, the runs on disk, the video files
- model/: InfiniteTalk's modules and weight files. torch only
- attention/: which attention kernel is used, measured on this GPU
- host/: ComfyUI: one room for what all families share, a wing for each family
- cli/: the command line
"""
