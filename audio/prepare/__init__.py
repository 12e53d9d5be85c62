"""A sound made ready for a model.

- prepare: all stages, from a source to the sound that a model hears
- stages: which filters each stage of it takes, and the presets
- filters: ffmpeg's filters through PyAV, and its meters
- loudness: loudness of a sound that is in memory
- level_search: gain and limiter are tried until loudness and peak are what was asked for
- stretch: a part of a source
"""
