"""Sound, without ComfyUI. It imports nothing of the house but the ground floor.

- reading/: sounds from nodes and files, other sample rates, files written
- encoder/: wav2vec2's features of speech, as InfiniteTalk was trained with
- prepare/: a sound made ready for a model: filters, loudness, true peak
- report/: what is wrong with a sound, in words, figures and a picture
- tracks: who speaks when: the speakers' tracks on one timeline
- voice: where in a sound somebody speaks
- song: tempo, beats and sections of a song
"""
