"""Speech features: what InfiniteTalk hears.

- features: the outputs of wav2vec2's layers, 25 per second of video
- front_end: its convolutions, in chunks that give the result of one pass
- transformer: its layers, one by one, with little memory
"""
