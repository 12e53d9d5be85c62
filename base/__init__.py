"""The ground floor: what every room stands on. It imports nothing of the house.

- errors: the kinds of errors that a user can cause, with the expected, the actual, the next action and a code
- values, tensors: what another node hands over is checked, and shown in messages
- times, words: times as people write them; times and counts in words
- rates, grid: frames per second and other rates; how the families' VAEs pack frames into latents
- segment: a stretch of time; energy: how strong a section of a song is
- wav2vec2: what the speech encoder is that InfiniteTalk was trained with
- codecs: what each video codec takes on the disk, and whether it takes crf
- files: files that are whole or not there; what the disk's errors mean
- pictures: pictures and masks cut and scaled to the video's shape, and rounded to bytes
- functions: what a function is made of, and which of its closure's variables are state
- canvas, strip, waves: a surface to draw on, a timeline on it, a sound over it
"""
