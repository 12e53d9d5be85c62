"""One run: the loop over its windows, and what is kept of it. No ComfyUI, no model family.

- loop: renders window after window, checks each, and hands it on
- finish: what is done to a window's frames before they are measured
- window_stats, window_checks: what is measured of a window, and what counts as broken
- seeds, retakes: which windows are made again, and with which noise
- progress: how far a run is, and how long it will take
- store/: runs on disk
- video/: video files
"""
