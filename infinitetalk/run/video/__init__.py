"""Video files.

- formats: codecs, containers and quality
- segment: one window as a file; join: all of them as one video, without encoding again
- soundtrack: the sound of the video
- frames: single frames out of a video
"""
