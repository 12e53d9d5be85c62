"""Is a video in sync, is it seamless, is it still the same face? Measured from its frames and its sound alone.

Nothing here knows ComfyUI, a model or how a video was made. Frames are float 0..1 ``[F, H, W, 3]``, 25 per second.

- opening: how far a mouth should be open, from the sound; mouth: how far it is open, from the pixels
- sync: how the one follows the other
- look: seams between windows, drift of the colours, flicker
"""
