"""Is it in sync, is it seamless, is it still the same face? Measured from frames and sound alone.

Nothing here knows ComfyUI, a model or how a video was made. Frames are float 0..1 ``[F, H, W, 3]``, 25 per second.
"""
