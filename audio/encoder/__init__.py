"""Speech features: what InfiniteTalk hears.

- wav2vec2: what that encoder is
- features: the outputs of its layers, 25 per second of video
- front_end: its convolutions, in chunks that give the result of one pass
- transformer: its layers, one by one, with little memory
"""
